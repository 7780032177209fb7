"""One thread a worker; and what is printed after the tests: how many cases of bad input were tried."""

from __future__ import annotations

import gc
import os
import sys
from collections import Counter

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: with more, workers wait for each other's threads

TRIED: Counter[str] = Counter()
"""The counts of `tests.hostile` in all workers."""


@pytest.fixture
def one_thread():
    """Sums in one order."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def counted_here() -> Counter[str]:
    """The counts of `tests.hostile` in this process, if any test has used it."""
    return getattr(sys.modules.get("tests.hostile"), "TRIED", Counter())


def pytest_collection_finish() -> None:
    """Spare the collector what imports have made: looking through it takes most of a second, at each measured peak."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session) -> None:
    """A worker hands its counts on."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["tried"] = dict(counted_here())


def pytest_testnodedown(node) -> None:
    """Take what a worker hands on; one that crashed has nothing."""
    TRIED.update(getattr(node, "workeroutput", {}).get("tried", {}))


def pytest_terminal_summary(terminalreporter) -> None:
    """Print the counts, if there are any."""
    tried = TRIED + counted_here()
    if tried:
        terminalreporter.section("bad input")
        for given_to, count in sorted(tried.items()):
            terminalreporter.write_line(f"{count:>6} {given_to}")
        terminalreporter.write_line(f"{sum(tried.values()):>6} cases tried")
