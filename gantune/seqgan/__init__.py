"""SeqGAN's algorithm: rewards, advantages and losses over tensors; knows no model and no tokenizer."""

from gantune.seqgan.advantages import ADVANTAGES, returns
from gantune.seqgan.losses import discriminator_loss, likelihood_loss, policy_gradient_loss, weighted_loss
from gantune.seqgan.objectives import OBJECTIVES
from gantune.seqgan.rewards import (
    REWARDS,
    TRANSFORMS,
    MonteCarloReward,
    Reward,
    Search,
    ShuffledReward,
    build_reward,
    search_values,
    self_consistency,
)

__all__ = [
    "ADVANTAGES",
    "OBJECTIVES",
    "REWARDS",
    "TRANSFORMS",
    "MonteCarloReward",
    "Reward",
    "Search",
    "ShuffledReward",
    "build_reward",
    "discriminator_loss",
    "likelihood_loss",
    "policy_gradient_loss",
    "returns",
    "search_values",
    "self_consistency",
    "weighted_loss",
]
