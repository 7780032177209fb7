"""Matrix products and attention without gradient on a CPU: what decoding there spends its time in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

LEAST_WEIGHTS = 2**16  # below, a call costs more than the product
HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class InferenceProducts(TorchFunctionMode):
    """While it is entered, a CPU takes other kernels where no gradient is wanted: same results but for rounding.

    A step of decoding multiplies a handful of rows by every weight of the model. MKL, which torch takes for float32,
    needs up to three times as long for that as reading the weights does (4 rows; on an AMD processor also for many
    rows); oneDNN, which torch has too, hardly longer. In half precision torch's attention takes four times as long for
    one query as two batched products do, in which scores are rounded to that precision, as they are in transformers'
    `eager` attention.

    It is a mode and not a change to the model: a frozen layer, one inside an adapter and a tied output head are all
    served, and nothing has to be put back. On other devices it does nothing.
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
        elif function is F.scaled_dot_product_attention and _is_one_query(*args, **kwargs):
            return _attention_of_one_query(*args, **kwargs)
        return function(*args, **kwargs)


def _is_served(rows: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN is to do it; never if this process has a part of the weight only, a tensor of another type."""
    return (
        type(rows) is Tensor
        and type(weight) in (Tensor, nn.Parameter)
        and weight.dtype is rows.dtype is torch.float32
        and weight.device.type == "cpu"
        and weight.numel() >= LEAST_WEIGHTS
        and not torch.is_grad_enabled()
        and HAS_ONEDNN
    )


def _product(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")


def _is_one_query(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **others: Any,
) -> bool:
    """Whether it is attention of one query a row and head in half precision, and nothing else is asked for."""
    return (
        query.device.type == "cpu"
        and query.dtype in (torch.bfloat16, torch.float16)
        and query.dim() == 4
        and query.shape[2] == 1
        and query.shape[1] == key.shape[1]
        and not dropout_p
        and not is_causal
        and not torch.is_grad_enabled()
    )


def _attention_of_one_query(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, scale: float | None = None, **_: Any
) -> Tensor:
    rows_and_heads = query.shape[:2]
    scores = torch.bmm(key.flatten(0, 1), query.flatten(0, 1).transpose(1, 2))  # the keys first: they are not copied
    scores = scores.float().mul_(query.shape[-1] ** -0.5 if scale is None else scale)
    scores = scores.transpose(1, 2).unflatten(0, rows_and_heads)  # [B, heads, 1, length]
    if attn_mask is not None:
        hidden = attn_mask.dtype == torch.bool
        scores = scores.masked_fill(~attn_mask, -torch.inf) if hidden else scores + attn_mask
    weights = scores.softmax(dim=-1).to(value.dtype).flatten(0, 1)
    return torch.bmm(weights, value.flatten(0, 1)).unflatten(0, rows_and_heads)
