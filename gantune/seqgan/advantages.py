"""From rewards to returns to advantages."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

ROUNDING = 4
"""Returns that are as far apart, in units in the last place of the larger one, may be one number computed twice."""


class Advantage(Protocol):
    """Takes a baseline from returns; `min_samples` answers to a question are needed.

    Returns and mask are `[B, T]`, rows of one question adjacent, and so are the advantages.
    """

    min_samples: int

    def __call__(self, returns: Tensor, mask: Tensor, samples_per_prompt: int) -> Tensor: ...


def returns(rewards: Tensor, mask: Tensor, discount: float = 1.0, length_normalised: bool = False) -> Tensor:
    """What each token brings from its position on.

    A reward for the whole answer, `[B]`, is the return of each of its tokens. A reward a token, `[B, T]`, becomes the
    reward-to-go `G_t = sum_{s>=t} discount^(s-t) r_s` over the tokens that the mask keeps. Normalised by length, it is
    divided by the sum of those weights, so that it is an average: a sum of negative rewards would pay for ending early.
    With discount 1 and no normalisation the policy gradient is that of the expected sum of rewards, exactly.

    Args:
        mask: `[B, T]`, 1 on the answer's tokens.
        discount: between 0 and 1; used for rewards a token, as is `length_normalised`.

    Returns:
        `[B, T]`, zero where the mask is 0.
    """
    mask = mask.to(rewards.dtype)
    if rewards.dim() == 1:
        return rewards[:, None] * mask
    rewards = rewards.where(mask.bool(), 0)  # what stands in the padding may be no number
    summed, weight = torch.zeros_like(rewards[:, 0]), torch.zeros_like(rewards[:, 0])
    columns = []
    for t in reversed(range(rewards.shape[1])):
        summed = mask[:, t] * (rewards[:, t] + discount * summed)
        weight = mask[:, t] * (1 + discount * weight)
        columns.append(summed / weight.clamp(min=1) if length_normalised else summed)
    return torch.stack(columns[::-1], dim=1)


def _by_question(returns: Tensor, mask: Tensor, samples_per_prompt: int) -> Tensor:
    """`[questions, samples, T]`, each answer's last return carried on over its padding, to compare by position."""
    last = mask.sum(dim=1, keepdim=True).long().clamp(min=1) - 1
    positions = torch.arange(returns.shape[1], device=returns.device).expand_as(returns).minimum(last)
    carried = returns.gather(1, positions)
    return carried.view(-1, samples_per_prompt, returns.shape[1])


class NoBaseline:
    """The return itself: REINFORCE (Williams 1992), as in SOURCE_STUDY eq. 2.4. `samples_per_prompt` may be 1."""

    min_samples = 1

    def __call__(self, returns: Tensor, mask: Tensor, samples_per_prompt: int) -> Tensor:
        return returns * mask


class MovingAverage:
    """The return less an exponential average of *earlier* steps' mean returns, so that the baseline is unbiased.

    `decay` is the share of the old average that a step keeps.
    """

    min_samples = 1

    def __init__(self, decay: float = 0.9) -> None:
        self.decay = decay
        self.average: float | None = None

    def __call__(self, returns: Tensor, mask: Tensor, samples_per_prompt: int) -> Tensor:
        """The first step has no baseline. Updates the average."""
        advantages = (returns - (self.average or 0.0)) * mask
        mean = ((returns * mask).sum() / mask.sum().clamp(min=1)).item()
        self.average = mean if self.average is None else self.decay * self.average + (1 - self.decay) * mean
        return advantages

    def state_dict(self) -> dict[str, float | None]:
        return {"average": self.average}

    def load_state_dict(self, state: dict[str, float | None]) -> None:
        self.average = state["average"]


class LeaveOneOut:
    """The return less the mean return of the other samples of the same question (RLOO, arXiv:2402.14740).

    Unbiased, since the others do not depend on this sample. At a position that another sample has not reached, its last
    return stands in. Rows of one question are adjacent; needs two or more.
    """

    min_samples = 2

    def __call__(self, returns: Tensor, mask: Tensor, samples_per_prompt: int) -> Tensor:
        grouped = _by_question(returns, mask, samples_per_prompt)
        others = (grouped.sum(dim=1, keepdim=True) - grouped) / (samples_per_prompt - 1)
        return (grouped - others).view_as(returns) * mask


class GroupNorm:
    """Returns standardised within the samples of a question (GRPO, arXiv:2402.03300). Biased.

    Where they differ by rounding alone, which is not to be standardised, the advantages are 0. Rows of one question are
    adjacent; needs two or more.
    """

    min_samples = 2

    def __call__(self, returns: Tensor, mask: Tensor, samples_per_prompt: int) -> Tensor:
        grouped = _by_question(returns, mask, samples_per_prompt)
        least, most = grouped.amin(dim=1, keepdim=True), grouped.amax(dim=1, keepdim=True)
        rounding = ROUNDING * torch.finfo(grouped.dtype).eps * torch.maximum(-least, most)
        centred = (grouped - grouped.mean(dim=1, keepdim=True)).masked_fill(most - least <= rounding, 0)
        return (centred / (grouped.std(dim=1, keepdim=True) + 1e-6)).view_as(returns) * mask
