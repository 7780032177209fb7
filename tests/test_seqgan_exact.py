"""The policy gradient against the exact gradient of the expected reward, by enumeration in float64."""

from __future__ import annotations

import pytest
import torch

from gantune.seqgan import policy_gradient_loss, returns
from gantune.seqgan.advantages import GroupNorm, LeaveOneOut, MovingAverage, NoBaseline
from tests.enumeration import TabularPolicy, every_answer, flat_gradient

TOLERANCE = 1e-10


@pytest.fixture
def world():
    """policy, batch, log-probs [B, T], probability of each answer [B], rewards an answer [B], rewards a token [B, T]"""
    policy, batch = TabularPolicy(), every_answer()
    log_probs = policy.token_log_probs(batch.answer_ids)
    probability = (log_probs * batch.answer_mask).sum(1).exp()
    generator = torch.Generator().manual_seed(7)
    per_answer = torch.randn(len(batch), generator=generator, dtype=torch.float64)
    # a reward for every prefix: the same number wherever the same prefix stands
    table = torch.randn(3, 64, generator=generator, dtype=torch.float64)
    code, per_token = torch.zeros(len(batch), dtype=torch.long), []
    for t in range(3):
        code = code * 4 + batch.answer_ids[:, t]
        per_token.append(table[t][code])
    return policy, batch, log_probs, probability, per_answer, torch.stack(per_token, dim=1)


def estimator(batch, log_probs, probability, rewards, advantage):
    """The estimator's mean over all answers, each weighted by its probability: one gradient a sample, summed."""
    g = returns(rewards, batch.answer_mask)
    advantages = advantage(g, batch.answer_mask.double(), 1)
    weighted = advantages * probability.detach()[:, None] * len(batch)
    return policy_gradient_loss(log_probs, weighted, batch.answer_mask)


def test_enumeration_is_complete(world):
    _, _, _, probability, _, _ = world
    assert probability.sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("kind", ["sequence", "token"])
@pytest.mark.parametrize("baseline", ["none", "moving-average"])
def test_policy_gradient_equals_the_exact_gradient(world, kind, baseline):
    policy, batch, log_probs, probability, per_answer, per_token = world
    mask = batch.answer_mask
    rewards = per_answer if kind == "sequence" else per_token
    value = per_answer if kind == "sequence" else (per_token * mask).sum(1)
    exact = flat_gradient((probability * value).sum(), policy)
    advantage = NoBaseline()
    if baseline == "moving-average":
        advantage = MovingAverage()
        advantage.average = 0.7  # what earlier steps left behind
    estimate = -flat_gradient(estimator(batch, log_probs, probability, rewards, advantage), policy)
    assert (estimate - exact).abs().max() < TOLERANCE
    assert exact.abs().max() > 1e-2


def estimate_from_pairs(world, rewards, advantage):
    """The estimator's mean over all ordered pairs of answers, as two samples of one question, weighted by the
    probability of drawing both."""
    policy, batch, log_probs, probability, _, _ = world
    mask, n = batch.answer_mask, len(batch)
    first, second = torch.arange(n).repeat_interleave(n), torch.arange(n).repeat(n)
    rows = torch.stack([first, second], dim=1).flatten()
    advantages = advantage(returns(rewards, mask)[rows], mask[rows].double(), 2)
    both = (probability[first] * probability[second]).detach().repeat_interleave(2)
    loss = policy_gradient_loss(log_probs[rows], advantages * both[:, None] * n * n, mask[rows])
    return -flat_gradient(loss, policy)


@pytest.mark.parametrize("kind", ["sequence", "token"])
def test_leave_one_out_equals_the_exact_gradient(world, kind):
    policy, batch, _, probability, per_answer, per_token = world
    rewards = per_answer if kind == "sequence" else per_token
    value = per_answer if kind == "sequence" else (per_token * batch.answer_mask).sum(1)
    exact = flat_gradient((probability * value).sum(), policy)
    assert (estimate_from_pairs(world, rewards, LeaveOneOut()) - exact).abs().max() < TOLERANCE


def test_group_norm_is_not_the_exact_gradient(world):
    """The test above can fail: standardising within the group, which is biased, does fail it."""
    policy, _, _, probability, per_answer, _ = world
    exact = flat_gradient((probability * per_answer).sum(), policy)
    assert (estimate_from_pairs(world, per_answer, GroupNorm()) - exact).abs().max() > 1e-3


def test_gradient_matches_finite_differences(world):
    """The exact gradient that the others are compared with, itself checked by central differences."""
    policy, batch, _, probability, per_answer, _ = world
    exact = flat_gradient((probability * per_answer).sum(), policy)

    def expected_reward() -> float:
        log_probs = policy.token_log_probs(batch.answer_ids)
        return ((log_probs * batch.answer_mask).sum(1).exp() * per_answer).sum().item()

    flat, step = policy.logits.data.view(-1), 1e-6
    for i in range(0, flat.numel(), 7):
        flat[i] += step
        up = expected_reward()
        flat[i] -= 2 * step
        down = expected_reward()
        flat[i] += step
        assert (up - down) / (2 * step) == pytest.approx(exact[i].item(), abs=1e-8)
