"""The oracle's figures and steps against exact values: all 64 sequences of 3 tokens out of 4 are enumerated."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from benchmarks.oracle import ratio as ratio_rows
from benchmarks.oracle.divergences import divergences
from benchmarks.oracle.lstm import LSTMPolicy, as_batch, empty_batch
from benchmarks.oracle.ratio import RatioJudge, all_actions_loss, mediator_round, policy_gradient
from benchmarks.oracle.samplers import Independent, Tempered
from benchmarks.oracle.settings import OracleSettings
from benchmarks.oracle.training import generator_step
from benchmarks.statistics.partial_correlation import partial_correlation
from gantune.policy import Rollout
from gantune.seqgan import build_reward, policy_gradient_loss, returns
from tests.finite_differences import slope

TOKENS, PLACES = 4, 3
EVERY = torch.cartesian_prod(*[torch.arange(TOKENS)] * PLACES)


def drawn_policy(seed: int) -> LSTMPolicy:
    torch.manual_seed(seed)
    return LSTMPolicy(TOKENS, width=3, std=1.0).double()


@pytest.fixture
def policy():
    return drawn_policy(0)


@pytest.fixture
def oracle():
    return drawn_policy(1)


def every_rollout(policy: LSTMPolicy) -> Rollout:
    """All sequences as if they had been sampled, each once."""
    batch = as_batch(EVERY)
    log_probs = policy.score(batch).detach()
    return Rollout(**vars(batch), log_probs=log_probs, noise=None, temperature=1.0, samples_per_prompt=len(EVERY),
                   max_new_tokens=PLACES)  # fmt: skip


def sequence_log_probs(policy: LSTMPolicy) -> torch.Tensor:
    """Each token's softmax by hand, `[64]`."""
    distributions = policy.log_distributions(EVERY)
    pairs = zip(distributions, EVERY, strict=True)
    return torch.stack([sum(row[t, token] for t, token in enumerate(ids)) for row, ids in pairs])


def test_whole_sequences_have_the_divergences_of_their_next_tokens(policy, oracle):
    """The chain rule: sums over places, in expectation, are KL and entropy of the 64 sequences' distributions."""
    found = [divergences(Tempered(oracle), Tempered(policy), ids[None], ids[None]) for ids in EVERY]
    log_p, log_q = (sequence_log_probs(each).detach().numpy() for each in (oracle, policy))
    p, q = np.exp(log_p), np.exp(log_q)
    assert p.sum() == pytest.approx(1) and q.sum() == pytest.approx(1)
    expected = {
        "forward_kl": (p, (p * (log_p - log_q)).sum()),
        "reverse_kl": (q, (q * (log_q - log_p)).sum()),
        "entropy": (q, -(q * log_q).sum()),
    }
    for name, (weights, value) in expected.items():
        estimated = sum(weight * PLACES * each[name] for weight, each in zip(weights, found, strict=True))
        assert estimated == pytest.approx(value, rel=1e-6) and value > 0.05, name


def test_the_jensen_shannon_divergence_is_that_of_each_next_token(policy, oracle):
    real, own = EVERY[[3, 20]], EVERY[[41, 63]]

    def by_hand(sampler):
        terms = []
        for ids in torch.cat([real, own]):
            both = (each.log_distributions(ids[None])[0].exp().tolist() for each in (Tempered(oracle), sampler))
            for p, q in zip(*both, strict=True):
                mixed = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
                terms.append(sum(0.5 * c * math.log(c / m) for c, m in zip(p + q, mixed * 2, strict=True)))
        return sum(terms) / len(terms)

    for sampler in (Tempered(policy), Tempered(policy, 0.7)):
        found = divergences(Tempered(oracle), sampler, real, own)["js"]
        assert found == pytest.approx(by_hand(sampler), rel=1e-6) and 0 < found < math.log(2)


def test_divergences_of_distributions_that_share_all_or_nothing():
    left, right = Independent(torch.tensor([0.5, 0.5, 0, 0])), Independent(torch.tensor([0, 0, 0.5, 0.5]))
    ids = torch.tensor([[0, 1], [1, 1]])
    apart = divergences(left, right, ids, ids + 2)
    assert apart["js"] == pytest.approx(math.log(2)) and apart["entropy"] == pytest.approx(math.log(2))
    assert apart["forward_kl"] == apart["reverse_kl"] == math.inf
    same = divergences(left, left, ids, ids)
    assert (same["js"], same["forward_kl"], same["reverse_kl"]) == (0, 0, 0)


def test_a_ratio_of_the_policy_to_itself_rewards_nothing(policy):
    torch.manual_seed(0)
    rollout = policy.rollout(empty_batch(1), max_new_tokens=PLACES, samples_per_prompt=50)
    assert build_reward("token", RatioJudge(policy), "logit")((), (), rollout).abs().max() < 1e-6


def test_the_judge_that_has_the_oracle_is_the_optimal_one(policy, oracle):
    logits = RatioJudge(oracle).sequence_logits(every_rollout(policy)).detach()
    p, q = (sequence_log_probs(each).exp() for each in (oracle, policy))
    assert torch.allclose(logits.sigmoid(), p / (p + q))
    assert partial_correlation(logits.tolist(), p.log().tolist(), q.log().tolist()) == pytest.approx(1)


