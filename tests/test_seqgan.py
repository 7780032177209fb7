"""Rewards, returns, advantages and losses against hand-computed values."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gantune.data.batch import Batch
from gantune.errors import UserError
from gantune.seqgan import (
    bradley_terry_loss,
    build_reward,
    discriminator_loss,
    likelihood_loss,
    policy_gradient_loss,
    returns,
)
from gantune.seqgan.advantages import GroupNorm, LeaveOneOut, MovingAverage
from gantune.seqgan.rewards import REWARDS, TRANSFORMS, ConstantReward, self_consistency


class KnownJudge:
    """A discriminator whose logits are given: 10 b + t for prefix t of row b, so that every cell is told apart."""

    def prefix_logits(self, batch):
        rows, columns = batch.answer_ids.shape
        return torch.arange(rows)[:, None] * 10.0 + torch.arange(columns)

    def sequence_logits(self, batch):
        return -torch.arange(len(batch)).float()


@pytest.fixture
def batch():
    empty = torch.zeros(3, 0, dtype=torch.long)
    return Batch(empty, empty, torch.ones(3, 4, dtype=torch.long), torch.ones(3, 4, dtype=torch.long))


def test_sequence_and_token_rewards_put_each_number_in_its_cell(batch):
    sequence = build_reward("sequence", KnownJudge(), "logit")(["q"] * 3, ["a"] * 3, batch)
    token = build_reward("token", KnownJudge(), "logit")(["q"] * 3, ["a"] * 3, batch)
    assert sequence.tolist() == [0, -1, -2]
    for b in range(3):
        for t in range(4):
            assert token[b, t] == 10 * b + t


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("prob", lambda d: d),
        ("centred", lambda d: 2 * d - 1),
        ("log", math.log),
        ("logit", lambda d: math.log(d) - math.log(1 - d)),
    ],
)
def test_transforms(name, expected):
    logits = torch.tensor([-3.0, 0.0, 0.5], dtype=torch.float64)
    for logit, value in zip(logits, TRANSFORMS.get(name)(logits), strict=True):
        assert value.item() == pytest.approx(expected(1 / (1 + math.exp(-logit))), abs=1e-12)


def test_constant_reward_asks_nobody(batch):
    assert ConstantReward()(["q"] * 3, ["a"] * 3, batch).tolist() == [1, 1, 1]


def test_a_function_is_a_reward_as_it_is():
    def length(questions, answers, rollout):
        return [float(len(answer)) for answer in answers]

    assert build_reward(length, KnownJudge()) is length


def test_an_unknown_reward_lists_the_known_ones():
    with pytest.raises(UserError, match=r"unknown reward 'bleu'.*constant, monte-carlo, sequence, token"):
        REWARDS.resolve("bleu")


def test_returns_are_reward_to_go():
    rewards = torch.tensor([[1.0, 2.0, 4.0], [3.0, 5.0, 100.0]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    assert returns(rewards, mask).tolist() == [[7, 6, 4], [8, 5, 0]]
    assert returns(rewards, mask, discount=0.5).tolist() == [[3, 4, 4], [5.5, 5, 0]]
    normalised = returns(rewards, mask, discount=0.5, length_normalised=True)
    expected = [[3 / 1.75, 4 / 1.5, 4], [5.5 / 1.5, 5, 0]]
    assert torch.allclose(normalised, torch.tensor(expected))


@pytest.mark.parametrize("padding", [math.nan, -math.inf])
def test_what_stands_in_the_padding_may_be_no_number(padding):
    rewards, mask = torch.tensor([[1.0, 2.0, padding]]), torch.tensor([[1, 1, 0]])
    assert returns(rewards, mask, 0.5).tolist() == [[2, 2, 0]]


def test_length_normalised_returns_do_not_pay_for_ending_early():
    rewards, mask = torch.full((2, 6), -0.5), torch.ones(2, 6, dtype=torch.long)
    mask[1, 2:] = 0
    g = returns(rewards, mask, discount=0.9, length_normalised=True)
    assert torch.allclose(g[0, 0], g[1, 0])
    assert not torch.allclose(*returns(rewards, mask, discount=0.9)[:, 0])


def test_whole_answer_rewards_reach_every_token_but_the_padding():
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    assert returns(torch.tensor([2.0, -1.0]), mask).tolist() == [[2, 2, 2], [-1, 0, 0]]


def test_leave_one_out_by_hand():
    """Two questions of two samples; the first question's second sample ends early and its last return is carried."""
    g = torch.tensor([[3.0, 2.0, 1.0], [5.0, 4.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 1, 1], [1, 0, 0]])
    assert LeaveOneOut()(g, mask, 2).tolist() == [[-2, -2, -3], [2, 2, 0], [1, 1, 1], [-1, 0, 0]]


def test_group_norm_by_hand():
    g, mask = torch.tensor([[1.0], [3.0], [5.0], [5.0]]), torch.ones(4, 1)
    expected = [[-1 / math.sqrt(2)], [1 / math.sqrt(2)], [0], [0]]
    assert torch.allclose(GroupNorm()(g, mask, 2), torch.tensor(expected), atol=1e-5)


