"""The discriminator's score, and for each token of the answer what it takes from it: entry 29 of the notebook.

    PYTHONPATH=results/reference/ablations python -m benchmarks.compare --preset data-to-text --methods gan:lora \\
        --seeds 100 101 --reward token_credit.Difference

The weights of the tokens' credit, and of the fields that are not said, are in the environment: CREDIT and SAID.
"""

import os

import torch
from torch.nn import functional as F

from gantune.discriminators.cross_reader import _soft_minimum
from gantune.seqgan.rewards import JudgedReward

CREDIT, SAID = (float(os.environ.get(name, 1)) for name in ("CREDIT", "SAID"))


class Difference(JudgedReward):
    """Difference rewards (Wolpert & Tumer 2002): the score less what it would be if the record backed this token."""

    per_token, is_return = False, True

    def credit(self, backed, mask):
        share = (-backed).masked_fill(mask == 0, torch.finfo(backed.dtype).min).softmax(dim=1)
        return torch.log1p(-share.clamp(max=1 - 1e-3))

    @torch.no_grad()
    def __call__(self, questions, answers, rollout):
        reading, mask = self.discriminator.read(rollout), rollout.answer_mask.float()
        credit = self.credit(reading.token_logits, mask) * mask
        credit = credit - credit.sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True).clamp(min=1)
        said = _soft_minimum(reading.field_logits, reading.field_mask)
        return ((reading.score + (SAID - 1) * said)[:, None] + CREDIT * credit) * mask


class LogSigmoid(Difference):
    """The same with the log of the probability that the record backs a token as its credit."""

    def credit(self, backed, mask):
        return F.logsigmoid(backed)
