"""Discriminators: tokens and mask in, logits out. `DISCRIMINATORS` lists them by name."""

from gantune.discriminators.base import DISCRIMINATORS, Discriminator
from gantune.discriminators.blind import Blind
from gantune.discriminators.cnn import CausalCNN
from gantune.discriminators.frozen_lm import FrozenLMHead
from gantune.discriminators.mlp import NarrowingMLP, TokenIdMLP, TokenValueMLP

__all__ = [
    "DISCRIMINATORS",
    "Blind",
    "CausalCNN",
    "Discriminator",
    "FrozenLMHead",
    "NarrowingMLP",
    "TokenIdMLP",
    "TokenValueMLP",
]
