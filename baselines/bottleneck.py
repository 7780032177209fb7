"""Bottleneck adapters in every block (Houlsby et al. 2019, arXiv:1902.00751)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from baselines.likelihood_training import likelihood_method
from baselines.matching import Size
from baselines.method import around
from gantune.field_types import check_range, option
from gantune.tuning import TuningConfig

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass
class BottleneckTuningConfig(TuningConfig):
    """Settings of the bottleneck adapters."""

    _argument_group_name = "bottleneck: adapters after attention and perceptron"
    sweeps: ClassVar = {"bottleneck_learning_rate": around(1e-3), "bottleneck_dim": around(64, 1)}

    bottleneck_dim: int = option(64, "width of the bottleneck")
    bottleneck_learning_rate: float = option(1e-3, "AdamW")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "at least 1", "bottleneck_dim")
        check_range(self, "above 0", "bottleneck_learning_rate")


def add_bottlenecks(model: PreTrainedModel, config: BottleneckTuningConfig) -> PeftModel:
    """The adapters of the settings on `model`."""
    from peft import get_peft_model

    from baselines.bottleneck_adapter import BottleneckConfig

    return get_peft_model(model, BottleneckConfig(bottleneck_dim=config.bottleneck_dim))


@likelihood_method(
    "bottleneck", BottleneckTuningConfig, "bottleneck_learning_rate", size=Size("bottleneck_dim", add_bottlenecks)
)
def tune_bottleneck(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: BottleneckTuningConfig
) -> PeftModel:
    """Two adapters a block; layer norms stay frozen."""
    return add_bottlenecks(model, config)
