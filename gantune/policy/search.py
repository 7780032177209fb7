"""Monte-Carlo search: completions of every prefix of a rollout (Yu et al. 2017, section 3.1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from gantune.data.batch import Batch
from gantune.policy.causal_lm import CausalLMPolicy
from gantune.policy.rollout import Rollout


class Completions(NamedTuple):
    """Some of a search: the row of the rollout that each completes, how many of its tokens it keeps, and R answers."""

    rows: Tensor
    lengths: Tensor
    batch: Batch


class MonteCarloSearch:
    """Completes the prefixes of a rollout, several times each, a bounded number of rows at once.

    Args:
        policy: of the roll-outs; another class that has `prepare` and `complete` will do, as [`DelayedPolicy`].
        stride: only prefixes of `stride`, 2 `stride`, ... tokens are completed.
        max_rows: most rows that are decoded at once. It and the other numbers are at least 1, else a `ValueError`.
    """

    def __init__(self, policy: CausalLMPolicy, completions: int = 16, stride: int = 1, max_rows: int = 64) -> None:
        for name, value in (("completions", completions), ("stride", stride), ("max_rows", max_rows)):
            if value < 1:
                raise ValueError(f"{name} is {value}, expected at least 1")
        self.policy, self.completions, self.stride, self.max_rows = policy, completions, stride, max_rows

    def __call__(self, rollout: Rollout) -> Iterator[Completions]:
        """Every completion once; prefixes of like length together, so that their rows end together.

        A prefix that is the whole answer is not completed.
        """
        answer_lengths = rollout.answer_mask.sum(dim=1)
        longest = max(rollout.answer_ids.shape[1], self.stride)  # of answers shorter than the stride nothing is kept
        kept = torch.arange(self.stride, longest, self.stride, device=rollout.device)
        rows, columns = (kept[None, :] < answer_lengths[:, None]).nonzero(as_tuple=True)
        lengths = kept[columns]
        order = lengths.argsort(stable=True).repeat_interleave(self.completions)
        if not len(order):
            return
        rollout = self.policy.prepare(rollout)
        for part in order.split(self.max_rows):
            yield Completions(rows[part], lengths[part], self.policy.complete(rollout, rows[part], lengths[part]))
