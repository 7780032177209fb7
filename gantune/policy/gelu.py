"""GPT-2's GELU as one kernel."""

from __future__ import annotations

from torch import nn
from transformers.activations import NewGELUActivation


def fuse_tanh_gelu(model: nn.Module) -> int:
    """Replace transformers' `NewGELUActivation` by torch's tanh GELU, in place; how many there were.

    Both are 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), Hendrycks & Gimpel 2016, equal up to rounding. The
    former is composed of elementary operations and keeps the result of each for backward; the kernel keeps x alone.
    The modules hold no weights, so the model's `state_dict` stays as it is.
    """
    found = [
        (parent, name)
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(child) is NewGELUActivation
    ]
    for parent, name in found:
        setattr(parent, name, nn.GELU(approximate="tanh"))
    return len(found)
