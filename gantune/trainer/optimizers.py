"""The optimisers by name: AdamW, and those of bitsandbytes that keep its averages in 8 bits."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable

import torch
from torch import nn

OPTIMIZERS = {"adamw": None, "adamw-8bit": "AdamW8bit", "paged-adamw-8bit": "PagedAdamW8bit"}
"""By name the class in `bitsandbytes.optim`, None for torch's (Dettmers et al. 2022, arXiv:2110.02861; paged: 2023,
arXiv:2305.14314)."""


def why_not(name: str, device: torch.device) -> str | None:
    """Why an optimiser of [`OPTIMIZERS`] cannot train parameters on a device, in one line; None if it can."""
    if OPTIMIZERS[name] is None:
        return None
    if device.type != "cuda":
        return f"--optimizer {name} needs CUDA, the model is on {device.type}"
    if importlib.util.find_spec("bitsandbytes") is None:
        return f"--optimizer {name} needs the package bitsandbytes, which is not installed"
    return None


def adamw(
    parameters: Iterable[nn.Parameter], learning_rate: float, name: str = "adamw", fused: bool | None = None
) -> torch.optim.Optimizer:
    """AdamW without weight decay.

    Args:
        parameters: what is trained; all on one device, where [`why_not`] has nothing against the optimiser.
        learning_rate: the full one.
        name: one of [`OPTIMIZERS`].
        fused: of torch's AdamW: one kernel for all parameters, with other rounding.
    """
    if OPTIMIZERS[name] is None:
        return torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.0, fused=fused)
    import bitsandbytes  # optional, and slow to import

    return getattr(bitsandbytes.optim, OPTIMIZERS[name])(parameters, lr=learning_rate, weight_decay=0.0)
