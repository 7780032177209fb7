"""What true answers are shown against, made of rollouts and of the true answers themselves."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from gantune.data import Batch
from gantune.policy import Rollout


def mismatched(batch: Batch) -> tuple[Batch, Tensor]:
    """Each question with the true answer of the one before it, and the numbers of these questions' rows.

    A row that has the question or the answer of the one before it is left out: what came of it would be true.
    """
    others = replace(batch, answer_ids=batch.answer_ids.roll(1, 0), answer_mask=batch.answer_mask.roll(1, 0))
    asked = (batch.prompt_ids != batch.prompt_ids.roll(1, 0)).any(dim=1)
    rows = (asked & (batch.answer_ids != others.answer_ids).any(dim=1)).nonzero().flatten()
    return others.select(rows), rows


def run_of_rows(rollout: Rollout, n: int) -> Rollout:
    """`n` rows next to each other, from a row drawn at random on."""
    start = random.randrange(max(1, len(rollout) - n + 1))
    return rollout.rows(start, start + n)


def answers_of(batch: Batch, rollout: Rollout) -> Rollout | None:
    """One of the samples of each question of `batch`, drawn at random; None if the rollout asked others."""
    k = rollout.samples_per_prompt
    if not torch.equal(rollout.prompt_ids[::k], batch.prompt_ids):
        return None
    drawn = [question * k + random.randrange(k) for question in range(len(batch))]
    return rollout.select(torch.tensor(drawn, device=rollout.device))


def drawn_rows(rollouts: Sequence[Rollout], n: int) -> Batch:
    """`n` rows drawn at random from all of these, those of one rollout together; again and again if they are few."""
    pool = [(rollout, row) for rollout in rollouts for row in range(len(rollout))]
    pool *= -(-n // len(pool))
    drawn = random.sample(range(len(pool)), n)
    parts = []
    for rollout in rollouts:
        rows = [pool[number][1] for number in drawn if pool[number][0] is rollout]
        parts.append(rollout.select(torch.tensor(rows, dtype=torch.int64, device=rollout.device)))
    return stacked(parts)


def stacked(batches: Sequence[Batch]) -> Batch:
    """Batches below each other, padded to the widest: the ids of what is padded are 0."""
    prompts = max(batch.prompt_ids.shape[1] for batch in batches)
    answers = max(batch.answer_ids.shape[1] for batch in batches)

    def left(tensors: Sequence[Tensor]) -> Tensor:
        return torch.cat([F.pad(tensor, (prompts - tensor.shape[1], 0)) for tensor in tensors])

    def right(tensors: Sequence[Tensor]) -> Tensor:
        return torch.cat([F.pad(tensor, (0, answers - tensor.shape[1])) for tensor in tensors])

    fields = None
    if any(batch.prompt_fields is not None for batch in batches):
        fields = left([torch.zeros_like(b.prompt_ids) if b.prompt_fields is None else b.prompt_fields for b in batches])
    return Batch(
        left([batch.prompt_ids for batch in batches]),
        left([batch.prompt_mask for batch in batches]),
        right([batch.answer_ids for batch in batches]),
        right([batch.answer_mask for batch in batches]),
        prompt_fields=fields,
    )
