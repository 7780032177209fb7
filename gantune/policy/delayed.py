"""A roll-out policy that follows the generator slowly (Yu et al. 2017: G_beta of the roll-outs)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from gantune.data.batch import Batch
from gantune.policy.causal_lm import CausalLMPolicy
from gantune.policy.rollout import Rollout


class DelayedPolicy:
    """Completes with an exponential average of a policy's trained weights.

    SeqGAN's released code has such a roll-out policy but never changes it after the first round; this one moves with
    every [`update`].

    `parameters`, what is trained of the policy, are averaged from their present values on. `decay` is the share of the
    average that an update keeps, in [0, 1) or it is a `ValueError`; the original's update rate is 0.8.
    """

    def __init__(self, policy: CausalLMPolicy, parameters: Sequence[nn.Parameter], decay: float = 0.8) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay is {decay}, expected at least 0 and below 1")
        self.policy, self.parameters, self.decay = policy, list(parameters), decay
        self.average: list[Tensor] = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the present weights; to be called after each step of the generator."""
        for average, parameter in zip(self.average, self.parameters, strict=True):
            average.lerp_(parameter.to(average.dtype), 1 - self.decay)

    def state_dict(self) -> dict[str, list[Tensor]]:
        return {"average": self.average}

    def load_state_dict(self, state: dict[str, list[Tensor]]) -> None:
        for average, saved in zip(self.average, state["average"], strict=True):
            average.copy_(saved)

    def prepare(self, rollout: Rollout) -> Rollout:
        """The rollout with the averaged policy's state: one pass, since the rollout's own state has other weights."""
        with self._averaged():
            return self.policy.prepare(rollout.without_state())

    def complete(self, rollout: Rollout, rows: Tensor, lengths: Tensor) -> Batch:
        with self._averaged():
            return self.policy.complete(rollout, rows, lengths)

    def score(self, rollout: Rollout) -> Tensor:
        """Log-probs of the answers of a rollout by the average, `[B, T]`; without gradient."""
        with self._averaged(), torch.no_grad():
            return self.policy.score(rollout, noise=rollout.noise, temperature=rollout.temperature)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        present = [p.data for p in self.parameters]
        for parameter, average in zip(self.parameters, self.average, strict=True):
            parameter.data = average
        try:
            yield
        finally:
            for parameter, data in zip(self.parameters, present, strict=True):
                parameter.data = data
