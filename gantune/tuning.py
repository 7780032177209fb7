"""What every way of tuning needs to be told, whatever it tunes and however it does it."""

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from transformers import PreTrainedTokenizerBase

from gantune.data import TEMPLATES, EncodedPair, Pair, Template, build_template, encode_pairs
from gantune.errors import UserError

logger = logging.getLogger(__name__)


@dataclass
class TuningConfig:
    """Settings that all methods of a comparison share.

    > Parameters that control the length of training

    Args:
        epochs: passes over the training pairs.
        batch_size: pairs a step.
        seed: of everything random.
        max_seconds: training stops after the step that reaches it; 0 for no limit.
        max_tokens: the same for the tokens that have entered the model, see [`gantune.budget.Budget`].

    > Parameters that control how pairs become tokens

    Args:
        template: how a question is put to the model.
        max_prompt_tokens: longest question, template included.
        max_new_tokens: longest answer, in training and in generation.
        system_prompt: before every question that has none of its own; empty for none.
        too_long: what happens to longer training pairs.

    > Parameters that control speed and memory

    Args:
        group_by_length: put pairs of similar length into one step, for less padding; other pairs meet in a step then.
        micro_batch_size: pairs that pass through the model at once, with the same gradient; 0 for all of a step. Halved
            when memory runs out.
        gradient_checkpointing: compute activations again in the backward pass instead of keeping them.
    """

    _argument_group_name = "training, the same for every method"

    epochs: int = field(default=30, metadata={"help": "passes over the training pairs"})
    batch_size: int = field(default=8, metadata={"help": "pairs a step"})
    seed: int = field(default=0, metadata={"help": "seed of everything random"})
    max_seconds: float = field(default=0.0, metadata={"help": "training stops after so many seconds (0: no limit)"})
    max_tokens: int = field(
        default=0,
        metadata={"help": "training stops after so many tokens in the model, padding included (0: no limit)"},
    )
    template: str = field(
        default="plain",
        metadata={"help": f"how a question is put: {', '.join(TEMPLATES.names())}, or a dotted path"},
    )
    system_prompt: str = field(default="", metadata={"help": "before every question, as the template has it"})
    max_prompt_tokens: int = field(default=100, metadata={"help": "longest question in tokens, template included"})
    max_new_tokens: int = field(default=50, metadata={"help": "longest answer in tokens, trained and generated"})
    too_long: Literal["truncate", "drop", "error"] = field(
        default="truncate",
        metadata={
            "help": "training pairs over the limits: cut to them (a cut answer has no end), left out, or refused; "
            "their number is always printed"
        },
    )
    group_by_length: bool = field(
        default=False, metadata={"help": "put pairs of similar length into one step, for less padding"}
    )
    micro_batch_size: int = field(
        default=0,
        metadata={"help": "pairs at once, their gradients added up to those of a step (0: all); halved out of memory"},
    )
    gradient_checkpointing: bool = field(
        default=False, metadata={"help": "less memory for more time: compute activations again in the backward pass"}
    )

    def prompt_template(self) -> Template:
        """The template with the system prompt.

        Raises:
            UserError: if its name is not known.
        """
        return build_template(self.template, self.system_prompt or None)


def encode_training_pairs(
    pairs: Sequence[Pair], tokenizer: PreTrainedTokenizerBase, config: TuningConfig
) -> list[EncodedPair]:
    """The pairs as token ids under the limits of `config`; how many were over them is logged as a warning.

    Raises:
        UserError: as [`gantune.data.encode_pairs`].
    """
    encoded, lengths = encode_pairs(
        pairs, tokenizer, config.prompt_template(), config.max_prompt_tokens, config.max_new_tokens, config.too_long
    )
    if str(lengths):
        logger.warning("%s", lengths)
    return encoded


def hold_out(encoded: Sequence[EncodedPair], share: float, seed: int) -> tuple[list[EncodedPair], list[EncodedPair]]:
    """Divide pairs into those to train on and a share, drawn by the seed, that chooses the checkpoint.

    Raises:
        UserError: if no pair is left to train on.
    """
    held_out = round(share * len(encoded))
    if held_out == len(encoded):
        raise UserError(
            f"no pair to train on: {len(encoded)} given, {held_out} of them held out by --validation-share {share}"
        )
    shuffled = random.Random(seed).sample(encoded, len(encoded))
    return shuffled[held_out:], shuffled[:held_out]
