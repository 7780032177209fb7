"""What watches a training: its limits, Ctrl-C, the best weights, its health, and what it leaves on disk.

A callback with `state_dict` and `load_state_dict` is saved with every checkpoint, and goes on with the training.
"""

from __future__ import annotations

import logging
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState

from gantune.diagnostics.files import JsonLines
from gantune.diagnostics.health import HealthMonitor
from gantune.diagnostics.weights import WeightTrajectory
from gantune.distributed import ALONE, DataParallel
from gantune.trainer.arguments import PairConfig
from gantune.tuning import TuningConfig

logger = logging.getLogger(__name__)


def epoch_ends(state: TrainerState, control: TrainerControl) -> bool:
    """Whether the step just done is the last one of its epoch, or of the training."""
    return state.epoch == int(state.epoch) or control.should_training_stop


def end(args: Any, control: TrainerControl) -> None:
    """End training after the step just done, and save it, so that it is known to have ended."""
    control.should_training_stop = True
    control.should_save |= args.save_strategy != "no"


def rows_of(state: TrainerState) -> list[dict[str, Any]]:
    """The rows of the log that are of steps, those of the discriminator's warm-up included."""
    return [row for row in state.log_history if "phase" in row]


class Limits(TrainerCallback):
    """Ends training after the step that reaches a limit of seconds or tokens.

    Inside its `with` block every token position that enters the model counts, padding included, whatever it is for:
    true answers, sampled ones, completions of a search, validation. A token that is sampled enters once when it is
    sampled, and once more when it is scored. All processes are counted together, and stop at one step.
    """

    def __init__(self, config: TuningConfig, model: nn.Module, parallel: DataParallel) -> None:
        self.config, self.model, self.parallel = config, model, parallel
        self.started = self.ended = time.perf_counter()
        self.tokens = self._told = 0

    def __enter__(self) -> Limits:
        self._hook = self.model.get_input_embeddings().register_forward_hook(self._count)
        self.started, self.ended = time.perf_counter(), None
        self.tokens = self._told = 0
        return self

    def __exit__(self, *exception: Any) -> None:
        self._hook.remove()
        self.ended = time.perf_counter()

    def _count(self, module: Any, inputs: Any, output: Tensor) -> None:
        self.tokens += output.shape[:-1].numel()

    @property
    def spent(self) -> bool:
        """Whether a limit is reached; to be asked by all processes."""
        seconds, tokens = self.config.max_seconds, self.config.max_tokens
        if not seconds and not tokens:
            return False
        late = 0 < seconds <= self.seconds
        spent = tokens > 0 and sum(self.parallel.collect(self.tokens)) >= tokens
        return self.parallel.any(late or spent)

    @property
    def seconds(self) -> float:
        """Spent so far, those of a training that was gone on with included."""
        return (self.ended or time.perf_counter()) - self.started

    def new_tokens(self) -> int:
        """Tokens of all processes since the last call; to be asked by all of them."""
        told, self._told = self._told, self.tokens
        return sum(self.parallel.collect(self.tokens - told))

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.spent:
            end(args, control)

    def state_dict(self) -> dict[str, float]:
        return {"seconds": self.seconds, "tokens": self.tokens, "told": self._told}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.started = time.perf_counter() - state["seconds"]
        self.tokens, self._told = state["tokens"], state["told"]


class Interrupts(TrainerCallback):
    """In the `with` block Ctrl-C ends training after its step, which is saved; a second one interrupts at once.

    Only the main thread can hold signals; in another one nothing changes. A process that is interrupted stops all.
    """

    def __init__(self, parallel: DataParallel = ALONE) -> None:
        self.parallel, self.asked, self._stops, self._before = parallel, False, False, None

    def __enter__(self) -> Interrupts:
        self.asked = self._stops = False
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.parallel.any(self.asked):
            self.asked = self._stops = True
            control.should_save = args.save_strategy != "no"
            control.should_training_stop |= not control.should_save

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Stops only now: what is saved is to be that of a training in its midst."""
        control.should_training_stop |= self._stops


class BestWeights(TrainerCallback):
    """Copies of what is trained: at the best held-out metric so far, and after the last epoch.

    The held-out pairs are scored when likelihood has had its steps and the game begins, at the end of each epoch after
    that, and with early stopping of every epoch if there is nothing but likelihood.

    Args:
        parameters: what is trained.
        config: which metric, and how many epochs it waits for a better one.
        warmup: steps of likelihood alone, by the number of all steps.
        held_out: whether there are held-out pairs.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], config: PairConfig, warmup: Any, held_out: bool) -> None:
        self.parameters, self.patience = list(parameters), config.early_stopping_patience
        self.warmup, self.held_out = warmup, held_out
        self.metric, self.sign = config.metric_for_best_model, -1 if config.greater_is_better else 1
        self.lowest = math.inf
        self.best: tuple[float, list[Tensor]] | None = None
        self.last = 0.0, self._copy()

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        warmup, ends = self.warmup(state.max_steps), epoch_ends(state, control)
        if ends:
            self.last = math.ceil(state.epoch), self._copy()
        over = state.global_step >= warmup or (self.patience and warmup == state.max_steps)
        control.should_evaluate |= self.held_out and ((ends and over) or state.global_step == warmup)

    def weigh(self, args: Any, state: TrainerState, control: TrainerControl, metrics: dict[str, float]) -> None:
        """Keep the present weights if they are the best so far by the metrics of the held-out pairs."""
        value = self.sign * metrics.get(f"eval_{self.metric}", self.sign * math.inf)
        if value < self.lowest:
            self.lowest, self.best = value, (state.epoch, self._copy())
        if self.patience and epoch_ends(state, control) and self.epochs_since_best(state.epoch) >= self.patience:
            end(args, control)

    def epochs_since_best(self, epoch: float) -> float:
        """Epochs since the best weights; 0 as long as there are none."""
        return epoch - self.best[0] if self.best else 0

    def measure(self) -> tuple[str, float]:
        """The metric, and what it is of the best weights."""
        return self.metric, self.sign * self.lowest

    @torch.no_grad()
    def restore(self) -> float:
        """Put the best weights back, without any the last ones; the epoch they come from."""
        epoch, weights = self.best or self.last
        for parameter, weight in zip(self.parameters, weights, strict=True):
            parameter.copy_(weight)
        return epoch

    def state_dict(self) -> dict[str, Any]:
        return {"lowest": self.lowest, "best": self.best, "last": self.last}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.lowest, self.best, self.last = state["lowest"], state["best"], state["last"]

    def _copy(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in self.parameters]


