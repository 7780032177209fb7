"""The losses, each a scalar to be made smaller."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def policy_gradient_loss(log_probs: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """- 1/n sum_i sum_t m_it A_it log pi(y_it | q_i, y_i<t, x_i): its gradient is REINFORCE's (SOURCE_STUDY eq. 2.4).

    Args:
        log_probs: `[B, T]` of the tokens sampled, under the distribution they were sampled from.
        advantages: `[B, T]`, taken as constants.
        mask: `[B, T]`, 1 up to and including the end-of-sequence.
    """
    return -(log_probs * advantages.detach() * mask).sum() / log_probs.shape[0]


def weighted_loss(log_probs: Tensor, weights: Tensor) -> Tensor:
    """- sum_it w_it log pi(y_it | q_i, y_i<t, x_i), with the weights of an objective, see `gantune.seqgan.objectives`.

    Args:
        log_probs: `[B, T]` of the tokens sampled, under the distribution they were sampled from.
        weights: `[B, T]`, taken as constants; 0 where the mask is.
    """
    return -(log_probs * weights.detach()).sum()


def clipped_loss(log_probs: Tensor, sampled: Tensor, weights: Tensor, epsilon: float) -> Tensor:
    """[`weighted_loss`] of samples from a policy some steps ago, by their importance ratio (PPO, arXiv:1707.06347).

    `- sum_it min(r_it w_it, clip(r_it, 1 - epsilon, 1 + epsilon) w_it)` with `r = pi / pi_sampled`. At `r = 1` its
    gradient is that of [`weighted_loss`]; where a step has moved the ratio out of the range, and in the direction of
    the weight, there is none.

    Args:
        log_probs: `[B, T]` of the tokens sampled, by the present policy.
        sampled: `[B, T]`, the same when they were sampled; constants.
        weights: `[B, T]`, taken as constants; 0 where the mask is.
        epsilon: at least 0.
    """
    weights, ratio = weights.detach(), (log_probs - sampled.detach()).exp()
    return -torch.minimum(ratio * weights, ratio.clamp(1 - epsilon, 1 + epsilon) * weights).sum()


def kl_loss(log_probs: Tensor, reference: Tensor, mask: Tensor) -> Tensor:
    """Sum over tokens of KL(pi || reference), in nats, estimated on pi's own samples; its gradient pulls pi back.

    Schulman's estimator k3, exp(d) - 1 - d with d = log reference - log pi, as in GRPO (arXiv:2402.03300, eq. 4).

    Args:
        log_probs: `[B, T]` of the tokens sampled.
        reference: `[B, T]`, by the reference policy; constants.
        mask: `[B, T]`, 1 on the tokens that count.
    """
    d = (reference.detach() - log_probs) * mask
    return (torch.expm1(d) - d).sum()


def likelihood_loss(log_probs: Tensor, mask: Tensor) -> Tensor:
    """Negative log-likelihood of the true answers, in nats a token; `[B, T]`, the mask 1 up to the end-of-sequence."""
    return -(log_probs * mask).sum() / mask.sum().clamp(min=1)


def discriminator_loss(
    real: Tensor,
    generated: Tensor,
    real_mask: Tensor | None = None,
    generated_mask: Tensor | None = None,
    real_label: float = 1.0,
    counts: tuple[float, float] | None = None,
) -> Tensor:
    """Binary cross-entropy with logits: real answers are `real_label`, generated ones 0 (SOURCE_STUDY eq. 2.5).

    Real and generated count half each, whatever their numbers, so that an undecided discriminator has loss log 2.

    Args:
        real: logits of true answers, `[B]`, or `[B, T]` for every prefix.
        generated: logits of everything that is not a true answer to its question, `[B']` or `[B', T']`.
        real_mask: same shape as `real`, 1 where a logit counts; all of them if None. Likewise the other.
        real_label: target of the real ones; below 1 it smooths the label on one side (Salimans et al. 2016).
        counts: numbers of real and of generated logits that the means are over, if these are not all there are.
    """

    def side(logits: Tensor, mask: Tensor | None, label: float, count: float | None) -> Tensor:
        losses = F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label), reduction="none")
        mask = torch.ones_like(losses) if mask is None else mask
        return (losses * mask).sum() / (mask.sum().clamp(min=1) if count is None else max(1, count))

    of_real, of_generated = counts or (None, None)
    return 0.5 * (side(real, real_mask, real_label, of_real) + side(generated, generated_mask, 0.0, of_generated))


def bradley_terry_loss(real: Tensor, other: Tensor, count: float | None = None) -> Tensor:
    """- mean log sigmoid(real - other): each true answer is to be above the other one that stands beside it.

    Source: GAD (Ye et al. 2025, arXiv:2511.10643), where the other is the generator's. Log 2 where nothing is told
    apart; only differences count, so that what all logits have in common is left free.

    Args:
        real: logits of true answers, `[B]`.
        other: of what each is compared with, `[B]`.
        count: number of comparisons that the mean is over, if these are not all there are.
    """
    losses = F.softplus(other - real)
    return losses.mean() if count is None else losses.sum() / count
