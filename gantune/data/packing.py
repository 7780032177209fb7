"""Several pairs in one row, for likelihood training: less padding, and no pair sees another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gantune.data.encoding import IGNORE_INDEX, EncodedPair, collate, likelihood_inputs
from gantune.errors import UserError, first_line

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}
"""Of [`check_packing`], as a share of the logits' standard deviation; half precision is allowed 0.1."""


def fill_rows(lengths: Sequence[int], limit: int) -> list[list[int]]:
    """Item numbers of each row, such that rows as long as the longest one hold little padding.

    Rows are filled by first-fit decreasing, the longest item first and into the first row with room, once for every
    number of rows that the items could be spread over; the fewest positions win, then the shortest rows. That is never
    more than one item a row takes.

    There is at least one item; one longer than `limit` gets a row of its own.
    """
    total, longest = sum(lengths), max(lengths)
    capacities = {max(longest, min(limit, -(-total // rows))) for rows in range(1, len(lengths) + 1)}
    fillings = [_first_fit(lengths, capacity) for capacity in sorted(capacities)]
    return min(fillings, key=lambda rows: len(rows) * max(sum(lengths[item] for item in row) for row in rows))


def _first_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    rows: list[list[int]] = [[] for _ in lengths]
    room = [capacity] * len(lengths)
    for item in sorted(range(len(lengths)), key=lambda item: -lengths[item]):
        row = next(row for row, left in enumerate(room) if left >= lengths[item])
        rows[row].append(item)
        room[row] -= lengths[item]
    return [row for row in rows if row]


def packed_inputs(
    encoded: Sequence[EncodedPair], pad_token_id: int, limit: int, dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """What [`likelihood_inputs`] gives, with the pairs side by side in as few rows as [`fill_rows`] needs.

    Args:
        limit: tokens a row, unless a pair is longer.
        dtype: of an attention mask that is added to the scores, 0 where a token is seen and the lowest number where it
            is not; None for a boolean one.

    Returns:
        `input_ids`, `position_ids` (from 0 in each pair) and `labels`, `[R, L]` int64, and `attention_mask`,
        `[R, 1, L, L]`: a token sees its own pair up to itself. Padding sees itself, so that no row of the softmax is
        empty; its label is none, and so is that of a pair's first token, which the pair before it would predict.
    """
    lengths = [len(row.prompt_ids) + len(row.answer_ids) for row in encoded]
    return _side_by_side(encoded, fill_rows(lengths, limit), pad_token_id, dtype)


def _side_by_side(
    encoded: Sequence[EncodedPair], rows: Sequence[Sequence[int]], pad_token_id: int, dtype: torch.dtype | None
) -> dict[str, Tensor]:
    """[`packed_inputs`] with the numbers of each row's pairs given."""
    lengths = [len(row.prompt_ids) + len(row.answer_ids) for row in encoded]
    width = max(sum(lengths[item] for item in row) for row in rows)
    ids = torch.full((len(rows), width), pad_token_id)
    labels, positions = torch.full_like(ids, IGNORE_INDEX), torch.zeros_like(ids)
    pair_of = torch.arange(-width, 0).repeat(len(rows), 1)  # padding: each its own
    for row, items in enumerate(rows):
        start = 0
        for item in items:
            prompt, answer = encoded[item].prompt_ids, encoded[item].answer_ids
            place = slice(start, start + lengths[item])
            ids[row, place] = torch.tensor([*prompt, *answer])
            positions[row, place] = torch.arange(lengths[item])
            pair_of[row, place] = item
            first = start + max(len(prompt), 1)
            labels[row, first : place.stop] = ids[row, first : place.stop]
            start = place.stop
    seen = (pair_of[:, :, None] == pair_of[:, None, :]).tril()[:, None]
    mask = seen if dtype is None else torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)
    return {"input_ids": ids, "attention_mask": mask, "position_ids": positions, "labels": labels}


def mask_dtype(model: PreTrainedModel) -> torch.dtype | None:
    """The dtype of [`packed_inputs`]' mask that the model's attention takes."""
    return None if model.config.get_text_config(decoder=True)._attn_implementation == "sdpa" else model.dtype


@torch.no_grad()
def check_packing(model: PreTrainedModel, encoded: Sequence[EncodedPair]) -> None:
    """Try whether the model gives the longest pair the same logits behind another one as alone.

    Raises:
        UserError: if it does not: with virtual tokens, an attention that takes no such mask, recurrent layers, or
            positions of the model's own.
    """
    if getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False):
        raise UserError("--packing: not with virtual tokens, which stand before a row and would have to before a pair")
    kind = type(model.get_base_model() if hasattr(model, "get_base_model") else model).__name__
    pair = max(encoded, key=lambda row: len(row.prompt_ids) + len(row.answer_ids))
    length = len(pair.prompt_ids) + len(pair.answer_ids)
    training = model.training
    model.eval()
    try:
        alone, behind = (
            model(**{name: value.to(model.device) for name, value in inputs.items() if name != "labels"}).logits.float()
            for inputs in (
                likelihood_inputs(collate([pair], 0)),
                _side_by_side([pair, pair], [[0, 1]], 0, mask_dtype(model)),
            )
        )
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise UserError(
            f"--packing: {kind} does not take the attention mask that it needs ({first_line(error):.100})"
        ) from error
    finally:
        model.train(training)
    difference = (behind[0, length:] - alone[0]).abs().max().item()
    if not difference <= TOLERANCE.get(model.dtype, 0.1) * alone.std().item():
        raise UserError(
            f"--packing: {kind} does not give a pair the same logits behind another pair as alone, they differ by "
            f"{difference:.2g}: expected attention and positions that are given to it"
        )
