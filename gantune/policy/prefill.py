"""Questions read once: decoded from, and scored from in several parts, with one way back for all their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from gantune.data.batch import Batch
from gantune.policy.cache import GrowingCache, GrowingLayer
from gantune.policy.head import Features


class Prefill:
    """The keys and values of B questions, and what predicts their answers' first tokens.

    All are leaves, cut from the graph that computed them. So several scoring parts are backpropagated on their own, one
    graph at a time; their gradients add up in the leaves, and [`backward`] sends the sums through the questions once:

    ```python
    prefill = policy.prefill(batch, policy.draw_noise(len(batch)))
    for part, rows in parts:
        loss(policy.score_from(prefill, part, rows)).backward()
    prefill.backward()
    ```

    It is valid for the weights that computed it only: drop it after an optimiser step.

    Args:
        prompt_ids: `[B, P]`, as the mask.
        noise: `[B, noise_dim]` that the questions were read with; None for the zero vector.
        last: features of the last position, `[B, 1, ...]`.
        states: keys and values of each layer, `[B, heads, P, head_dim]`.
    """

    def __init__(
        self,
        prompt_ids: Tensor,
        prompt_mask: Tensor,
        noise: Tensor | None,
        last: Features,
        states: Sequence[tuple[Tensor, Tensor]],
    ) -> None:
        self.prompt_ids, self.prompt_mask, self.noise = prompt_ids, prompt_mask, noise
        self._graph: list[tuple[Tensor, Tensor]] = []  # what was computed, and the leaf in its place
        self.last = replace(last, values=self._leaf(last.values))
        self.states = [(self._leaf(keys), self._leaf(values)) for keys, values in states]

    def __len__(self) -> int:
        return len(self.prompt_mask)

    def is_of(self, batch: Batch) -> bool:
        """Whether these are the questions of `batch`."""
        return torch.equal(self.prompt_ids, batch.prompt_ids) and torch.equal(self.prompt_mask, batch.prompt_mask)

    def backward(self) -> None:
        """Add the gradients that reached the leaves to those of the parameters, and let go of the graph.

        Nothing happens if none did, or the prefill was computed without gradient. A second call adds nothing more.
        """
        reached = [(output, leaf) for output, leaf in self._graph if leaf.grad is not None]
        self._graph = []
        if reached:
            outputs, leaves = zip(*reached, strict=True)
            torch.autograd.backward(outputs, [leaf.grad for leaf in leaves])
            for leaf in leaves:
                leaf.grad = None

    def first_logits(self, times: int) -> Tensor:
        """`[B * times, vocabulary]` without gradient: each question's row `times` times side by side."""
        last = replace(self.last, values=self.last.values.detach())
        return last.logits()[:, -1].repeat_interleave(times, dim=0)

    def decoding_cache(self, times: int, capacity: int) -> GrowingCache:
        """A copy without gradient, each row `times` times side by side, with room for `capacity` positions."""
        copies = [(row, self.states[0][0].shape[2], times) for row in range(len(self))]
        layers = [GrowingLayer.copied(k.detach(), v.detach(), copies, capacity) for k, v in self.states]
        return GrowingCache(layers=layers)

    def scoring_cache(self, rows: Tensor) -> Cache:
        """A cache of the rows `[R]`, in any order and number, through which gradients reach the leaves."""
        cache = Cache(layers=[DynamicLayer() for _ in self.states])
        for index, (keys, values) in enumerate(self.states):
            chosen = rows.to(keys.device)  # a model may lie on several devices
            cache.update(keys.index_select(0, chosen), values.index_select(0, chosen), index)
        return cache

    def _leaf(self, output: Tensor) -> Tensor:
        leaf = output.detach()
        if output.requires_grad:
            self._graph.append((output, leaf.requires_grad_()))
        return leaf
