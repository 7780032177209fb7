"""The rows without a game: random tokens, the oracle, and maximum likelihood with its temperature curves."""

from __future__ import annotations

import copy
import math
from typing import Any, NamedTuple

import torch

from benchmarks.oracle.curves import TEMPERATURE
from benchmarks.oracle.lstm import VOCABULARY, LSTMPolicy, nats_per_token
from benchmarks.oracle.samplers import Independent, Tempered
from benchmarks.oracle.training import adam, likelihood_epoch
from benchmarks.oracle.world import Row, World


class Best:
    """A policy as it was when held-out sequences were likeliest."""

    def __init__(self, policy: LSTMPolicy) -> None:
        self.policy, self.nats, self.epoch, self.seen = copy.deepcopy(policy), math.inf, -1, 0

    def see(self, policy: LSTMPolicy, nats: float) -> None:
        """Once an epoch: keep the policy if it is better."""
        if nats < self.nats:
            self.policy.load_state_dict(policy.state_dict())
            self.nats, self.epoch = nats, self.seen
        self.seen += 1

    def state_dict(self) -> dict[str, Any]:
        return {"weights": self.policy.state_dict(), "numbers": (self.nats, self.epoch, self.seen)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.policy.load_state_dict(state["weights"])
        self.nats, self.epoch, self.seen = state["numbers"]


class Fitted(NamedTuple):
    """A policy of maximum likelihood after its last epoch, and after `epoch`, its best, with its history."""

    last: LSTMPolicy
    best: LSTMPolicy
    epoch: int
    history: list[Row]

    @property
    def seconds(self) -> float:
        """Of all epochs."""
        return self.history[-1]["seconds"]


def fit(world: World, name: str, epochs: int, dropout: float = 0.0) -> Fitted:
    """Maximum likelihood on the training sequences; what was trained before is loaded."""
    torch.manual_seed(world.seed)
    policy = LSTMPolicy(dropout=dropout).to(world.device)
    optimizer, best = adam(policy, world.settings.mle_learning_rate), Best(policy)

    def epoch() -> dict[str, float]:
        policy.train()
        loss = likelihood_epoch(policy, optimizer, world.train, world.settings)
        policy.eval()
        held_out = nats_per_token(policy, world.held_out)
        best.see(policy, held_out)
        return {"loss": loss, "held_out": held_out}

    parts = {"policy": policy, "optimizer": optimizer, "best": best}
    history = world.rounds(name, epochs, parts, epoch, policy, unit="epoch")
    return Fitted(policy.eval(), best.policy.eval(), best.epoch, history)


def fitted_policy(world: World) -> Fitted:
    """What all games begin from."""
    return fit(world, "mle", world.settings.mle_epochs)


def fitted_model(world: World) -> Fitted:
    """The model m of the likelihood ratio: the same network with dropout, on the same sequences."""
    return fit(world, "ratio-model", world.settings.model_epochs, world.settings.model_dropout)


def random_tokens(world: World, name: str) -> list[Row]:
    """Uniform tokens, and tokens drawn by their frequency in the training data (the paper's "random")."""
    uniform = torch.full((VOCABULARY,), 1 / VOCABULARY, device=world.device)
    frequency = world.train.flatten().bincount(minlength=VOCABULARY) / world.train.numel()
    of = {"uniform": uniform, "unigram": frequency}
    return [{"method": name} | world.figures(Independent(probabilities)) for name, probabilities in of.items()]


def oracle_itself(world: World, name: str) -> list[Row]:
    """The oracle's own sequences: what nothing honest can beat in both likelihoods at once."""
    return [{"method": name} | world.figures(Tempered(world.oracle))]


def maximum_likelihood(world: World, name: str) -> list[Row]:
    """Maximum likelihood at its best epoch and at its last, each also at other temperatures."""
    fitted = fitted_policy(world)
    best = curve(world, f"{name}-best", fitted.best, epoch=fitted.epoch)
    return best + curve(world, name, fitted.last, seconds=fitted.seconds, history=fitted.history)


def ratio_model(world: World, name: str) -> list[Row]:
    """The model of the likelihood ratio by itself, at its best epoch: what a game with it has to beat."""
    fitted = fitted_model(world)
    return curve(world, name, fitted.best, epoch=fitted.epoch, seconds=fitted.seconds)


def curve(world: World, name: str, policy: LSTMPolicy, **of_all: Any) -> list[Row]:
    """A row a temperature, 1 first and always, whose name has none."""
    named = {t: f"{name}{TEMPERATURE}{t:g}" for t in (1.0, *world.settings.temperatures)} | {1.0: name}
    return [{"method": named[t]} | world.figures(Tempered(policy, t)) | of_all for t in named]
