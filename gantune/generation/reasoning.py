"""Zero-shot chain of thought: the model reasons, then answers after a marker (Kojima et al. 2022, arXiv:2205.11916).

Two passes, as in the paper: `REASON` leads to reasoning of a limited length, and `CONCLUDE` behind it to the answer, so
that every answer stands after the marker, however little a small model heeds what it is asked. Both texts begin what
the template takes for the answer, so that any template will do, and any model that was tuned with it.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gantune.data import Template, end_token_id
from gantune.errors import UserError
from gantune.generation.generate import DecodingReport, continue_prompts, encode_questions
from gantune.policy.positions import model_positions
from gantune.tuning import TuningConfig

REASON = "Let's think step by step."
CONCLUDE = "\nTherefore, the answer is"


def reasoned_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[str],
    config: TuningConfig,
    reasoning_tokens: int,
    *,
    temperature: float = 0.0,
    noise: Tensor | None = None,
    report: DecodingReport | None = None,
) -> list[str]:
    """Answer questions after reasoning, which is sampled like the answer and left out of what is returned.

    Args:
        model: a causal language model, tuned or not.
        tokenizer: its tokenizer.
        questions: texts.
        config: template, and limits of prompt and answer.
        reasoning_tokens: longest reasoning.
        temperature: 0 is greedy.
        noise: as [`gantune.generation.generate.generate_answers`].
        report: what both passes took is added here.

    Returns:
        One text a question, what follows the marker.

    Raises:
        UserError: if prompt, reasoning and answer may be more than the model's positions.
    """
    template = config.prompt_template()
    end_id, (lead, marker) = end_token_id(template, tokenizer), around_reasoning(template, tokenizer)
    prompts = encode_questions(questions, tokenizer, config)
    _check_room(model, max(map(len, prompts), default=0) + len(lead) + len(marker), reasoning_tokens, config)
    options = {"temperature": temperature, "noise": noise, "report": report}

    prompts = [prompt + lead for prompt in prompts]
    thoughts = continue_prompts(model, tokenizer, prompts, end_id, reasoning_tokens, **options)
    prompts = [prompt + thought + marker for prompt, thought in zip(prompts, thoughts, strict=True)]
    answers = continue_prompts(model, tokenizer, prompts, end_id, config.max_completion_length, **options)
    return [answer.strip() for answer in tokenizer.batch_decode(answers, skip_special_tokens=True)]


def around_reasoning(template: Template, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Token ids before and after the reasoning."""
    lead = template.answer_ids(REASON, tokenizer)[:-1]
    return lead, tokenizer(CONCLUDE, add_special_tokens=False)["input_ids"]


def _check_room(model: PreTrainedModel, fixed: int, reasoning_tokens: int, config: TuningConfig) -> None:
    limit = model_positions(model)
    if limit is None or fixed + reasoning_tokens + config.max_completion_length <= limit:
        return
    room = max(limit - fixed - config.max_completion_length, 0)
    raise UserError(
        f"{reasoning_tokens} tokens of reasoning: expected at most {room}, the model has {limit} positions for a "
        f"prompt of {fixed} tokens, the reasoning, and an answer of up to {config.max_completion_length}"
    )
