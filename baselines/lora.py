"""LoRA as a user of peft and transformers would do it (Hu et al. 2021, arXiv:2106.09685)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from baselines.likelihood_training import train_by_likelihood
from baselines.matching import Size, matched_size
from baselines.method import TunedModel, around, method
from gantune.data import Pair
from gantune.trainer.checkpoints import Checkpoints
from gantune.trainer.observer import Observer
from gantune.tuning import TuningConfig


@dataclass
class LoraTuningConfig(TuningConfig):
    """Settings of the LoRA baseline.

    Args:
        lora_rank: rank of the update.
        lora_alpha: the update is scaled by alpha / rank.
        lora_dropout: on the input of the update.
        lora_target_modules: names of the adapted modules; peft's choice for the architecture if empty.
        lora_learning_rate: AdamW.
    """

    _argument_group_name = "lora: the baseline"
    sweeps: ClassVar = {"lora_learning_rate": around(1e-3), "lora_rank": around(8, 1)}

    lora_rank: int = field(default=8, metadata={"help": "rank of the update"})
    lora_alpha: float = field(default=16, metadata={"help": "the update is scaled by alpha / rank"})
    lora_dropout: float = field(default=0.0, metadata={"help": "on the input of the update"})
    lora_target_modules: list[str] = field(
        default_factory=list, metadata={"help": "adapted modules; peft's choice for the architecture if not given"}
    )
    lora_learning_rate: float = field(default=1e-3, metadata={"help": "AdamW"})


@dataclass
class LoraMatchedConfig(LoraTuningConfig):
    """Settings of `lora-matched`: those of [`LoraTuningConfig`], of which the rank sets the scale alpha / rank only.

    Args:
        lora_matched_learning_rate: AdamW.
    """

    _argument_group_name = "lora-matched: as lora, with as many parameters as the embedding generator"
    sweeps: ClassVar = {"lora_matched_learning_rate": around(1e-3), "lora_alpha": around(16, 1)}

    lora_matched_learning_rate: float = field(default=1e-3, metadata={"help": "AdamW"})


def lora_config(config: LoraTuningConfig) -> LoraConfig:
    """peft's configuration for the settings."""
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=config.lora_target_modules or None,
    )


def add_lora(model: PreTrainedModel, config: LoraTuningConfig) -> PeftModel:
    """LoRA of the settings on `model`."""
    return get_peft_model(model, lora_config(config))


def with_rank(config: LoraTuningConfig, rank: int) -> LoraTuningConfig:
    """The settings at another rank and the same scale alpha / rank."""
    return replace(config, lora_rank=rank, lora_alpha=config.lora_alpha * rank / config.lora_rank)


LORA_SIZE = Size("lora_rank", add_lora, with_rank)


def matched_rank(model: PreTrainedModel, config: LoraTuningConfig) -> int:
    """The rank at which LoRA has nearest to as many parameters as the default embedding generator; at least 1."""
    return matched_size(LORA_SIZE, model, config)


@method("lora", LoraTuningConfig, size=LORA_SIZE, resumes=True)
def tune_lora(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Pair],
    config: LoraTuningConfig,
    observer: Observer | None = None,
    checkpoints: Checkpoints | None = None,
) -> TunedModel:
    """peft's LoRA, trained by `transformers.Trainer` on the answers' tokens."""
    tuned = add_lora(model, config)
    return train_by_likelihood(tuned, tokenizer, pairs, config, config.lora_learning_rate, observer, checkpoints)


@method("lora-matched", LoraMatchedConfig, size=LORA_SIZE, resumes=True)
def tune_lora_matched(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Pair],
    config: LoraMatchedConfig,
    observer: Observer | None = None,
    checkpoints: Checkpoints | None = None,
) -> TunedModel:
    """`lora` at the rank of [`matched_rank`], so that neither method wins by its number of parameters."""
    tuned = add_lora(model, with_rank(config, matched_rank(model, config)))
    return train_by_likelihood(
        tuned, tokenizer, pairs, config, config.lora_matched_learning_rate, observer, checkpoints
    )
