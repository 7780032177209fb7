"""GAN-based prompt tuning of frozen language models.

The names below are imported on first use: transformers and peft take seconds.
"""

# ruff: noqa: F401

from typing import TYPE_CHECKING

from gantune.registry import lazy
from gantune.version import __version__ as __version__

if TYPE_CHECKING:  # for editors
    from gantune.data import Batch, Pair, RecordQuestion, as_pairs, load_pairs, load_prompts, split_pairs
    from gantune.discriminators.base import Discriminator
    from gantune.embedding_generator import (
        EmbeddingGenerator,
        EmbeddingGeneratorConfig,
        draw_noise,
        hold_noise,
        stack_adapters,
    )
    from gantune.errors import UserError
    from gantune.hub.loading import load_model, load_tokenizer
    from gantune.metrics import Rouge, SlotMatcher
    from gantune.trainer import LanguageGAN, LanguageGANConfig, PairConfig, PairTrainer, Unpaired

__getattr__, __all__ = lazy(
    __name__,
    {
        "data": ["Batch", "Pair", "RecordQuestion", "as_pairs", "load_pairs", "load_prompts", "split_pairs"],
        "discriminators": ["Discriminator"],
        "embedding_generator": [
            *("EmbeddingGenerator", "EmbeddingGeneratorConfig", "draw_noise", "hold_noise", "stack_adapters"),
        ],
        "errors": ["UserError"],
        "hub.loading": ["load_model", "load_tokenizer"],
        "metrics": ["Rouge", "SlotMatcher"],
        "trainer": ["LanguageGAN", "LanguageGANConfig", "PairConfig", "PairTrainer", "Unpaired"],
    },
)
