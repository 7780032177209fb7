"""What every way of tuning needs to be told, whatever it tunes and however it does it."""

import hashlib
import json
import logging
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from gantune.data import TEMPLATES, EncodedPair, Pair, Template, build_template, encode_pairs
from gantune.errors import UserError
from gantune.field_types import check_at_least, check_types
from gantune.trainer.optimizers import OPTIMIZERS
from gantune.trainer.schedules import SCHEDULES

logger = logging.getLogger(__name__)

MAX_SEED = 2**32 - 1
"""NumPy takes no larger ones."""


@dataclass
class TuningConfig:
    """Settings that all methods of a comparison share.

    > Parameters that control the length of training

    Args:
        epochs: passes over the training pairs.
        batch_size: pairs a step.
        seed: of everything random.
        max_seconds: training stops after the step that reaches it; 0 for no limit.
        max_tokens: the same for the tokens that have entered the model, see [`gantune.trainer.budget.Budget`].
        early_stopping: training stops after so many epochs in a row without a lower loss on the held-out pairs, and
            keeps the weights of the lowest; 0 never stops early.
        validation_share: share of the pairs held out to choose the weights; 0 trains on all pairs and keeps the last
            weights. LanguageGAN and self-play choose among the likelihood-only and the later weights; the other methods
            hold pairs out with early stopping only.

    > Parameters that control the optimiser

    Args:
        lr_scheduler: how the learning rate changes over the steps, see [`gantune.trainer.schedules.SCHEDULES`].
        lr_warmup: steps in which it rises to its full value first; below 1 a share of all steps.
        optimizer: see [`gantune.trainer.optimizers.OPTIMIZERS`].

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
        packing: methods that train by `transformers.Trainer` put several pairs into a row, for less padding; pairs do
            not see each other, so that loss and gradient stay what they are. The others have no use for it.

    Raises:
        UserError: if a value is out of range.
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
    early_stopping: int = field(
        default=0,
        metadata={
            "help": "training stops after so many epochs without a lower held-out loss, and keeps the best (0: no)"
        },
    )
    validation_share: float = field(
        default=0.0,
        metadata={
            "help": "share of the pairs held out to choose the weights (0: all are trained on, and the last weights "
            "kept); by methods other than gan, mle and self-play with --early-stopping only"
        },
    )
    lr_scheduler: str = field(
        default="linear",
        metadata={"help": f"how the learning rate changes over the steps: {', '.join(SCHEDULES)}; linear falls to 0"},
    )
    lr_warmup: float = field(
        default=0.0,
        metadata={"help": "steps in which the learning rate rises to its full value; below 1 a share of all steps"},
    )
    optimizer: str = field(
        default="adamw",
        metadata={"help": f"{', '.join(OPTIMIZERS)}; those of 8 bits need CUDA and the package bitsandbytes"},
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
    packing: bool = field(
        default=False,
        metadata={
            "help": "put several short pairs, which do not see each other, into one row: less padding, the same loss; "
            "of methods trained by transformers.Trainer"
        },
    )

    def __post_init__(self) -> None:
        """Checks types and ranges.

        Raises:
            UserError: naming the field, its value and what is expected.
        """
        check_types(self)
        check_at_least(self, 1, ("epochs", "batch_size", "max_prompt_tokens", "max_new_tokens"))
        check_at_least(
            self, 0, ("seed", "max_seconds", "max_tokens", "micro_batch_size", "early_stopping", "lr_warmup")
        )
        if self.seed > MAX_SEED:
            raise UserError(f"--seed {self.seed}: expected at most {MAX_SEED}")
        for name, known in (("lr_scheduler", SCHEDULES), ("optimizer", OPTIMIZERS)):
            if getattr(self, name) not in known:
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}: expected one of {', '.join(known)}")
        if not 0 <= self.validation_share <= 1:
            raise UserError(f"--validation-share {self.validation_share}: expected between 0 and 1")
        if self.early_stopping and not self.validation_share:
            raise UserError(f"--early-stopping {self.early_stopping}: expected --validation-share above 0")

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


def training_fingerprint(config: TuningConfig, training: Sequence[EncodedPair], *more: Any) -> str:
    """Of everything that decides what the steps of a training do: settings, tokens, and what else the method names.

    Checkpoints carry it, so that a training goes on from its own and from no other's.
    """
    tokens = [(row.prompt_ids, row.answer_ids) for row in training]
    content = json.dumps([asdict(config), tokens, *more], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()


def hold_out(encoded: Sequence[EncodedPair], share: float, seed: int) -> tuple[list[EncodedPair], list[EncodedPair]]:
    """Divide pairs into those to train on and a share, drawn by the seed, that chooses the checkpoint.

    Raises:
        UserError: if no pair is left to train on.
    """
    held_out = round(share * len(encoded))
    if encoded and not held_out:
        return list(encoded), []
    if held_out == len(encoded):
        raise UserError(
            f"no pair to train on: {len(encoded)} given, {held_out} of them held out by --validation-share {share}"
        )
    shuffled = random.Random(seed).sample(encoded, len(encoded))
    return shuffled[held_out:], shuffled[:held_out]
