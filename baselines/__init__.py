"""Methods to compare, one file a family. Importing this package registers them in `METHODS`."""

from baselines.base import untuned
from baselines.gan import tune_gan, tune_mle
from baselines.gan_source import SourceStudyConfig, tune_source
from baselines.lora import LoraTuningConfig, tune_lora
from baselines.method import METHODS, Diverged, Method, Tuned, TunedModel, method
from baselines.trivial import copy_question, random_answer

__all__ = [
    "METHODS",
    "Diverged",
    "LoraTuningConfig",
    "Method",
    "SourceStudyConfig",
    "Tuned",
    "TunedModel",
    "copy_question",
    "method",
    "random_answer",
    "tune_gan",
    "tune_lora",
    "tune_mle",
    "tune_source",
    "untuned",
]
