"""Where a training stands: its position, its schedule, what it reports, and how it is saved and gone on with."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from gantune.data import EncodedPair
from gantune.diagnostics.health import HealthMonitor
from gantune.errors import UserError
from gantune.policy.random_state import random_state, set_random_state
from gantune.trainer.budget import Budget
from gantune.trainer.checkpoints import Checkpoints
from gantune.trainer.interrupts import Interrupts
from gantune.trainer.kept_weights import KeptWeights
from gantune.trainer.observer import Observer, Silent
from gantune.trainer.schedules import learning_rate_schedule

if TYPE_CHECKING:
    from gantune.trainer.language_gan import LanguageGAN

logger = logging.getLogger("gantune.trainer.language_gan")


class TrainingRun:
    """One call of [`LanguageGAN.train`].

    Args:
        trainer: whose steps are counted; its own state is saved with the run's.
        training: the pairs that are trained on.
        validation_loss: gives the loss of those held out, infinite without any.
        budget: what may be spent.
        observer: told of each step and epoch.
        checkpoints: where the state is kept; None keeps none.
        interrupts: whether Ctrl-C was pressed.

    `epoch` and `batches` say where to go on: with which epoch, and after how many of its batches. `over` says that no
    step is to follow: the budget is spent, or the held-out loss has not fallen for long enough.

    The held-out pairs are scored at the end of an epoch that has seen more than likelihood, or with early stopping of
    every epoch if there is nothing but likelihood. Weights of such epochs are those to choose from.
    """

    def __init__(
        self,
        trainer: LanguageGAN,
        training: Sequence[EncodedPair],
        validation_loss: Callable[[], float],
        budget: Budget,
        observer: Observer,
        checkpoints: Checkpoints | None,
        interrupts: Interrupts,
    ) -> None:
        config, self.parallel = trainer.config, trainer.parallel
        self.trainer, self.training, self.budget = trainer, training, budget
        self.observer = observer if self.parallel.main else Silent()
        self.checkpoints, self.interrupts, self.validation_loss = checkpoints, interrupts, validation_loss
        self.total = config.epochs * -(-len(training) // config.batch_size)
        self.warmup = round(config.warmup_share * self.total)
        self.step, self.epoch, self.batches, self.over = 0, 1, 0, False
        self.kept = KeptWeights(trainer.parameters)
        self.monitor = HealthMonitor(config.max_new_tokens)
        self.schedule = learning_rate_schedule(trainer.optimizer, config.lr_scheduler, config.lr_warmup, self.total)

    def begin(self) -> None:
        """Tell the observer, and go on from a checkpoint if there is one.

        Raises:
            UserError: if it is of another training.
        """
        config = self.trainer.config
        judged = self.warmup < self.total and self.trainer.judged
        steps = self.total + (config.discriminator_warmup_steps if judged else 0)
        self.observer.on_begin(steps, self.trainer.model)
        state = self.checkpoints.latest() if self.checkpoints else None
        if state is None:
            return
        if state["training"] != self._fingerprint():
            raise UserError(
                f"{self.checkpoints.directory}: holds checkpoints of a training with other settings or data; give "
                "another directory, or remove them"
            )
        self.trainer.load_state_dict(state["trainer"])
        for name, part in self._parts().items():
            part.load_state_dict(state["parts"][name])
        self.step, self.epoch, self.batches, self.over = state["position"]
        set_random_state(state["random"][self.parallel.rank % len(state["random"])])
        logger.info("going on after step %d of %d", self.step, self.total)

    def follow(self, steps: Callable[[TrainingRun], None]) -> None:
        """Take the steps, and put the best weights back.

        Raises:
            FloatingPointError: if a loss or a gradient is not finite; the last good weights are put back first.
        """
        try:
            steps(self)
        except FloatingPointError as error:
            epoch = self.kept.restore()
            raise FloatingPointError(f"{error}; the weights are those after epoch {epoch}") from error
        if self.kept.best is not None:
            epoch = self.kept.restore()
            logger.info("kept the weights of epoch %d, validation loss %.3f", epoch, self.kept.loss)

    def log(
        self, phase: str, epoch: int, figures: dict[str, Any], started: float, finish: Callable[[], dict] = dict
    ) -> None:
        """Add a row to the history; `finish` gives figures that are not counted in its tokens and seconds."""
        history = self.trainer.history
        row = {"step": len(history) + 1, "epoch": epoch, "phase": phase, **figures}
        row |= {"tokens": self.budget.new_tokens(), "seconds": time.perf_counter() - started} | finish()
        if warnings := self.monitor.observe(row):
            row["warnings"] = warnings
            if self.parallel.main:
                logger.warning("%s", "\n".join(warnings))
        history.append(row)
        self.observer.on_step(row)

    def done(self, phase: str, epoch: int, figures: dict[str, Any], started: float) -> None:
        """A step is done: tell it, with the loss of the held-out pairs if the epoch ends; count it, save it in time.

        Raises:
            KeyboardInterrupt: if it was asked for, after saving.
        """
        self.schedule.step()
        self.step, self.epoch, self.batches = self.step + 1, epoch, self.batches + 1
        self.over = self.budget.spent
        ends = self.over or self.batches * self.trainer.config.batch_size >= len(self.training)
        self.log(phase, epoch, figures, started, self._validate if ends else dict)
        asked = self.parallel.any(self.interrupts.asked)
        if self.checkpoints and (asked or self.checkpoints.due(self.step)):
            state = self._state()
            if self.parallel.main:
                self.checkpoints.save(self.step, state)
        if asked:
            raise KeyboardInterrupt

    def _validate(self) -> dict[str, float]:
        """Keep the weights, and score the held-out pairs if it is time."""
        patience, loss = self.trainer.config.early_stopping, float("inf")
        if self.step >= self.warmup or (patience and self.warmup == self.total):
            loss = self.validation_loss()
        self.kept.offer(self.epoch, loss)
        self.over |= 0 < patience <= self.kept.epochs_since_best
        return {"validation_loss": loss} if math.isfinite(loss) else {}

    def epoch_ended(self, epoch: int) -> None:
        """Tell the observer; the next epoch starts with its first batch."""
        self.epoch, self.batches = epoch + 1, 0
        self.observer.on_epoch(epoch, self.trainer.model)

    def _state(self) -> dict[str, Any]:
        return {
            "training": self._fingerprint(),
            "position": (self.step, self.epoch, self.batches, self.over),
            "trainer": self.trainer.state_dict(),
            "parts": {name: part.state_dict() for name, part in self._parts().items()},
            "random": self.parallel.collect(random_state()),
        }

    def _parts(self) -> dict[str, Any]:
        parts = {"schedule": self.schedule, "kept": self.kept, "monitor": self.monitor, "budget": self.budget}
        return parts | ({"observer": self.observer} if hasattr(self.observer, "state_dict") else {})

    def _fingerprint(self) -> str:
        """Of everything that decides what the steps do: settings and tokens."""
        tokens = [(row.prompt_ids, row.answer_ids) for row in self.training]
        if self.trainer.unpaired is not None:
            tokens += self.trainer.unpaired.tokens()
        content = json.dumps([asdict(self.trainer.config), tokens], sort_keys=True, default=str)
        return hashlib.sha256(content.encode()).hexdigest()
