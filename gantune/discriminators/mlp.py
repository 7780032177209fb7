"""The source study's discriminator, kept for comparison."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from gantune.data.batch import Batch
from gantune.discriminators.base import DISCRIMINATORS, Discriminator


@DISCRIMINATORS.register("mlp")
class TokenIdMLP(Discriminator):
    """Four layers that narrow the sequence of token *ids*, scaled to (0, 1], to one logit (SOURCE_STUDY section 2).

    An id is a name and not a quantity, so this can only learn by rote; it reaches AUC .91 all the same (FINDINGS 7).
    A prefix is the same input with the later tokens blank, which costs one pass of the network a prefix.

    Args:
        vocab_size: number of token ids.
        max_prompt_tokens: width of the question's part of the input.
        max_answer_tokens: width of the answer's part of the input.
    """

    def __init__(self, vocab_size: int, max_prompt_tokens: int, max_answer_tokens: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.max_prompt_tokens = max_prompt_tokens
        self.max_answer_tokens = max_answer_tokens
        length = max_prompt_tokens + max_answer_tokens
        widths = [length, max(length // 2, 1), max(length // 4, 1), max(length // 8, 1)]
        hidden = [part for a, b in itertools.pairwise(widths) for part in (nn.Linear(a, b), nn.LeakyReLU(0.01))]
        self.layers = nn.Sequential(*hidden, nn.Linear(widths[-1], 1))

    @classmethod
    def for_model(cls, model: PreTrainedModel, max_prompt_tokens: int, max_answer_tokens: int) -> TokenIdMLP:
        """See [`Discriminator.for_model`]."""
        return cls(model.get_input_embeddings().weight.shape[0], max_prompt_tokens, max_answer_tokens)

    def _scaled(self, ids: Tensor, mask: Tensor) -> Tensor:
        return (ids + 1) / self.vocab_size * mask

    def prefix_logits(self, batch: Batch) -> Tensor:
        """See [`Discriminator.prefix_logits`].

        Raises:
            ValueError: if a question or an answer is longer than the network is wide.
        """
        prompt_length, answer_length = batch.prompt_ids.shape[1], batch.answer_ids.shape[1]
        if prompt_length > self.max_prompt_tokens or answer_length > self.max_answer_tokens:
            raise ValueError(
                f"discriminator mlp reads {self.max_prompt_tokens} prompt and {self.max_answer_tokens} answer tokens, "
                f"got {prompt_length} and {answer_length}"
            )
        question = F.pad(self._scaled(batch.prompt_ids, batch.prompt_mask), (self.max_prompt_tokens - prompt_length, 0))
        answer = self._scaled(batch.answer_ids, batch.answer_mask)
        prefixes = answer[:, None, :] * torch.ones(answer_length, answer_length, device=answer.device).tril()
        prefixes = F.pad(prefixes, (0, self.max_answer_tokens - answer_length))
        question = question[:, None, :].expand(-1, answer_length, -1)
        return self.layers(torch.cat([question, prefixes], dim=2)).squeeze(2)
