"""Bytes of all tensors that are alive at once: what a step needs, whatever an allocator takes for it."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.speed.contenders import CONTENDERS
from benchmarks.speed.measure import silence_libraries
from benchmarks.speed.meter import Meter, clocks
from benchmarks.speed.workload import Workload


class LiveBytes(TorchDispatchMode):
    """Counts the storages that operations inside the block make, from their first result to their last reference.

    What an operation needs inside itself is not seen.

    Args:
        known: tensors that were there before, which are not counted.
    """

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known = {tensor.untyped_storage()._cdata for tensor in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self.live -= size
        self._known.discard(key)


def live_peak(workload: Workload, name: str) -> int:
    """The most bytes of tensors alive in the second step of a contender, above the frozen model and the batch.

    Args:
        workload: what it works on, on the CPU.
        name: of the contender, see `benchmarks.speed.contenders`.
    """
    silence_libraries()
    model, batch = workload.model("cpu"), workload.batch("cpu")
    tensors = (batch.prompt_ids, batch.prompt_mask, batch.answer_ids, batch.answer_mask)
    with LiveBytes([*model.parameters(), *model.buffers(), *tensors]) as memory:
        contender = CONTENDERS.get(name)(model, batch)
        for _ in range(2):  # gradients and the optimisers' state are there from the second on
            memory.peak = memory.live
            contender.step(Meter(clocks("cpu")))
    return memory.peak
