"""Processes that train one adapter together: each works on its rows of every batch, and all take the same step.

`accelerate launch` or `torchrun` starts them. Nothing but the work is divided: random numbers, rewards' baselines and
losses are those of the whole batch, so that N processes take the steps that one would, but for rounding and for
dropout. If instead the weights of the frozen model are divided (see `gantune.hub.sharding`), each does the whole batch.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import broadcast, gather_object
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from gantune.errors import PeerEnded, UserError, first_line

Value = TypeVar("Value")


class DataParallel:
    """This process among those that train together. It is to do what the others do, in the same order.

    It has share `rank` of the rows, of `size` shares; one alone needs no process group. It is the number `process` of
    `processes`, if these are not the shares': several that divide a model between them have one share.
    """

    def __init__(self, rank: int = 0, size: int = 1, process: int | None = None, processes: int | None = None) -> None:
        self.rank, self.size = rank, size
        self.process, self.processes = rank if process is None else process, processes or size

    @property
    def main(self) -> bool:
        """Whether this process writes files and talks."""
        return self.process == 0

    def rows(self, total: int) -> tuple[int, int]:
        """First row of this process's share of `total` rows, and the one after the last; shares differ by at most 1."""
        return self.rank * total // self.size, (self.rank + 1) * total // self.size

    def collect(self, value: Value) -> list[Value]:
        """The value of each share's process, in their order."""
        return [value] if self.size == 1 else self._of_all(value)

    def any(self, flag: bool) -> bool:
        """Whether it holds in at least one process."""
        return any(self._of_all(flag))

    def _of_all(self, value: Value) -> list[Value]:
        with _peers():
            return gather_object([value]) if self.processes > 1 else [value]

    def join_rows(self, own: Tensor, start: int, total: int) -> Tensor:
        """All rows, `[total, ...]` without gradient, of which this process gives its `own` from row `start` on.

        These are `[R, ...]`; processes differ in R only.
        """
        if self.size == 1:
            return own
        shape = max(self.collect(tuple(own.shape[1:]) if len(own) else ()))  # one without rows does not know it
        whole = torch.zeros(total, *shape, dtype=own.dtype, device=own.device)
        if len(own):
            whole[start : start + len(own)] = own.detach()
        with _peers():
            dist.all_reduce(whole)
        return whole

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Give each parameter the sum of its gradients in all processes, each being of a share of one loss."""
        if self.size == 1:
            return
        parameters = list(parameters)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        with _peers():
            dist.all_reduce(flat)
        for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = part.view_as(parameter).to(parameter.dtype)

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The first process does the block, then the others: what is wrong with the input is found and told once."""
        if not self.main:
            self._of_all(None)
        yield
        if self.main:
            self._of_all(None)

    @torch.no_grad()
    def share(self, tensors: Iterable[Tensor]) -> None:
        """Give all processes the first one's tensors, in place."""
        if self.size == 1:
            return
        with _peers():
            broadcast(list(tensors))


ALONE = DataParallel()
PLUGINS = {"ACCELERATE_USE_FSDP": "fsdp", "ACCELERATE_USE_DEEPSPEED": "deepspeed"}
"""By the variables that `accelerate launch` sets."""


def launched_processes() -> int:
    """How many processes were launched to work together, by `accelerate launch` or `torchrun`."""
    return int(os.environ.get("WORLD_SIZE", 1))


def launched_for() -> str | None:
    """What `accelerate launch` was told to divide the model by, "fsdp" or "deepspeed"; None for neither."""
    return next((kind for name, kind in PLUGINS.items() if os.environ.get(name, "").lower() == "true"), None)


@contextmanager
def without_plugins() -> Iterator[None]:
    """Keep accelerate from dividing what is trained: the frozen model is divided when it is loaded, if it is."""
    with without_variables(PLUGINS):
        yield


@contextmanager
def without_variables(names: Container[str]) -> Iterator[None]:
    """Take variables out of the environment for the block."""
    held = {name: os.environ.pop(name) for name in [*os.environ] if name in names}
    try:
        yield
    finally:
        os.environ.update(held)


def is_divided(parameter: Tensor) -> bool:
    """Whether a process has a part of it only: by torch, or by DeepSpeed."""
    return isinstance(parameter, DTensor) or hasattr(parameter, "ds_id")


def own_device(name: str) -> str:
    """The device that this process has of those that `name` stands for: of "cuda" its own, if several were launched."""
    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if name == "cuda" and launched_processes() > 1 else name


def join_processes(device: torch.device | str, model: nn.Module | None = None) -> DataParallel:
    """This process among those that were launched with it; they wait for each other here.

    Args:
        device: of the model; on the CPU they speak through gloo, on CUDA devices through NCCL.
        model: what is trained, if it is known; if its weights are divided over the processes, the rows are not.

    Raises:
        UserError: if they were launched for FSDP or DeepSpeed and the model is not divided, or if each has a model on
            several devices.
    """
    if launched_processes() == 1:
        return ALONE
    state = PartialState(cpu=torch.device(device).type == "cpu")
    if model is not None and any(map(is_divided, model.parameters())):
        return DataParallel(0, 1, state.process_index, state.num_processes)
    if model is not None and (plugin := launched_for()):
        raise UserError(f"{plugin}: the model is not divided, expected one of load_model(..., sharding={plugin!r})")
    if len(set(getattr(model, "hf_device_map", {}).values())) > 1:
        raise UserError(f"device_map over several devices in {state.num_processes} processes: expected one process")
    return DataParallel(state.process_index, state.num_processes)


@contextmanager
def _peers() -> Iterator[None]:
    """Tells a process that has lost another one from one that has failed itself."""
    try:
        yield
    except RuntimeError as error:
        raise PeerEnded(f"another process of this training has ended ({first_line(error)})") from error
