"""The rows of a likelihood-ratio judge: its logit is log m - log q, m a model of real sequences and q the policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from benchmarks.oracle.likelihood import fitted_model, fitted_policy
from benchmarks.oracle.lstm import LSTMPolicy, sample
from benchmarks.oracle.settings import OracleSettings
from benchmarks.oracle.training import adam, generator_step, likelihood_epoch, update
from benchmarks.oracle.world import Row, World
from gantune.policy import Rollout
from gantune.seqgan import ShuffledReward, build_reward

PART = 64  # sequences whose distributions are held at once

Step = Callable[[LSTMPolicy, torch.optim.Optimizer, LSTMPolicy, OracleSettings, bool], dict[str, float]]


class RatioJudge:
    """Judges what the policy sampled by log m - log q, q by the rollout's own log-probs.

    With m the oracle there is no better judge: sigmoid(logit) is then p / (p + q).
    """

    def __init__(self, model: LSTMPolicy) -> None:
        self.model = model

    def prefix_logits(self, rollout: Rollout) -> Tensor:
        """Of each token given those before it, `[B, T]`."""
        return self.model.score(rollout) - rollout.log_probs

    def sequence_logits(self, rollout: Rollout) -> Tensor:
        """Of whole sequences, `[B]`: the sum."""
        return self.prefix_logits(rollout).sum(dim=1)


def policy_gradient(
    policy: LSTMPolicy, optimizer: torch.optim.Optimizer, model: LSTMPolicy, settings: OracleSettings, shuffled: bool
) -> dict[str, float]:
    """Rewards log m - log q a token, not discounted; returns less the mean of the others' at the same place."""
    reward = build_reward("token", RatioJudge(model), "logit")
    reward = ShuffledReward(reward) if shuffled else reward
    return generator_step(policy, optimizer, reward, settings, "leave-one-out", settings.ratio_sequences)


def all_actions(
    policy: LSTMPolicy, optimizer: torch.optim.Optimizer, model: LSTMPolicy, settings: OracleSettings, shuffled: bool
) -> dict[str, float]:
    """Down KL(q || m) over all next tokens at the prefixes of own samples: CoT's generator step (arXiv:1804.03782).

    The prefixes are taken as they are: that q also decides which come up has no part in this gradient. Shuffled, m
    reads the prefixes of other sequences.
    """
    ids = sample(policy, settings.ratio_sequences)
    read = ids[torch.randperm(len(ids))] if shuffled else ids
    optimizer.zero_grad()
    total = 0.0
    for own, others in zip(ids.split(PART), read.split(PART), strict=True):
        loss = all_actions_loss(policy, model, own, others) / len(ids)
        loss.backward()
        total += loss.item()
    update(optimizer, settings.max_grad_norm)
    return {"loss": total}


def all_actions_loss(policy: LSTMPolicy, model: LSTMPolicy, ids: Tensor, read: Tensor) -> Tensor:
    """KL(q || m) of the next token, added up over all places, where q reads sequences `ids` and m `read`, `[B, T]`."""
    with torch.no_grad():
        log_m = model.log_distributions(read)
    log_q = policy.log_distributions(ids)
    return (log_q.exp() * (log_q - log_m)).sum()


def mediator_round(
    model: LSTMPolicy, optimizer: torch.optim.Optimizer, policy: LSTMPolicy, real: Tensor, settings: OracleSettings
) -> float:
    """CoT's mediator: likelihood of real sequences and as many sampled ones, half a batch each; the mean loss."""
    own = sample(policy, settings.ratio_sequences)
    drawn = real[torch.randint(len(real), (len(own),), device=real.device)]
    model.train()
    loss = likelihood_epoch(model, optimizer, torch.stack([drawn, own], dim=1).flatten(0, 1), settings)
    model.eval()
    return loss


def ratio(
    world: World,
    name: str,
    step: Step = policy_gradient,
    start: Literal["best", "last"] = "best",
    shuffled: bool = False,
    optimal: bool = False,
    learned: bool = False,
) -> list[Row]:
    """A game with a likelihood-ratio judge.

    Args:
        step: the generator's.
        start: from which epoch of maximum likelihood.
        shuffled: the control: each sequence is given what is said of another one.
        optimal: m is the oracle, and not the model that is fitted to its sequences.
        learned: m is CoT's mediator, which begins as that model and is trained in each round.
    """
    settings, begun = world.settings, fitted_policy(world)
    fitted, model = None, world.oracle
    if not optimal:
        fitted = fitted_model(world)
        model = fitted.best
    policy = getattr(begun, start)
    optimizer = adam(policy, settings.ratio_learning_rate)
    parts: dict[str, Any] = {"policy": policy, "optimizer": optimizer}
    if learned:
        its_optimizer = adam(model, settings.ratio_learning_rate)
        parts |= {"model": model, "model_optimizer": its_optimizer}

    def play() -> dict[str, float]:
        of_model = {}
        if learned:
            of_model = {"model_loss": mediator_round(model, its_optimizer, policy, world.train, settings)}
        return step(policy, optimizer, model, settings, shuffled) | of_model

    seconds = begun.seconds + (fitted.seconds if fitted else 0.0)
    return [world.game(name, policy, settings.ratio_steps, parts, play, RatioJudge(model), seconds)]
