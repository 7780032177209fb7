"""What every way of tuning needs to be told, whatever it tunes and however it does it. Importing it is quick."""

import logging
import random
from collections.abc import Container, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal

from gantune.errors import UserError
from gantune.field_types import check_range, check_types, option

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from gantune.data import EncodedPair, LengthReport, Pair, Template

logger = logging.getLogger(__name__)

MAX_SEED = 2**32 - 1
"""NumPy takes no larger ones."""

SCHEDULES = (
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "inverse_sqrt",
    "constant",
    "constant_with_warmup",
)
"""Of transformers' schedules those that need nothing else."""

RENAMED = {
    "epochs": "num_train_epochs",
    "batch_size": "per_device_train_batch_size",
    "lr_scheduler": "lr_scheduler_type",
    "lr_warmup": "warmup_steps",
    "optimizer": "optim",
    "early_stopping": "early_stopping_patience",
    "max_prompt_tokens": "max_prompt_length",
    "max_new_tokens": "max_completion_length",
    "group_by_length": "train_sampling_strategy",
    "samples_per_question": "num_generations",
    "checkpoint_every": "save_steps",
    "track": "report_to",
    "resume": "resume_from_checkpoint",
    "output": "output_dir",
}
"""Options by their names before version 0.2, and their names in transformers and TRL; a command may have its own."""


def refuse_old_name(name: str, before: str = "", known: Container[str] | None = None) -> None:
    """Say what an option of an earlier version is called now.

    Args:
        name: with underscores.
        before: what stands before it where it was given: dashes, or a file's name.
        known: options that there are, all of them if None.

    Raises:
        UserError: if it is one.
    """
    new = RENAMED.get(name)
    if new and (known is None or new in known):
        old, new = (each.replace("_", "-") if before == "--" else each for each in (name, new))
        dashes = before if before == "--" else ""
        raise UserError(f"{before}{old} is called {dashes}{new} now, as in transformers and TRL")


@dataclass
class TuningConfig:
    """Settings that all methods share; where transformers or TRL has a name for one, it is theirs.

    What each is for says its `help`, which is its line on the command line. Pairs are held out by `validation_share`,
    to choose the weights: LanguageGAN and self-play choose among those of likelihood alone and the later ones, other
    methods with early stopping only. `max_tokens` counts what has entered the model, see
    [`gantune.trainer.callbacks.Limits`].

    Raises:
        UserError: if a value is out of range or of another type, or an option has its old name.
    """

    _argument_group_name = "training, the same for every method"

    # parameters that control the length of training
    num_train_epochs: float = option(30, "passes over the training pairs")
    per_device_train_batch_size: int = option(8, "pairs a step, in each process")
    seed: int = option(0, "seed of everything random")
    max_seconds: float = option(0.0, "training stops after so many seconds (0: no limit)")
    max_tokens: int = option(0, "training stops after so many tokens in the model, padding included (0: no limit)")
    early_stopping_patience: int = option(
        0, "training stops after so many epochs without a better held-out metric, and keeps the best (0: no)"
    )
    metric_for_best_model: Literal["loss", "rougeL", "slot_error_rate"] = option(
        "loss", "the held-out metric: loss, or rougeL or (of records) slot_error_rate of greedy answers"
    )
    validation_share: float = option(
        0.0,
        "share of the pairs held out to choose the weights (0: all are trained on, and the last weights "
        "kept); by methods other than gan, mle and self-play with --early-stopping-patience only",
    )
    # parameters that control the optimiser
    lr_scheduler_type: str = option(
        "linear", f"how the learning rate changes over the steps: {', '.join(SCHEDULES)}; linear falls to 0"
    )
    warmup_steps: float = option(
        0.0, "steps in which the learning rate rises to its full value; below 1 a share of all steps"
    )
    optim: str = option(
        "adamw_torch_fused", "the optimiser by transformers' name; those of 8 bits need CUDA and bitsandbytes"
    )
    # parameters that control how pairs become tokens
    template: str = option("plain", "how a question is put: plain, chat, chatml, ... or a dotted path")
    system_prompt: str = option("", "before every question, as the template has it")
    max_prompt_length: int = option(100, "longest question in tokens, template included")
    max_completion_length: int = option(50, "longest answer in tokens, trained and generated")
    too_long: Literal["truncate", "drop", "error"] = option(
        "truncate",
        "training pairs over the limits: cut to them (a cut answer has no end), left out, or refused; "
        "their number is always printed",
    )
    # parameters that control speed and memory
    train_sampling_strategy: Literal["random", "group_by_length"] = option(
        "random", "group_by_length puts pairs of similar length into one step"
    )
    micro_batch_size: int = option(
        0, "pairs at once, their gradients added up to those of a step (0: all); halved out of memory"
    )
    gradient_checkpointing: bool = option(
        False, "less memory for more time: compute activations again in the backward pass"
    )
    packing: bool = option(
        False,
        "put several short pairs, which do not see each other, into one row: less padding, the same loss; "
        "of methods with transformers' own loss",
    )
    disable_dropout: bool = option(True, "of the base model, for every method alike; adapters keep their own")

    def __new__(cls, *args: Any, **kwargs: Any) -> "TuningConfig":
        """Refuses options by their old names, which a dataclass would only call unexpected."""
        for name in kwargs:
            refuse_old_name(name)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        check_types(self)
        check_range(self, "above 0", "num_train_epochs")
        check_range(self, "at least 1", "per_device_train_batch_size", "max_prompt_length", "max_completion_length")
        check_range(self, "at least 0", "seed", "max_seconds", "max_tokens", "micro_batch_size", "warmup_steps")
        check_range(self, "at least 0", "early_stopping_patience")
        check_range(self, "between 0 and 1", "validation_share")
        if self.seed > MAX_SEED:
            raise UserError(f"--seed {self.seed}: expected at most {MAX_SEED}")
        if self.lr_scheduler_type == "constant" and self.warmup_steps:
            raise UserError(f"--warmup-steps {self.warmup_steps}: expected --lr-scheduler-type constant_with_warmup")

    def prompt_template(self) -> "Template":
        """The template with the system prompt; see [`gantune.data.build_template`]."""
        from gantune.data import build_template

        return build_template(self.template, self.system_prompt or None)


