"""Slopes by central differences: what gradients are compared with."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

STEP = 1e-5


@torch.no_grad()
def slope(value: Callable[[], Tensor | float], parameter: Tensor, along: Tensor) -> float:
    """How fast `value()` grows as a parameter, which is put back, is moved along a direction."""
    parameter += STEP * along
    above = value()
    parameter -= 2 * STEP * along
    below = value()
    parameter += STEP * along
    return float(above - below) / (2 * STEP)
