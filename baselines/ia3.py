"""(IA)^3: keys, values and inner activations, each scaled by a learned vector (Liu et al. 2022, arXiv:2205.05638)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from peft import IA3Config, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from baselines.likelihood_training import train_by_likelihood
from baselines.method import TunedModel, around, method
from gantune.data import Pair
from gantune.trainer.checkpoints import Checkpoints
from gantune.trainer.observer import Observer
from gantune.tuning import TuningConfig


@dataclass
class IA3TuningConfig(TuningConfig):
    """Settings of (IA)^3. It adapts what peft chooses for the architecture.

    Args:
        ia3_learning_rate: AdamW; the paper's is 3e-3, of Adafactor.
    """

    _argument_group_name = "ia3: (IA)^3"
    sweeps: ClassVar = {"ia3_learning_rate": around(3e-3)}

    ia3_learning_rate: float = field(default=3e-3, metadata={"help": "AdamW"})


@method("ia3", IA3TuningConfig, resumes=True)
def tune_ia3(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Pair],
    config: IA3TuningConfig,
    observer: Observer | None = None,
    checkpoints: Checkpoints | None = None,
) -> TunedModel:
    """peft's (IA)^3, trained by `transformers.Trainer` on the answers' tokens."""
    tuned = get_peft_model(model, IA3Config(task_type="CAUSAL_LM"))
    return train_by_likelihood(tuned, tokenizer, pairs, config, config.ia3_learning_rate, observer, checkpoints)
