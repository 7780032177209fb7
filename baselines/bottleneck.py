"""Bottleneck adapters in every block (Houlsby et al. 2019, arXiv:1902.00751)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from peft import get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from baselines.bottleneck_adapter import BottleneckConfig
from baselines.likelihood_training import train_by_likelihood
from baselines.method import TunedModel, method
from gantune.data import Pair
from gantune.observer import Observer
from gantune.tuning import TuningConfig


@dataclass
class BottleneckTuningConfig(TuningConfig):
    """Settings of the bottleneck adapters.

    Args:
        bottleneck_dim: width of the bottleneck.
        bottleneck_learning_rate: AdamW, falling linearly to 0.
    """

    _argument_group_name = "bottleneck: adapters after attention and perceptron"

    bottleneck_dim: int = field(default=64, metadata={"help": "width of the bottleneck"})
    bottleneck_learning_rate: float = field(default=1e-3, metadata={"help": "AdamW, falling linearly to 0"})


@method("bottleneck", BottleneckTuningConfig)
def tune_bottleneck(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Pair],
    config: BottleneckTuningConfig,
    observer: Observer | None = None,
) -> TunedModel:
    """Two adapters a block, trained by `transformers.Trainer` on the answers' tokens; layer norms stay frozen."""
    tuned = get_peft_model(model, BottleneckConfig(bottleneck_dim=config.bottleneck_dim))
    return train_by_likelihood(tuned, tokenizer, pairs, config, config.bottleneck_learning_rate, observer)
