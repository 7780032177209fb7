"""What is measured: seconds in turns, peak memory in a process of its own, operations, and how fast memory is read."""

from __future__ import annotations

import math
import multiprocessing
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from benchmarks.speed import peers  # noqa: F401  registers its contenders
from benchmarks.speed.contenders import CONTENDERS, Contender, SourceWay
from benchmarks.speed.meter import Meter, clocks
from benchmarks.speed.workload import Workload, share_weights
from gantune.diagnostics import measure_memory
from gantune.policy.inference_kernels import HAS_ONEDNN

READ_BYTES, READINGS = 2**29, 7
MEMORY_STEPS = 3  # gradients and the optimisers' state are there from the second on


def silence_libraries() -> None:
    """Keep what peft and transformers say about models without files out of the way of the progress bar."""
    transformers.logging.set_verbosity_error()
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)


def time_in_turns(
    workload: Workload, names: Sequence[str], repeats: int, device: str, done: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Seconds of each contender's step; in every round each has one turn, and the first round is not counted.

    Who begins changes from round to round. Frozen weights are in memory once.

    Args:
        workload: what they work on.
        names: the contenders.
        repeats: rounds that count.
        device: where.
        done: told the contender's name after each turn.

    Returns:
        A row a turn: `contender`, `repeat` (from 1), `turn` (from 1, within the setting), `extrapolated`, seconds
        `wall` and `processor`, and `parts` with both for each part of the step.
    """
    base, batch = workload.model(device), workload.batch(device)
    contenders: dict[str, Contender] = {name: CONTENDERS.get(name)(share_weights(base), batch) for name in names}
    rows = []
    for repeat in range(repeats + 1):
        first = repeat % len(names)
        for name in (*names[first:], *names[:first]):
            meter = Meter(clocks(device))
            wall, processor = meter.measure(contenders[name].step).tolist()
            if repeat:
                rows.append(
                    {
                        "contender": name,
                        "repeat": repeat,
                        "turn": len(rows) + 1,
                        "extrapolated": contenders[name].extrapolated,
                        "wall": wall,
                        "processor": processor,
                        "parts": {
                            part: dict(zip(("wall", "processor"), used.tolist(), strict=True))
                            for part, used in meter.parts.items()
                        },
                    }
                )
            done(name)
    return rows


def peak_memory(workload: Workload, name: str, device: str) -> dict[str, Any]:
    """Peak memory of some steps above the loaded model, in a process of its own.

    Returns:
        `peak_bytes` and `method`; or `failed`, if the process was killed, as it is when there is not enough memory.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as process:
        try:
            return process.submit(_peak_memory, workload, name, device).result()
        except (BrokenProcessPool, torch.OutOfMemoryError):
            return {"failed": "not enough memory"}


def _peak_memory(workload: Workload, name: str, device: str) -> dict[str, Any]:
    silence_libraries()
    made = CONTENDERS.get(name)
    made.import_libraries()
    model, batch = workload.model(device), workload.batch(device)
    with torch.no_grad():
        model(batch.prompt_ids[:1, :2])  # what a first call sets up is not counted
    with measure_memory(device) as memory:
        contender = made(model, batch, timed_passes=None) if made is SourceWay else made(model, batch)
        for _ in range(1 if made is SourceWay else MEMORY_STEPS):
            contender.step(Meter(clocks(device)))
    return {"peak_bytes": memory.peak_bytes, "method": memory.report.method}


def reading_speed(device: str) -> float:
    """Bytes a second that memory is read at, with all threads: the fastest of several sums over half a gigabyte."""
    numbers = torch.ones(READ_BYTES // 4, device=device)
    walls = [Meter(clocks(device)).measure(lambda _: numbers.sum())[0] for _ in range(READINGS)]
    return READ_BYTES / min(walls)


def _attention(query: Any, key: Any, value: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward(gradient: Any, query: Any, key: Any, value: Any, *_: Any, out_shape: Any = None, **__: Any):
    return sdpa_backward_flop_count(gradient, query, key, value)


def _product(rows: Any, weight: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return 2 * math.prod(rows) * weight[0]


CPU_KERNELS = {  # torch counts those of CUDA only
    **({torch.ops.mkldnn._linear_pointwise: _product} if HAS_ONEDNN else {}),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


def count_flops(workload: Workload, name: str, device: str) -> dict[str, Any]:
    """Floating-point operations of matrix products, convolutions and attention in one step (the second of two).

    Returns:
        `flops`, `parts`, and whether they are `extrapolated`.
    """
    contender: Contender = CONTENDERS.get(name)(workload.model(device), workload.batch(device))
    with FlopCounterMode(display=False, custom_mapping=CPU_KERNELS) as counter:
        for _ in range(2):  # there is nothing to replay in the first
            meter = Meter(lambda: (counter.get_total_flops(),))
            (flops,) = meter.measure(contender.step).tolist()
    parts = {part: round(used.item()) for part, used in meter.parts.items()}
    return {"flops": round(flops), "parts": parts, "extrapolated": contender.extrapolated}
