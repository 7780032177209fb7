"""The untuned model."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from baselines.method import TunedModel, method
from gantune.data import Pair
from gantune.trainer.observer import Observer
from gantune.tuning import TuningConfig


@method("base")
def untuned(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Pair],
    config: TuningConfig,
    observer: Observer | None = None,
) -> TunedModel:
    """The model as it is, asked in the same template."""
    return TunedModel(model, tokenizer, config)
