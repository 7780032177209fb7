"""What watches a training on the terminal: a bar, the history on disk, the weights, an experiment tracker."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from torch import nn
from tqdm import tqdm

from gantune.cli.plot import HISTORY, WEIGHTS
from gantune.cli.tracking import Tracker
from gantune.diagnostics import JsonLines, WeightTrajectory


class Progress:
    """An observer of one training, which also goes on with one; see [`gantune.trainer.observer.Observer`].

    Args:
        directory: of the run; `history.jsonl` and `weights.npz` are written there.
        history: the trainer's own list of rows, with those of the training that is gone on with.
        tracker: told of every row; None for none.
    """

    def __init__(self, directory: Path, history: list[dict[str, Any]], tracker: Tracker | None = None) -> None:
        self.directory, self.history, self.tracker = directory, history, tracker
        self._file: JsonLines | None = None
        self._bar: tqdm | None = None
        self._shown: dict[str, str] = {}

    def on_begin(self, total_steps: int, model: nn.Module) -> None:
        """Starts the bar and the files; epoch 0 of the trajectories is the model before training."""
        self._weights = WeightTrajectory(model)
        self._weights.record(0)
        self._file = JsonLines(self.directory / HISTORY)
        self._bar = tqdm(total=total_steps, desc="training", unit="step", dynamic_ncols=True, file=sys.stderr)

    def on_step(self, row: dict[str, Any]) -> None:
        """Adds the row to the history, and shows the last loss and reward."""
        self._file.write(row)
        if self.tracker is not None:
            self.tracker.log(row)
        self._show(row)
        self._bar.update()

    def on_epoch(self, epoch: int, model: nn.Module) -> None:
        """Takes down the weights."""
        self._weights.record(epoch)

    def state_dict(self) -> dict[str, Any]:
        """The weights taken down so far, to be saved; the trainer itself saves the history."""
        return {"weights": self._weights.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what [`state_dict`] gave, and from the trainer's history."""
        self._weights.load_state_dict(state["weights"])
        for row in self.history:
            self._file.write(row)
            self._show(row)
        self._bar.reset()
        self._bar.initial = self._bar.n = self._bar.last_print_n = len(self.history)  # the time left is from here

    def close(self) -> None:
        """Ends bar, files and tracker; safe to call whatever happened before."""
        if self._bar is not None:
            self._bar.close()
            self._file.close()
            self._weights.save(self.directory / WEIGHTS)
        if self.tracker is not None:
            self.tracker.close()

    def _show(self, row: dict[str, Any]) -> None:
        self._shown |= {name: f"{row[name]:.3f}" for name in ("loss", "reward") if name in row}
        self._bar.set_postfix(self._shown, refresh=False)
