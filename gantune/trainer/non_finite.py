"""Which tensor is the first that holds a number that is not finite."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gantune.distributed import DataParallel


def first_non_finite(named: Iterable[tuple[str, Tensor | None]]) -> str | None:
    """Name and values of the first tensor that is not finite, such as "`head.weight` (2 of 512 are nan)"; else None."""
    for name, tensor in named:
        if tensor is None or not tensor.is_floating_point():
            continue
        bad = ~torch.isfinite(tensor)
        if count := int(bad.sum()):
            return f"`{name}` ({count} of {tensor.numel()} are {tensor[bad][0].item()})"
    return None


def not_finite(name: str, loss: Tensor, named: Iterable[tuple[str, nn.Parameter]]) -> str | None:
    """What is wrong with a loss or its gradient, naming the parameter where it is; None if both are finite.

    Args:
        name: of the loss.
        loss: a scalar.
        named: what is trained, with the gradients of the loss.
    """
    named = list(named)
    if not torch.isfinite(loss):
        where = first_non_finite(named)
        return f"{name} is {loss.item()}{f', as is parameter {where}' if where else ''}: lower the learning rate"
    gradients = [(each, parameter.grad) for each, parameter in named if parameter.grad is not None]
    norm = nn.utils.get_total_norm([gradient for _, gradient in gradients])
    if not torch.isfinite(norm):
        where = first_non_finite(gradients)
        return f"the gradient of the {name} is {norm.item()}{f' at {where}' if where else ''}: lower the learning rate"
    return None


def share_gradients(name: str, loss: Tensor, named: Iterable[tuple[str, nn.Parameter]], parallel: DataParallel) -> None:
    """Add up the gradients of all processes, each of its share of a batch; arguments are as in [`not_finite`].

    Raises:
        FloatingPointError: in every process, if a loss or a gradient of one is not finite; naming the parameter.
    """
    named = list(named)
    parallel.sum_gradients(parameter for _, parameter in named)
    if found := next(filter(None, parallel.collect(not_finite(name, loss, named))), None):
        raise FloatingPointError(found)


def non_finite_output(model: nn.Module, losses: Iterable[tuple[str, Tensor]]) -> str | None:
    """The first module of `model` whose output is not finite while `losses` are computed; see [`first_non_finite`].

    Modules inside others end before these, so it is the innermost, where the number appeared.

    Args:
        model: what computes them.
        losses: the same once more; the gradients are to be thrown away.
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
