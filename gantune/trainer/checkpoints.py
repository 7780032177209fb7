"""Whole checkpoints of transformers' trainer: with the checksums of their files, written last and checked first."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Trainer, TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, TrainOutput

from gantune.diagnostics.files import local_path, umask_followed, write_json
from gantune.errors import UserError
from gantune.trainer.arguments import own_settings

logger = logging.getLogger(__name__)

MANIFEST = "complete.json"
WEIGHTS_FILE, STATE_FILE = "trained.safetensors", "gantune.pt"
DECISIVE = ("learning_rate", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm", "max_steps",
            "lr_scheduler_kwargs", "optim_args", "bf16", "fp16", "label_smoothing_factor")  # fmt: skip
"""Of transformers' settings those that decide what the steps do."""


def folders_of(output_dir: str | Path) -> list[Path]:
    """The checkpoints in a folder, the newest first."""
    found = Path(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*")
    numbered = [folder for folder in found if folder.name.rpartition("-")[2].isdigit()]
    return sorted(numbered, key=lambda folder: -int(folder.name.rpartition("-")[2]))


def make_room(folder: str | Path) -> None:
    """Remove what stands in a checkpoint's place, and what killed runs left half written: it would count as kept."""
    for other in folders_of(Path(folder).parent):
        if other == Path(folder) or _manifest(other) is None:
            shutil.rmtree(other, ignore_errors=True)


def mark_whole(folder: str | Path, training: str) -> None:
    """Write what says that a checkpoint is whole, and of which training it is.

    Args:
        folder: of the checkpoint.
        training: fingerprint of its settings and data.
    """
    write_json(Path(folder) / MANIFEST, {"training": training, "files": _checksums(Path(folder))})


def last_whole_checkpoint(output_dir: str | Path) -> Path | None:
    """The newest checkpoint that is whole, None if there is none; what is damaged is named in a warning and left.

    Unlike `transformers.trainer_utils.get_last_checkpoint` it never gives one that a killed run has left half written.
    """
    for folder in folders_of(output_dir):
        if (wrong := _wrong_with(folder)) is None:
            return folder
        logger.warning("%s: passed over, it is %s", folder, wrong)
    return None


def check_checkpoint(folder: Path, training: str) -> None:
    """Refuse to go on from what is not whole, or of another training.

    Raises:
        UserError: naming the folder.
    """
    if wrong := _wrong_with(folder):
        raise UserError(f"{folder}: {wrong}, expected a whole checkpoint")
    check_training(folder, training)


def check_training(folder: Path, training: str) -> None:
    """[`check_checkpoint`] of one that is known to be whole: its files, which may be large, are not read again."""
    if _manifest(folder)["training"] != training:
        raise UserError(f"{folder}: is of a training with other settings or data; give another directory, or remove it")


def _wrong_with(folder: Path) -> str | None:
    """Why a checkpoint is not to be read; None if it is whole."""
    manifest = _manifest(folder)
    if manifest is None:
        return f"not whole: no {MANIFEST} of a checkpoint"
    if manifest["files"] != _checksums(folder):
        return f"damaged: its checksums are not those of its {MANIFEST}"
    return None


def _manifest(folder: Path) -> dict[str, Any] | None:
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return content if isinstance(content["files"], dict) and isinstance(content["training"], str) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _checksums(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


class CheckpointedTrainer(Trainer):
    """A trainer whose checkpoints are whole, hold every parameter that is trained, and go on to the bit on a CPU.

    Beside what transformers keeps (optimiser, schedule, random numbers, log) a checkpoint has the trained parameters as
    `trained.safetensors`, and in `gantune.pt` all that [`stateful`] names; nothing that is read can make anything run.
    """

    names: list[str]
    parameters: list[nn.Parameter]

    def stateful(self) -> dict[str, Any]:
        """What changes in training beside weights, optimiser and random numbers, by name."""
        found = {"micro_batches": self.micro_batches}
        for callback in self.callback_handler.callbacks:
            if hasattr(callback, "state_dict"):
                found[type(callback).__name__] = callback
        return found

    def fingerprint(self) -> str:
        """Of everything that decides what the steps do: settings, tokens, and what else is trained on."""
        settings = own_settings(self.args) | {name: getattr(self.args, name) for name in DECISIVE}
        wrapped = (module for module in self.model.modules() if isinstance(module, PeftModel))
        adapters = [vars(config).copy() for module in wrapped for config in module.peft_config.values()]
        for config in adapters:
            del config["base_model_name_or_path"]  # where it lies on this machine
        content = json.dumps([settings, adapters, self.tokens()], sort_keys=True, default=_plain)
        return hashlib.sha256(content.encode()).hexdigest()

    def tokens(self) -> list[Any]:
        """Prompt and answer ids of every row that training reads."""
        return [row[:2] for row in (*self.train_dataset, *(self.eval_dataset or ()))]

    def _checkpoint(self, asked: str | bool | None) -> Path | None:
        if not asked:
            return None
        folder = last_whole_checkpoint(self.args.output_dir) if asked is True else local_path(asked)
        if folder is not None:
            check = check_training if asked is True else check_checkpoint
            check(folder, self.fingerprint())
            logger.info("going on from %s", folder)
        return folder

    def _ended(self, checkpoint: Path) -> TrainOutput:
        """What a training that had ended before its last step came to; no step is left."""
        self._load_from_checkpoint(str(checkpoint))
        self._load_state(checkpoint)
        self.state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
        for event in ("on_train_begin", "on_train_end"):
            self.control = getattr(self.callback_handler, event)(self.args, self.state, self.control)
        return TrainOutput(self.state.global_step, math.nan, {})

    def _load_state(self, checkpoint: Path) -> None:
        saved = _read_state(checkpoint)["parts"]
        for name, part in self.stateful().items():
            if name in saved:  # not what watches this time only
                part.load_state_dict(saved[name])

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        if self.args.should_save:
            make_room(folder)
        try:
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                mark_whole(folder, self.fingerprint())
        except (OSError, RuntimeError, SafetensorError) as error:
            of_torch = re.search("writ|iostream|inline_container", str(error))  # its words for what the disk said
            if isinstance(error, RuntimeError) and not of_torch:
                raise
            raise UserError(f"{folder}: cannot be written ({getattr(error, 'strerror', None) or error})") from error

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write what is trained: of a checkpoint every parameter, otherwise what `save_pretrained` writes."""
        output_dir = output_dir or self.args.output_dir
        if not self.args.should_save:
            return
        with umask_followed(output_dir):
            if not _internal_call:
                getattr(self, "save_pretrained", self.model.save_pretrained)(output_dir)
                return
            os.makedirs(output_dir, exist_ok=True)
            named = zip(self.names, self.parameters, strict=True)
            weights = {name: parameter.detach().contiguous() for name, parameter in named}
            save_file(weights, os.path.join(output_dir, WEIGHTS_FILE))

    @torch.no_grad()
    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        saved = load_file(os.path.join(resume_from_checkpoint, WEIGHTS_FILE))
        for name, parameter in zip(self.names, self.parameters, strict=True):
            parameter.copy_(saved[name])

    def _load_best_model(self) -> None:
        self._load_from_checkpoint(self.state.best_model_checkpoint)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.args.should_save:
            parts = {name: part.state_dict() for name, part in self.stateful().items()}
            ended = self.control.should_training_stop
            torch.save({"ended": ended, "parts": parts}, os.path.join(output_dir, STATE_FILE))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self._load_state(Path(checkpoint))


def _read_state(checkpoint: Path) -> dict[str, Any]:
    """Tensors and plain values (`weights_only`): a file cannot make anything run."""
    return torch.load(checkpoint / STATE_FILE, map_location="cpu", weights_only=True)


def has_ended(checkpoint: Path) -> bool:
    """Whether no step was to follow."""
    return _read_state(checkpoint)["ended"]


def _plain(value: Any) -> Any:
    """What JSON has no word for, the same in every process."""
    return sorted(map(str, value)) if isinstance(value, set) else str(value)
