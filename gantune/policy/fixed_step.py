"""One step of decoding over tensors that stay where they are, so that CUDA can record it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel

from gantune.embedding_generator import hold_noise
from gantune.policy.cache import FixedLayer
from gantune.policy.decoding import Beginning, next_token_logits
from gantune.policy.sampling import sample_tokens


class FixedStep:
    """The state of decoding R rows in tensors that stay where they are, and the step from one token to the next.

    A step asks the host nothing: no value is read, no shape depends on one, no random number is drawn. Rows that ended
    stay, and get pads.

    Args:
        model: without virtual tokens.
        like: as large as what will be loaded, but for its length; only its cache, logits and noise are looked at.
        capacity: columns of the cache, more than those loaded and the tokens sampled.
    """

    def __init__(
        self, model: PreTrainedModel, like: Beginning, capacity: int, eos_token_id: int, pad_token_id: int
    ) -> None:
        self.model, self.eos_token_id, self.pad_token_id = model, eos_token_id, pad_token_id
        rows = len(like.logits)

        def zeros(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
            return torch.zeros(*shape, dtype=dtype, device=like.logits.device)

        self.column, self.index = zeros(1), zeros(1)  # of the cache, where `token` will be written; of the results
        self.cache = Cache(layers=[FixedLayer(layer, capacity, self.column) for layer in like.cache.layers])
        self.seen = zeros(rows, capacity, dtype=torch.bool)  # the attention mask
        self.logits = zeros(*like.logits.shape, dtype=torch.float32)
        self.temperature = zeros((), dtype=torch.float32)
        self.uniform = zeros(rows, capacity, dtype=torch.float64)
        self.noise = None if like.noise is None else torch.zeros_like(like.noise)
        self.token, self.position, self.left = zeros(rows, 1), zeros(rows, 1), zeros(rows, 1)
        self.real, self.alive = zeros(rows, 1, dtype=torch.bool), zeros(rows, 1, dtype=torch.bool)
        self.ids, self.sampled = zeros(rows, capacity), zeros(rows, capacity)
        self.log_probs = zeros(rows, capacity, dtype=torch.float32)
        self.replay: Callable[[], None] = self.advance

    def load(self, beginning: Beginning) -> None:
        """Begin with other rows, random numbers given. Nothing of the rows before is left."""
        cache, logits, mask, left, noise, temperature, uniform = beginning
        for fixed, layer in zip(self.cache.layers, cache.layers, strict=True):
            fixed.load(layer)
        for buffer in (self.seen, self.index, self.sampled):
            buffer.zero_()
        self.seen[:, : mask.shape[1]] = mask.bool()
        given = min(self.uniform.shape[1], uniform.shape[1])
        self.uniform[:, :given] = uniform[:, :given]
        self.column.fill_(mask.shape[1])
        self.position.copy_(mask.sum(dim=1, keepdim=True))
        self.left.copy_(left[:, None])
        self.logits.copy_(logits)
        self.temperature.fill_(temperature)
        self.alive.fill_(True)
        if noise is not None:
            self.noise.copy_(noise)

    def sample(self) -> None:
        """A token of each row from its logits."""
        probabilities = (self.logits / self.temperature).softmax(dim=-1)
        drawn = sample_tokens(probabilities, self.uniform.index_select(1, self.index).squeeze(1))[:, None]
        self.token.copy_(drawn.masked_fill(~self.alive, self.pad_token_id))
        chosen = probabilities.gather(1, self.token).log().masked_fill(~self.alive, 0)
        for results, new in ((self.ids, self.token), (self.sampled, self.alive.long()), (self.log_probs, chosen)):
            results.index_copy_(1, self.index, new)
        self.real.copy_(self.alive)
        self.left.sub_(1)
        self.alive.logical_and_(self.token != self.eos_token_id).logical_and_(self.left > 0)
        self.index.add_(1)

    def advance(self) -> None:
        """Feed the tokens that were sampled, and sample the next."""
        self.seen.index_copy_(1, self.column, self.real)
        dtype = self.cache.layers[0].dtype
        hidden = ~self.seen[:, None, None]
        mask = torch.zeros_like(hidden, dtype=dtype).masked_fill(hidden, torch.finfo(dtype).min)
        with hold_noise(self.model, self.noise):
            self.logits.copy_(next_token_logits(self.model, self.cache, self.token, mask, self.position))
        self.position.add_(self.real)
        self.column.add_(1)
        self.sample()

    def agrees(self, beginning: Beginning, steps: int) -> bool:
        """Take steps after a beginning that is loaded, and compare each one's distributions with those by its cache.

        The cache is longer afterwards. The total variation distance may be the square root of the precision: 3e-4 in
        float32, .09 in bfloat16.
        """
        cache, mask = beginning.cache, beginning.mask
        tolerance = torch.finfo(self.cache.layers[0].dtype).eps ** 0.5
        for _ in range(steps):
            mask = torch.cat([mask, self.real.to(mask.dtype)], dim=1)
            with hold_noise(self.model, self.noise):
                expected = next_token_logits(self.model, cache, self.token, mask, self.position).float()
            self.replay()
            distance = (self.logits.softmax(dim=-1) - expected.softmax(dim=-1)).abs().sum(dim=-1).max() / 2
            if not distance <= tolerance:  # nor if it is not a number
                return False
        return True