ALL_LINEAR = "all-linear"
"""peft's name for every linear layer but the output head."""


@dataclass
class LoraOptions(TuningConfig):
    """Settings of LoRA (Hu et al. 2021, arXiv:2106.09685), as a method of its own and as a generator.

    An empty `lora_target_modules` is peft's choice for the architecture, the attention projections of most.

    Raises:
        UserError: if a value is out of range, or `all-linear` stands beside other names.
    """

    _argument_group_name = "lora, as a method and as a generator"

    lora_rank: int = option(8, "rank of the update")
    lora_alpha: float = option(
        16.0, "the update is scaled by alpha / rank, which stays where --tune or --match changes the rank"
    )
    lora_dropout: float = option(0.0, "on the input of the update")
    lora_target_modules: list[str] = option(
        [ALL_LINEAR], "names of the adapted modules; all-linear: every linear layer but the output head"
    )
    use_rslora: bool = option(False, "scale the update by alpha / sqrt(rank) instead (arXiv:2312.03732)")
    use_dora: bool = option(False, "train magnitude and direction of the weights apart, DoRA (arXiv:2402.09353)")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "at least 1", "lora_rank")
        check_range(self, "between 0 and 1", "lora_dropout")
        if ALL_LINEAR in self.lora_target_modules and len(self.lora_target_modules) > 1:
            raise UserError(
                f"--lora-target-modules {' '.join(self.lora_target_modules)}: expected {ALL_LINEAR} or names of modules"
            )


def encode_with(
    pairs: "Sequence[Pair]", tokenizer: "PreTrainedTokenizerBase", config: TuningConfig, too_long: str = "truncate"
) -> "tuple[list[EncodedPair], LengthReport]":
    """As [`gantune.data.encode_pairs`], with the template and the limits of `config`."""
    from gantune.data import encode_pairs

    limits = config.max_prompt_length, config.max_completion_length
    return encode_pairs(pairs, tokenizer, config.prompt_template(), *limits, too_long)


def encode_training_pairs(
    pairs: "Sequence[Pair]", tokenizer: "PreTrainedTokenizerBase", config: TuningConfig
) -> "list[EncodedPair]":
    """[`encode_with`], too long ones as `config` says; how many there were is logged as a warning."""
    encoded, lengths = encode_with(pairs, tokenizer, config, config.too_long)
    if str(lengths):
        logger.warning("%s", lengths)
    return encoded


def hold_out(
    encoded: "Sequence[EncodedPair]", share: float, seed: int
) -> "tuple[list[EncodedPair], list[EncodedPair]]":
    """Divide pairs into those to train on and a share, drawn by the seed, that chooses the checkpoint.

    The texts of one record are all on the same side, so some more may be held out.

    Raises:
        UserError: if no pair is left to train on.
    """
    from gantune.data.question import all_records, identity

    held_out = round(share * len(encoded))
    if encoded and not held_out:
        return list(encoded), []
    shuffled = random.Random(seed).sample(encoded, len(encoded))
    if all_records([row.pair.question for row in encoded]):
        of_record: dict[object, list[EncodedPair]] = {}
        for row in shuffled:
            of_record.setdefault(identity(row.pair.question), []).append(row)
        shuffled = [row for rows in of_record.values() for row in rows]
        ends = accumulate(map(len, of_record.values()))
        held_out = next(end for end in ends if end >= held_out)
    if held_out == len(encoded):
        raise UserError(
            f"no pair to train on: {len(encoded)} given, {held_out} of them held out by --validation-share {share}"
        )
    return shuffled[held_out:], shuffled[:held_out]
