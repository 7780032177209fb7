"""What every discriminator does: tokens and mask in, logits out, per answer and per prefix."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn
from transformers import PreTrainedModel

from gantune.data.batch import Batch


class Reading(NamedTuple):
    """What one pass over whole answers tells, of B answers of T tokens to records of up to F fields.

    Args:
        score: `[B]`, as of [`Discriminator.sequence_logits`].
        field_logits: `[B, F]`, whether the answer says a field of the record; column f is of the field numbered f + 1
            in `Batch.prompt_fields`, F the largest number there.
        field_mask: `[B, F]`, 1 where the record has such a field and the prompt holds some of its tokens.
        token_logits: `[B, T]`, whether the record backs a token of the answer; meaningless where the answer mask is 0.
            None of a discriminator that does not tell.
    """

    score: Tensor
    field_logits: Tensor
    field_mask: Tensor
    token_logits: Tensor | None = None


class Discriminator(nn.Module, ABC):
    """Judges whether the answer in a batch is a true answer to its question.

    A subclass defines [`prefix_logits`]; one that needs more than the vocabulary's size to be built also overrides
    [`for_model`]. The logit is that of the probability of being real: D = sigmoid(logit).

    One that judges the fields of a record by themselves may define `read(batch) -> Reading`: all it tells of whole
    answers, from one pass. Where it does, and records are corrupted, its field logits are trained too. One that begins
    from the generator may define `begin_from(model)`: called once, when the likelihood warm-up ends. One whose logits
    are log-likelihood ratios names the kinds of answers that it learns by likelihood in `raised`, `real` and perhaps
    `generated`: these logits are made larger, and no loss compares.
    """

    @classmethod
    def for_model(cls, model: PreTrainedModel, max_prompt_tokens: int, max_answer_tokens: int) -> Discriminator:
        """A fresh discriminator for the token ids of `model` and answers of at most these lengths."""
        return cls(vocab_size=model.get_input_embeddings().weight.shape[0])

    @abstractmethod
    def prefix_logits(self, batch: Batch) -> Tensor:
        """One logit for every prefix of every answer, `[B, T]`; column t reads the question and the answer up to t.

        Meaningless where the answer mask is 0.
        """

    def sequence_logits(self, batch: Batch) -> Tensor:
        """One logit an answer, `[B]`: that of its last prefix."""
        last = batch.answer_mask.sum(dim=1, keepdim=True).clamp(min=1) - 1
        return self.prefix_logits(batch).gather(1, last).squeeze(1)