class Health(TrainerCallback):
    """Puts what [`HealthMonitor`] warns of into the row of the step that showed it, and into the log."""

    def __init__(self, max_completion_length: int) -> None:
        self.monitor = HealthMonitor(max_completion_length)

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any) -> None:
        if warnings := self.monitor.observe(state.log_history[-1]):
            logs["warnings"] = state.log_history[-1]["warnings"] = warnings
            if state.is_world_process_zero:
                logger.warning("%s", "\n".join(warnings))

    def state_dict(self) -> dict[str, Any]:
        return self.monitor.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.monitor.load_state_dict(state)


class NextRow(TrainerCallback):
    """What the next row of the log has so far, for a training that is gone on with between two rows."""

    def __init__(self, trainer: Any) -> None:
        self.trainer, self._saved = trainer, None

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._saved:
            self.trainer._tr_loss = torch.tensor(self._saved["loss"], device=args.device)
            self.trainer._globalstep_last_logged = self._saved["last"]
            self._saved = None  # of this training alone

    def state_dict(self) -> dict[str, Any]:
        trainer = self.trainer
        loss, last = trainer._tr_loss.item(), trainer._globalstep_last_logged
        return {"loss": loss, "last": last, "figures": dict(trainer._figures), "phase": trainer._phase}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._saved, self.trainer._phase = state, state["phase"]
        self.trainer._figures.update(state["figures"])


class History(TrainerCallback):
    """Writes the log, a row a line, as it comes: `history.jsonl`."""

    def __init__(self, file: str | Path) -> None:
        self.path = Path(file)

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._file = JsonLines(self.path) if state.is_world_process_zero else None
        for row in state.log_history if self._file else ():
            self._file.write(row)

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._file:
            self._file.write(state.log_history[-1])


class Weights(TrainerCallback):
    """Takes down the weights before training and after each epoch, see [`WeightTrajectory`]; `weights.npz`."""

    def __init__(self, file: str | Path) -> None:
        self.path = Path(file)
        self.trajectory: WeightTrajectory | None = None
        self._saved: dict[str, Any] | None = None

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, model: Any, **_: Any) -> None:
        self.trajectory = WeightTrajectory(model)
        if self._saved:
            self.trajectory.load_state_dict(self._saved)
            self._saved = None
        else:
            self.trajectory.record(0)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if epoch_ends(state, control):
            self.trajectory.record(math.ceil(state.epoch))

    def save(self) -> None:
        """Write what was taken down; nothing if training has not begun."""
        if self.trajectory is not None:
            self.trajectory.save(self.path)

    def state_dict(self) -> dict[str, Any]:
        return self.trajectory.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._saved = state


class Bar(TrainerCallback):
    """A progress bar behind a title, with the phase and the last loss and reward.

    Args:
        title: in front of it.
        plan: of the number of steps, what is said before the bar.
    """

    def __init__(self, title: str, plan: Callable[[int], str] | None = None) -> None:
        self.title, self.plan, self._bar, self._shown = title, plan, None, {}

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.is_world_process_zero:
            if self.plan is not None:
                print(self.plan(state.max_steps), file=sys.stderr, flush=True)
            steps = {"total": state.max_steps, "initial": state.global_step, "unit": "step"}
            self._bar = tqdm(desc=self.title, dynamic_ncols=True, file=sys.stderr, **steps)
            if state.global_step:
                self._bar.write(f"{self.title}: goes on after step {state.global_step}", file=sys.stderr)

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._bar is not None:
            row = state.log_history[-1]
            before = self._shown.get("phase")
            self._shown |= {"phase": row["phase"]} if "phase" in row else {}
            self._shown |= {name: f"{row[name]:.3f}" for name in ("loss", "reward") if row.get(name) is not None}
            self._bar.set_postfix(self._shown, refresh=self._shown.get("phase") != before)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._bar is not None:
            self._bar.update()

    def close(self) -> None:
        """Ends the bar, whatever happened before."""
        if self._bar is not None:
            self._bar.close()
