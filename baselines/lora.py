"""LoRA as a user of peft and transformers would do it (Hu et al. 2021, arXiv:2106.09685)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from baselines.likelihood_training import likelihood_method
from baselines.matching import Size, matched_size
from baselines.method import around
from gantune.field_types import check_range, option
from gantune.tuning import LoraOptions

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass
class LoraTuningConfig(LoraOptions):
    """Settings of the LoRA baselines."""

    _argument_group_name = "lora: the baseline"
    sweeps: ClassVar = {"lora_learning_rate": around(1e-3), "lora_rank": around(8, 1)}

    lora_learning_rate: float = option(1e-3, "AdamW")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "above 0", "lora_learning_rate")


@dataclass
class LoraMatchedConfig(LoraTuningConfig):
    """Settings of `lora-matched`: those of [`LoraTuningConfig`], of which the rank sets the scale alpha / rank only."""

    _argument_group_name = "lora-matched: as lora, with as many parameters as the embedding generator"
    sweeps: ClassVar = {"lora_matched_learning_rate": around(1e-3), "lora_alpha": around(16.0, 1)}

    lora_matched_learning_rate: float = option(1e-3, "AdamW")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "above 0", "lora_matched_learning_rate")


def add_lora(model: PreTrainedModel, config: LoraOptions) -> PeftModel:
    """LoRA of the settings on `model`; a [`UserError`] if it has not the modules that they name."""
    from peft import get_peft_model

    from gantune.embedding_generator.generators import lora
    from gantune.embedding_generator.stacking import check_targets

    check_targets(model, adapter := lora(config))
    return get_peft_model(model, adapter)


def add_lora_to_attention(model: PreTrainedModel, config: LoraTuningConfig) -> PeftModel:
    """LoRA on the modules that peft chooses for the architecture, whatever the settings name."""
    return add_lora(model, replace(config, lora_target_modules=[]))


def add_dora(model: PreTrainedModel, config: LoraTuningConfig) -> PeftModel:
    """LoRA of the settings whose weights' magnitudes are learned apart from their directions."""
    return add_lora(model, replace(config, use_dora=True))


def with_rank(config: LoraTuningConfig, rank: int) -> LoraTuningConfig:
    """The settings at another rank and the same scale, alpha / rank, or alpha / sqrt(rank) with rsLoRA."""
    growth = (rank / config.lora_rank) ** (0.5 if config.use_rslora else 1)
    return replace(config, lora_rank=rank, lora_alpha=config.lora_alpha * growth)


LORA_SIZE = Size("lora_rank", add_lora, with_rank)


def matched_rank(model: PreTrainedModel, config: LoraTuningConfig) -> int:
    """The rank at which LoRA has nearest to as many parameters as the default embedding generator; at least 1."""
    return matched_size(LORA_SIZE, model, config)


@likelihood_method("lora", LoraTuningConfig, "lora_learning_rate", size=LORA_SIZE)
def tune_lora(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: LoraTuningConfig) -> PeftModel:
    """peft's LoRA, on every linear layer but the output head."""
    return add_lora(model, config)


@likelihood_method(
    "lora-attention", LoraTuningConfig, "lora_learning_rate", size=replace(LORA_SIZE, adapt=add_lora_to_attention)
)
def tune_lora_attention(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: LoraTuningConfig
) -> PeftModel:
    """`lora` on peft's own choice for the architecture, GPT-2's `c_attn`, as in the source study."""
    return add_lora_to_attention(model, config)


@likelihood_method("dora", LoraTuningConfig, "lora_learning_rate", size=replace(LORA_SIZE, adapt=add_dora))
def tune_dora(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: LoraTuningConfig) -> PeftModel:
    """`lora` as DoRA (Liu et al. 2024, arXiv:2402.09353), whatever `use_dora` says."""
    return add_dora(model, config)


@likelihood_method("lora-matched", LoraMatchedConfig, "lora_matched_learning_rate", size=LORA_SIZE)
def tune_lora_matched(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: LoraMatchedConfig
) -> PeftModel:
    """`lora` at the rank of [`matched_rank`], so that neither method wins by its number of parameters."""
    return add_lora(model, with_rank(config, matched_rank(model, config)))
