"""Other kernels for a model on a CPU while no gradient is wanted: decoding spends its time in products of few rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from transformers.pytorch_utils import Conv1D

LEAST_WEIGHTS = 2**17  # of a layer; for a smaller one the kernel's code takes more memory than it is worth
LEAST_PRODUCTS = 2**21  # rows times weights; below, the call costs more than the multiplying,
UNCACHED_WEIGHTS = 2**19  # but for so many weights, which do not stay in the processor's cache
MOST_ROWS = 64  # multiplied at once
HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
HALF = (torch.bfloat16, torch.float16)


@contextmanager
def inference_kernels(model: nn.Module) -> Iterator[None]:
    """Within the block, products and attention without gradient take faster kernels: the same but for rounding.

    A step of decoding multiplies a handful of rows by every weight of the model. MKL, which torch takes for float32,
    needs up to three times as long for that as reading the weights does (4 rows; on an AMD processor also for many
    rows); oneDNN, which torch has too, hardly longer. In half precision torch's attention takes four times as long for
    one query as two batched products do.

    On other devices nothing changes, nor for layers that are not plain: quantised, divided, with a `forward` of their
    own.
    """
    layers = [module for module in model.modules() if _is_served(module)]
    half = any(weight.device.type == "cpu" and weight.dtype in HALF for weight in model.parameters())
    for layer in layers:
        layer.forward = Product(layer)
    try:
        with AttentionOfOneQuery() if half else nullcontext():
            yield
    finally:
        for layer in layers:
            del layer.forward


class Product:
    """The forward pass of a linear layer by oneDNN, or by torch where a gradient is wanted.

    For each number of rows oneDNN writes code of its own, half a megabyte, and keeps it. So rows are multiplied in
    parts of powers of two, the last filled up with zeros.
    """

    def __init__(self, layer: nn.Linear | Conv1D) -> None:
        self.weight = layer.weight.t() if isinstance(layer, Conv1D) else layer.weight  # [out, in]
        self.bias = layer.bias

    def __call__(self, input: Tensor) -> Tensor:
        """`[..., in]` to `[..., out]`."""
        pays = input.numel() * len(self.weight) >= LEAST_PRODUCTS or self.weight.numel() >= UNCACHED_WEIGHTS
        if input.dtype is not torch.float32 or torch.is_grad_enabled() or not pays:
            return F.linear(input, self.weight, self.bias)
        rows = input.reshape(-1, input.shape[-1])
        if len(rows) <= MOST_ROWS:
            result = self._of_few(rows)
        else:
            result = torch.cat([self._of_few(part) for part in rows.split(MOST_ROWS)])
        return result.view(*input.shape[:-1], len(self.weight))

    def _of_few(self, rows: Tensor) -> Tensor:
        count = len(rows)
        filled = 1 << max(count - 1, 0).bit_length()
        if filled != count:
            rows = F.pad(rows, (0, 0, 0, filled - count))
        return torch.ops.mkldnn._linear_pointwise.default(rows, self.weight, self.bias, "none", [], "")[:count]


def _is_served(module: nn.Module) -> bool:
    return (
        HAS_ONEDNN
        and type(module) in (nn.Linear, Conv1D)
        and type(module.weight) is nn.Parameter  # a part of one is a DTensor
        and module.weight.dtype is torch.float32
        and module.weight.device.type == "cpu"
        and module.weight.numel() >= LEAST_WEIGHTS
        and "forward" not in vars(module)
    )


class AttentionOfOneQuery(TorchFunctionMode):
    """While it is entered, attention of one query in half precision on a CPU is two batched products.

    Scores are rounded to half precision between them, as in transformers' `eager` attention.
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
        of_attention = function is F.scaled_dot_product_attention
        return (_attention if of_attention else function)(*args, **kwargs)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    **others: Any,
) -> Tensor:
    of_one_query = (
        query.device.type == "cpu"
        and query.dtype in HALF
        and query.dim() == 4
        and query.shape[2] == 1
        and query.shape[1] == key.shape[1]
        and not dropout_p
        and not is_causal
        and not torch.is_grad_enabled()
    )
    if not of_one_query:
        arguments = (attn_mask, dropout_p, is_causal)
        return F.scaled_dot_product_attention(query, key, value, *arguments, scale=scale, **others)
    rows_and_heads = query.shape[:2]
    scores = torch.bmm(key.flatten(0, 1), query.flatten(0, 1).transpose(1, 2))  # the keys first: they are not copied
    scores = scores.float().mul_(query.shape[-1] ** -0.5 if scale is None else scale)
    scores = scores.transpose(1, 2).unflatten(0, rows_and_heads)  # [B, heads, 1, length]
    if attn_mask is not None:
        hidden = attn_mask.dtype == torch.bool
        scores = scores.masked_fill(~attn_mask, -torch.inf) if hidden else scores + attn_mask
    weights = scores.softmax(dim=-1).to(value.dtype).flatten(0, 1)
    return torch.bmm(weights, value.flatten(0, 1)).unflatten(0, rows_and_heads)
