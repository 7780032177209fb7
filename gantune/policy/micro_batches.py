"""Rows that pass through the model at once: fewer whenever memory runs out, with the batch and its gradient kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TypeVar

from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from gantune.distributed import ALONE, DataParallel
from gantune.errors import UserError, first_line
from gantune.policy.random_state import random_state, set_random_state

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class MicroBatches:
    """Cuts batches into parts whose gradients are added up, after `accelerate.find_executable_batch_size`.

    Args:
        size: most rows a part; None for all of a batch.
        parallel: the processes that share the rows; the parts are this one's.

    Its `sampled` is the most sampled answers a part, where each row has several; None for as many as its rows have.
    """

    def __init__(self, size: int | None = None, parallel: DataParallel = ALONE) -> None:
        self.size, self.parallel = size, parallel
        self.sampled: int | None = None

    def state_dict(self) -> dict[str, int | None]:
        return {"size": self.size}

    def load_state_dict(self, state: dict[str, int | None]) -> None:
        self.size = state["size"]

    def at_once(self, rows: int, samples: int = 0) -> int:
        """Most rows in a part of a batch of so many, each with so many sampled answers, if they are what is read."""
        size = self.size or rows
        return min(size, max(1, self.sampled // samples)) if samples and self.sampled else size

    def of(self, rows: int, samples: int = 0) -> Iterator[tuple[int, int]]:
        """First row, and the one after the last, of each part; see [`at_once`]."""
        first, end = self.parallel.rows(rows)
        size = self.at_once(rows, samples)
        for start in range(first, end, size):
            yield start, min(start + size, end)

    def whole(self, rows: int, samples: int = 0) -> bool:
        """Whether this process's rows are one part; see [`at_once`]."""
        first, end = self.parallel.rows(rows)
        return end - first <= self.at_once(rows, samples)

    def run(self, rows: int, step: Callable[[], Result]) -> Result:
        """`step()`; each time it runs out of memory, again from the same random state with parts of half the size.

        It cuts its batch, of so many rows, by [`of`].

        Raises:
            UserError: if memory does not suffice for one row.
        """
        state = random_state()
        while True:
            try:
                return step()
            except (RuntimeError, MemoryError) as error:
                if not (isinstance(error, MemoryError) or should_reduce_batch_size(error)):
                    raise
                if self.size == 1 or rows == 1:
                    raise UserError(
                        f"out of memory with one row at a time ({first_line(error)}): set --gradient-checkpointing "
                        "true, or lower --num-generations, --max-completion-length or --max-prompt-length"
                    ) from None
            # After the handler, so that the failed step's tensors are not kept by its traceback.
            self.size = -(-min(self.size or rows, rows) // 2)
            logger.warning("out of memory: going on with %d rows at a time, the batch stays as it is", self.size)
            clear_device_cache(garbage_collection=True)
            set_random_state(state)
