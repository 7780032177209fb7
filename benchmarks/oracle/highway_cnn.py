"""SeqGAN's discriminator (Yu et al. 2017, appendix): convolutions of many widths, max over time, a highway layer."""

from __future__ import annotations

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
        # as images of height 1, channels last: convolutions and maxima read memory in its order, 1.6 times as fast
        embedded = self.embedding(batch.answer_ids)[:, None].permute(0, 3, 1, 2)
        with torch.autocast(embedded.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            features = torch.cat([F.relu(self._convolved(layer, embedded)) for layer in self.convolutions], dim=1)
            gate = self.gate(features).sigmoid()
            features = gate * F.relu(self.highway(features)) + (1 - gate) * features
        scores = self.output(self.dropout(features.float()))
        return scores[:, 1] - scores[:, 0]

    @staticmethod
    def _convolved(layer: nn.Conv1d, embedded: Tensor) -> Tensor:
        """`[B, embedding_dim, 1, T]` to the maximum over time of each filter, `[B, filters]`."""
        weight = layer.weight[:, :, None].to(memory_format=torch.channels_last)
        return F.conv2d(embedded, weight, layer.bias).amax(dim=(2, 3))

    def penalty(self) -> Tensor:
        """Half the squared norm of the output layer, which alone is regularised."""
        return 0.5 * (self.output.weight.square().sum() + self.output.bias.square().sum())
