"""LoRA as a user of peft and transformers would do it (Hu et al. 2021, arXiv:2106.09685)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from baselines.likelihood_training import likelihood_method
from baselines.matching import Size, matched_size
from baselines.method import around
from gantune.field_types import option
from gantune.tuning import TuningConfig

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass
class LoraTuningConfig(TuningConfig):
    """Settings of the LoRA baseline."""

    _argument_group_name = "lora: the baseline"
    sweeps: ClassVar = {"lora_learning_rate": around(1e-3), "lora_rank": around(8, 1)}

    lora_rank: int = option(8, "rank of the update")
    lora_alpha: float = option(
        16, "the update is scaled by alpha / rank, which stays where --tune or --match changes the rank"
    )
    lora_dropout: float = option(0.0, "on the input of the update")
    lora_target_modules: list[str] = option([], "adapted modules; peft's choice for the architecture if not given")
    lora_learning_rate: float = option(1e-3, "AdamW")


@dataclass
class LoraMatchedConfig(LoraTuningConfig):
    """Settings of `lora-matched`: those of [`LoraTuningConfig`], of which the rank sets the scale alpha / rank only."""

    _argument_group_name = "lora-matched: as lora, with as many parameters as the embedding generator"
    sweeps: ClassVar = {"lora_matched_learning_rate": around(1e-3), "lora_alpha": around(16, 1)}

    lora_matched_learning_rate: float = option(1e-3, "AdamW")


def lora_config(config: LoraTuningConfig) -> LoraConfig:
    """peft's configuration for the settings."""
    from peft import LoraConfig

    return LoraConfig(
        task_type="CAUSAL_LM",
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=config.lora_target_modules or None,
    )


def add_lora(model: PreTrainedModel, config: LoraTuningConfig) -> PeftModel:
    """LoRA of the settings on `model`."""
    from peft import get_peft_model

    return get_peft_model(model, lora_config(config))


def with_rank(config: LoraTuningConfig, rank: int) -> LoraTuningConfig:
    """The settings at another rank and the same scale alpha / rank."""
    return replace(config, lora_rank=rank, lora_alpha=config.lora_alpha * rank / config.lora_rank)


LORA_SIZE = Size("lora_rank", add_lora, with_rank)


def matched_rank(model: PreTrainedModel, config: LoraTuningConfig) -> int:
    """The rank at which LoRA has nearest to as many parameters as the default embedding generator; at least 1."""
    return matched_size(LORA_SIZE, model, config)


@likelihood_method("lora", LoraTuningConfig, "lora_learning_rate", size=LORA_SIZE)
def tune_lora(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: LoraTuningConfig) -> PeftModel:
    """peft's LoRA."""
    return add_lora(model, config)


@likelihood_method("lora-matched", LoraMatchedConfig, "lora_matched_learning_rate", size=LORA_SIZE)
def tune_lora_matched(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: LoraMatchedConfig
) -> PeftModel:
    """`lora` at the rank of [`matched_rank`], so that neither method wins by its number of parameters."""
    return add_lora(model, with_rank(config, matched_rank(model, config)))
