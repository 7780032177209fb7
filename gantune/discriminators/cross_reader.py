"""A small network that reads question and answer across: is each field said, and is each word backed?"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from gantune.data.batch import Batch
from gantune.discriminators.base import Discriminator, Reading

SAMPLED_TOKENS = 8192
"""The mean and the scale of an embedding table are taken over at most so many of its tokens, spread evenly."""


class CrossReader(Discriminator):
    """Attends from the question to the answer and back; begins as a matcher of equal tokens (FINDINGS 10).

    Both sides are read through the frozen embedding table of the language model, standardised and narrowed by one
    orthogonal projection, so that attention, whose queries and keys begin as the identity, finds equal tokens first. A
    convolution over 3 tokens lets a value of the question know its field's name, one over 5 the answer's tokens their
    neighbours. What finds no match attends to a learned null.

    There is a logit for each field of the record ("is it said", its tokens pooled) and for each token of the answer
    ("is it backed"). The score is the soft minimum of those plus that of these, `-logsumexp(-logits)` each: one field
    that is not said, or one word that nothing backs, makes an answer wrong.

    Of a record, what the prompt has beside the fields is not read. A question without fields is one field by itself.

    Args:
        embedding: the frozen table, `[V, E]`; it belongs to the caller, and is neither trained nor saved.
        width: of what is compared; E where that is less.
        dropout: of embeddings, and before each logit.
    """

    def __init__(self, embedding: nn.Module, width: int = 64, dropout: float = 0.1) -> None:
        super().__init__()
        self._embedding = [embedding]  # in a list, so that it is no part of this module
        table = _sample(embedding)
        self.register_buffer("mean", table.mean(dim=0))
        self.register_buffer("scale", (table - table.mean(dim=0)).std().clamp(min=1e-12))
        width = min(width, table.shape[1])
        self.narrow = nn.Linear(table.shape[1], width)
        nn.init.orthogonal_(self.narrow.weight)
        nn.init.zeros_(self.narrow.bias)
        self.dropout = nn.Dropout(dropout)
        self.question_context = nn.Conv1d(width, width, 3, padding=1)
        self.answer_context = nn.Conv1d(width, width, 5, padding=2)
        self.said, self.backed = _Across(width, dropout), _Across(width, dropout)

    @classmethod
    def for_model(cls, model: PreTrainedModel, max_prompt_tokens: int, max_answer_tokens: int) -> CrossReader:
        return cls(_base_embedding(model))

    def read(self, batch: Batch) -> Reading:
        """Scores, a logit for each field and for each token of the answer, from one pass; see [`Reading`]."""
        fields = _fields(batch)  # [B, P]
        asked, answered = (fields > 0).float(), batch.answer_mask.float()
        question = self._embedded(batch.prompt_ids, asked, self.question_context)
        answer = self._embedded(batch.answer_ids, answered, self.answer_context)
        of_field = F.one_hot(fields)[:, :, 1:].transpose(1, 2).float()  # [B, F, P]
        counts = of_field.sum(dim=2, keepdim=True)
        said = self.said(question, answer, answered, of_field / counts.clamp(min=1))
        backed = self.backed(answer, question, asked)
        field_mask = (counts.squeeze(2) > 0).float()
        return Reading(_soft_minimum(said, field_mask) + _soft_minimum(backed, answered), said, field_mask, backed)

    def sequence_logits(self, batch: Batch) -> Tensor:
        """See [`Discriminator.sequence_logits`]; one pass."""
        return self.read(batch).score

    def prefix_logits(self, batch: Batch) -> Tensor:
        """See [`Discriminator.prefix_logits`]; T passes, since tokens see those after them."""
        ids, mask = batch.answer_ids, batch.answer_mask
        cuts = (replace(batch, answer_ids=ids[:, :t], answer_mask=mask[:, :t]) for t in range(1, ids.shape[1] + 1))
        return torch.stack([self.sequence_logits(cut) for cut in cuts], dim=1)

    def _embedded(self, ids: Tensor, mask: Tensor, context: nn.Conv1d) -> Tensor:
        """Tokens in their context, `[B, L, width]`; 0 where the mask is."""
        (embedding,) = self._embedding
        with torch.no_grad():
            table = (embedding.forward(ids).to(self.mean) - self.mean) / self.scale  # no hook: the model reads nothing
        tokens = self.dropout(self.narrow(table)) * mask[:, :, None]
        around = context(tokens.transpose(1, 2)).transpose(1, 2)
        return (tokens + F.gelu(around)) * mask[:, :, None]


class _Across(nn.Module):
    """A logit for each token of one side, or pooled ones, from what it finds on the other side."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.query, self.key = (nn.Linear(width, width, bias=False) for _ in range(2))
        for layer in (self.query, self.key):
            layer.weight.data = torch.eye(width) + 0.02 * torch.randn(width, width)
        self.null = nn.Parameter(torch.zeros(1, 1, width))
        self.head = nn.Sequential(nn.Linear(4 * width, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, 1))

    def forward(self, tokens: Tensor, others: Tensor, mask: Tensor, pooled_by: Tensor | None = None) -> Tensor:
        """Logits `[B, L]` of `tokens` `[B, L, width]`, or `[B, F]` with weights `pooled_by` `[B, F, L]`.

        Args:
            others: the other side, `[B, K, width]`, with its mask `[B, K]`.
        """
        others = torch.cat([self.null.expand(len(others), -1, -1), others], dim=1)
        visible = F.pad(mask, (1, 0), value=1)[:, None, :] > 0
        found = F.scaled_dot_product_attention(self.query(tokens), self.key(others), others, attn_mask=visible)
        compared = torch.cat([tokens, found, tokens * found, (tokens - found).abs()], dim=2)
        return self.head(compared if pooled_by is None else pooled_by @ compared).squeeze(2)


def _fields(batch: Batch) -> Tensor:
    """The number of each prompt token's field, from 1, `[B, P]`; a question without fields is one."""
    if batch.prompt_fields is None:
        return batch.prompt_mask
    fields = batch.prompt_fields * batch.prompt_mask
    return fields.where(fields.any(dim=1, keepdim=True), batch.prompt_mask)


def _soft_minimum(logits: Tensor, mask: Tensor) -> Tensor:
    """`-log sum exp(-logits)` over those whose mask is 1, `[B, N]` to `[B]`."""
    return -torch.logsumexp((-logits).masked_fill(mask == 0, torch.finfo(logits.dtype).min), dim=1)


def _base_embedding(model: PreTrainedModel) -> nn.Module:
    """The model's input embedding without what adapters put around it."""
    module = model.get_input_embeddings()
    while True:
        if hasattr(module, "original_module"):  # peft's copies of `modules_to_save`
            module = module.original_module
        elif hasattr(module, "get_base_layer"):
            module = module.get_base_layer()
        else:
            return module


@torch.no_grad()
def _sample(embedding: nn.Module) -> Tensor:
    """Rows of the table, all of them if they are few, `[R, E]` float32."""
    rows = embedding.weight.shape[0]
    ids = torch.arange(0, rows, -(-rows // SAMPLED_TOKENS), device=embedding.weight.device)
    return embedding(ids).float()
