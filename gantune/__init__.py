"""GAN-based prompt tuning of frozen language models.

The names below are imported on first use: transformers and peft take seconds.
"""

# ruff: noqa: F401

from typing import TYPE_CHECKING

from gantune.registry import lazy
from gantune.version import __version__ as __version__

if TYPE_CHECKING:  # for editors
    from gantune.data import Pair, as_pairs, load_pairs, split_pairs
    from gantune.discriminators.base import Discriminator
    from gantune.embedding_generator import EmbeddingGenerator, EmbeddingGeneratorConfig
    from gantune.errors import UserError
    from gantune.hub.loading import load_model, load_tokenizer
    from gantune.trainer import LanguageGAN, LanguageGANConfig, PairConfig, PairTrainer

__getattr__, __all__ = lazy(
    __name__,
    {
        "data": ["Pair", "as_pairs", "load_pairs", "split_pairs"],
        "discriminators": ["Discriminator"],
        "embedding_generator": ["EmbeddingGenerator", "EmbeddingGeneratorConfig"],
        "errors": ["UserError"],
        "hub.loading": ["load_model", "load_tokenizer"],
        "trainer": ["LanguageGAN", "LanguageGANConfig", "PairConfig", "PairTrainer"],
    },
)
