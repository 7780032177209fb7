"""Discriminators: tokens and mask in, logits out. `DISCRIMINATORS` lists them by name."""

from gantune.discriminators.base import DISCRIMINATORS, Discriminator
from gantune.discriminators.cnn import CausalCNN
from gantune.discriminators.mlp import NarrowingMLP, TokenIdMLP, TokenValueMLP

__all__ = ["DISCRIMINATORS", "CausalCNN", "Discriminator", "NarrowingMLP", "TokenIdMLP", "TokenValueMLP"]
