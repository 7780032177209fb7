"""SeqGAN's discriminator (Yu et al. 2017, appendix): convolutions of many widths, max over time, a highway layer."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.oracle.lstm import VOCABULARY
from gantune.data.batch import Batch

WIDTHS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 20)
FILTERS = (100, 200, 200, 200, 200, 100, 100, 100, 100, 100, 160, 160)


class HighwayCNN(nn.Module):
    """Reads whole sequences of at least 20 tokens; the logit is the difference of its two classes' scores.

    Weights start as in the released code: embedding uniform on (-1, 1), convolutions and output truncated normal 0.1
    with bias 0.1, highway Glorot uniform.

    Args:
        vocabulary: number of tokens.
        embedding_dim: width of the embedding.
        dropout: before the output, in training.
        bf16: whether convolutions and highway compute in bfloat16 (autocast); weights and output stay in float32.
    """

    def __init__(
        self, vocabulary: int = VOCABULARY, embedding_dim: int = 64, dropout: float = 0.25, bf16: bool = False
    ) -> None:
        super().__init__()
        self.bf16 = bf16
        self.embedding = nn.Embedding(vocabulary, embedding_dim)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(embedding_dim, filters, width) for width, filters in zip(WIDTHS, FILTERS, strict=True)
        )
        features = sum(FILTERS)
        self.highway, self.gate = nn.Linear(features, features), nn.Linear(features, features)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(features, 2)
        nn.init.uniform_(self.embedding.weight, -1, 1)
        for layer in (*self.convolutions, self.output):
            nn.init.trunc_normal_(layer.weight, std=0.1, a=-0.2, b=0.2)
            nn.init.constant_(layer.bias, 0.1)
        for layer in (self.highway, self.gate):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def sequence_logits(self, batch: Batch) -> Tensor:
        """Logit of being the oracle's, `[B]`."""
        return self._logits(self._maxima(batch.answer_ids))

    @torch.no_grad()
    def completion_logits(self, rollout: Batch) -> Callable[[Tensor, Tensor, Batch], Tensor]:
        """The logits of completed prefixes of B sequences; windows that lie in a prefix are read here, once.

        Returns:
            `(rows [R] of the rollout, how many of their tokens are kept [R], completed sequences)` to logits `[R]`.
        """
        reader = self._rounded() if self.bf16 else self
        kept_maxima = reader._running_maxima(rollout.answer_ids)

        @torch.no_grad()
        def logits(rows: Tensor, lengths: Tensor, completed: Batch) -> Tensor:
            maxima = reader._maxima(completed.answer_ids, kept=int(lengths.min()))
            return reader._logits(torch.maximum(maxima, kept_maxima[rows, lengths]))

        return logits

    def _rounded(self) -> HighwayCNN:
        """A copy that computes the same, with weights in bfloat16, so that not every call has to round them."""
        rounded = copy.deepcopy(self).bfloat16()
        rounded.output = self.output
        return rounded

    def _maxima(self, ids: Tensor, kept: int = 0) -> Tensor:
        """The maximum of each filter over the windows that reach beyond the first `kept` tokens, `[B, features]`."""
        with self._autocast():
            return torch.cat([filters.amax(dim=1) for filters in self._filters(ids, kept)], dim=1).relu()

    def _running_maxima(self, ids: Tensor) -> Tensor:
        """The same over the windows within the first 0 to T tokens, 0 where there is none, `[B, T + 1, features]`."""
        lengths = ids.shape[1] + 1
        with self._autocast():
            maxima = (filters.relu().cummax(dim=1).values for filters in self._filters(ids))
            return torch.cat([F.pad(part, (0, 0, lengths - part.shape[1], 0)) for part in maxima], dim=2)

    def _filters(self, ids: Tensor, kept: int = 0) -> Iterator[Tensor]:
        """Width by width, each filter at the windows that reach beyond `kept` tokens, `[B, windows, filters]`."""
        embedded = self._embedded(ids)
        for layer in self.convolutions:
            yield self._convolved(layer, embedded[:, max(0, kept - layer.kernel_size[0] + 1) :])

    def _logits(self, features: Tensor) -> Tensor:
        with self._autocast():
            gate = self.gate(features).sigmoid()
            features = gate * self.highway(features).relu() + (1 - gate) * features
        scores = self.output(self.dropout(features.float()))
        return scores[:, 1] - scores[:, 0]

    def _embedded(self, ids: Tensor) -> Tensor:
        """`[B, T]` to `[B, T, embedding_dim]`."""
        embedded = self.embedding(ids)
        return embedded.bfloat16() if self._by_products else embedded

    def _convolved(self, layer: nn.Conv1d, embedded: Tensor) -> Tensor:
        """`[B, T, embedding_dim]` to each filter at each window, `[B, windows, filters]`."""
        if self._by_products:
            size = layer.kernel_size[0] * embedded.shape[2]
            windows = embedded.flatten(1).unfold(1, size, embedded.shape[2])
            weight = layer.weight.transpose(1, 2).flatten(1)
            return F.linear(windows.reshape(-1, size), weight, layer.bias).unflatten(0, windows.shape[:2])
        # as images of height 1, channels last: convolutions and maxima read memory in its order, 1.6 times as fast
        images = embedded[:, None].permute(0, 3, 1, 2)
        weight = layer.weight[:, :, None].to(memory_format=torch.channels_last)
        return F.conv2d(images, weight, layer.bias).squeeze(2).transpose(1, 2)

    @property
    def _by_products(self) -> bool:
        """Whether windows are multiplied by one matrix: without gradient in bfloat16 faster than convolutions."""
        return self.bf16 and not torch.is_grad_enabled()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.output.weight.device.type, dtype=torch.bfloat16, enabled=self.bf16)

    def penalty(self) -> Tensor:
        """Half the squared norm of the output layer, which alone is regularised."""
        return 0.5 * (self.output.weight.square().sum() + self.output.bias.square().sum())
