"""The untuned model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from baselines.method import TunedModel, method
from gantune.tuning import TuningConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

    from gantune.data import Pair


@method("base")
def untuned(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Pair],
    config: TuningConfig,
    callbacks: Sequence[TrainerCallback] = (),
) -> TunedModel:
    """The model as it is, asked in the same template."""
    return TunedModel(model, tokenizer, config)
