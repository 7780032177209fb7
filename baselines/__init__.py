"""Methods to compare, one file a family. Importing this package registers them in `METHODS`."""

from baselines.base import base
from baselines.gan import gan, mle
from baselines.lora import LoraTuningConfig, lora
from baselines.method import METHODS, Method, Tuned, TunedModel, method
from baselines.trivial import copy_question, random_answer

__all__ = [
    "METHODS",
    "LoraTuningConfig",
    "Method",
    "Tuned",
    "TunedModel",
    "base",
    "copy_question",
    "gan",
    "lora",
    "method",
    "mle",
    "random_answer",
]
