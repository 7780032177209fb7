"""The settings of the trainers as `transformers.TrainingArguments`: all of its options, and ours beside them."""

import warnings
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.integrations import integration_utils
from transformers.utils import is_bitsandbytes_available

from gantune.diagnostics.files import local_path
from gantune.distributed import without_plugins
from gantune.errors import NotAvailable, UserError, first_line
from gantune.trainer.config import GameConfig
from gantune.tuning import TuningConfig


@dataclass
class PairConfig(TuningConfig, TrainingArguments):
    """Settings of [`PairTrainer`]: [`TuningConfig`]'s, and everything that `transformers.TrainingArguments` has.

    Args:
        logging_steps: steps from one row of the log to the next, whose figures are means over these steps.
        report_to: experiment trackers.
        save_steps: steps from one checkpoint to the next.
        save_total_limit: checkpoints kept, at least 2: the last whole one outlives one that is torn.

    Raises:
        UserError: if a value is out of range, or transformers refuses it.
        NotAvailable: if the optimiser cannot be had here.
    """

    logging_steps: float = field(default=10, metadata={"help": "steps from one row of the log to the next"})
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "has no effect: such numbers stop training"})
    report_to: str | list[str] | None = field(default="none", metadata={"help": "experiment trackers"})
    remove_unused_columns: bool = field(default=False, metadata={"help": "has no effect: pairs have no others"})
    save_steps: float = field(default=100, metadata={"help": "steps from one checkpoint to the next"})
    save_total_limit: int | None = field(default=2, metadata={"help": "checkpoints kept, at least 2"})

    def __post_init__(self) -> None:
        TuningConfig.__post_init__(self)
        local_path(self.output_dir or ".")
        self.greater_is_better = self.metric_for_best_model == "rougeL"
        if self.save_total_limit is not None and self.save_total_limit < 2:
            raise UserError(f"--save-total-limit {self.save_total_limit}: expected at least 2, if one is torn")
        if self.gradient_accumulation_steps != 1:
            raise UserError(
                f"--gradient-accumulation-steps {self.gradient_accumulation_steps}: expected the pairs of a whole step "
                "as --per-device-train-batch-size and those at once as --micro-batch-size"
            )
        for name in ("fsdp", "deepspeed"):
            if getattr(self, name):
                raise UserError(
                    f"--{name}: the frozen model is divided when it is loaded, expected "
                    f"load_model(..., sharding={name!r}), or gantune train --sharding {name}"
                )
        of_the_game = ("label_smoothing_factor",) if isinstance(self, GameConfig) else ()
        for name in ("neftune_noise_alpha", "dataloader_drop_last", *of_the_game):
            if getattr(self, name):
                raise UserError(f"--{name.replace('_', '-')}: has no effect here, expected it left out")
        if self.auto_find_batch_size:
            raise UserError("--auto-find-batch-size: not needed, --micro-batch-size is halved when memory runs out")
        try:
            with warnings.catch_warnings(), without_plugins():
                warnings.filterwarnings("ignore", message="`gradient_checkpointing` is deprecated")
                TrainingArguments.__post_init__(self)
        except (ValueError, ImportError) as error:
            raise UserError(" ".join(str(error).split())) from error
        _check_trackers(self.report_to)
        if any(part in self.optim for part in ("bnb", "paged", "lion", "adamw_8bit")):  # those of bitsandbytes
            if self.use_cpu or not torch.cuda.is_available():
                raise NotAvailable(f"--optim {self.optim.value} needs CUDA, the model is to be trained on the CPU")
            if not is_bitsandbytes_available():
                raise NotAvailable(f"--optim {self.optim.value} needs the package bitsandbytes, which is not installed")
        self.activation_checkpointing = None  # transformers' own is for training mode; see `checkpoint_layers`


def _check_trackers(names: list[str]) -> None:
    """Refuse experiment trackers that the trainer could not make.

    Raises:
        UserError: naming one that transformers does not know, or whose package is not installed.
    """
    known = integration_utils.INTEGRATION_TO_CALLBACK
    for name in names:
        if name not in known:
            raise UserError(f"--report-to {name}: expected none, all, or one of {', '.join(sorted(known))}")
        try:
            known[name]()
        except (RuntimeError, ImportError) as error:
            raise UserError(f"--report-to {name}: cannot be used here: {first_line(error)}") from error


@dataclass
class LanguageGANConfig(GameConfig, PairConfig):
    """Settings of [`LanguageGAN`]: those of the game, see [`GameConfig`], and all of [`PairConfig`]."""


def own_settings(args: PairConfig) -> dict[str, Any]:
    """What is gantune's in the settings, by name: what a saved trainer is made from again, without this machine's."""
    light = [base for base in type(args).__mro__ if is_dataclass(base) and not issubclass(base, TrainingArguments)]
    return {f.name: getattr(args, f.name) for base in reversed(light) for f in fields(base)}


def training_arguments(settings: TuningConfig, **more: Any) -> PairConfig:
    """The settings of a method as transformers' trainer takes them.

    Args:
        settings: a [`GameConfig`] becomes a [`LanguageGANConfig`], any other a [`PairConfig`].
        more: further values, by name.
    """
    kind = LanguageGANConfig if isinstance(settings, GameConfig) else PairConfig
    names = {f.name for f in fields(kind)} & {f.name for f in fields(settings)}
    return kind(**{name: getattr(settings, name) for name in names} | more)
