"""A `transformers.Trainer` that takes its rows in a given order, and goes on where it was killed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, Sampler
from transformers import Trainer, TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from gantune.data import EncodedPair, epoch_rows
from gantune.distributed import DataParallel
from gantune.errors import UserError
from gantune.policy.random_state import random_state, set_random_state
from gantune.trainer.checkpoints import Checkpoints
from gantune.trainer.schedules import learning_rate_schedule
from gantune.tuning import TuningConfig


class EpochOrder(Sampler[list[int]]):
    """Rows in the order that LanguageGAN takes them in, epoch by epoch, so that methods differ in nothing else.

    `epoch` counts those that were begun.

    Args:
        encoded: the rows.
        config: batch size, seed and order.
        at_once: rows of a part, in all processes together.
        parallel: the processes that share each part.
    """

    def __init__(
        self, encoded: Sequence[EncodedPair], config: TuningConfig, at_once: int, parallel: DataParallel
    ) -> None:
        self.encoded, self.config, self.at_once, self.parallel = encoded, config, at_once, parallel
        self.epoch = 0

    def __iter__(self) -> Iterator[list[int]]:
        """The rows of this process's share of each part; of a part with fewer rows than processes it may be none."""
        config, self.epoch = self.config, self.epoch + 1
        rows = list(epoch_rows(self.encoded, config.batch_size, config.seed, self.epoch, config.group_by_length))
        for start in range(0, len(rows), self.at_once):
            part = rows[start : start + self.at_once]
            first, end = self.parallel.rows(len(part))
            yield part[first:end]

    def __len__(self) -> int:
        return -(-len(self.encoded) // self.at_once)


class ResumableTrainer(Trainer):
    """`transformers.Trainer` with the order of its rows given, whose whole state is kept in `Checkpoints`.

    Of transformers' own way to resume it uses the counting: which epoch, and how many of its batches to pass over. What
    the state is made of comes from gantune's checkpoints, which are checked, hold every parameter that is trained (an
    adapter's `save_pretrained` leaves out the networks that only training needs), and run nothing when they are read.

    Args:
        order: of the training set's rows.
        config: the learning rate's schedule.
        checkpoints: where the state is kept, and gone on from if there is one; None keeps none.
        fingerprint: of everything that decides what the steps do.
        parts: what else changes in training and has `state_dict` and `load_state_dict`, by name.
        kwargs: see `transformers.Trainer`; `args.output_dir` is used for a note to itself.
    """

    def __init__(
        self,
        order: EpochOrder,
        config: TuningConfig,
        checkpoints: Checkpoints | None,
        fingerprint: str,
        parts: Mapping[str, Any],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.order, self.config, self.parts = order, config, parts
        self.checkpoints, self.fingerprint = checkpoints, fingerprint
        self.saved: dict[str, Any] | None = None

    def train_or_go_on(self) -> None:
        """Train, from the newest checkpoint on if there is one; nothing is left to do if the training had ended.

        Raises:
            UserError: if the checkpoint is of another training.
        """
        self.saved = self.checkpoints.latest() if self.checkpoints else None
        if self.saved is None:
            self.train()
            return
        if self.saved["training"] != self.fingerprint:
            raise UserError(
                f"{self.checkpoints.directory}: holds checkpoints of a training with other settings or data; give "
                "another directory, or remove them"
            )
        directory = self.args.output_dir
        state = TrainerState(**self.saved["trainer"])
        self.order.epoch = int(state.epoch)
        if self.saved["ended"]:
            state.global_step = state.max_steps  # so that no epoch is left
        state.save_to_json(os.path.join(directory, TRAINER_STATE_NAME))
        self.train(resume_from_checkpoint=directory)

    def save_state(self, ended: bool = False) -> None:
        """Keep the state as it is after a step; without checkpoints nothing is done.

        Args:
            ended: no step is to follow.
        """
        if self.checkpoints is None:
            return
        state, random = self.state, self.order.parallel.collect(random_state())
        if not self.order.parallel.main:
            return
        counted = ("epoch", "global_step", "max_steps", "train_batch_size", "logging_steps", "eval_steps", "save_steps")
        self.checkpoints.save(
            state.global_step,
            {
                "training": self.fingerprint,
                "trainer": {name: getattr(state, name) for name in counted},
                "ended": ended,
                "parameters": [parameter.detach() for parameter in self.trained_parameters()],
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.lr_scheduler.state_dict(),
                "parts": {name: part.state_dict() for name, part in self.parts.items()},
                "random": random,
            },
        )

    def load_parts(self) -> None:
        """Put the parts back to where they were when the state was kept, if one is gone on from."""
        for name, part in self.parts.items() if self.saved else ():
            part.load_state_dict(self.saved["parts"][name])

    def trained_parameters(self) -> list[torch.nn.Parameter]:
        """What the optimiser changes, in the model's order."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    # ---- transformers.Trainer's own methods

    def get_train_dataloader(self) -> DataLoader:
        """Batches of the training set in the given order; of several processes each has its rows already."""
        return DataLoader(self.train_dataset, batch_sampler=self.order, collate_fn=self.data_collator)

    def create_scheduler(self, num_training_steps: int, optimizer: Optimizer | None = None) -> LRScheduler:
        """The schedule of the settings, which is every method's."""
        self.lr_scheduler = learning_rate_schedule(
            optimizer or self.optimizer, self.config.lr_scheduler, self.config.lr_warmup, num_training_steps
        )
        self._created_lr_scheduler = True  # a second `train` makes a new one
        return self.lr_scheduler

    @torch.no_grad()
    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        for parameter, saved in zip(self.trained_parameters(), self.saved["parameters"], strict=True):
            parameter.copy_(saved)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            self.optimizer.load_state_dict(self.saved["optimizer"])
            self.lr_scheduler.load_state_dict(self.saved["schedule"])

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            random = self.saved["random"]
            set_random_state(random[self.order.parallel.rank % len(random)])
