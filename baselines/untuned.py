"""The untuned model: as it is, or reasoning before it answers (Kojima et al. 2022, arXiv:2205.11916)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from baselines.method import TunedModel, method
from gantune.field_types import check_range, option
from gantune.tuning import TuningConfig

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from gantune.data import Pair


@method("base")
def untuned(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Pair], config: TuningConfig, *_: Any
) -> TunedModel:
    """The model as it is, asked in the same template."""
    return TunedModel(model, tokenizer, config)


@dataclass
class ChainOfThoughtConfig(TuningConfig):
    """Settings of `chain-of-thought`."""

    _argument_group_name = "chain-of-thought: the untuned model reasons before it answers"

    chain_of_thought_tokens: int = option(
        64, "longest reasoning; --reasoning-tokens, which all methods share, goes before"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "at least 1", "chain_of_thought_tokens")


class ChainOfThoughtModel(TunedModel):
    """The untuned model, whose answers follow its reasoning; the losses are those of the answers without it."""

    def answer(self, questions: Sequence[str], noise: Tensor | None = None) -> list[str]:
        """See [`TunedModel.answer`] and [`gantune.generation.reasoning`]."""
        reasoning_tokens = self.decoding.reasoning_tokens or self.config.chain_of_thought_tokens
        return self.decode(questions, self.config, replace(self.decoding, reasoning_tokens=reasoning_tokens), noise)


@method("chain-of-thought", ChainOfThoughtConfig)
def chain_of_thought(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Pair], config: TuningConfig, *_: Any
) -> ChainOfThoughtModel:
    """Nothing is tuned."""
    return ChainOfThoughtModel(model, tokenizer, config)
