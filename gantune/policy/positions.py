"""How long a sequence a model can read."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel

from gantune.errors import UserError

OFFSET = 2
"""Rows that some tables have more than positions, such as OPT's."""


def model_positions(model: PreTrainedModel) -> int | None:
    """How many tokens the model takes at once; None if any number."""
    return getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)


def check_positions(model: PreTrainedModel, prompt_tokens: int, answer_tokens: int) -> None:
    """Refuse a longest prompt and a longest answer that are together more than the model's table of positions.

    A model without such a table, as one with rotary positions, goes on beyond what it was trained with. The
    [`UserError`] names both lengths and the limit.
    """
    positions = model_positions(model)
    if positions is None or prompt_tokens + answer_tokens <= positions:
        return
    tables = [module.num_embeddings for module in model.modules() if isinstance(module, nn.Embedding)]
    if any(positions <= rows <= positions + OFFSET for rows in tables):
        raise UserError(
            f"a prompt of {prompt_tokens} tokens and an answer of up to {answer_tokens}: the model has {positions} "
            "positions, expected a lower --max-prompt-length or --max-completion-length"
        )
