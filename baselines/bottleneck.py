"""Bottleneck adapters in every block (Houlsby et al. 2019, arXiv:1902.00751)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from peft import PeftModel, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from baselines.bottleneck_adapter import BottleneckConfig
from baselines.likelihood_training import train_by_likelihood
from baselines.matching import Size
from baselines.method import TunedModel, around, method
from gantune.data import Pair
from gantune.trainer.checkpoints import Checkpoints
from gantune.trainer.observer import Observer
from gantune.tuning import TuningConfig


@dataclass
class BottleneckTuningConfig(TuningConfig):
    """Settings of the bottleneck adapters.

    Args:
        bottleneck_dim: width of the bottleneck.
        bottleneck_learning_rate: AdamW.
    """

    _argument_group_name = "bottleneck: adapters after attention and perceptron"
    sweeps: ClassVar = {"bottleneck_learning_rate": around(1e-3), "bottleneck_dim": around(64, 1)}

    bottleneck_dim: int = field(default=64, metadata={"help": "width of the bottleneck"})
    bottleneck_learning_rate: float = field(default=1e-3, metadata={"help": "AdamW"})


def add_bottlenecks(model: PreTrainedModel, config: BottleneckTuningConfig) -> PeftModel:
    """The adapters of the settings on `model`."""
    return get_peft_model(model, BottleneckConfig(bottleneck_dim=config.bottleneck_dim))


@method("bottleneck", BottleneckTuningConfig, size=Size("bottleneck_dim", add_bottlenecks), resumes=True)
def tune_bottleneck(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Pair],
    config: BottleneckTuningConfig,
    observer: Observer | None = None,
    checkpoints: Checkpoints | None = None,
) -> TunedModel:
    """Two adapters a block, trained by `transformers.Trainer` on the answers' tokens; layer norms stay frozen."""
    tuned = add_bottlenecks(model, config)
    return train_by_likelihood(tuned, tokenizer, pairs, config, config.bottleneck_learning_rate, observer, checkpoints)
