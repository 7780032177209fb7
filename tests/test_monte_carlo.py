"""Monte-Carlo rewards by enumeration, and cell by cell: batch and time are never mixed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from gantune.data.batch import Batch
from gantune.seqgan import MonteCarloReward, ShuffledReward, build_reward, policy_gradient_loss, search_values
from tests.enumeration import TabularPolicy, every_answer, flat_gradient


def answers(*lengths: int) -> Batch:
    """Rows of these lengths; the token at row b, position t (from 1) is 100 b + t."""
    width = max(lengths)
    ids, mask = torch.zeros(len(lengths), width, dtype=torch.long), torch.zeros(len(lengths), width, dtype=torch.long)
    for row, length in enumerate(lengths):
        ids[row, :length] = 100 * row + torch.arange(1, length + 1)
        mask[row, :length] = 1
    empty = torch.zeros(len(lengths), 0, dtype=torch.long)
    return Batch(empty, empty, ids, mask)


class KnownCompletions:
    """Completes row b after t tokens by one token; the n-th of `number` completions is worth 100 b + t + n.

    Gives chunks of at most three, in a scrambled order, as a search with a cap on its rows might.
    """

    def __init__(self, number: int, stride: int = 1) -> None:
        self.number, self.stride = number, stride

    def __call__(self, rollout: Batch):
        cells = [
            (row, length, n)
            for row in range(len(rollout))
            for length in range(self.stride, int(rollout.answer_mask[row].sum()), self.stride)
            for n in range(self.number)
        ]
        order = torch.randperm(len(cells), generator=torch.Generator().manual_seed(0)).tolist()
        for start in range(0, len(cells), 3):
            rows, lengths, numbers = torch.tensor([cells[i] for i in order[start : start + 3]]).unbind(1)
            worth = (100 * rows + lengths + numbers)[:, None]
            empty = torch.zeros(len(rows), 0, dtype=torch.long)
            yield rows, lengths, Batch(empty, empty, worth, torch.ones_like(worth))


def last_token(batch: Batch) -> torch.Tensor:
    """The score of an answer: the number that its last token is."""
    return batch.answer_ids.gather(1, batch.answer_mask.sum(1, keepdim=True) - 1).squeeze(1).double()


class Reading:
    """A judge that reads prefixes once: of completions its logit is 1000 more, so that one sees which it gave."""

    def __init__(self):
        self.rollouts = []

    def sequence_logits(self, batch: Batch) -> torch.Tensor:
        return last_token(batch)

    def completion_logits(self, rollout: Batch):
        self.rollouts.append(rollout)
        return lambda rows, lengths, completed: 1000 + 100 * rows + lengths + last_token(completed)


def test_a_judge_that_reads_prefixes_once_is_told_rows_and_lengths():
    rollout, judge = answers(3, 2), Reading()
    values = MonteCarloReward(judge, "logit", KnownCompletions(number=2))([], [], rollout)
    # the n-th completion's last token is 100 b + t + n, so that rows and lengths count twice
    expected = [[1000 + 2 * 1 + 0.5, 1000 + 2 * 2 + 0.5, 3], [1000 + 2 * 101 + 0.5, 102, 0]]
    assert values.tolist() == expected
    assert judge.rollouts == [rollout], "once for the whole search"


def test_every_cell_has_the_mean_of_its_own_completions():
    rollout = answers(4, 1, 3)
    values = search_values(last_token, KnownCompletions(number=3), rollout)
    for row, length in enumerate((4, 1, 3)):
        for t in range(1, 5):
            if t < length:
                expected = sum(100 * row + t + n for n in range(3)) / 3
            elif t == length:
                expected = 100 * row + t  # the whole answer's own score
            else:
                expected = 0
            assert values[row, t - 1].item() == pytest.approx(expected), (row, t)


def test_with_a_stride_a_token_takes_the_next_value_that_is_known():
    values = search_values(last_token, KnownCompletions(number=1, stride=3), answers(8, 2, 3))
    by_hand = [
        [3, 3, 3, 6, 6, 6, 8, 8],  # prefixes 3 and 6, then the whole answer
        [102, 102, 0, 0, 0, 0, 0, 0],
        [203, 203, 203, 0, 0, 0, 0, 0],
    ]
    assert values.tolist() == by_hand


def test_the_reward_transforms_each_judgement_before_the_mean():
    """The mean of probabilities, not the probability of a mean: logits 0 and 2 give (.5 + .8808) / 2."""

    class Judge:
        def sequence_logits(self, batch):
            return (last_token(batch) - 1) * 2

    reward = MonteCarloReward(Judge(), "prob", KnownCompletions(number=2))
    value = reward((), (), answers(2))[0, 0].item()
    assert value == pytest.approx((0.5 + 0.880797077977882) / 2)
    assert (reward.per_token, reward.is_return) == (False, True)


def test_build_reward_hands_the_search_to_those_that_search():
    class Judge: ...

    search = KnownCompletions(1)
    assert build_reward("monte-carlo", Judge(), "prob", search).search is search
    build_reward("sequence", Judge(), "prob", search)
    with pytest.raises(ValueError, match="needs a search"):
        build_reward("monte-carlo", Judge())


def test_shuffled_rewards_are_the_same_rows_elsewhere():
    rows = torch.arange(40.0).view(10, 4)
    reward = MonteCarloReward(None, "prob", KnownCompletions(1))
    reward.__class__ = type("Fixed", (MonteCarloReward,), {"__call__": lambda *_: rows})
    torch.manual_seed(0)
    shuffled = ShuffledReward(reward)
    values = shuffled((), (), SimpleNamespace(answer_mask=torch.ones(10, 4, dtype=torch.int64)))
    assert shuffled.is_return
    assert not torch.equal(values, rows)
    assert torch.equal(values[values[:, 0].argsort()], rows)


def test_shuffled_rewards_of_whole_answers_are_the_same_numbers_elsewhere():
    torch.manual_seed(0)
    values = ShuffledReward(lambda questions, answers, rollout: torch.arange(9.0))((), (), None)
    assert sorted(values.tolist()) == list(range(9)) != values.tolist()


def test_a_shuffled_reward_is_never_that_of_a_padding_position():
    lengths = torch.tensor([1, 4, 2, 3, 4, 1])
    mask = (torch.arange(4) < lengths[:, None]).long()
    rows = torch.where(mask.bool(), 10 * torch.arange(6)[:, None] + torch.arange(4), -1).float()
    torch.manual_seed(0)
    values = ShuffledReward(lambda questions, answers, rollout: rows)((), (), SimpleNamespace(answer_mask=mask))
    donors = (values[:, 0] / 10).long()
    assert sorted(donors.tolist()) == list(range(6)) and donors.tolist() != list(range(6))
    for row, donor in zip(values.tolist(), donors.tolist(), strict=True):
        own = rows[donor, : lengths[donor]].tolist()
        assert row == own + own[-1:] * (4 - len(own))


def exact_values(batch: Batch, probability: torch.Tensor, reward: torch.Tensor) -> torch.Tensor:
    """Q of every prefix of every answer, `[B, T]`: the mean reward of all answers that begin with it."""
    ids, mask = batch.answer_ids, batch.answer_mask
    values = torch.zeros(ids.shape, dtype=torch.float64)
    for row in range(len(ids)):
        for t in range(int(mask[row].sum())):
            begins = (ids[:, : t + 1] == ids[row, : t + 1]).all(1)
            values[row, t] = (probability * reward)[begins].sum() / probability[begins].sum()
    return values


def test_policy_gradient_with_exact_values_is_the_exact_gradient():
    """REINFORCE with Q in place of the reward: SeqGAN's equations 3 to 7, to 1e-10."""
    policy, batch = TabularPolicy(), every_answer()
    log_probs = policy.token_log_probs(batch.answer_ids)
    probability = (log_probs * batch.answer_mask).sum(1).exp()
    reward = torch.randn(len(batch), generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    exact = flat_gradient((probability * reward).sum(), policy)
    values = exact_values(batch, probability.detach(), reward)
    weighted = values * probability.detach()[:, None] * len(batch)
    estimate = -flat_gradient(policy_gradient_loss(log_probs, weighted, batch.answer_mask), policy)
    assert (estimate - exact).abs().max() < 1e-10
    assert exact.abs().max() > 1e-2
    late = -flat_gradient(policy_gradient_loss(log_probs, weighted.roll(1, 1), batch.answer_mask), policy)
    assert (late - exact).abs().max() > 1e-3, "a shift by one position would be noticed"
