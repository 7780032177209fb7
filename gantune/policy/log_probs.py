"""Log-probs of chosen tokens from hidden states, without ever holding the logits of all of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

CHUNK_ROWS = 128  # rows of logits held at a time: 26 MB of float32 at GPT-2's vocabulary


def chosen_log_probs(
    hidden: Tensor, tokens: Tensor, head: nn.Linear, temperature: float = 1.0, chunk: int = CHUNK_ROWS
) -> Tensor:
    """log softmax(head(hidden) / temperature) at `tokens`; its gradient reaches `hidden` and not the head.

    Because the head is frozen, the gradient of a row's log-prob is a known vector, (W[y] - p W) / temperature. It is
    computed together with the log-prob, while p is at hand: backward reads neither the logits nor the vocabulary.

    Args:
        hidden: `[N, d]`, what the head takes.
        tokens: `[N]` int64.
        head: a frozen linear layer d -> V. The logits are rounded to its dtype, as the model's own are; everything
            after them is at least float32.
        chunk: rows of `[chunk, V]` buffers, which are all the memory needed beside `[N, d]`.

    Returns:
        `[N]` float32 (float64 if `hidden` is).
    """
    with_gradient = torch.is_grad_enabled() and hidden.requires_grad
    return _ChosenLogProbs.apply(hidden, tokens, head.weight, head.bias, temperature, chunk, with_gradient)


class _ChosenLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        tokens: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        temperature: float,
        chunk: int,
        with_gradient: bool,
    ) -> Tensor:
        size, dtype = min(chunk, len(hidden)), torch.promote_types(hidden.dtype, torch.float32)
        log_probs = hidden.new_empty(len(hidden), dtype=dtype)
        gradients = torch.empty_like(hidden) if with_gradient else None
        raw = hidden.new_empty(size, len(weight))
        wide = raw if raw.dtype == dtype else raw.to(dtype)
        for start in range(0, len(hidden), chunk):
            rows = slice(start, min(start + chunk, len(hidden)))
            count, chosen = rows.stop - start, tokens[rows, None]
            logits, p = raw[:count], wide[:count]
            if bias is None:
                torch.mm(hidden[rows], weight.t(), out=logits)
            else:
                torch.addmm(bias, hidden[rows], weight.t(), out=logits)
            if p is not logits:
                p.copy_(logits)
            p.div_(temperature).sub_(p.amax(dim=1, keepdim=True))
            of_chosen = p.gather(1, chosen)
            total = p.exp_().sum(dim=1, keepdim=True)
            log_probs[rows] = (of_chosen - total.log()).squeeze(1)
            if gradients is not None:
                p.div_(-total).scatter_add_(1, chosen, torch.ones_like(total))  # 1[y] - p
                logits.copy_(p)
                torch.mm(logits, weight, out=gradients[rows])
        if gradients is not None:
            ctx.save_for_backward(gradients.div_(temperature))
        return log_probs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (gradients,) = ctx.saved_tensors
        return (gradients * grad[:, None].to(gradients.dtype), *[None] * 6)
