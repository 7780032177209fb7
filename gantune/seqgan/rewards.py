"""What a sampled answer is worth: one number an answer, or one a token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from gantune.data.batch import Batch
from gantune.registry import Registry

REWARDS = Registry("reward")
TRANSFORMS = Registry("reward transform")


class Judge(Protocol):
    """What a reward asks of a discriminator; see `gantune.discriminators.Discriminator`."""

    def sequence_logits(self, batch: Batch) -> Tensor: ...

    def prefix_logits(self, batch: Batch) -> Tensor: ...


class Reward(Protocol):
    """Any callable of this form is a reward, a plain function included.

    `questions` and `answers` are the B texts; `rollout` holds the tensors, and in `rollout.pairs` the true answers.
    The result is a tensor or list of B numbers (one an answer), or `[B, T]` (one a token).
    """

    def __call__(self, questions: Sequence[str], answers: Sequence[str], rollout: Batch) -> Tensor | list[float]: ...


@TRANSFORMS.register("prob")
def probability(logits: Tensor) -> Tensor:
    """D, the probability of being real, in (0, 1): SeqGAN's reward (Yu et al. 2017, eq. 4)."""
    return logits.sigmoid()


@TRANSFORMS.register("centred")
def centred(logits: Tensor) -> Tensor:
    """2 D - 1, in (-1, 1), zero where D is undecided (ScratchGAN, arXiv:1905.09922)."""
    return 2 * logits.sigmoid() - 1


@TRANSFORMS.register("log")
def log_probability(logits: Tensor) -> Tensor:
    """log D, never above zero."""
    return F.logsigmoid(logits)


@TRANSFORMS.register("logit")
def logit(logits: Tensor) -> Tensor:
    """log D - log(1 - D), unbounded."""
    return logits


class JudgedReward:
    """A reward that a discriminator gives.

    Args:
        discriminator: gives the logits; not trained here.
        transform: r in R = r(D), a name in `TRANSFORMS`.
    """

    per_token: bool

    def __init__(self, discriminator: Judge, transform: str = "centred") -> None:
        self.discriminator = discriminator
        self.transform = TRANSFORMS.resolve(transform)


@REWARDS.register("sequence")
class SequenceReward(JudgedReward):
    """R_i = r(D(q, Y)): one number an answer, from the whole answer (SOURCE_STUDY eq. 2.2)."""

    per_token = False

    @torch.no_grad()
    def __call__(self, questions: Sequence[str], answers: Sequence[str], rollout: Batch) -> Tensor:
        """The rewards, `[B]`."""
        return self.transform(self.discriminator.sequence_logits(rollout))


@REWARDS.register("token")
class TokenReward(JudgedReward):
    """R_it = r(D(q, Y_<=t)): one number a token, from all prefixes in one pass (ScratchGAN, arXiv:1905.09922)."""

    per_token = True

    @torch.no_grad()
    def __call__(self, questions: Sequence[str], answers: Sequence[str], rollout: Batch) -> Tensor:
        """The rewards, `[B, T]`; meaningless where the answer mask is 0."""
        return self.transform(self.discriminator.prefix_logits(rollout))


@REWARDS.register("constant")
class ConstantReward:
    """One for every answer, whatever it says: the control that shows what the discriminator adds.

    Without a baseline it still changes the policy (a constant reward sharpens it); with one it does nothing.
    """

    per_token = False

    def __init__(self, discriminator: Judge | None = None, transform: str = "centred") -> None:
        """Takes a discriminator and a transform as the others do, and asks neither."""

    def __call__(self, questions: Sequence[str], answers: Sequence[str], rollout: Batch) -> Tensor:
        """Ones, `[B]`."""
        return torch.ones(len(rollout), device=rollout.device)


def build_reward(spec: str | type | Callable[..., Any], discriminator: Judge, transform: str = "centred") -> Reward:
    """The reward that `spec` names: a registry name, a dotted path, a class, or a callable that is used as it is.

    Classes are constructed with `(discriminator, transform)`.

    Raises:
        UserError: if the name is not known or the dotted path cannot be imported.
    """
    component = REWARDS.resolve(spec)
    return component(discriminator, transform) if isinstance(component, type) else component
