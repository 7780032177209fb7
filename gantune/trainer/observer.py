"""Who watches training: progress bars, history files, weight trajectories."""

from __future__ import annotations

from typing import Any, Protocol

from torch import nn


class Observer(Protocol):
    """Told of every step and every epoch; never changes the training."""

    def on_begin(self, total_steps: int, model: nn.Module) -> None:
        """Before the first step; `model` as it will be trained."""

    def on_step(self, row: dict[str, Any]) -> None:
        """After a step: its number, phase and figures."""

    def on_epoch(self, epoch: int, model: nn.Module) -> None:
        """After an epoch, counted from 1."""


class Silent:
    """The observer that does nothing."""

    def on_begin(self, total_steps: int, model: nn.Module) -> None: ...

    def on_step(self, row: dict[str, Any]) -> None: ...

    def on_epoch(self, epoch: int, model: nn.Module) -> None: ...
