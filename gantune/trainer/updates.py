"""One step of an optimiser down a sum of losses."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from gantune.distributed import ALONE, DataParallel
from gantune.trainer.non_finite import first_non_finite


def update(
    optimizer: torch.optim.Optimizer,
    losses: Iterable[tuple[str, Tensor]],
    max_grad_norm: float,
    name: str,
    parallel: DataParallel = ALONE,
) -> tuple[dict[str, float], float]:
    """One clipped optimiser step down the sum of `losses`, whose graphs live one at a time.

    Args:
        optimizer: of one group of parameters; if it was made from named ones, what goes wrong names them.
        losses: named scalars; each is backpropagated before the next one is asked for.
        max_grad_norm: the gradient is scaled down to this norm.
        name: of the sum, for what goes wrong.
        parallel: the processes that each hold a part of the losses.

    Returns:
        The sum of the losses of each name, and the norm of the gradient before clipping.

    Raises:
        FloatingPointError: if a loss or the gradient is not finite, with the parameter where it is; nothing is stepped.
    """
    optimizer.zero_grad(set_to_none=True)
    (group,) = optimizer.param_groups
    parameters = group["params"]
    names = group.get("param_names") or [f"parameter {number}" for number in range(len(parameters))]
    own: dict[str, float] = defaultdict(float)
    wrong = None
    for part, loss in losses:
        value = loss.item()
        if not math.isfinite(value):
            where = first_non_finite(zip(names, parameters, strict=True))
            of = f", as is parameter {where}" if where else ""
            wrong = f"{name} is {value}{of}: lower the learning rate"
            break
        own[part] += value
        loss.backward()
    values: dict[str, float] = defaultdict(float)
    for of_process, wrong_there in parallel.collect((dict(own), wrong)):
        if wrong_there:
            raise FloatingPointError(wrong_there)
        for part, value in of_process.items():
            values[part] += value
    parallel.sum_gradients(parameters)
    gradients = [parameter.grad for parameter in parameters]
    norm = nn.utils.get_total_norm([gradient for gradient in gradients if gradient is not None])
    if not math.isfinite(norm.item()):
        where = first_non_finite(zip(names, gradients, strict=True))
        of = f" at {where}" if where else ""
        raise FloatingPointError(f"the gradient of the {name} is {norm.item()}{of}: lower the learning rate")
    nn.utils.clip_grads_with_norm_(parameters, max_grad_norm, norm)
    optimizer.step()
    return dict(values), norm.item()
