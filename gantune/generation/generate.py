"""Answers of a language model to questions, the same way for every method."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from gantune.data import collate_prompts, end_token_id, pad_token_id
from gantune.embedding_generator import hold_noise
from gantune.errors import UserError
from gantune.field_types import text_list
from gantune.generation.reasoning import around_reasoning, check_room
from gantune.policy.positions import check_positions
from gantune.tuning import TuningConfig


@dataclass
class DecodingReport:
    """What decoding took; it adds up over calls, and over the samples of one question."""

    prompt_tokens: int = 0  # read, without padding
    new_tokens: int = 0  # decoded, the end of each text counted
    limit: int = 0  # tokens that might have been decoded
    undecided: int = 0  # questions whose vote had no two equal samples, see `gantune.generation.decoding`
    samples: int = 1  # of each question, where that is not the decoding's affair
    judged_tokens: int = 0  # read by a discriminator that chooses among them


def generate_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[str],
    config: TuningConfig,
    *,
    reasoning_tokens: int = 0,
    **options: Any,
) -> list[str]:
    """Answer questions; nothing that the model's own generation settings say changes the decoding.

    Args:
        questions: texts; a longer one than `config.max_prompt_length` keeps its end.
        reasoning_tokens: longest reasoning, which is sampled like the answer and left out of what is returned; 0 for
            none, see [`gantune.generation.reasoning`].
        options: of [`continue_prompts`].

    Returns:
        One text a question, without special tokens and surrounding blanks; after reasoning, what follows the marker.

    Raises:
        UserError: if prompt, reasoning and answer may be more than the model's positions.
    """
    if not (questions := text_list(questions, "questions")):
        return []
    template = config.prompt_template()
    prompts, end_id = encode_questions(questions, tokenizer, config), end_token_id(template, tokenizer)
    if reasoning_tokens:
        lead, marker = around_reasoning(template, tokenizer)
        fixed = max(map(len, prompts), default=0) + len(lead) + len(marker)
        check_room(model, fixed, reasoning_tokens, config.max_completion_length)
        prompts = [prompt + lead for prompt in prompts]
        thoughts = continue_prompts(model, tokenizer, prompts, end_id, reasoning_tokens, **options)
        prompts = [prompt + thought + marker for prompt, thought in zip(prompts, thoughts, strict=True)]
    answers = continue_prompts(model, tokenizer, prompts, end_id, config.max_completion_length, **options)
    return [answer.strip() for answer in tokenizer.batch_decode(answers, skip_special_tokens=True)]


def encode_questions(
    questions: Sequence[str], tokenizer: PreTrainedTokenizerBase, config: TuningConfig
) -> list[list[int]]:
    """Prompts as token ids, the last `config.max_prompt_length` of each."""
    template, questions = config.prompt_template(), text_list(questions, "questions")
    return [template.prompt_ids(question, tokenizer)[-config.max_prompt_length :] for question in questions]


@contextmanager
def _without_own_settings(model: PreTrainedModel) -> Iterator[None]:
    """The model with transformers' defaults as its generation settings, and so what wraps it, for the block."""
    before = {module: vars(module).get("generation_config") for module in model.modules()}
    try:
        for module in [module for module, own in before.items() if own is not None]:
            module.generation_config = GenerationConfig()
        yield
    finally:
        for module, own in before.items():
            vars(module).pop("generation_config", None)  # peft hands it from one to the next
            if own is not None:
                module.generation_config = own


@torch.inference_mode()
def continue_prompts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[list[int]],
    end_id: int,
    max_new_tokens: int,
    *,
    batch_size: int = 32,
    temperature: float = 0.0,
    noise: Tensor | None = None,
    report: DecodingReport | None = None,
) -> list[list[int]]:
    """What the model writes after each prompt, as token ids without the end.

    Args:
        temperature: 0 is greedy; otherwise the distribution that is sampled from is divided by it.
        noise: one vector for all, `[noise_dim]`, or one a prompt, `[len(prompts), noise_dim]`; zero if None.
        report: what it took is added here.
    """
    if not 0 <= temperature < math.inf:
        raise UserError(f"temperature is {temperature}, expected 0 or a finite number above it")
    by_row = noise is not None and noise.dim() == 2
    if by_row and len(noise) != len(prompts):
        raise UserError(f"noise for {len(noise)} questions, got {len(prompts)}: expected one row a question")
    pad = pad_token_id(tokenizer)
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=temperature > 0,
        temperature=temperature or 1.0,
        top_k=0,
        top_p=1.0,
        num_beams=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        eos_token_id=end_id,
        pad_token_id=pad,
    )
    check_positions(model, max(map(len, prompts), default=0), max_new_tokens)
    model.eval()
    report = report or DecodingReport()
    written: list[list[int]] = [[] for _ in prompts]
    # neighbours of like length share a batch: less padding
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    with _without_own_settings(model):
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = collate_prompts([prompts[row] for row in rows], pad).to(model.device)
            with hold_noise(model, noise[rows] if by_row else noise):
                ids = model.generate(
                    input_ids=batch.prompt_ids, attention_mask=batch.prompt_mask, generation_config=settings
                )
            for row, new in zip(rows, ids[:, batch.prompt_ids.shape[1] :].tolist(), strict=True):
                ended = end_id in new
                written[row] = new[: new.index(end_id)] if ended else new
                report.new_tokens += len(written[row]) + ended
                report.prompt_tokens += len(prompts[row])
            report.limit += len(rows) * max_new_tokens
    return written
