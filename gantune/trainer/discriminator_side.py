"""The discriminator's side of the game: what it is trained on, and how good it is."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gantune.data.batch import Batch
from gantune.discriminators import Discriminator
from gantune.distributed import ALONE, DataParallel
from gantune.errors import UserError
from gantune.policy import Rollout
from gantune.seqgan import bradley_terry_loss, discriminator_loss
from gantune.trainer.config import GameConfig
from gantune.trainer.negatives import answers_of, drawn_rows, mismatched, run_of_rows
from gantune.trainer.non_finite import share_gradients

GENERATED_WEIGHT = 0.5
"""Of comparisons with sampled answers in the Bradley-Terry loss, beside 1 of those with other kinds (FINDINGS 10)."""
SCORE_WEIGHT = 1e-3
"""Of the mean squared score in the Bradley-Terry loss, which by itself leaves the level of the scores free."""
UNSAID_WEIGHT = 3.0
"""Of a field that the answer does not say in the cross-entropy of the fields, beside 1 of one that it says."""

Corrupt = Callable[[Batch], tuple[Batch, Tensor]]
"""Gives the same answers under corrupted questions, and `[B, F]` 1 where they say a field; see `Corruptor`."""


class Judged(NamedTuple):
    """Logits of this process's rows of a batch, `[R]` or `[R, T]`, where they count, and those of the fields, if any.

    A field has a logit `[R, F]` where `field_mask` is 1. `true` are the logits of the true answers that these are
    compared with, if it is not all of them.
    """

    logits: Tensor
    mask: Tensor
    field_logits: Tensor | None = None
    field_mask: Tensor | None = None
    true: Tensor | None = None


class DiscriminatorSide:
    """Trains a discriminator on true answers against others: sampled, replayed, mismatched and corrupted ones.

    By the binary loss it learns on every prefix if `per_token`, else on whole answers; by the Bradley-Terry loss on
    whole answers, each true one against one of each kind that there is for it. The sampled one is an answer to the same
    question, as in GAD (arXiv:2511.10643), where the rollout has answers to these questions and nothing is replayed;
    else it is any. One with `raised` kinds learns these by likelihood, whatever it is shown. A discriminator that reads
    fields (see [`Discriminator`]) learns from corrupted questions which of them are said. Between its steps it stays in
    `eval()` mode: it judges without dropout. Every process is given all rows of a step, and takes its share.

    Args:
        corrupt: makes negatives of true answers; None if there are no such.

    Raises:
        UserError: if the loss compares whole answers and `per_token` holds, or the discriminator has a loss of its own.
    """

    def __init__(
        self,
        discriminator: Discriminator,
        per_token: bool,
        config: GameConfig,
        parallel: DataParallel = ALONE,
        corrupt: Corrupt | None = None,
    ) -> None:
        self.compares = config.discriminator_loss == "bradley-terry"
        if self.compares and per_token:
            raise UserError(
                "--discriminator-loss bradley-terry: whole answers are compared, expected a reward that asks for no "
                "more, such as --reward sequence"
            )
        self.raised: tuple[str, ...] = getattr(discriminator, "raised", ())
        if self.compares and self.raised:
            raise UserError(
                f"--discriminator-loss bradley-terry: --discriminator {config.discriminator} learns by likelihood, "
                "expected binary, which it does not use"
            )
        self.mismatches = config.mismatched_negatives and not config.blind_discriminator
        self.corrupt = corrupt if config.corrupted_negatives and not config.blind_discriminator else None
        self.discriminator, self.per_token = discriminator.eval(), per_token
        self.config, self.parallel = config, parallel
        rate = config.discriminator_learning_rate
        self.optimizer = torch.optim.Adam(discriminator.named_parameters(), lr=rate, fused=True)
        self.replay: deque[Rollout] = deque(maxlen=config.replay_rollouts)
        self.held_out: dict[str, Batch] = {}

    def check_negatives(self) -> None:
        """A [`UserError`] if there is no negative of any kind to train on."""
        if not (self.config.generated_negatives or self.mismatches or self.corrupt):
            raise UserError(
                "--generated-negatives false: the discriminator is shown nothing that is not real, expected "
                "--mismatched-negatives true, or records and --corrupted-negatives true"
            )

    def remember(self, rollout: Rollout) -> None:
        """Keep a rollout to be shown again in later steps."""
        self.replay.append(rollout.without_state())

    def hold_out(self, batch: Batch, rollout: Rollout) -> None:
        """True and sampled answers that it is measured on, and never trained, until the next ones are given.

        There is one sampled answer to each question of `batch`.
        """
        self.held_out = {"real": batch, "generated": rollout}
        if self.corrupt is not None:
            self.held_out["corrupted"], _ = self.corrupt(batch)

    def step(self, batch: Batch, rollout: Rollout) -> dict[str, float]:
        """One step; while it is better than `max_discriminator_accuracy` it is measured and left as it is.

        Args:
            batch: questions and true answers.
            rollout: sampled answers, to these questions or to others.

        Returns:
            `discriminator_loss`; `discriminator_accuracy` and its parts by kind, `..._real`, `..._generated` (those of
            `rollout`) and `..._corrupted`: by the binary loss the share of right judgements, whose mean has true
            answers on one side and the others on the other; by the Bradley-Terry loss the share of comparisons with a
            kind, `..._mismatched` among them, that the true answer wins, and their mean. The same of held-out questions
            as `held_out_...`, if there are any; `discriminator_grad_norm` before clipping, if it was trained. Where
            only mismatched answers are shown and there are none, as of a single row, nothing but a loss of 0.
        """
        others, said, rows = self._others(batch, rollout)
        if not others:
            return {"discriminator_loss": 0.0}
        self.discriminator.train()
        real = self._judge(batch, fields=said is not None)
        judged = {kind: self._judge(part, fields=kind == "corrupted") for kind, part in others.items()}
        if self.compares and len(others.get("mismatched", batch)) < len(batch):
            judged["mismatched"] = judged["mismatched"]._replace(true=self._judge(batch.select(rows)).logits)
        if self.raised:
            loss = self._likelihood_loss({"real": batch} | others, {"real": real} | judged)
        else:
            loss = (self._comparison_loss if self.compares else self._binary_loss)(batch, real, others, judged)
        if said is not None and hasattr(self.discriminator, "read"):
            loss = loss + self._field_loss(batch, real, judged["corrupted"], said)
        self.discriminator.eval()

        shares = self._accuracies({"real": batch} | others, {"real": real} | judged)
        sides = [share for kind, share in shares.items() if kind != "real"]
        accuracy = fmean(sides) if self.compares else fmean([shares["real"], fmean(sides)])
        of_all = sum(self.parallel.collect(loss.item()))
        figures = {"discriminator_loss": of_all, "discriminator_accuracy": accuracy} | _named(shares)
        if accuracy <= self.config.max_discriminator_accuracy:
            figures["discriminator_grad_norm"] = self._update(loss)
        if self.held_out:
            with torch.no_grad():
                held_out = {kind: self._judge(part) for kind, part in self.held_out.items()}
            figures |= _named(self._accuracies(self.held_out, held_out), "held_out_")
        return figures

    def state_dict(self) -> dict[str, Any]:
        """Everything that training changes, to be saved."""
        return {
            "discriminator": self.discriminator.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "replay": [rollout.state_dict() for rollout in self.replay],
            "held_out": [part.state_dict() for part in self.held_out.values()],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what [`state_dict`] gave."""
        device = next(self.discriminator.parameters()).device
        self.replay.clear()
        self.held_out = {}
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.replay.extend(Rollout.from_state_dict(kept).to(device) for kept in state["replay"])
        kinds = {"real": Batch, "generated": Rollout, "corrupted": Batch}
        for (kind, made), kept in zip(kinds.items(), state["held_out"] or (), strict=False):
            self.held_out[kind] = made.from_state_dict(kept).to(device)

    # ------------------------------------------------------------------------------------- what true answers meet

    def _others(self, batch: Batch, rollout: Rollout) -> tuple[dict[str, Batch], Tensor | None, Tensor | None]:
        """What the true answers are shown against, by kind.

        Of corrupted questions also which fields are said, of mismatched answers the rows of the questions.
        """
        others: dict[str, Batch] = {}
        said = rows = None
        if self.config.generated_negatives:
            earlier = [kept for kept in self.replay if kept.answer_ids is not rollout.answer_ids]
            replayed = random.choice(earlier) if earlier else None
            if self.compares:
                pool = [rollout] if replayed is None else [rollout, replayed]
                own = answers_of(batch, rollout) if replayed is None else None
                others["generated"] = drawn_rows(pool, len(batch)) if own is None else own
            else:
                others["generated"] = rollout
                if replayed is not None:
                    others["replayed"] = run_of_rows(replayed, len(batch))
        if self.mismatches:
            mixed, rows = mismatched(batch)
            others |= {"mismatched": mixed} if len(rows) else {}
        if self.corrupt is not None:
            others["corrupted"], said = self.corrupt(batch)
        return others, said, rows

    def _judge(self, batch: Batch, fields: bool = False) -> Judged:
        """What the discriminator says of this process's rows; with `fields` of these too, if it can tell."""
        own = batch.rows(*self.parallel.rows(len(batch)))
        if not len(own):
            return Judged(*(torch.zeros(0, device=batch.device),) * 2)
        of_fields: tuple[Tensor, ...] = ()
        if fields and hasattr(self.discriminator, "read"):
            reading = self.discriminator.read(own)
            of_fields = reading.field_logits, reading.field_mask
        if self.per_token:
            return Judged(self.discriminator.prefix_logits(own), own.answer_mask, *of_fields)
        logits = reading.score if of_fields else self.discriminator.sequence_logits(own)
        return Judged(logits, torch.ones_like(logits), *of_fields)

    def _count(self, batch: Batch) -> float:
        """How many logits count, in all processes."""
        return batch.answer_mask.sum().item() if self.per_token else len(batch)

    # -------------------------------------------------------------------------------------------------- losses

    def _binary_loss(
        self, batch: Batch, real: Judged, others: Mapping[str, Batch], judged: Mapping[str, Judged]
    ) -> Tensor:
        """This process's share of the binary loss: all kinds of others on one side."""
        fake = torch.cat([part.logits.flatten() for part in judged.values()])
        mask = torch.cat([part.mask.flatten() for part in judged.values()])
        counts = self._count(batch), sum(map(self._count, others.values()))
        return discriminator_loss(real.logits, fake, real.mask, mask, self.config.real_label, counts)

    def _likelihood_loss(self, parts: Mapping[str, Batch], judged: Mapping[str, Judged]) -> Tensor:
        """This process's share of minus the mean logit a token of each raised kind, which count alike."""
        kinds = [kind for kind in self.raised if kind in parts]
        sums = [(judged[kind].logits * judged[kind].mask).sum() / parts[kind].answer_mask.sum() for kind in kinds]
        return -sum(sums) / len(kinds)

    def _comparison_loss(
        self, batch: Batch, real: Judged, others: Mapping[str, Batch], judged: Mapping[str, Judged]
    ) -> Tensor:
        """This process's share of the Bradley-Terry loss: each true answer against the same row of each kind."""
        squares = torch.cat([part.logits for part in (real, *judged.values())]).square().sum()
        loss = SCORE_WEIGHT * squares / (len(batch) * (1 + len(judged)))
        for kind, part in judged.items():
            weight = GENERATED_WEIGHT if kind == "generated" else 1.0
            true = real.logits if part.true is None else part.true
            loss = loss + weight * bradley_terry_loss(true, part.logits, len(others[kind]))
        return loss

    def _field_loss(self, batch: Batch, real: Judged, corrupted: Judged, said: Tensor) -> Tensor:
        """This process's share of the cross-entropy of the fields; the true answers say all of theirs."""
        start, stop = self.parallel.rows(len(batch))
        loss, weights = torch.zeros((), device=batch.device), 0.0
        for part, target in ((real, torch.ones_like(said)), (corrupted, said)):
            if part.field_logits is None:  # this process has no rows
                continue
            missing = part.field_logits.shape[1] - target.shape[1]  # a row of another process may have the most fields
            target = F.pad(target[start:stop], (0, missing), value=1.0)
            weight = part.field_mask * torch.where(target == 0, UNSAID_WEIGHT, 1.0)
            losses = F.binary_cross_entropy_with_logits(part.field_logits, target, reduction="none")
            loss, weights = loss + (losses * weight).sum(), weights + weight.sum().item()
        return loss / sum(self.parallel.collect(weights))

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

    # ------------------------------------------------------------------------------------------------- figures

    def _accuracies(self, parts: Mapping[str, Batch], judged: Mapping[str, Judged]) -> dict[str, float]:
        """Of each kind the share of right judgements, or of comparisons in which the true answer is above.

        By the binary loss, of the true answers and of the sampled and the corrupted ones; of mismatched ones if they
        are shown alone.
        """
        real = judged["real"]
        if self.compares:
            kinds = [kind for kind in judged if kind != "real"]
            true = [real.logits if judged[kind].true is None else judged[kind].true for kind in kinds]
            right = [(above > judged[kind].logits).sum().item() for kind, above in zip(kinds, true, strict=True)]
            counts = [len(parts[kind]) for kind in kinds]
        else:
            kinds = ["real", *([kind for kind in ("generated", "corrupted") if kind in judged] or ["mismatched"])]
            signs = [1 if kind == "real" else -1 for kind in kinds]
            right = [
                ((sign * judged[kind].logits > 0) * judged[kind].mask).sum().item()
                for kind, sign in zip(kinds, signs, strict=True)
            ]
            counts = [self._count(parts[kind]) for kind in kinds]
        totals = map(sum, zip(*self.parallel.collect(right), strict=True))
        return {kind: total / count for kind, total, count in zip(kinds, totals, counts, strict=True)}


def _named(shares: Mapping[str, float], before: str = "") -> dict[str, float]:
    return {f"{before}discriminator_accuracy_{kind}": share for kind, share in shares.items()}
