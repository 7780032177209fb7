"""One step of an optimiser down a sum of losses."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn


def update(
    optimizer: torch.optim.Optimizer, losses: Iterable[tuple[str, Tensor]], max_grad_norm: float, name: str
) -> tuple[dict[str, float], float]:
    """One clipped optimiser step down the sum of `losses`, whose graphs live one at a time.

    Args:
        optimizer: of one group of parameters.
        losses: named scalars; each is backpropagated before the next one is asked for.
        max_grad_norm: the gradient is scaled down to this norm.
        name: of the sum, for what goes wrong.

    Returns:
        The sum of the losses of each name, and the norm of the gradient before clipping.

    Raises:
        FloatingPointError: if a loss or the gradient is not finite; nothing is stepped.
    """
    optimizer.zero_grad(set_to_none=True)
    values: dict[str, float] = defaultdict(float)
    for part, loss in losses:
        value = loss.item()
        if not math.isfinite(value):
            raise FloatingPointError(f"{name} is {value}: lower the learning rate")
        values[part] += value
        loss.backward()
    (group,) = optimizer.param_groups
    norm = nn.utils.clip_grad_norm_(group["params"], max_grad_norm).item()
    if not math.isfinite(norm):
        raise FloatingPointError(f"the gradient of the {name} is {norm}: lower the learning rate")
    optimizer.step()
    return dict(values), norm
