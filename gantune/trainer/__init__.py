"""The trainers: what every method shares, and the game of generator and discriminator."""

from importlib import import_module
from typing import Any

_MODULES = {
    "GameConfig": "config",
    "LanguageGAN": "language_gan",
    "LanguageGANConfig": "arguments",
    "PairConfig": "arguments",
    "PairTrainer": "pair_trainer",
    "PolicyTrainer": "policy_trainer",
    "Unpaired": "unpaired",
    "last_whole_checkpoint": "checkpoints",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    """The names above, imported on first use: transformers takes seconds."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
