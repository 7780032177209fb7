"""Which tensor is the first that holds a number that is not finite."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def first_non_finite(named: Iterable[tuple[str, Tensor | None]]) -> str | None:
    """Name and values of the first tensor that is not finite, such as "`head.weight` (2 of 512 are nan)"; else None."""
    for name, tensor in named:
        if tensor is None or not tensor.is_floating_point():
            continue
        bad = ~torch.isfinite(tensor)
        if count := int(bad.sum()):
            return f"`{name}` ({count} of {tensor.numel()} are {tensor[bad][0].item()})"
    return None


def non_finite_output(model: nn.Module, losses: Iterable[tuple[str, Tensor]]) -> str | None:
    """The first module of `model` whose output is not finite while `losses` are computed; see [`first_non_finite`].

    Modules inside others end before these, so it is the innermost, where the number appeared.

    Args:
        model: what computes them.
        losses: as [`gantune.trainer.updates.update`] takes them, once more; the gradients are to be thrown away.
    """
    found: list[str] = []
    with _watched(model, found):
        for _, loss in losses:
            if found or not torch.isfinite(loss):
                break
            loss.backward()
    return found[0] if found else None


@contextmanager
def _watched(model: nn.Module, found: list[str]) -> Iterator[None]:
    def watch(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple, output: Any) -> None:
            if not found and (told := first_non_finite((f"output of {name}", each) for each in _tensors(output))):
                found.append(told)

        return hook

    hooks = [module.register_forward_hook(watch(name)) for name, module in model.named_modules() if name]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _tensors(output: Any) -> Iterator[Tensor]:
    """The tensors in what a module gives: one, a tuple of them, or a mapping such as transformers' outputs."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, dict):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, tuple | list):
        for value in output:
            yield from _tensors(value)
