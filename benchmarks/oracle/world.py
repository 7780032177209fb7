"""One seed's setting: the oracle, its sequences, what is measured, and loops that go on where they were killed."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.oracle.checkpoint import CHECKPOINT, ResumableLoop, Stateful
from benchmarks.oracle.divergences import divergences
from benchmarks.oracle.lstm import LSTMPolicy, empty_batch, nats_per_token, sample
from benchmarks.oracle.samplers import Sampler, Tempered
from benchmarks.oracle.settings import OracleSettings
from benchmarks.statistics.partial_correlation import partial_correlation
from gantune.data.batch import Batch

READ = 1000  # most sequences at whose prefixes distributions are compared, and that a judge is asked about
ON_THE_WAY = 2000  # most sequences of an evaluation while something is trained

Row = dict[str, Any]


class Judge(Protocol):
    """Has one logit a sequence, `[B]`."""

    def sequence_logits(self, batch: Batch) -> Tensor: ...


class World:
    """The oracle and what it wrote: sequences to train on, to choose an epoch by, and to test on.

    Args:
        oracle: writes and judges.
        settings: the protocol.
        seed: of everything random.
        directory: of this seed.
        device: of all networks.
    """

    def __init__(self, oracle: LSTMPolicy, settings: OracleSettings, seed: int, directory: Path, device: str) -> None:
        self.oracle, self.settings, self.seed = oracle.to(device), settings, seed
        self.directory, self.device = directory, device
        n = settings.sequences
        self.read, self.on_the_way = min(READ, n), min(ON_THE_WAY, n)
        torch.manual_seed(seed)
        self.train, self.test, self.held_out = (sample(oracle, rows) for rows in (n, n, -(-n // 10)))

    def likelihoods(self, sampler: Sampler, sequences: int) -> dict[str, float | None]:
        """NLL_oracle and NLL_test over so many sequences each, in nats a token; None where infinite."""
        return self._likelihoods(sampler, sampler.sample(sequences))

    def figures(self, sampler: Sampler) -> dict[str, float | None]:
        """All columns of the table that what a sampler writes has; see [`divergences`] and the page of the docs."""
        ids = sampler.sample(self.settings.sequences)
        distances = divergences(Tempered(self.oracle), sampler, self.test[: self.read], ids[: self.read])
        diversity = {"unique": len(ids.unique(dim=0)) / len(ids), "distinct": len(ids.unique())}
        return self._likelihoods(sampler, ids) | _finite(distances) | diversity

    def _likelihoods(self, sampler: Sampler, ids: Tensor) -> dict[str, float | None]:
        of_test = sampler.nats_per_token(self.test[: len(ids)])
        return _finite({"nll_oracle": nats_per_token(self.oracle, ids), "nll_test": of_test})

    @torch.no_grad()
    def knows(self, judge: Judge, policy: LSTMPolicy) -> float:
        """The partial correlation of a judge's logit with the oracle's log-likelihood, given the policy's own.

        Over sequences of the policy.
        """
        rollout = policy.rollout(empty_batch(self.read, self.device))
        truth, own = self.oracle.score(rollout).sum(dim=1), rollout.log_probs.sum(dim=1)
        return partial_correlation(judge.sequence_logits(rollout).tolist(), truth.tolist(), own.tolist())

    def rounds(
        self,
        name: str,
        total: int,
        parts: dict[str, Stateful],
        step: Callable[[], dict[str, float]],
        policy: LSTMPolicy | None = None,
        unit: str = "round",
    ) -> list[Row]:
        """Take so many steps, saved at each evaluation under `name`; a killed one goes on to the same result.

        Args:
            parts: everything that a step changes.
            step: its figures.
            policy: whose likelihoods each evaluation has.
            unit: what a step is called.

        Returns:
            A row an evaluation: its number from 0, the figures, and the seconds until then, evaluations left out.
        """
        torch.manual_seed(self.seed)
        loop = ResumableLoop(self.directory / name, total, parts)
        title = f"{name}, seed {self.seed}"
        with tqdm(total=total, initial=loop.first, desc=title, unit=unit, dynamic_ncols=True) as bar:
            for number in loop:
                row = {unit: number} | step()
                if number % self.settings.evaluate_every == 0 or number + 1 == total:
                    loop.pause()
                    row |= {} if policy is None else self.likelihoods(Tempered(policy), self.on_the_way)
                    loop.save(number, row)
                    loop.resume()
                bar.set_postfix({key: f"{value:.3f}" for key, value in row.items() if key != unit}, refresh=False)
                bar.update()
        return loop.rows

    def game(
        self,
        name: str,
        policy: LSTMPolicy,
        total: int,
        parts: dict[str, Stateful],
        step: Callable[[], dict[str, float]],
        judge: Judge | None = None,
        seconds: float = 0.0,
    ) -> Row:
        """The row of a policy that a game tunes, by [`rounds`].

        Args:
            judge: in the game, asked before and after it what it knows.
            seconds: of the training before.
        """
        before = {} if judge is None else {"knows": self.knows(judge, policy)}
        history = self.rounds(name, total, parts, step, policy)
        after = {} if judge is None else {"knows_at_the_end": self.knows(judge, policy)}
        figures = self.figures(Tempered(policy)) | before | after
        return {"method": name} | figures | {"seconds": seconds + history[-1]["seconds"], "history": history}

    def forget(self, name: str) -> None:
        """Remove the checkpoint of a finished game."""
        (self.directory / name / CHECKPOINT).unlink(missing_ok=True)


def _finite(figures: dict[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}
