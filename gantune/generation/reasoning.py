"""Zero-shot chain of thought: the model reasons, then answers after a marker (Kojima et al. 2022, arXiv:2205.11916).

Two passes, as in the paper: `REASON` leads to reasoning of a limited length, and `CONCLUDE` behind it to the answer, so
that every answer stands after the marker, however little a small model heeds what it is asked. Both texts begin what
the template takes for the answer, so that any template will do, and any model that was tuned with it.
"""

from __future__ import annotations

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gantune.data import Template
from gantune.errors import UserError
from gantune.policy.positions import model_positions

REASON = "Let's think step by step."
CONCLUDE = "\nTherefore, the answer is"


def around_reasoning(template: Template, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Token ids before and after the reasoning."""
    lead = template.answer_ids(REASON, tokenizer)[:-1]
    return lead, tokenizer(CONCLUDE, add_special_tokens=False)["input_ids"]


def check_room(model: PreTrainedModel, fixed: int, reasoning_tokens: int, max_new_tokens: int) -> None:
    """A [`UserError`] if the `fixed` tokens of prompt and marker, reasoning and answer may exceed the positions."""
    limit = model_positions(model)
    if limit is None or fixed + reasoning_tokens + max_new_tokens <= limit:
        return
    room = max(limit - fixed - max_new_tokens, 0)
    raise UserError(
        f"{reasoning_tokens} tokens of reasoning: expected at most {room}, the model has {limit} positions for a "
        f"prompt of {fixed} tokens, the reasoning, and an answer of up to {max_new_tokens}"
    )
