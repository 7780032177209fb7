"""The discriminator's side of the game: what it is trained on, and how good it is."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from gantune.data.batch import Batch
from gantune.discriminators import Discriminator
from gantune.distributed import ALONE, DataParallel
from gantune.policy import Rollout
from gantune.seqgan import discriminator_loss
from gantune.trainer.config import GameConfig
from gantune.trainer.non_finite import share_gradients

Judged = tuple[Tensor, Tensor]


class DiscriminatorSide:
    """Trains a discriminator: true answers against sampled ones, replayed ones and mismatched true ones.

    It learns on every prefix if `per_token`, else on whole answers. Between its steps it stays in `eval()` mode: it
    judges without dropout. Every process is given all rows of a step, and takes its share.
    """

    def __init__(
        self, discriminator: Discriminator, per_token: bool, config: GameConfig, parallel: DataParallel = ALONE
    ) -> None:
        self.discriminator, self.per_token = discriminator.eval(), per_token
        self.config, self.parallel = config, parallel
        rate = config.discriminator_learning_rate
        self.optimizer = torch.optim.Adam(discriminator.named_parameters(), lr=rate, fused=True)
        self.replay: deque[Rollout] = deque(maxlen=config.replay_rollouts)
        self.held_out: tuple[Batch, Rollout] | None = None

    def remember(self, rollout: Rollout) -> None:
        """Keep a rollout to be shown again in later steps."""
        self.replay.append(rollout.without_state())

    def hold_out(self, batch: Batch, rollout: Rollout) -> None:
        """True and sampled answers that it is measured on, and never trained, until the next ones are given."""
        self.held_out = batch, rollout

    def step(self, batch: Batch, rollout: Rollout) -> dict[str, float]:
        """One step; while it is better than `max_discriminator_accuracy` it is measured and left as it is.

        Returns:
            `discriminator_loss`; `discriminator_accuracy`, the mean of its accuracy on real and on generated answers,
            `..._real` and `..._generated`; the latter two of held-out questions as `held_out_...`, if there are any;
            `discriminator_grad_norm` before clipping, if it was trained.
        """
        config = self.config
        generated = [rollout]
        if earlier := [kept for kept in self.replay if kept.answer_ids is not rollout.answer_ids]:
            replayed = random.choice(earlier)
            start = random.randrange(max(1, len(replayed) - len(batch) + 1))
            generated.append(replayed.rows(start, start + len(batch)))
        if config.mismatched_negatives and not config.blind_discriminator and len(batch) > 1:
            generated.append(
                replace(batch, answer_ids=batch.answer_ids.roll(1, 0), answer_mask=batch.answer_mask.roll(1, 0))
            )
        self.discriminator.train()
        real = self._judge(batch)
        judged = [self._judge(part) for part in generated]
        fake, fake_mask = (torch.cat([part[side].flatten() for part in judged]) for side in (0, 1))
        counts = self._count(batch), sum(map(self._count, generated))
        loss = discriminator_loss(real[0], fake, real[1], fake_mask, config.real_label, counts)
        self.discriminator.eval()

        figures = self._accuracies((batch, real), (generated[0], judged[0]))
        accuracy = 0.5 * (figures["discriminator_accuracy_real"] + figures["discriminator_accuracy_generated"])
        of_all = sum(self.parallel.collect(loss.item()))
        figures = {"discriminator_loss": of_all, "discriminator_accuracy": accuracy} | figures
        if accuracy <= config.max_discriminator_accuracy:
            figures["discriminator_grad_norm"] = self._update(loss)
        if self.held_out is not None:
            with torch.no_grad():
                held_out = self._accuracies(*((part, self._judge(part)) for part in self.held_out))
            figures |= {f"held_out_{name}": accuracy for name, accuracy in held_out.items()}
        return figures

    def state_dict(self) -> dict[str, Any]:
        """Everything that training changes, to be saved."""
        return {
            "discriminator": self.discriminator.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "replay": [rollout.state_dict() for rollout in self.replay],
            "held_out": self.held_out and [batch.state_dict() for batch in self.held_out],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what [`state_dict`] gave."""
        device = next(self.discriminator.parameters()).device
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.replay.extend(Rollout.from_state_dict(kept).to(device) for kept in state["replay"])
        if state["held_out"]:
            batch, rollout = state["held_out"]
            self.held_out = Batch.from_state_dict(batch).to(device), Rollout.from_state_dict(rollout).to(device)

    def _update(self, loss: Tensor) -> float:
        """One clipped step of the optimiser; the norm of the gradient before clipping.

        Raises:
            FloatingPointError: if the loss or the gradient is not finite; nothing is stepped.
        """
        self.optimizer.zero_grad(set_to_none=True)
        if loss.requires_grad:  # not where this process has none of the rows
            loss.backward()
        share_gradients("discriminator loss", loss, self.discriminator.named_parameters(), self.parallel)
        norm = nn.utils.clip_grad_norm_(self.discriminator.parameters(), self.config.max_grad_norm)
        self.optimizer.step()
        return norm.item()

    def _judge(self, batch: Batch) -> Judged:
        """Logits of this process's rows and where they count: of every prefix, or one an answer."""
        own = batch.rows(*self.parallel.rows(len(batch)))
        if not len(own):
            return (torch.zeros(0, device=batch.device),) * 2
        if self.per_token:
            return self.discriminator.prefix_logits(own), own.answer_mask
        logits = self.discriminator.sequence_logits(own)
        return logits, torch.ones_like(logits)

    def _count(self, batch: Batch) -> float:
        """How many logits count, in all processes."""
        return batch.answer_mask.sum().item() if self.per_token else len(batch)

    def _accuracies(self, real: tuple[Batch, Judged], generated: tuple[Batch, Judged]) -> dict[str, float]:
        """Share of right judgements on all real and on all generated answers."""
        right = ((real[1][0] > 0) * real[1][1]).sum().item(), ((generated[1][0] < 0) * generated[1][1]).sum().item()
        right_on_real, right_on_generated = map(sum, zip(*self.parallel.collect(right), strict=True))
        return {
            "discriminator_accuracy_real": right_on_real / self._count(real[0]),
            "discriminator_accuracy_generated": right_on_generated / self._count(generated[0]),
        }
