"""What a step makes of the rewards of samples: weights of their log-probs, checked against hand-computed ones."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from rouge_score.rouge_scorer import RougeScorer

from gantune.errors import UserError
from gantune.seqgan import ADVANTAGES, OBJECTIVES, build_reward, is_unjudged, policy_gradient_loss, weighted_loss
from gantune.seqgan.rewards import ProductReward

MASK = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 1]])  # two questions of two samples each
RETURNS = torch.tensor([[0.2, 0.4, 0.6], [0.9, 0.7, 5.0], [0.3, 9.0, 9.0], [0.1, 0.1, 0.1]])


def build(name: str, advantage: str = "leave-one-out"):
    return OBJECTIVES.get(name)(ADVANTAGES.get(advantage)(), 10)


def test_the_policy_gradient_is_the_one_of_the_loss():
    log_probs = torch.randn(4, 3, dtype=torch.float64)
    for name in ADVANTAGES.names():
        weights = build("policy-gradient", name)(RETURNS, MASK, 2)
        advantages = ADVANTAGES.get(name)()(RETURNS, MASK, 2)
        expected = policy_gradient_loss(log_probs, advantages, MASK) / 10
        assert weighted_loss(log_probs, weights).item() == pytest.approx(expected.item(), rel=1e-6)


def test_best_of_k_is_the_likelihood_of_the_best_answer_of_each_question():
    weights = build("best-of-k")(RETURNS, MASK, 2)
    # worth .4 and .8, then .3 and .1: the second answer of the first question, the first of the second; 3 tokens in all
    assert torch.equal(weights, torch.tensor([[0.0] * 3, [1 / 3, 1 / 3, 0], [1 / 3, 0, 0], [0.0] * 3]))


def test_the_first_of_equals_is_the_best():
    weights = build("best-of-k")(torch.ones(4, 3), MASK, 4)
    assert torch.equal(weights, torch.tensor([[1 / 3] * 3, [0.0] * 3, [0.0] * 3, [0.0] * 3]))


def test_weighted_likelihood_weighs_by_the_standardised_worth():
    weights = build("weighted")(RETURNS, MASK, 2)
    better = 1 / (1 + math.exp(-4))  # of two, worth is standardised to 1 and -1, and divided by a temperature of .5
    worse = 1 - better
    total = 3 * worse + 2 * better + 1 * better + 3 * worse
    expected = torch.tensor([worse, better, better, worse])[:, None] * MASK / total
    assert torch.allclose(weights, expected, atol=1e-4)
    assert torch.allclose(build("weighted")(torch.ones(4, 3), MASK, 2), MASK / MASK.sum())


def test_consensus_is_the_mean_agreement_with_the_other_samples():
    answers = ["the cat sat", "the cat ran", "a dog ran", "one", "one", "two"]
    rollout = type("Rollout", (), {"samples_per_prompt": 3, "device": torch.device("cpu")})()
    reward = build_reward("consensus", None)
    scorer = RougeScorer(["rougeL"], use_stemmer=True)

    def agreement(i, j):
        return scorer.score(answers[i], answers[j])["rougeL"].fmeasure

    expected = [(agreement(0, 1) + agreement(0, 2)) / 2, (agreement(0, 1) + agreement(1, 2)) / 2,
                (agreement(0, 2) + agreement(1, 2)) / 2, 0.5, 0.5, 0.0]  # fmt: skip
    assert reward([""] * 6, answers, rollout).tolist() == pytest.approx(expected)
    assert agreement(0, 1) == pytest.approx(2 / 3) and agreement(0, 2) == 0


def test_a_product_of_rewards_is_of_tokens_if_one_is():
    def whole(questions, answers, rollout):
        return [2.0, 3.0]

    def tokens(questions, answers, rollout):
        return torch.tensor([[1.0, 2.0], [3.0, 4.0]])

    here, elsewhere = SimpleNamespace(device="cpu"), SimpleNamespace(device="meta")
    assert ProductReward([whole, whole])([], [], here).tolist() == [4, 9]
    assert ProductReward([whole, tokens])([], [], here).tolist() == [[2, 4], [9, 12]]
    assert ProductReward([whole, tokens])([], [], elsewhere).device.type == "meta"


def test_a_product_goes_on_with_what_its_parts_had():
    class Counted(torch.nn.Module):
        """How often it was asked."""

        def __init__(self):
            super().__init__()
            self.register_buffer("asked", torch.zeros(()))

        def __call__(self, questions, answers, rollout):
            self.asked += 1
            return [1.0]

    made, again = (ProductReward([lambda *_: [2.0], Counted()]) for _ in range(2))
    made([""], [""], SimpleNamespace(device="cpu"))
    again.load_state_dict(made.state_dict())
    assert again.rewards[1].asked == 1


def test_a_product_is_named_by_a_star_and_trains_a_discriminator_if_one_of_its_parts_asks_it():
    assert build_reward("consensus*constant", None).unjudged
    judged = build_reward("consensus*token", None)
    assert not judged.unjudged and judged.per_token
    with pytest.raises(UserError, match=r"--reward consensus\*monte-carlo: .* cannot be multiplied"):
        build_reward("consensus*monte-carlo", None, search=object())
    with pytest.raises(UserError, match="unknown reward 'agreement'"):
        build_reward("consensus*agreement", None)


def test_a_plain_function_asks_no_discriminator_and_an_object_may():
    def short(questions, answers, rollout):
        return [float(len(answer) < 9) for answer in answers]

    class Judged:
        def __call__(self, questions, answers, rollout):
            return [0.0] * len(answers)

    assert is_unjudged(short) and not is_unjudged(Judged()) and not is_unjudged(build_reward("sequence", None))
    short.unjudged = False
    assert not is_unjudged(short)