def test_the_policy_gradient_of_the_ratio_is_that_of_the_divergence(policy, oracle):
    """Over all sequences, each as often as it is sampled: exactly down KL(q || m)."""
    rollout = every_rollout(policy)
    rewards = build_reward("token", RatioJudge(oracle), "logit")((), (), rollout)
    weights = rollout.log_probs.sum(dim=1).exp()[:, None] * len(EVERY)
    loss = policy_gradient_loss(policy.score(rollout), weights * returns(rewards, rollout.answer_mask), EVERY >= 0)
    log_q, log_m = sequence_log_probs(policy), sequence_log_probs(oracle).detach()
    divergence = (log_q.exp() * (log_q - log_m)).sum()
    trained = [p for p in policy.parameters() if p.requires_grad]
    gradients = (torch.autograd.grad(value, trained) for value in (loss, divergence))
    for found, expected in zip(*gradients, strict=True):
        assert torch.allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize("ids", [torch.tensor([[2]]), EVERY[[7, 50]]])
def test_the_gradient_over_all_actions_is_the_finite_difference_of_the_divergence(policy, oracle, ids):
    """Of one place it is the whole divergence; of more, that of each next token, the prefixes held."""

    def divergence():
        total = 0.0
        with torch.no_grad():
            both = (each.log_distributions(ids).flatten(0, 1).tolist() for each in (policy, oracle))
            for q, m in zip(*both, strict=True):
                total += sum(math.exp(a) * (a - b) for a, b in zip(q, m, strict=True))
        return total

    loss = all_actions_loss(policy, oracle, ids, ids)
    assert loss.item() == pytest.approx(divergence())
    loss.backward()
    for parameter in policy.parameters():
        if not parameter.requires_grad:
            continue
        along = torch.randn_like(parameter)
        expected = slope(divergence, parameter, along)
        assert (parameter.grad * along).sum().item() == pytest.approx(expected, rel=1e-5, abs=1e-8)


class Kept:
    """An optimiser that only keeps the gradients."""

    def __init__(self, policy):
        self.parameters = [p for p in policy.parameters() if p.requires_grad]
        self.param_groups = [{"params": self.parameters}]

    def zero_grad(self):
        for parameter in self.parameters:
            parameter.grad = None

    def step(self):
        self.largest = max(parameter.grad.abs().max().item() for parameter in self.parameters)


def test_with_leave_one_out_a_constant_reward_and_a_ratio_of_one_move_nothing():
    torch.manual_seed(0)
    policy, settings = LSTMPolicy(), OracleSettings(sequences=8, batch_size=8, ratio_sequences=8)
    kept, constant = Kept(policy), build_reward("constant", None)
    generator_step(policy, kept, constant, settings)
    assert kept.largest > 1e-2
    generator_step(policy, kept, constant, settings, "leave-one-out")
    assert kept.largest < 1e-5
    policy_gradient(policy, kept, policy, settings, shuffled=False)
    assert kept.largest < 1e-5
    policy_gradient(policy, kept, LSTMPolicy(std=1.0), settings, shuffled=False)
    assert kept.largest > 1e-2


def test_shuffled_over_all_actions_the_model_reads_other_sequences(monkeypatch):
    torch.manual_seed(0)
    policy, settings, seen = LSTMPolicy(), OracleSettings(sequences=8, batch_size=8, ratio_sequences=8), []
    loss = all_actions_loss
    monkeypatch.setattr(ratio_rows, "all_actions_loss", lambda *given: seen.append(given[2:]) or loss(*given))
    for shuffled in (False, True):
        ratio_rows.all_actions(policy, Kept(policy), LSTMPolicy(), settings, shuffled)
    (own, read), (others, mixed) = seen
    assert torch.equal(own, read) and not torch.equal(others, mixed)
    assert sorted(others.tolist()) == sorted(mixed.tolist())


def test_each_batch_of_the_mediator_is_half_real_and_half_sampled(monkeypatch):
    settings, given = OracleSettings(sequences=8, batch_size=8, ratio_sequences=12), []
    monkeypatch.setattr(ratio_rows, "likelihood_epoch", lambda model, optimizer, data, settings: given.append(data))
    monkeypatch.setattr(ratio_rows, "sample", lambda policy, rows: torch.ones(rows, 20, dtype=torch.long))
    mediator_round(LSTMPolicy(), None, LSTMPolicy(), torch.zeros(8, 20, dtype=torch.long), settings)
    (data,) = given
    assert len(data) == 24
    for batch in data.split(8):
        assert batch.sum() == len(batch) * 10


def test_a_partial_correlation_by_hand():
    """r_xy = .4, r_xz = .8, r_yz = .2, so (.4 - .16) / (.6 sqrt(.96)) = 1 / sqrt(6)."""
    x, y, z = [1, 2, 3, 4], [1, 3, 4, 2], [1, 3, 2, 4]
    assert partial_correlation(x, y, z) == pytest.approx(6**-0.5)
    assert partial_correlation(x, y, [5, 5, 5, 5]) == pytest.approx(0.4), "nothing is given"
    assert partial_correlation([3 * value - 1 for value in z], y, z) == 0, "it repeats what is given"
    assert partial_correlation([2, 2, 2, 2], y, z) == 0
