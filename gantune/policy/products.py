"""Float32 matrix products without gradient on a CPU: what decoding there spends its time in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

LEAST_WEIGHTS = 2**16  # below, a call costs more than the product
HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class InferenceProducts(TorchFunctionMode):
    """While it is entered, products with a large float32 weight on a CPU go to oneDNN, unless a gradient is wanted.

    A step of decoding multiplies a handful of rows by every weight of the model. MKL, which torch takes for float32,
    needs up to three times as long for that as reading the weights does (4 rows; on an AMD processor also for many
    rows); oneDNN, which torch has too, hardly longer. The products are the same, their rounding is not.

    It is a mode and not a change to the model: a frozen layer, one inside an adapter and a tied output head are all
    served, and nothing has to be put back. On other devices and in other dtypes it does nothing.
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """As torch calls it, for every function."""
        kwargs = kwargs or {}
        if function is F.linear and not kwargs:
            rows, weight, bias = (*args, None)[:3]
            if _is_served(rows, weight):
                return _product(rows, weight, bias)
        elif function is torch.addmm and not kwargs:  # transformers' Conv1D
            bias, rows, weight = args
            if bias.dim() == 1 and _is_served(rows, weight):
                return _product(rows, weight.t(), bias)
        return function(*args, **kwargs)


def _is_served(rows: Tensor, weight: Tensor) -> bool:
    return (
        weight.dtype is rows.dtype is torch.float32
        and weight.device.type == "cpu"
        and weight.numel() >= LEAST_WEIGHTS
        and not torch.is_grad_enabled()
        and HAS_ONEDNN
    )


def _product(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
