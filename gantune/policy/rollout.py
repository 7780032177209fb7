"""A policy and what it samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from gantune.data.batch import Batch


@dataclass(kw_only=True)
class Rollout(Batch):
    """Sampled answers: a batch whose answers the policy wrote.

    The rows of one question are adjacent; `pairs` keeps each row's question and *true* answer.

    Args:
        log_probs: `[B, T]` log pi(y_t | q, y_<t, x) at sampling, without gradient; 0 where the mask is 0.
        noise: `[B, noise_dim]`, one vector a sequence, to be used again for scoring; None if the policy has none.
        temperature: divides the logits, in sampling and in scoring.
        samples_per_prompt: answers sampled to each question.
    """

    log_probs: Tensor
    noise: Tensor | None
    temperature: float
    samples_per_prompt: int


class Policy(Protocol):
    """A distribution over answer tokens given a question, with the noise held fixed."""

    def rollout(
        self, batch: Batch, *, max_new_tokens: int, temperature: float = 1.0, samples_per_prompt: int = 1
    ) -> Rollout:
        """Sample answers to the questions of `batch`, whose own answers are not read. No gradient."""
        ...

    def score(self, batch: Batch, *, noise: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """Log-probs of the answers in `batch`, `[B, T]`, with gradient; 0 where the answer mask is 0."""
        ...

    def draw_noise(self, batch_size: int) -> Tensor | None:
        """One noise vector a sequence, `[B, noise_dim]`; None if the policy has none."""
        ...
