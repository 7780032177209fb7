"""What a policy samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from gantune.data.batch import Batch


@dataclass(kw_only=True)
class Rollout(Batch):
    """Sampled answers: a batch whose answers the policy wrote.

    The rows of one question are adjacent; `pairs` keeps each row's question and *true* answer.

    Args:
        log_probs: `[B, T]` log pi(y_t | q, y_<t, x) at sampling, without gradient; 0 where the mask is 0.
        noise: `[B, noise_dim]`, to be used again for scoring; the samples of one question share theirs, so that the
            question is read once for all of them. None if the policy has none.
        temperature: divides the logits, in sampling and in scoring.
        samples_per_prompt: answers sampled to each question.
        max_new_tokens: longest answer that could have been sampled; T or more.
        state: what the policy needs to go on from any prefix, of its own kind; None unless it was asked for. It is
            large, and valid for the weights that sampled only.
        prefill: what the answers were decoded from, of the policy's own kind, to score them from; one row a
            *question*. None unless it was given. Valid for the weights that sampled only.
    """

    log_probs: Tensor
    noise: Tensor | None
    temperature: float
    samples_per_prompt: int
    max_new_tokens: int
    state: Any = None
    prefill: Any = None

    def rows(self, start: int, stop: int) -> Rollout:
        """See [`Batch.rows`]; without state and prefill, which belong to all rows."""
        return super().rows(start, stop).without_state()

    def select(self, rows: Tensor) -> Rollout:
        """See [`Batch.select`]; without state and prefill."""
        return super().select(rows).without_state()

    def cut(self) -> Rollout:
        """The same answers, as wide as the longest of them; without state and prefill."""
        longest = int(self.answer_mask.sum(dim=1).max())
        answers = {name: getattr(self, name)[:, :longest] for name in ("answer_ids", "answer_mask", "log_probs")}
        return replace(self, **answers, state=None, prefill=None)

    def without_state(self) -> Rollout:
        """The same answers without state and prefill, ready to be kept."""
        return replace(self, state=None, prefill=None)


class Draws(NamedTuple):
    """The random numbers of a rollout, drawn beforehand, so that any part of its rows can be sampled by itself."""

    noise: Tensor | None  # [B, noise_dim], one vector a question
    uniform: Tensor  # [B * k, T] float64 in [0, 1), one number a token

    def questions(self, start: int, stop: int, samples_per_prompt: int) -> Draws:
        """Those of the questions from `start` up to, not including, `stop`."""
        noise = None if self.noise is None else self.noise[start:stop]
        return Draws(noise, self.uniform[start * samples_per_prompt : stop * samples_per_prompt])


def concatenate(rollouts: Sequence[Rollout], pad_token_id: int) -> Rollout:
    """Rollouts of one policy, alike in temperature and samples a prompt, below each other; several lose their states.

    Prompts are of equal width.
    """
    if len(rollouts) == 1:
        return rollouts[0]
    longest = max(rollout.answer_ids.shape[1] for rollout in rollouts)

    def widened(tensor: Tensor, value: float) -> Tensor:
        return F.pad(tensor, (0, longest - tensor.shape[1]), value=value)

    first = rollouts[0]
    return replace(
        first,
        prompt_ids=torch.cat([rollout.prompt_ids for rollout in rollouts]),
        prompt_mask=torch.cat([rollout.prompt_mask for rollout in rollouts]),
        prompt_fields=None
        if first.prompt_fields is None
        else torch.cat([rollout.prompt_fields for rollout in rollouts]),
        answer_ids=torch.cat([widened(rollout.answer_ids, pad_token_id) for rollout in rollouts]),
        answer_mask=torch.cat([widened(rollout.answer_mask, 0) for rollout in rollouts]),
        log_probs=torch.cat([widened(rollout.log_probs, 0) for rollout in rollouts]),
        pairs=first.pairs and tuple(pair for rollout in rollouts for pair in rollout.pairs),
        noise=None if first.noise is None else torch.cat([rollout.noise for rollout in rollouts]),
        state=None,
        prefill=None,
    )
