"""The source study's discriminator: four layers that narrow the token sequence, on ids or on a learned number each."""

from __future__ import annotations

import itertools
from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from gantune.data.batch import Batch
from gantune.discriminators import DISCRIMINATORS
from gantune.discriminators.base import Discriminator


class NarrowingMLP(Discriminator):
    """Four layers that narrow a sequence of numbers, one a token, to one logit (SOURCE_STUDY section 2).

    LeakyReLU(0.01) follows the first three; the study's sigmoid is left to the loss and to the reward. Each place of
    question and answer has its own weights; a longer one is a ValueError. Padding and what comes after the end are
    blank. A prefix is the same input with the later tokens blank, which costs one pass of the network a prefix; a whole
    answer costs one.

    A subclass says which number stands for a token: [`_values`].
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
    def for_model(cls, model: PreTrainedModel, max_prompt_tokens: int, max_answer_tokens: int) -> NarrowingMLP:
        return cls(model.get_input_embeddings().weight.shape[0], max_prompt_tokens, max_answer_tokens)

    @abstractmethod
    def _values(self, ids: Tensor) -> Tensor:
        """The number that stands for each token, of the shape of `ids`."""

    def _read(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Question `[B, max_prompt_tokens]` and answer `[B, max_answer_tokens]` as numbers, 0 without a token."""
        prompt_length, answer_length = batch.prompt_ids.shape[1], batch.answer_ids.shape[1]
        if prompt_length > self.max_prompt_tokens or answer_length > self.max_answer_tokens:
            raise ValueError(
                f"discriminator {DISCRIMINATORS.name_of(self)} reads {self.max_prompt_tokens} prompt and "
                f"{self.max_answer_tokens} answer tokens, got {prompt_length} and {answer_length}"
            )
        question = self._values(batch.prompt_ids) * batch.prompt_mask
        answer = self._values(batch.answer_ids) * batch.answer_mask
        return (
            F.pad(question, (self.max_prompt_tokens - prompt_length, 0)),
            F.pad(answer, (0, self.max_answer_tokens - answer_length)),
        )

    def prefix_logits(self, batch: Batch) -> Tensor:
        question, answer = self._read(batch)
        length = batch.answer_ids.shape[1]
        seen = torch.ones(length, self.max_answer_tokens, device=answer.device).tril()
        question = question[:, None, :].expand(-1, length, -1)
        return self.layers(torch.cat([question, answer[:, None, :] * seen], dim=2)).squeeze(2)

    def sequence_logits(self, batch: Batch) -> Tensor:
        """See [`Discriminator.sequence_logits`]; one pass, not one a prefix."""
        return self.layers(torch.cat(self._read(batch), dim=1)).squeeze(1)


class TokenIdMLP(NarrowingMLP):
    """[`NarrowingMLP`] on token *ids*, scaled to (0, 1], as the source study has it.

    An id is a name and not a quantity, so this can only learn by rote; it reaches AUC .91 all the same (FINDINGS 7).
    """

    def _values(self, ids: Tensor) -> Tensor:
        return (ids + 1) / self.vocab_size


class TokenValueMLP(NarrowingMLP):
    """[`NarrowingMLP`] on one learned number a token id, the least correction of the source's (SOURCE_STUDY 6.5)."""

    def __init__(self, vocab_size: int, max_prompt_tokens: int, max_answer_tokens: int) -> None:
        super().__init__(vocab_size, max_prompt_tokens, max_answer_tokens)
        self.values = nn.Embedding(vocab_size, 1)

    def _values(self, ids: Tensor) -> Tensor:
        return self.values(ids).squeeze(-1)
