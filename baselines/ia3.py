"""(IA)^3: keys, values and inner activations, each scaled by a learned vector (Liu et al. 2022, arXiv:2205.05638)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from baselines.likelihood_training import likelihood_method
from baselines.method import around
from gantune.field_types import check_range, option
from gantune.tuning import TuningConfig

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass
class IA3TuningConfig(TuningConfig):
    """Settings of (IA)^3. It adapts what peft chooses for the architecture."""

    _argument_group_name = "ia3: (IA)^3"
    sweeps: ClassVar = {"ia3_learning_rate": around(3e-3)}

    ia3_learning_rate: float = option(3e-3, "AdamW; the paper has 3e-3, of Adafactor")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "above 0", "ia3_learning_rate")


@likelihood_method("ia3", IA3TuningConfig, "ia3_learning_rate")
def tune_ia3(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: IA3TuningConfig) -> PeftModel:
    """peft's (IA)^3."""
    from peft import IA3Config, get_peft_model

    return get_peft_model(model, IA3Config(task_type="CAUSAL_LM"))
