"""How the learning rate changes over the steps of a training: the same schedules for every method."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_scheduler

SCHEDULES = ("linear", "cosine", "cosine_with_restarts", "polynomial", "inverse_sqrt", "constant")
"""Names that `transformers.get_scheduler` knows, of schedules that need nothing else."""


def warmup_steps(lr_warmup: float, steps: int) -> int:
    """Steps of the warm-up: `lr_warmup` itself, or below 1 that share of `steps`, rounded up as `transformers` does."""
    return int(lr_warmup) if lr_warmup >= 1 else math.ceil(steps * lr_warmup)


def learning_rate_schedule(optimizer: Optimizer, lr_scheduler: str, lr_warmup: float, steps: int) -> LRScheduler:
    """The schedule of an optimiser, stepped once after each of its steps.

    Args:
        optimizer: its learning rates are the full value.
        lr_scheduler: one of [`SCHEDULES`].
        lr_warmup: see [`warmup_steps`]; the learning rate rises linearly from 0 in them.
        steps: of the whole training.
    """
    warmup = warmup_steps(lr_warmup, steps)
    if lr_scheduler == "constant" and warmup:
        lr_scheduler = "constant_with_warmup"
    return get_scheduler(lr_scheduler, optimizer, num_warmup_steps=warmup, num_training_steps=steps)
