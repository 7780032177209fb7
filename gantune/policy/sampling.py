"""One token a row from a categorical distribution."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sample_tokens(probabilities: Tensor, uniform: Tensor | None = None, rows: Tensor | None = None) -> Tensor:
    """Draw an index from each row by inverting its distribution function: one random number an index.

    Searched in two levels, first among blocks of about sqrt(V) indices and then inside one, so that nothing as large
    as the probabilities is written. `torch.multinomial` draws V random numbers a row, which costs tens of times more.

    Args:
        probabilities: `[B, V]`, not negative, each row with a positive sum (which need not be 1).
        uniform: `[R]`, the random numbers, in [0, 1), float64; drawn from torch's global generator if None.
        rows: `[R]`, the row that each index is drawn from, independently of the others; each row once if None, R = B.

    Returns:
        `[R]` int64; an index whose probability is 0 is never drawn. Of a row that is not finite, any index.
    """
    size = probabilities.shape[1]
    width = math.isqrt(size)
    whole = size - size % width
    blocks = probabilities[:, :whole].unflatten(1, (-1, width)).sum(dim=2)
    if whole < size:
        blocks = torch.cat([blocks, probabilities[:, whole:].sum(dim=1, keepdim=True)], dim=1)
    upto = blocks.double().cumsum(dim=1)
    if rows is not None:
        blocks, upto = blocks[rows], upto[rows]
    if uniform is None:
        uniform = torch.rand(len(upto), dtype=torch.float64, device=probabilities.device)
    drawn = uniform[:, None] * upto[:, -1:]
    block = torch.searchsorted(upto, drawn, right=True).clamp(max=blocks.shape[1] - 1)

    columns = block * width + torch.arange(width, device=probabilities.device)
    valid = columns.clamp(max=size - 1)
    inside = probabilities.gather(1, valid) if rows is None else probabilities[rows[:, None], valid]
    inside = inside.double() * (columns < size)
    upto_inside = inside.cumsum(dim=1)
    before = upto.gather(1, block) - blocks.gather(1, block)
    # the block's sum was rounded: what is left of `drawn` must stay under the sum of these columns
    rest = (drawn - before).clamp(min=0).minimum(upto_inside[:, -1:] * (1 - 1e-12))
    return (block * width + torch.searchsorted(upto_inside, rest, right=True)).clamp(max=size - 1).squeeze(1)
