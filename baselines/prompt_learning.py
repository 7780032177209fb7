"""Virtual tokens, learned: in front of the question, or in front of every layer's keys and values."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING, ClassVar

from baselines.likelihood_training import likelihood_method
from baselines.matching import Size
from baselines.method import around
from gantune.errors import UserError
from gantune.field_types import check_range, option
from gantune.tuning import TuningConfig

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def positions_left(model: PreTrainedModel, config: TuningConfig) -> int | None:
    """The model's positions that longest questions and answers leave; None if it has no such limit."""
    from gantune.policy.positions import model_positions

    positions = model_positions(model)
    return None if positions is None else positions - config.max_prompt_length - config.max_completion_length


def check_positions(model: PreTrainedModel, config: TuningConfig, virtual_tokens: int, said: str) -> None:
    """Refuse a number of virtual tokens that makes no sense, or leaves too few of the model's positions.

    `said` is what asks for them, to begin the message with.
    """
    if virtual_tokens < 1:
        raise UserError(f"{said}: expected at least 1")
    left = positions_left(model, config)
    if left is not None and virtual_tokens > left:
        raise UserError(
            f"{said}: with --max-prompt-length {config.max_prompt_length} and --max-completion-length "
            f"{config.max_completion_length} expected at most {left}, the model has "
            f"{left + config.max_prompt_length + config.max_completion_length} positions"
        )


def virtual_tokens(kind: str, option: str) -> Size:
    """As many virtual tokens before `model` as `option` says, of the [`PeftConfig`] called `kind`, drawn at random."""

    def add(model: PreTrainedModel, config: TuningConfig) -> PeftModel:
        import peft

        from gantune.embedding_generator.virtual_tokens import add_virtual_tokens

        drawn = getattr(peft, kind)(task_type="CAUSAL_LM", num_virtual_tokens=getattr(config, option))
        return add_virtual_tokens(model, drawn)

    return Size(option, add, most=positions_left)


PROMPT = virtual_tokens("PromptTuningConfig", "prompt_tuning_virtual_tokens")
WRITTEN_PROMPT = virtual_tokens("PromptEncoderConfig", "p_tuning_virtual_tokens")


@dataclass
class PromptTuningMethodConfig(TuningConfig):
    """Settings of prompt tuning."""

    _argument_group_name = "prompt-tuning: virtual tokens before the question"
    sweeps: ClassVar = {"prompt_tuning_learning_rate": around(1e-2), "prompt_tuning_virtual_tokens": around(20, 1)}

    prompt_tuning_virtual_tokens: int = option(20, "length of the prompt")
    prompt_tuning_text: str = option(
        "Answer the question in a full sentence.", "text whose embeddings it starts from, repeated or cut to the length"
    )
    prompt_tuning_learning_rate: float = option(1e-2, "AdamW")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "at least 1", "prompt_tuning_virtual_tokens")
        check_range(self, "above 0", "prompt_tuning_learning_rate")


@likelihood_method("prompt-tuning", PromptTuningMethodConfig, "prompt_tuning_learning_rate", size=PROMPT)
def tune_prompt(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: PromptTuningMethodConfig
) -> PeftModel:
    """Prompt tuning (Lester et al. 2021, arXiv:2104.08691), its embeddings initialised from text."""
    length = config.prompt_tuning_virtual_tokens
    check_positions(model, config, length, f"--prompt-tuning-virtual-tokens {length}")
    ids = tokenizer(config.prompt_tuning_text, add_special_tokens=False)["input_ids"]
    if not ids:
        raise UserError(f"--prompt-tuning-text {config.prompt_tuning_text!r}: expected a text of at least one token")
    tuned = PROMPT.adapt(model, config)
    import torch

    with torch.no_grad():  # peft's own initialisation from text reads the tokenizer's files again, for a reload too
        words = model.get_input_embeddings()(torch.tensor([*islice(cycle(ids), length)], device=model.device))
        tuned.prompt_encoder["default"].embedding.weight.copy_(words)
    return tuned


@dataclass
class PTuningMethodConfig(TuningConfig):
    """Settings of P-tuning."""

    _argument_group_name = "p-tuning: virtual tokens that a network writes"
    sweeps: ClassVar = {"p_tuning_learning_rate": around(1e-3), "p_tuning_virtual_tokens": around(20, 1)}

    p_tuning_virtual_tokens: int = option(20, "length of the prompt")
    p_tuning_learning_rate: float = option(1e-3, "AdamW")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "at least 1", "p_tuning_virtual_tokens")
        check_range(self, "above 0", "p_tuning_learning_rate")


@likelihood_method("p-tuning", PTuningMethodConfig, "p_tuning_learning_rate", size=WRITTEN_PROMPT)
def tune_p(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: PTuningMethodConfig) -> PeftModel:
    """P-tuning (Liu et al. 2021, arXiv:2103.10385): peft's PromptEncoder, a perceptron as wide as the embeddings.

    All virtual tokens stand before the question. The network is trained with them and not saved: what it writes is.
    """
    length = config.p_tuning_virtual_tokens
    check_positions(model, config, length, f"--p-tuning-virtual-tokens {length}")
    return WRITTEN_PROMPT.adapt(model, config)


@dataclass
class PrefixTuningMethodConfig(TuningConfig):
    """Settings of prefix tuning."""

    _argument_group_name = "prefix-tuning: keys and values before the question"
    sweeps: ClassVar = {"prefix_tuning_learning_rate": around(1e-3), "prefix_tuning_virtual_tokens": around(20, 1)}

    prefix_tuning_virtual_tokens: int = option(20, "length of the prefix")
    prefix_tuning_hidden_size: int = option(
        512, "of the network that writes the prefix in training (0: the prefix itself)"
    )
    prefix_tuning_learning_rate: float = option(1e-3, "AdamW")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "at least 1", "prefix_tuning_virtual_tokens")
        check_range(self, "at least 0", "prefix_tuning_hidden_size")
        check_range(self, "above 0", "prefix_tuning_learning_rate")


def add_prefix(model: PreTrainedModel, config: PrefixTuningMethodConfig) -> PeftModel:
    """The prefix of the settings before `model`."""
    from peft import PrefixTuningConfig, get_peft_model

    return get_peft_model(
        model,
        PrefixTuningConfig(
            task_type="CAUSAL_LM",
            num_virtual_tokens=config.prefix_tuning_virtual_tokens,
            prefix_projection=config.prefix_tuning_hidden_size > 0,
            encoder_hidden_size=config.prefix_tuning_hidden_size or None,
        ),
    )


@likelihood_method(
    "prefix-tuning",
    PrefixTuningMethodConfig,
    "prefix_tuning_learning_rate",
    size=Size("prefix_tuning_virtual_tokens", add_prefix, most=positions_left),
)
def tune_prefix(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: PrefixTuningMethodConfig
) -> PeftModel:
    """Prefix tuning (Li & Liang 2021, arXiv:2101.00190); the network that writes the prefix is not saved."""
    length = config.prefix_tuning_virtual_tokens
    check_positions(model, config, length, f"--prefix-tuning-virtual-tokens {length}")
    return add_prefix(model, config)
