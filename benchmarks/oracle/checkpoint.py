"""A loop that goes on where it was killed: everything that changes in it, on disk after each evaluation."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import torch

from gantune.diagnostics import write_json
from gantune.diagnostics.files import replacing

CHECKPOINT = "checkpoint.pt"


class Stateful(Protocol):
    """A module or an optimiser."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> Any: ...


class ResumableLoop:
    """Counts rounds, keeps their rows and the time spent, and saves itself.

    ```python
    loop = ResumableLoop(directory, total, {"policy": policy, "optimizer": optimizer})
    for index in loop:
        train(policy)
        if index % 5 == 0:
            loop.pause()
            loop.save(index, {"round": index, "loss": evaluate(policy)})
            loop.resume()
    ```

    What is loaded are tensors and numbers (`weights_only`), and a state that does not fit is an error.

    Args:
        directory: of the run; holds `checkpoint.pt` and `history.json`.
        total: rounds in all.
        parts: what changes in the loop, by name; brought to the state of the checkpoint if there is one.
    """

    def __init__(self, directory: Path, total: int, parts: dict[str, Stateful]) -> None:
        self.directory, self.total, self.parts = directory, total, parts
        self.rows: list[dict[str, Any]] = []
        self.first, self.seconds = 0, 0.0
        self._file = directory / CHECKPOINT
        if self._file.is_file():
            saved = torch.load(self._file, weights_only=True)
            for name, part in parts.items():
                part.load_state_dict(saved["parts"][name])
            torch.set_rng_state(saved["random"])
            if saved["cuda_random"]:
                torch.cuda.set_rng_state_all(saved["cuda_random"])
            self.first, self.seconds, self.rows = saved["next"], saved["seconds"], saved["rows"]
        self._since = time.perf_counter()

    def __iter__(self) -> Iterator[int]:
        """The rounds that are left."""
        yield from range(self.first, self.total)

    def pause(self) -> None:
        """What follows, up to [`resume`], is not training: its time does not count."""
        self.seconds += time.perf_counter() - self._since

    def resume(self) -> None:
        """Training goes on."""
        self._since = time.perf_counter()

    def save(self, index: int, row: dict[str, Any]) -> None:
        """Keep a row of the paused loop, and everything as it is after round `index`."""
        self.rows.append(row | {"seconds": self.seconds})
        state = {
            "next": index + 1,
            "seconds": self.seconds,
            "rows": self.rows,
            "random": torch.get_rng_state(),
            "cuda_random": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
        }
        with replacing(self._file) as temporary:
            torch.save(state, temporary)
        write_json(self.directory / "history.json", self.rows)
