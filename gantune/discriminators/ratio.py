"""The likelihood ratio as a judge: log m - log q, m a second adapter on the same model and q the policy."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from gantune.data.batch import Batch
from gantune.discriminators.second_adapter import SecondAdapter
from gantune.policy import CausalLMPolicy

DROPOUT = 0.1


class LikelihoodRatio(SecondAdapter):
    """Judges each token of an answer by log m - log q, given the question and the tokens before it.

    m is the frozen model under a LoRA of its own, with dropout, and learns by the likelihood of true answers alone: so
    sampled, mismatched and corrupted ones are shown to be measured on, and not learned from. q is the policy: of
    rollouts the log-probs at sampling, of other answers those of the model as it stands, without noise. The logit of a
    whole answer is the sum. Were m the distribution of true answers, there would be no better judge (FINDINGS 11).

    The reward that goes down KL(q || m) is `token`, with transform `logit`, discount 1 and no length normalisation.

    Args:
        language_model: see [`SecondAdapter`].
        room: the same.
        dropout: of what goes into each low-rank product, while it is trained.
    """

    raised = ("real",)

    def __init__(self, language_model: PreTrainedModel, room: int | None = None, dropout: float = DROPOUT) -> None:
        super().__init__(language_model, room, dropout)
        self._policy = CausalLMPolicy(language_model, eos_token_id=0, pad_token_id=0)  # it scores and never samples

    def prefix_logits(self, batch: Batch) -> Tensor:
        """Of each token, not of the prefix that it ends, `[B, T]`; 0 where the answer mask is 0."""
        own = getattr(batch, "log_probs", None)
        if own is None:
            with torch.no_grad():
                own = self._policy.score(batch)
        return self.read_in_parts(batch) - own

    def sequence_logits(self, batch: Batch) -> Tensor:
        """The sum over the answer's tokens, `[B]`."""
        return self.prefix_logits(batch).sum(dim=1)

    def one_pass(self, batch: Batch) -> Tensor:
        """log m of the answers' tokens, `[B, T]`; 0 where the answer mask is 0."""
        return self._policy.score(batch)


class Mediator(LikelihoodRatio):
    """The same with the m of CoT (Lu et al. 2018, arXiv:1804.03782), which learns true and sampled answers, half each.

    So it is a model of their mixture, and meets what it judges.
    """

    raised = ("real", "generated")
