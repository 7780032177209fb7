"""All weights tuned: the upper end in memory and in freedom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from baselines.likelihood_training import train_by_likelihood
from baselines.method import TunedModel, around, method
from gantune.data import Pair
from gantune.trainer.checkpoints import Checkpoints
from gantune.trainer.observer import Observer
from gantune.tuning import TuningConfig


@dataclass
class FullTuningConfig(TuningConfig):
    """Settings of full fine-tuning.

    Args:
        full_learning_rate: AdamW.
    """

    _argument_group_name = "full: all weights"
    sweeps: ClassVar = {"full_learning_rate": around(2e-4)}

    full_learning_rate: float = field(default=2e-4, metadata={"help": "AdamW"})


@method("full", FullTuningConfig, resumes=True)
def tune_full(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Pair],
    config: FullTuningConfig,
    observer: Observer | None = None,
    checkpoints: Checkpoints | None = None,
) -> TunedModel:
    """Every weight of the model, in the dtype it was loaded in; saved as a Hugging Face folder with its tokenizer."""
    model.requires_grad_(True)
    tuned = train_by_likelihood(model, tokenizer, pairs, config, config.full_learning_rate, observer, checkpoints)

    def save(directory: Path) -> None:
        tuned.model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)

    return TunedModel(tuned.model, tokenizer, config, save=save)
