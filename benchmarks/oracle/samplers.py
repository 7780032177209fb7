"""What can be measured: anything that writes sequences and knows the distribution of each next token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from benchmarks.oracle.lstm import LENGTH, LSTMPolicy, nats_per_token, sample


class Sampler(Protocol):
    """Writes sequences `[rows, LENGTH]` and gives the likelihood of others."""

    def sample(self, rows: int) -> Tensor: ...

    def nats_per_token(self, ids: Tensor) -> float: ...

    def log_distributions(self, ids: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Tempered:
    """A policy at a temperature, as a [`Sampler`]."""

    policy: LSTMPolicy
    temperature: float = 1.0

    def sample(self, rows: int) -> Tensor:
        """Sequences, `[rows, LENGTH]`."""
        return sample(self.policy, rows, self.temperature)

    def nats_per_token(self, ids: Tensor) -> float:
        """Mean negative log-likelihood a token."""
        return nats_per_token(self.policy, ids, self.temperature)

    def log_distributions(self, ids: Tensor) -> Tensor:
        """See [`LSTMPolicy.log_distributions`]."""
        return self.policy.log_distributions(ids, self.temperature)


@dataclass(frozen=True)
class Independent:
    """Tokens drawn independently from one distribution `[V]`, as a [`Sampler`]."""

    probabilities: Tensor

    def sample(self, rows: int) -> Tensor:
        """Sequences, `[rows, LENGTH]`."""
        return torch.multinomial(self.probabilities, rows * LENGTH, replacement=True).view(rows, LENGTH)

    def nats_per_token(self, ids: Tensor) -> float:
        """Mean negative log-likelihood a token; infinite if a token has probability 0."""
        return -self.probabilities[ids].log().mean().item()

    def log_distributions(self, ids: Tensor) -> Tensor:
        """The same at each place, `[B, T, V]`."""
        return self.probabilities.log().expand(*ids.shape, -1)
