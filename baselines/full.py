"""All weights tuned: the upper end in memory and in freedom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from baselines.likelihood_training import likelihood_method
from baselines.method import around
from gantune.field_types import check_range, option
from gantune.tuning import TuningConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass
class FullTuningConfig(TuningConfig):
    """Settings of full fine-tuning."""

    _argument_group_name = "full: all weights"
    sweeps: ClassVar = {"full_learning_rate": around(2e-4)}

    full_learning_rate: float = option(2e-4, "AdamW")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "above 0", "full_learning_rate")


@likelihood_method("full", FullTuningConfig, "full_learning_rate")
def tune_full(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: FullTuningConfig) -> PreTrainedModel:
    """Every weight of the model, in the dtype it was loaded in; saved as a Hugging Face folder with its tokenizer."""
    return model.requires_grad_(True)
