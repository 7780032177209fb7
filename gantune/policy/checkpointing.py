"""Gradient checkpointing of a frozen model that stays in evaluation mode."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import Cache
from transformers.modeling_layers import GradientCheckpointingLayer

from gantune.errors import UserError


def checkpoint_layers(model: nn.Module) -> None:
    """Let each layer's activations be computed again in the backward pass instead of kept (Chen et al. 2016).

    Transformers' own switch works in training mode only, where dropout would make scoring another policy than the one
    that sampled. A layer that is given a key-value cache runs as before: it would be written twice.
    The model is changed in place; a second call changes nothing. A model without such layers is a [`UserError`].
    """
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise UserError("--gradient-checkpointing: this model's layers are not made for it")
    for layer in layers:
        if not isinstance(layer.forward, partial):
            layer.forward = partial(_checkpointed, layer.forward)


def _checkpointed(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    cached = any(isinstance(value, Cache) for value in (*args, *kwargs.values()))
    if cached or not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)
