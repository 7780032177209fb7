"""The rows of the table: what is sampled, and how the adversarial ones are rewarded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.oracle.bleu import CorpusBleu, self_bleu
from benchmarks.oracle.checkpoint import CHECKPOINT, ResumableLoop
from benchmarks.oracle.highway_cnn import HighwayCNN
from benchmarks.oracle.lstm import LENGTH, VOCABULARY, LSTMPolicy, nats_per_token, sample
from benchmarks.oracle.settings import OracleSettings
from benchmarks.oracle.training import adam, discriminator_round, generator_step, likelihood_epoch
from gantune.data.batch import Batch
from gantune.policy import DelayedPolicy, MonteCarloSearch
from gantune.registry import Registry
from gantune.seqgan import MonteCarloReward, Reward, ShuffledReward, build_reward

METHODS = Registry("oracle method")


class Sampler(Protocol):
    """What can be judged: sequences, and the likelihood of given ones (None without a model)."""

    def sample(self, rows: int) -> Tensor: ...

    def nats_per_token(self, ids: Tensor) -> float | None: ...


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


@dataclass(frozen=True)
class Independent:
    """Tokens drawn independently from one distribution `[VOCABULARY]`, as a [`Sampler`]."""

    probabilities: Tensor

    def sample(self, rows: int) -> Tensor:
        """Sequences, `[rows, LENGTH]`."""
        return torch.multinomial(self.probabilities, rows * LENGTH, replacement=True).view(rows, LENGTH)

    def nats_per_token(self, ids: Tensor) -> float | None:
        """Mean negative log-likelihood a token; None if a token has probability 0."""
        if (self.probabilities[ids] == 0).any():
            return None
        return -self.probabilities[ids].log().mean().item()


class World:
    """One seed's setting: the oracle, its sequences to train and to test on, and where the runs keep their files.

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
        torch.manual_seed(seed)
        self.train, self.test = sample(oracle, settings.sequences), sample(oracle, settings.sequences)

    def judge(self, sampler: Sampler, diversity: bool) -> dict[str, float | None]:
        """Figures of what a sampler writes; counting distinct tokens and self-BLEU only if wanted."""
        ids = sampler.sample(self.settings.sequences)
        figures = {"nll_oracle": nats_per_token(self.oracle, ids), "nll_test": sampler.nats_per_token(self.test)}
        if diversity:
            figures["distinct"] = len(ids.unique())
            figures["self_bleu"] = self_bleu(ids, VOCABULARY, self.settings.bleu_order)
        return figures

    @contextmanager
    def bar(self, title: str, total: int, unit: str) -> Iterator[tqdm]:
        """A progress bar of this seed."""
        with tqdm(total=total, desc=f"{title}, seed {self.seed}", unit=unit, dynamic_ncols=True) as bar:
            yield bar

    def maximum_likelihood(self) -> tuple[LSTMPolicy, list[dict[str, Any]]]:
        """The policy after its epochs of maximum likelihood, and its history; what was trained before is loaded."""
        torch.manual_seed(self.seed)
        policy = LSTMPolicy().to(self.device)
        optimizer = adam(policy, self.settings.mle_learning_rate)
        parts = {"policy": policy, "optimizer": optimizer}
        loop = ResumableLoop(self.directory / "mle", self.settings.mle_epochs, parts)
        with self.bar("mle", loop.total, "epoch") as bar:
            bar.update(loop.first)
            for epoch in loop:
                loss = likelihood_epoch(policy, optimizer, self.train, self.settings)
                if epoch % self.settings.evaluate_every == 0 or epoch + 1 == loop.total:
                    loop.pause()
                    row = {"epoch": epoch, "loss": loss} | self.judge(Tempered(policy), diversity=False)
                    bar.set_postfix(loss=f"{loss:.3f}", nll_oracle=f"{row['nll_oracle']:.3f}", refresh=False)
                    loop.save(epoch, row)
                    loop.resume()
                bar.update()
        return policy, loop.rows

    def discriminator(self, policy: LSTMPolicy) -> tuple[HighwayCNN, torch.optim.Adam, float]:
        """The discriminator before the adversarial rounds, its optimiser, and the seconds of its training."""
        torch.manual_seed(self.seed)
        discriminator = HighwayCNN(bf16=self.settings.discriminator_bf16).to(self.device).eval()
        optimizer = adam(discriminator, self.settings.discriminator_learning_rate)
        parts = {"discriminator": discriminator, "optimizer": optimizer}
        loop = ResumableLoop(self.directory / "discriminator", self.settings.discriminator_rounds, parts)
        with self.bar("discriminator", loop.total * self._steps_a_round(), "step") as bar:
            bar.update(loop.first * self._steps_a_round())
            for index in loop:
                accuracy = discriminator_round(
                    discriminator, optimizer, policy, self.train, self.settings, on_step=bar.update
                )
                bar.set_postfix(accuracy=f"{accuracy:.3f}", refresh=False)
                if index % self.settings.evaluate_every == 0 or index + 1 == loop.total:
                    loop.pause()
                    loop.save(index, {"round": index, "accuracy": accuracy})
                    loop.resume()
        return discriminator.eval(), optimizer, loop.rows[-1]["seconds"]

    def forget(self, method: str) -> None:
        """Remove the checkpoint of a finished method; that of maximum likelihood is where the others start."""
        if method != "mle":
            (self.directory / method / CHECKPOINT).unlink(missing_ok=True)

    def _steps_a_round(self) -> int:
        batches = -(-self.settings.sequences // (self.settings.batch_size // 2))
        return self.settings.discriminator_epochs * batches

    def adversarial(self, name: str, objective: Callable[..., Reward], judged: bool) -> dict[str, Any]:
        """Policy gradient from the maximum-likelihood start; figures, history and seconds.

        Args:
            name: of the method and its directory.
            objective: `(world, discriminator, search) -> reward`.
            judged: whether a discriminator is trained beside the generator.
        """
        settings = self.settings
        policy, history = self.maximum_likelihood()
        optimizer = adam(policy, settings.learning_rate)
        parts: dict[str, Any] = {"policy": policy, "optimizer": optimizer}
        before, discriminator, discriminator_optimizer = history[-1]["seconds"], None, None
        if judged:
            discriminator, discriminator_optimizer, seconds = self.discriminator(policy)
            before += seconds
            parts |= {"discriminator": discriminator, "discriminator_optimizer": discriminator_optimizer}
        completing = policy
        if settings.rollout_policy == "delayed":
            completing = DelayedPolicy(policy, optimizer.param_groups[0]["params"])
            parts["delayed"] = completing
        search = MonteCarloSearch(completing, settings.completions, max_rows=settings.max_rows)
        reward = objective(self, discriminator, search)
        torch.manual_seed(self.seed)
        loop = ResumableLoop(self.directory / name, settings.adversarial_rounds, parts)
        steps = settings.discriminator_rounds_each * self._steps_a_round() if judged else 0
        with self.bar(name, loop.total * (steps + 1), "step") as bar:
            bar.update(loop.first * (steps + 1))
            for index in loop:
                row = {"round": index} | generator_step(policy, optimizer, reward, settings)
                bar.update()
                if settings.rollout_policy == "delayed":
                    completing.update()
                if judged:
                    for _ in range(settings.discriminator_rounds_each):
                        row["accuracy"] = discriminator_round(
                            discriminator, discriminator_optimizer, policy, self.train, settings, on_step=bar.update
                        )
                if index % settings.evaluate_every == 0 or index + 1 == loop.total:
                    loop.pause()
                    row |= self.judge(Tempered(policy), diversity=False)
                    loop.save(index, row)
                    loop.resume()
                shown = {key: f"{row[key]:.3f}" for key in ("loss", "reward", "nll_oracle") if key in row}
                bar.set_postfix(shown, refresh=False)
        figures = self.judge(Tempered(policy), diversity=True)
        return figures | {"seconds": before + loop.rows[-1]["seconds"], "history": loop.rows}


@METHODS.register("random")
def random_tokens(world: World) -> list[dict[str, Any]]:
    """Uniform tokens, and tokens drawn by their frequency in the training data (the paper's "random")."""
    uniform = torch.full((VOCABULARY,), 1 / VOCABULARY, device=world.device)
    frequency = world.train.flatten().bincount(minlength=VOCABULARY) / world.train.numel()
    return [
        {"method": name} | world.judge(Independent(probabilities), diversity=True)
        for name, probabilities in (("uniform", uniform), ("unigram", frequency))
    ]


@METHODS.register("oracle")
def oracle_itself(world: World) -> list[dict[str, Any]]:
    """The oracle's own sequences: what nothing honest can beat in both columns at once."""
    return [{"method": "oracle"} | world.judge(Tempered(world.oracle), diversity=True)]


@METHODS.register("mle")
def maximum_likelihood(world: World) -> list[dict[str, Any]]:
    """Maximum likelihood, and the same model sampled at other temperatures."""
    policy, history = world.maximum_likelihood()
    rows = [{"method": "mle", "seconds": history[-1]["seconds"], "history": history}]
    rows += [
        {"method": f"mle, temperature {t:g}", "seconds": history[-1]["seconds"]} for t in world.settings.temperatures
    ]
    temperatures = [1.0, *world.settings.temperatures]
    return [row | world.judge(Tempered(policy, t), diversity=True) for row, t in zip(rows, temperatures, strict=True)]


class BleuJudge:
    """BLEU against the training sequences where a discriminator would judge; see [`MonteCarloReward`]."""

    def __init__(self, world: World) -> None:
        self.bleu = CorpusBleu(world.train, VOCABULARY, world.settings.bleu_order)

    def sequence_logits(self, batch: Batch) -> Tensor:
        """The log-odds of the score, so that transform `prob` gives the score itself; `[B]`."""
        return self.bleu(batch.answer_ids).logit()


def _adversarial(name: str, judged: bool) -> Callable[[Callable[..., Reward]], Callable[[World], list[dict[str, Any]]]]:
    """Decorator that registers an objective `(world, discriminator, search) -> reward` as a method."""

    def register(objective: Callable[..., Reward]) -> Callable[[World], list[dict[str, Any]]]:
        def run(world: World) -> list[dict[str, Any]]:
            return [{"method": name} | world.adversarial(name, objective, judged)]

        run.__doc__ = objective.__doc__
        return METHODS.register(name)(run)

    return register


@_adversarial("pg-bleu", judged=False)
def pg_bleu(world: World, discriminator: HighwayCNN | None, search: MonteCarloSearch) -> Reward:
    """Policy gradient with Monte-Carlo search and BLEU against the training data as the reward."""
    return MonteCarloReward(BleuJudge(world), "prob", search)


@_adversarial("seqgan", judged=True)
def seqgan(world: World, discriminator: HighwayCNN | None, search: MonteCarloSearch) -> Reward:
    """SeqGAN: Monte-Carlo search and the discriminator's probability of being real."""
    return MonteCarloReward(discriminator, "prob", search)


@_adversarial("constant", judged=False)
def constant(world: World, discriminator: HighwayCNN | None, search: MonteCarloSearch) -> Reward:
    """Control: the same reward for every token of every sequence, no discriminator."""
    return build_reward("constant", discriminator)


@_adversarial("shuffled", judged=True)
def shuffled(world: World, discriminator: HighwayCNN | None, search: MonteCarloSearch) -> Reward:
    """Control: SeqGAN with each sequence given the rewards of another one of its batch."""
    return ShuffledReward(MonteCarloReward(discriminator, "prob", search))
