"""A discriminator that is shown no question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from gantune.data.batch import Batch
from gantune.discriminators.base import Discriminator


class Blind(Discriminator):
    """Shows a discriminator every answer with one and the same prompt, so that it can learn from answers alone.

    That may be the prompt of the empty question.
    """

    def __init__(self, discriminator: Discriminator, prompt_ids: Sequence[int]) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.prompt_ids = list(prompt_ids)
        self.raised = getattr(discriminator, "raised", ())

    def begin_from(self, model: nn.Module) -> None:
        """See [`Discriminator`]; nothing if the discriminator has no such method."""
        if hasattr(self.discriminator, "begin_from"):
            self.discriminator.begin_from(model)

    def prefix_logits(self, batch: Batch) -> Tensor:
        return self.discriminator.prefix_logits(self._hide(batch))

    def sequence_logits(self, batch: Batch) -> Tensor:
        return self.discriminator.sequence_logits(self._hide(batch))

    def _hide(self, batch: Batch) -> Batch:
        prompt = torch.tensor(self.prompt_ids, device=batch.device).repeat(len(batch), 1)
        return replace(batch, prompt_ids=prompt, prompt_mask=torch.ones_like(prompt), pairs=None, prompt_fields=None)
