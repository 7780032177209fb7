"""GAN-based prompt tuning of frozen language models.

The names below are imported on first use: transformers and peft take seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gantune.version import __version__

if TYPE_CHECKING:
    from gantune.data import Pair, as_pairs, load_pairs, split_pairs
    from gantune.discriminators import Discriminator
    from gantune.embedding_generator import EmbeddingGenerator, EmbeddingGeneratorConfig
    from gantune.errors import UserError
    from gantune.hub.loading import load_model, load_tokenizer
    from gantune.trainer.config import LanguageGANConfig
    from gantune.trainer.language_gan import LanguageGAN

_MODULES = {
    "Discriminator": "gantune.discriminators",
    "EmbeddingGenerator": "gantune.embedding_generator",
    "EmbeddingGeneratorConfig": "gantune.embedding_generator",
    "LanguageGAN": "gantune.trainer.language_gan",
    "LanguageGANConfig": "gantune.trainer.config",
    "Pair": "gantune.data",
    "UserError": "gantune.errors",
    "as_pairs": "gantune.data",
    "load_model": "gantune.hub.loading",
    "load_pairs": "gantune.data",
    "load_tokenizer": "gantune.hub.loading",
    "split_pairs": "gantune.data",
}

__all__ = [
    "Discriminator",
    "EmbeddingGenerator",
    "EmbeddingGeneratorConfig",
    "LanguageGAN",
    "LanguageGANConfig",
    "Pair",
    "UserError",
    "__version__",
    "as_pairs",
    "load_model",
    "load_pairs",
    "load_tokenizer",
    "split_pairs",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
