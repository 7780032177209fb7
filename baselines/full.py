"""All weights tuned: the upper end in memory and in freedom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from baselines.likelihood_training import save_with_tokenizer, train_by_likelihood
from baselines.method import TunedModel, around, method
from gantune.field_types import option
from gantune.tuning import TuningConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

    from gantune.data import Pair


@dataclass
class FullTuningConfig(TuningConfig):
    """Settings of full fine-tuning."""

    _argument_group_name = "full: all weights"
    sweeps: ClassVar = {"full_learning_rate": around(2e-4)}

    full_learning_rate: float = option(2e-4, "AdamW")


@method("full", FullTuningConfig, resumes=True)
def tune_full(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Pair],
    config: FullTuningConfig,
    callbacks: Sequence[TrainerCallback] = (),
    arguments: Mapping[str, Any] | None = None,
) -> TunedModel:
    """Every weight of the model, in the dtype it was loaded in; saved as a Hugging Face folder with its tokenizer."""
    model.requires_grad_(True)
    train_by_likelihood(model, tokenizer, pairs, config, config.full_learning_rate, callbacks, arguments)
    return TunedModel(model, tokenizer, config, save=save_with_tokenizer(model, tokenizer))
