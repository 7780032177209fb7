"""GAN-based prompt tuning of frozen language models."""

from gantune.version import __version__

__all__ = ["__version__"]
