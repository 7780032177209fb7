"""A causal convolutional discriminator on learned token embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gantune.data.batch import Batch
from gantune.discriminators.base import Discriminator


class CausalCNN(Discriminator):
    """SeqGAN's convolutions of several widths, max over time and highway layer (Yu et al. 2017), causal.

    Every convolution sees the past only, and the maximum runs from the answer's first token to the present one, so that
    one pass gives each prefix its own logit. The question's features, pooled over the whole question, are read beside.
    There are `filters` of each of the `widths`, which are in tokens.
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_dim: int = 32,
        widths: tuple[int, ...] = (1, 2, 3, 4),
        filters: int = 32,
        dropout: float = 0.25,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, embedding_dim)
        self.part = nn.Embedding(2, embedding_dim)  # question or answer
        self.convolutions = nn.ModuleList(nn.Conv1d(embedding_dim, filters, width) for width in widths)
        features = 2 * filters * len(widths)
        self.highway = nn.Linear(features, features)
        self.gate = nn.Linear(features, features)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(features, 1)

    def prefix_logits(self, batch: Batch) -> Tensor:
        prompt_length = batch.prompt_ids.shape[1]
        ids, mask = batch.input_ids(), batch.attention_mask()[:, None, :]
        part = torch.zeros_like(ids)
        part[:, prompt_length:] = 1
        embedded = (self.tokens(ids) + self.part(part)).transpose(1, 2) * mask
        convolved = torch.cat(
            [F.relu(layer(F.pad(embedded, (layer.kernel_size[0] - 1, 0)))) for layer in self.convolutions], dim=1
        )
        convolved = convolved * mask  # features are not negative: 0 never wins the maximum over a real one
        question, answer = convolved[..., :prompt_length], convolved[..., prompt_length:]
        seen = answer.cummax(dim=2).values.transpose(1, 2)
        asked = F.adaptive_max_pool1d(question, 1).transpose(1, 2).expand_as(seen)
        features = torch.cat([asked, seen], dim=2)
        gate = self.gate(features).sigmoid()
        features = gate * F.relu(self.highway(features)) + (1 - gate) * features
        return self.output(self.dropout(features)).squeeze(2)