@pytest.mark.parametrize("reward", [0.7, -0.7, 0.0, 30.0])
def test_group_norm_of_one_reward_is_zero_whatever_its_last_bits_say(reward):
    """Five samples, of which one is off by one unit in the last place; by more than rounding it counts."""
    g, mask = torch.full((5, 1), reward), torch.ones(5, 1)
    assert not GroupNorm()(g, mask, 5).any()
    g[2] = torch.nextafter(g[2], torch.tensor(100.0)) if reward else g[2]
    assert not GroupNorm()(g, mask, 5).any()
    g[2] += 1e-4
    assert GroupNorm()(g, mask, 5)[2].item() == pytest.approx(4 / math.sqrt(5), rel=0.05)


def test_moving_average_uses_earlier_steps_only():
    baseline, mask = MovingAverage(decay=0.5), torch.tensor([[1, 1], [1, 0]])
    assert baseline(torch.tensor([[4.0, 4.0], [1.0, 9.0]]), mask, 1).tolist() == [[4, 4], [1, 0]]
    assert baseline.average == 3  # (4 + 4 + 1) / 3: the padding's 9 does not count
    assert baseline(torch.tensor([[4.0, 4.0], [1.0, 0.0]]), mask, 1).tolist() == [[1, 1], [-2, 0]]


def test_losses_by_hand():
    log_probs = torch.tensor([[-1.0, -2.0], [-3.0, -9.0]])
    mask = torch.tensor([[1, 1], [1, 0]])
    assert likelihood_loss(log_probs, mask).item() == 2
    advantages = torch.tensor([[1.0, 2.0], [-1.0, 7.0]])
    assert policy_gradient_loss(log_probs, advantages, mask).item() == (1 + 4 - 3) / 2


def test_no_gradient_flows_into_advantages():
    log_probs = torch.zeros(1, 2, requires_grad=True)
    advantages = torch.ones(1, 2, requires_grad=True)
    policy_gradient_loss(log_probs, advantages, torch.ones(1, 2)).backward()
    assert advantages.grad is None and log_probs.grad.tolist() == [[-1, -1]]


def test_bradley_terry_loss_and_its_gradient_by_hand():
    real = torch.tensor([2.0, -1.0, 0.5, 60.0], dtype=torch.float64, requires_grad=True)
    other = torch.tensor([1.0, 3.0, 0.5, -60.0], dtype=torch.float64, requires_grad=True)
    loss = bradley_terry_loss(real, other)
    right = [1 / (1 + math.exp(-difference)) for difference in (1.0, -4.0, 0.0, 120.0)]
    assert loss.item() == pytest.approx(-sum(map(math.log, right)) / 4, abs=1e-12)
    loss.backward()
    expected = torch.tensor([(share - 1) / 4 for share in right], dtype=torch.float64)
    assert torch.allclose(real.grad, expected, atol=1e-12) and torch.allclose(other.grad, -expected, atol=1e-12)
    assert torch.autograd.gradcheck(bradley_terry_loss, (real, other))
    assert torch.equal(bradley_terry_loss(real[:1], other[:1], 4) * 4, bradley_terry_loss(real[:1], other[:1]))
    far = torch.tensor([-1e4])
    assert bradley_terry_loss(far, -far).item() == 2e4, "no overflow"


def test_discriminator_loss_by_hand():
    real, generated = torch.tensor([0.0, 2.0]), torch.tensor([-1.0])
    sigmoid = [1 / (1 + math.exp(-x)) for x in (0.0, 2.0, -1.0)]
    smooth = -sum(0.9 * math.log(d) + 0.1 * math.log(1 - d) for d in sigmoid[:2]) / 2
    expected = 0.5 * (smooth - math.log(1 - sigmoid[2]))
    assert discriminator_loss(real, generated, real_label=0.9).item() == pytest.approx(expected, abs=1e-6)
    masked = discriminator_loss(
        torch.tensor([[0.0, 99.0], [2.0, -99.0]]),
        torch.tensor([[-1.0, 50.0]]),
        torch.tensor([[1, 0], [1, 0]]),
        torch.tensor([[1, 0]]),
        real_label=0.9,
    )
    assert masked.item() == pytest.approx(expected, abs=1e-6)
    undecided = discriminator_loss(torch.zeros(8), torch.zeros(3))
    assert undecided.item() == pytest.approx(math.log(2), abs=1e-6)


def test_answers_agree_by_the_stems_of_their_words():
    assert self_consistency(["cats run", "cat runs"]) == [1, 1] and self_consistency(["alone"]) == [0]


def test_a_process_with_one_of_the_logits_takes_its_share_of_their_mean():
    one = torch.tensor([0.0])
    assert discriminator_loss(one, one, counts=(1, 1)).item() == pytest.approx(math.log(2), abs=1e-6)
    assert discriminator_loss(one, one, counts=(2, 4)).item() == pytest.approx(math.log(2) * 3 / 8, abs=1e-6)


def test_the_first_comparison_of_answers_draws_no_random_number():
    """nltk does when it is imported: a training that goes on in a new process would then draw others."""
    code = (
        "import random, sys; random.seed(0); before = random.getstate();"
        "from gantune.seqgan.rewards import self_consistency; assert 'nltk' not in sys.modules;"
        "assert self_consistency(['a b', 'a b']) == [1, 1] and 'nltk' in sys.modules;"
        "sys.exit(random.getstate() != before)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1]).returncode == 0
