"""Peak memory of a block of code, and a record of where it went.

On CUDA the allocator counts exactly. On CPU the kernel's high-water mark of resident memory does, where it can be reset
(Linux); elsewhere a thread samples the resident memory. Resident memory is the process's: measure one method in one
process.
"""

from __future__ import annotations

import ctypes
import gc
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import psutil
import torch

from gantune.diagnostics.files import replacing, write_json

SAMPLES_PER_SECOND = 20
FALLBACK_SAMPLES_PER_SECOND = 100
STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class MemoryReport:
    """Memory that a block of code needed on top of what was in use at its entry."""

    kind: Literal["cuda", "cpu-rss"]  # the allocator of one device, or resident memory of the process
    peak_bytes: int  # highest use above the entry; on CUDA of allocated tensors
    peak_reserved_bytes: int | None  # on CUDA, highest reservation from the driver above the entry
    baseline_bytes: int  # in use at the entry
    method: str


class MemoryMonitor:
    """Filled by [`measure_memory`] when its block ends, with or without an error."""

    _report: MemoryReport | None = None

    @property
    def report(self) -> MemoryReport:
        if self._report is None:
            raise RuntimeError("the memory report is there once the measured block has ended")
        return self._report

    @property
    def peak_bytes(self) -> int:
        return self.report.peak_bytes


@contextmanager
def measure_memory(device: torch.device | str) -> Iterator[MemoryMonitor]:
    """Measure the peak memory of the block, above the state at its entry.

    Garbage is collected first, and memory that is free but still held goes back: CUDA's cached blocks to the driver,
    glibc's free heap to the kernel (`malloc_trim`). Otherwise the block could fill the pages that loading the model
    has left behind, and its own need would not show. Blocks must not be nested: there is one high-water mark.

    Every device but CUDA's is measured as resident memory of the process.
    """
    device = torch.device(device)
    monitor = MemoryMonitor()
    with _measure_cuda(device, monitor) if device.type == "cuda" else _measure_process(monitor):
        yield monitor


@contextmanager
def _measure_cuda(device: torch.device, monitor: MemoryMonitor) -> Iterator[None]:
    gc.collect()
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    allocated, reserved = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
    try:
        yield
    finally:
        torch.cuda.synchronize(device)
        monitor._report = MemoryReport(
            kind="cuda",
            peak_bytes=torch.cuda.max_memory_allocated(device) - allocated,
            peak_reserved_bytes=torch.cuda.max_memory_reserved(device) - reserved,
            baseline_bytes=allocated,
            method="peak of torch's CUDA allocator above the state at entry",
        )


@contextmanager
def _measure_process(monitor: MemoryMonitor) -> Iterator[None]:
    gc.collect()
    trimmed = _trim_heap()
    sampled = not _reset_high_water_mark()
    if sampled:
        method, baseline = f"resident memory, sampled {FALLBACK_SAMPLES_PER_SECOND} times a second", _resident_bytes()
    else:
        method, baseline = "kernel's high-water mark of resident memory (VmHWM)", _high_water_mark()
    try:
        with _samples(FALLBACK_SAMPLES_PER_SECOND) if sampled else nullcontext() as samples:
            yield
    finally:
        peak = max(used for _, used in samples) if sampled else _high_water_mark()
        monitor._report = MemoryReport(
            kind="cpu-rss",
            peak_bytes=max(peak - baseline, 0),
            peak_reserved_bytes=None,
            baseline_bytes=baseline,
            method=f"{method}, above the state at entry"
            + ("" if trimmed else "; the heap could not be trimmed at entry"),
        )


class MemoryRecord(NamedTuple):
    """What [`record_memory_snapshot`] leaves: a pickle for https://pytorch.org/memory_viz, or JSON."""

    kind: Literal["cuda-snapshot", "process-timeline"]
    path: Path


@contextmanager
def record_memory_snapshot(path: str | Path, device: torch.device | str) -> Iterator[MemoryRecord]:
    """Record where the block's memory goes; the file appears when the block ends, with or without an error.

    On CUDA `path` becomes a pickle: every allocation with its Python stack, the last 100,000 events. Other devices have
    no such record; there `memory_timeline.json` in the same folder gets the process's resident memory, sampled 20 times
    a second. A [`UserError`] if the file cannot be written.
    """
    path, device = Path(path), torch.device(device)
    if device.type == "cuda":
        torch.cuda.memory._record_memory_history(max_entries=100_000, stacks="python", device=device)
        try:
            yield MemoryRecord("cuda-snapshot", path)
        finally:
            try:
                with replacing(path) as temporary:
                    torch.cuda.memory._dump_snapshot(str(temporary))
            finally:
                torch.cuda.memory._record_memory_history(enabled=None, device=device)
        return
    path = path.with_name("memory_timeline.json")
    try:
        with _samples(SAMPLES_PER_SECOND) as samples:
            yield MemoryRecord("process-timeline", path)
    finally:
        rows = [[round(seconds, 4), used] for seconds, used in samples]
        write_json(path, {"kind": "process-timeline", "columns": ["seconds", "resident_bytes"], "samples": rows})


@contextmanager
def _samples(per_second: int) -> Iterator[list[tuple[float, int]]]:
    """Resident memory, read by a thread and at entry and exit: (seconds since entry, bytes)."""
    samples: list[tuple[float, int]] = []
    start, stop = time.perf_counter(), threading.Event()

    def sample() -> None:
        samples.append((time.perf_counter() - start, _resident_bytes()))

    def run() -> None:
        while not stop.wait(1 / per_second):
            sample()

    thread = threading.Thread(target=run, name="memory-sampler", daemon=True)
    sample()
    thread.start()
    try:
        yield samples
    finally:
        stop.set()
        thread.join()
        sample()


def _resident_bytes() -> int:
    return psutil.Process().memory_info().rss


def _high_water_mark() -> int:
    return int(re.search(r"VmHWM:\s+(\d+)", STATUS.read_text())[1]) * 1024


def _reset_high_water_mark() -> bool:
    """Set VmHWM to the resident memory of now; False where the kernel or a container forbids it."""
    try:
        CLEAR_REFS.write_text("5")
        return _high_water_mark() > 0
    except (OSError, TypeError):  # no such files, or no such line
        return False


def _trim_heap() -> bool:
    """Give free heap back to the kernel; False without glibc."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return False
    return True
