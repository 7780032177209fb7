"""Answers of a language model to questions, the same way for every method."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from gantune.data import collate_prompts, end_token_id, pad_token_id
from gantune.embedding_generator import hold_noise
from gantune.tuning import TuningConfig


@torch.inference_mode()
def generate_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[str],
    config: TuningConfig,
    *,
    batch_size: int = 32,
    temperature: float = 0.0,
    noise: Tensor | None = None,
) -> list[str]:
    """Answer questions; nothing that the model's own generation settings say changes the decoding.

    Args:
        model: a causal language model, tuned or not.
        tokenizer: its tokenizer.
        questions: texts; a longer one than `config.max_prompt_tokens` keeps its end.
        config: template and limits.
        batch_size: questions decoded together.
        temperature: 0 is greedy; otherwise the distribution that is sampled from is divided by it.
        noise: one vector for all, `[noise_dim]`, or one a question, `[len(questions), noise_dim]`; zero if None.

    Returns:
        One text a question, without special tokens and surrounding blanks.
    """
    template, pad = config.prompt_template(), pad_token_id(tokenizer)
    prompts = [template.prompt_ids(question, tokenizer)[-config.max_prompt_tokens :] for question in questions]
    settings = GenerationConfig(
        max_new_tokens=config.max_new_tokens,
        do_sample=temperature > 0,
        temperature=temperature or 1.0,
        top_k=0,
        top_p=1.0,
        num_beams=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        eos_token_id=end_token_id(template, tokenizer),
        pad_token_id=pad,
    )
    model.eval()
    answers: list[str] = []
    # neighbours of like length share a batch: less padding, and the order of the answers is put back below
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batch = collate_prompts([prompts[row] for row in rows], pad).to(model.device)
        with hold_noise(model, noise[rows] if noise is not None and noise.dim() == 2 else noise):
            ids = model.generate(
                input_ids=batch.prompt_ids, attention_mask=batch.prompt_mask, generation_config=settings
            )
        answers += tokenizer.batch_decode(ids[:, batch.prompt_ids.shape[1] :], skip_special_tokens=True)
    return [answer.strip() for _, answer in sorted(zip(order, answers, strict=True))]
