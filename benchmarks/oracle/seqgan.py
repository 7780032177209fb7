"""SeqGAN's rows (Yu et al. 2017): a discriminator of whole sequences, asked about completions of each prefix."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.oracle.highway_cnn import HighwayCNN
from benchmarks.oracle.likelihood import fitted_policy
from benchmarks.oracle.lstm import LSTMPolicy
from benchmarks.oracle.training import adam, discriminator_round, generator_step
from benchmarks.oracle.world import Row, World
from gantune.policy import DelayedPolicy, MonteCarloSearch
from gantune.seqgan import MonteCarloReward, ShuffledReward, build_reward


def seqgan(world: World, name: str, advantage: str = "none", shuffled: bool = False) -> list[Row]:
    """From maximum likelihood's last epoch: rounds of a generator step and of discriminator rounds.

    Args:
        advantage: a name in `gantune.seqgan.ADVANTAGES`; the paper's is none.
        shuffled: the control: each sequence is given the rewards of another one of its batch.
    """
    settings, fitted = world.settings, fitted_policy(world)
    policy, optimizer = fitted.last, adam(fitted.last, settings.learning_rate)
    discriminator, its_optimizer, seconds = pretrained(world, policy)
    parts: dict[str, Any] = {"policy": policy, "optimizer": optimizer}
    parts |= {"discriminator": discriminator, "discriminator_optimizer": its_optimizer}
    completing, delayed = policy, settings.rollout_policy == "delayed"
    if delayed:
        completing = parts["delayed"] = DelayedPolicy(policy, optimizer.param_groups[0]["params"])
    search = MonteCarloSearch(completing, settings.completions, max_rows=settings.max_rows)
    reward = MonteCarloReward(discriminator, "prob", search)
    if shuffled:
        reward = ShuffledReward(reward)

    def step() -> dict[str, float]:
        figures = generator_step(policy, optimizer, reward, settings, advantage)
        if delayed:
            completing.update()
        for _ in range(settings.discriminator_rounds_each):
            accuracy = discriminator_round(discriminator, its_optimizer, policy, world.train, settings)
        return figures | {"accuracy": accuracy}

    seconds += fitted.seconds
    return [world.game(name, policy, settings.adversarial_rounds, parts, step, discriminator, seconds)]


def constant(world: World, name: str) -> list[Row]:
    """Control: the same reward for every token of every sequence, no discriminator."""
    settings, fitted = world.settings, fitted_policy(world)
    policy, optimizer = fitted.last, adam(fitted.last, settings.learning_rate)
    parts, reward = {"policy": policy, "optimizer": optimizer}, build_reward("constant", None)

    def step() -> dict[str, float]:
        return generator_step(policy, optimizer, reward, settings)

    return [world.game(name, policy, settings.adversarial_rounds, parts, step, seconds=fitted.seconds)]


def pretrained(world: World, policy: LSTMPolicy) -> tuple[HighwayCNN, torch.optim.Adam, float]:
    """The discriminator before the adversarial rounds, its optimiser, and the seconds of its training."""
    settings = world.settings
    torch.manual_seed(world.seed)
    discriminator = HighwayCNN(bf16=settings.discriminator_bf16).to(world.device).eval()
    optimizer = adam(discriminator, settings.discriminator_learning_rate)

    def step() -> dict[str, float]:
        return {"accuracy": discriminator_round(discriminator, optimizer, policy, world.train, settings)}

    parts = {"discriminator": discriminator, "optimizer": optimizer}
    history = world.rounds("discriminator", settings.discriminator_rounds, parts, step)
    return discriminator.eval(), optimizer, history[-1]["seconds"]
