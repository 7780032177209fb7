"""Weights to go back to: the best that validation saw, and the last whole epoch's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class KeptWeights:
    """Copies of trained parameters at the lowest validation loss so far, and after the last epoch.

    Args:
        parameters: what is trained; kept as of epoch 0.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self.loss = float("inf")
        self.best: tuple[int, list[Tensor]] | None = None
        self.last = 0, self._copy()

    def offer(self, epoch: int, loss: float) -> None:
        """Keep the present weights as those after `epoch`, and as the best if `loss` is the lowest; inf never is."""
        self.last = epoch, self._copy()
        if loss < self.loss:
            self.loss, self.best = loss, self.last

    @property
    def epochs_since_best(self) -> int:
        """Epochs whose weights were offered since the best ones; 0 as long as there are none."""
        return self.last[0] - self.best[0] if self.best else 0

    @torch.no_grad()
    def restore(self) -> int:
        """Put the best weights back, without any the last ones; the epoch they come from."""
        epoch, weights = self.best or self.last
        for parameter, weight in zip(self.parameters, weights, strict=True):
            parameter.copy_(weight)
        return epoch

    def state_dict(self) -> dict[str, Any]:
        """Both copies and the loss, to be saved."""
        return {"loss": self.loss, "best": self.best, "last": self.last}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what [`state_dict`] gave."""
        self.loss, self.best, self.last = state["loss"], state["best"], state["last"]

    def _copy(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in self.parameters]
