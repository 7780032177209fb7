"""What every discriminator does: tokens and mask in, logits out, per answer and per prefix."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn
from transformers import PreTrainedModel

from gantune.data.batch import Batch


class Discriminator(nn.Module, ABC):
    """Judges whether the answer in a batch is a true answer to its question.

    A subclass defines [`prefix_logits`]; one that needs more than the vocabulary's size to be built also overrides
    [`for_model`]. The logit is that of the probability of being real: D = sigmoid(logit).
    """

    @classmethod
    def for_model(cls, model: PreTrainedModel, max_prompt_tokens: int, max_answer_tokens: int) -> Discriminator:
        """A fresh discriminator for the token ids of `model` and answers of at most these lengths."""
        return cls(vocab_size=model.get_input_embeddings().weight.shape[0])

    def begin_from(self, generator: nn.Module) -> None:
        """Called once, when the generator's likelihood warm-up ends and before this is trained; most begin afresh."""

    @abstractmethod
    def prefix_logits(self, batch: Batch) -> Tensor:
        """One logit for every prefix of every answer, `[B, T]`; column t reads the question and the answer up to t.

        Meaningless where the answer mask is 0.
        """

    def sequence_logits(self, batch: Batch) -> Tensor:
        """One logit an answer, `[B]`: that of its last prefix."""
        last = batch.answer_mask.sum(dim=1, keepdim=True).clamp(min=1) - 1
        return self.prefix_logits(batch).gather(1, last).squeeze(1)
