"""The frozen language model as its own judge: a second adapter on the same weights, and a scalar head."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from gantune.data.batch import Batch
from gantune.discriminators.second_adapter import SecondAdapter


class LanguageModelJudge(SecondAdapter):
    """Reads question and answer by the frozen model under a LoRA of its own, and judges each prefix by a linear head.

    The discriminator of GAD (arXiv:2511.10643) is a second language model; here it is a [`SecondAdapter`]. The head,
    LayerNorm and Linear, sees the last hidden state at each answer token; no logits over the vocabulary are computed. A
    gradient reaches adapter and head alone.

    Args:
        language_model: see [`SecondAdapter`].
        room: the same.
    """

    def __init__(self, language_model: PreTrainedModel, room: int | None = None) -> None:
        super().__init__(language_model, room)
        width = language_model.get_output_embeddings().in_features
        self.norm = nn.LayerNorm(width, dtype=torch.float32)
        self.head = nn.Linear(width, 1, dtype=torch.float32)

    def prefix_logits(self, batch: Batch) -> Tensor:
        states = self.read_in_parts(batch)
        with torch.autocast(states.device.type, enabled=False):
            return self.head(self.norm(states)).squeeze(2)

    def one_pass(self, batch: Batch) -> Tensor:
        """The last hidden states at the answers' tokens, `[B, T, d]`, in the dtype of the head."""
        (model,) = self._language_model
        read = model.base_model(
            input_ids=batch.input_ids(),
            attention_mask=batch.attention_mask(),
            position_ids=batch.position_ids(),
            use_cache=False,
        )
        return read.last_hidden_state[:, batch.prompt_ids.shape[1] :].to(self.head.weight)
