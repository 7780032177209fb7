"""Reads clocks, or counters, around the parts of a step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

REST = "rest"


class Meter:
    """What a step uses, by part. Parts may be nested: each keeps what its inner parts did not use.

    Args:
        read: gives the present reading of one or more counters that never fall.
    """

    def __init__(self, read: Callable[[], Sequence[float]]) -> None:
        self._read = read
        self._inner: list[np.ndarray] = []  # for each open part, what parts inside it have used
        self._whole = False
        self.parts: dict[str, np.ndarray] = {}

    def measure(self, step: Callable[[Meter], None]) -> np.ndarray:
        """Run one step, and give what it used in all; what is in no part of its own is the part "rest"."""
        with self.part(REST):
            step(self)
        return sum(self.parts.values())

    @contextmanager
    def part(self, name: str, scale: float = 1.0, whole: bool = False) -> Iterator[None]:
        """Count the block as part `name`.

        Args:
            name: blocks of one name are added up.
            scale: counts the block so many times over, in the total as well: an extrapolation.
            whole: count parts inside the block as this part, too.
        """
        if self._whole:
            yield
            return
        before = self._reading()
        self._inner.append(np.zeros_like(before))
        self._whole = whole
        try:
            yield
        finally:
            self._whole = False
            used = self._reading() - before
            own = used - self._inner.pop()
            if self._inner:
                self._inner[-1] += used
            self.parts[name] = self.parts.get(name, 0) + scale * own

    @contextmanager
    def wrapping(self, owner: Any, method: str, name: str, whole: bool = False) -> Iterator[None]:
        """Within the block, count each call of `owner.method` as part `name`."""
        original = getattr(owner, method)

        @wraps(original)
        def measured(*arguments: Any, **options: Any) -> Any:
            with self.part(name, whole=whole):
                return original(*arguments, **options)

        with patch.object(owner, method, measured):
            yield

    def _reading(self) -> np.ndarray:
        return np.array(self._read(), dtype=float)


def clocks(device: str) -> Callable[[], tuple[float, float]]:
    """A reader of wall seconds and processor seconds (of all cores); waits until a CUDA device has done its work."""

    def read() -> tuple[float, float]:
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        return time.perf_counter(), time.process_time()

    return read
