"""What a step makes of the rewards of sampled answers: a weight for the log-prob of each of their tokens.

An objective is constructed with `(advantage, max_new_tokens)` and called with returns and mask `[B, T]`, rows of one
question adjacent, and their number a question. It gives weights `[B, T]`, constants: the step goes down
`- sum(weights * log_probs)`. `min_samples` answers to a question are needed. With `clipped`, later steps on the same
samples go by their importance ratio; see `gantune.seqgan.losses.clipped_loss`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gantune.seqgan.advantages import Advantage


class PolicyGradient:
    """Advantages, over all samples: REINFORCE (Yu et al. 2017, eq. 8; SOURCE_STUDY eq. 2.4).

    The weights are divided by `max_new_tokens`, a constant, so that the loss is of the order of a token's.
    """

    clipped = True

    def __init__(self, advantage: Advantage, max_new_tokens: int) -> None:
        self.advantage, self.max_new_tokens = advantage, max_new_tokens
        self.min_samples = advantage.min_samples

    def __call__(self, returns: Tensor, mask: Tensor, samples_per_prompt: int) -> Tensor:
        return self.advantage(returns, mask, samples_per_prompt) * mask / (self.max_new_tokens * len(returns))


class _Selection:
    """Likelihood of a question's samples, each as much as it is worth: the loss is nats a token, as of true answers."""

    min_samples = 2

    def __init__(self, advantage: Advantage | None = None, max_new_tokens: int | None = None) -> None:
        """Takes what the others take, and needs neither."""

    def __call__(self, returns: Tensor, mask: Tensor, samples_per_prompt: int) -> Tensor:
        """An answer is worth the mean of its tokens' returns."""
        worth = (returns * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        shares = self.shares(worth.view(-1, samples_per_prompt)).flatten()
        weights = shares[:, None] * mask
        return weights / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)

    def shares(self, worth: Tensor) -> Tensor:
        """How much each sample counts, `[questions, samples]` to the same."""
        raise NotImplementedError


class BestOfK(_Selection):
    """Likelihood of the best of the k samples of each question, the first of equals: expert iteration.

    As in RAFT (Dong et al. 2023, arXiv:2304.06767), with k samples drawn anew in every step.
    """

    def shares(self, worth: Tensor) -> Tensor:
        """1 for the best, 0 for the others."""
        return torch.zeros_like(worth).scatter(1, worth.argmax(dim=1, keepdim=True), 1.0)


class Weighted(_Selection):
    """Reward-weighted likelihood: exp(worth / temperature), normalised among the samples of a question.

    Reward-weighted regression (Peters & Schaal 2007); worth is standardised first, so that the temperature has no unit.
    """

    temperature = 0.5

    def shares(self, worth: Tensor) -> Tensor:
        """The softmax; equal shares where all samples are worth the same."""
        centred = worth - worth.mean(dim=1, keepdim=True)
        spread = centred.pow(2).mean(dim=1, keepdim=True).sqrt()
        return (centred / (spread + 1e-6) / self.temperature).softmax(dim=1)
