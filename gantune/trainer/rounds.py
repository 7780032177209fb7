"""A round of the game: one rollout, what its answers are worth, and the shares of it that the steps learn from."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from gantune.policy import Rollout


class Share(NamedTuple):
    """Some questions of a rollout with all of their answers, the reward of each, and its log-probs by a reference."""

    rollout: Rollout
    rewards: Tensor  # [B] or [B, T]
    reference: Tensor | None  # [B, T]

    def questions(self) -> Rollout:
        """Each question once."""
        return self.rollout.select(torch.arange(0, len(self.rollout), self.rollout.samples_per_prompt))


class Round:
    """What the steps of a round need of its beginning, on `device`; it is saved with every checkpoint."""

    def __init__(self, device: torch.device | str) -> None:
        self.device, self.whole = device, None

    def begin(self, rollout: Rollout, rewards: Tensor, reference: Tensor | None) -> None:
        """Keep a rollout; the one before is dropped."""
        self.whole = Share(rollout.without_state(), rewards, reference)

    def share(self, place: int, steps: int) -> Share:
        """The questions of step `place`, from 0, of so many that divide the rollout evenly; their number divides it."""
        rollout, rewards, reference = self.whole
        rows = len(rollout) // steps
        start, stop = place * rows, (place + 1) * rows
        return Share(
            rollout.rows(start, stop), rewards[start:stop], None if reference is None else reference[start:stop]
        )

    def state_dict(self) -> dict[str, Any]:
        if self.whole is None:
            return {"rollout": None}
        return self.whole._asdict() | {"rollout": self.whole.rollout.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.whole = None
        if state["rollout"] is not None:
            parts = [part if part is None else part.to(self.device) for part in (state["rewards"], state["reference"])]
            self.whole = Share(Rollout.from_state_dict(state["rollout"]).to(self.device), *parts)
