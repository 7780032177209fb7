"""The discriminator's side of the game: what it is trained on, and how good it is."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gantune.data.batch import Batch
from gantune.discriminators import Discriminator
from gantune.language_gan_config import LanguageGANConfig
from gantune.policy import Rollout
from gantune.seqgan import discriminator_loss
from gantune.updates import update


class Adversary:
    """Trains a discriminator: true answers against sampled ones, replayed ones and mismatched true ones.

    Args:
        discriminator: it stays in `eval()` mode between its steps, because it judges without dropout.
        per_token: whether it learns on every prefix, or on whole answers only.
        config: settings.
    """

    def __init__(self, discriminator: Discriminator, per_token: bool, config: LanguageGANConfig) -> None:
        self.discriminator, self.per_token, self.config = discriminator.eval(), per_token, config
        self.optimizer = torch.optim.Adam(
            discriminator.named_parameters(), lr=config.discriminator_learning_rate, fused=True
        )
        self.replay: deque[Rollout] = deque(maxlen=config.replay_rollouts)
        self.held_out: tuple[Batch, Rollout] | None = None

    def remember(self, rollout: Rollout) -> None:
        """Keep a rollout to be shown again in later steps."""
        self.replay.append(rollout.without_state())

    def hold_out(self, batch: Batch, rollout: Rollout) -> None:
        """True and sampled answers that it is measured on, and never trained, until the next ones are given."""
        self.held_out = batch, rollout

    def step(self, batch: Batch, rollout: Rollout) -> dict[str, float]:
        """One step; see [`LanguageGAN.discriminator_step`]."""
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
        real, real_mask = self._judge(batch)
        judged = [self._judge(part) for part in generated]
        fake = torch.cat([logits.flatten() for logits, _ in judged])
        fake_mask = torch.cat([mask.flatten() for _, mask in judged])
        loss = discriminator_loss(real, fake, real_mask, fake_mask, config.real_label)
        self.discriminator.eval()

        figures = _accuracies((real, real_mask), judged[0])
        accuracy = 0.5 * (figures["discriminator_accuracy_real"] + figures["discriminator_accuracy_generated"])
        figures = {"discriminator_loss": loss.item(), "discriminator_accuracy": accuracy} | figures
        if accuracy <= config.max_discriminator_accuracy:
            name = "discriminator loss"
            _, norm = update(self.optimizer, [(name, loss)], config.max_grad_norm, name)
            figures["discriminator_gradient_norm"] = norm
        if self.held_out is not None:
            with torch.no_grad():
                held_out = _accuracies(*(self._judge(part) for part in self.held_out))
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

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on from what [`state_dict`] gave."""
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.replay.extend(Rollout.from_state_dict(kept).to(device) for kept in state["replay"])
        if state["held_out"]:
            batch, rollout = state["held_out"]
            self.held_out = Batch.from_state_dict(batch).to(device), Rollout.from_state_dict(rollout).to(device)

    def _judge(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits and where they count: of every prefix, or one an answer."""
        if self.per_token:
            return self.discriminator.prefix_logits(batch), batch.answer_mask
        logits = self.discriminator.sequence_logits(batch)
        return logits, torch.ones_like(logits)


def _accuracies(real: tuple[Tensor, Tensor], generated: tuple[Tensor, Tensor]) -> dict[str, float]:
    """Share of right judgements on real and on generated answers, each given as logits and where they count."""
    right_on_real = ((real[0] > 0) * real[1]).sum() / real[1].sum()
    right_on_generated = ((generated[0] < 0) * generated[1]).sum() / generated[1].sum()
    return {
        "discriminator_accuracy_real": right_on_real.item(),
        "discriminator_accuracy_generated": right_on_generated.item(),
    }
