"""SeqGAN's algorithm: rewards, advantages and losses over tensors; knows no model and no tokenizer."""

from gantune.seqgan.advantages import ADVANTAGES, returns
from gantune.seqgan.losses import discriminator_loss, likelihood_loss, policy_gradient_loss
from gantune.seqgan.rewards import REWARDS, TRANSFORMS, Reward, build_reward

__all__ = [
    "ADVANTAGES",
    "REWARDS",
    "TRANSFORMS",
    "Reward",
    "build_reward",
    "discriminator_loss",
    "likelihood_loss",
    "policy_gradient_loss",
    "returns",
]
