"""Where a model runs, and in which precision."""

from __future__ import annotations

from typing import Literal, get_args

from gantune.errors import UserError, first_line

Dtype = Literal["float32", "bfloat16", "float16"]
"""A name of torch's."""
DTYPES = get_args(Dtype)


def resolve_device(name: str) -> str:
    """`name`, a [`UserError`] if it is not here, or for "auto" the CUDA device where there is one, else the CPU."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = first_line(error).rstrip(".")
        raise UserError(f"--device {name}: cannot be used here ({reason}); expected auto, cpu or cuda") from error
    return name
