"""Discriminators: tokens and mask in, logits out. `DISCRIMINATORS` lists them by name, without importing torch."""

from gantune.registry import Registry, lazy

DISCRIMINATORS = Registry(
    "discriminator",
    {
        "cnn": "gantune.discriminators.cnn.CausalCNN",
        "cross-reader": "gantune.discriminators.cross_reader.CrossReader",
        "frozen-lm": "gantune.discriminators.frozen_lm.FrozenLMHead",
        "judge": "gantune.discriminators.judge.LanguageModelJudge",
        "mediator": "gantune.discriminators.ratio.Mediator",
        "mlp": "gantune.discriminators.mlp.TokenIdMLP",
        "ratio": "gantune.discriminators.ratio.LikelihoodRatio",
        "source": "gantune.discriminators.mlp.TokenValueMLP",
    },
)

__getattr__, __all__ = lazy(
    __name__,
    {
        "base": ["Discriminator", "Reading"],
        "blind": ["Blind"],
        "cnn": ["CausalCNN"],
        "cross_reader": ["CrossReader"],
        "frozen_lm": ["FrozenLMHead"],
        "judge": ["LanguageModelJudge"],
        "mlp": ["NarrowingMLP", "TokenIdMLP", "TokenValueMLP"],
        "ratio": ["LikelihoodRatio", "Mediator"],
    },
)
__all__ += ["DISCRIMINATORS"]
