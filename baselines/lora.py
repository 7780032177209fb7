"""LoRA as a user of peft and transformers would do it (Hu et al. 2021, arXiv:2106.09685)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from baselines.likelihood_training import train_by_likelihood
from baselines.method import TunedModel, method
from gantune.data import Pair
from gantune.embedding_generator import NETWORKS, EmbeddingGeneratorConfig
from gantune.observer import Observer
from gantune.tuning import TuningConfig


@dataclass
class LoraTuningConfig(TuningConfig):
    """Settings of the LoRA baseline.

    Args:
        lora_rank: rank of the update.
        lora_alpha: the update is scaled by alpha / rank.
        lora_dropout: on the input of the update.
        lora_target_modules: names of the adapted modules; peft's choice for the architecture if empty.
        lora_learning_rate: AdamW, falling linearly to 0.
    """

    _argument_group_name = "lora: the baseline"

    lora_rank: int = field(default=8, metadata={"help": "rank of the update"})
    lora_alpha: int = field(default=16, metadata={"help": "the update is scaled by alpha / rank"})
    lora_dropout: float = field(default=0.0, metadata={"help": "on the input of the update"})
    lora_target_modules: list[str] = field(
        default_factory=list, metadata={"help": "adapted modules; peft's choice for the architecture if not given"}
    )
    lora_learning_rate: float = field(default=1e-3, metadata={"help": "AdamW, falling linearly to 0"})


@dataclass
class LoraMatchedConfig(LoraTuningConfig):
    """Settings of `lora-matched`: those of [`LoraTuningConfig`], of which the rank sets the scale alpha / rank only.

    Args:
        lora_matched_learning_rate: AdamW, falling linearly to 0.
    """

    _argument_group_name = "lora-matched: as lora, with as many parameters as the embedding generator"

    lora_matched_learning_rate: float = field(default=1e-3, metadata={"help": "AdamW, falling linearly to 0"})


def lora_config(config: LoraTuningConfig, rank: int | None = None) -> LoraConfig:
    """peft's configuration for the settings; `rank`, if not `config.lora_rank`, keeps the scale alpha / rank."""
    rank = config.lora_rank if rank is None else rank
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=config.lora_alpha * rank / config.lora_rank,
        lora_dropout=config.lora_dropout,
        target_modules=config.lora_target_modules or None,
    )


def trainable_parameters(model: torch.nn.Module) -> int:
    """How many numbers training changes."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def matched_rank(model: PreTrainedModel, config: LoraTuningConfig) -> int:
    """The rank at which LoRA has nearest to as many parameters as the default embedding generator; at least 1.

    Both are counted on the meta device, so `model` is only read.
    """
    generator = EmbeddingGeneratorConfig()
    with torch.device("meta"):
        network = NETWORKS.get(generator.network)(
            embedding_dim=model.get_input_embeddings().embedding_dim, noise_dim=generator.noise_dim
        )
        of_rank_1 = get_peft_model(type(model)(model.config), lora_config(config, rank=1))
    return max(1, round(trainable_parameters(network) / trainable_parameters(of_rank_1)))


@method("lora", LoraTuningConfig)
def tune_lora(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Pair],
    config: LoraTuningConfig,
    observer: Observer | None = None,
) -> TunedModel:
    """peft's LoRA, trained by `transformers.Trainer` on the answers' tokens."""
    tuned = get_peft_model(model, lora_config(config))
    return train_by_likelihood(tuned, tokenizer, pairs, config, config.lora_learning_rate, observer)


@method("lora-matched", LoraMatchedConfig)
def tune_lora_matched(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Pair],
    config: LoraMatchedConfig,
    observer: Observer | None = None,
) -> TunedModel:
    """`lora` at the rank of [`matched_rank`], so that neither method wins by its number of parameters."""
    tuned = get_peft_model(model, lora_config(config, matched_rank(model, config)))
    return train_by_likelihood(tuned, tokenizer, pairs, config, config.lora_matched_learning_rate, observer)
