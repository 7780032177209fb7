"""TOFU's arithmetic on answers whose probabilities are chosen, so that every figure can be worked out by hand."""

import math

import pytest

from gantune.errors import UserError
from gantune.metrics.tofu import (
    QuestionLosses,
    choice_probability,
    harmonic_mean,
    model_utility,
    probability,
    rescaled_truth_ratio,
    set_figures,
    truth_ratio,
)


def loss(p: float, tokens: int = 2) -> tuple[float, int]:
    """Of an answer whose tokens have probability `p` each."""
    return -tokens * math.log(p), tokens


def test_probability_is_normalised_for_length():
    # P(a|q) = 1/2 * 1/4 * 1/8 = 1/64; to the power 1/3: 1/4.
    assert probability((math.log(64), 3)) == pytest.approx(1 / 4)


def test_choice_probability_is_the_share_of_normalised_probabilities():
    # .4 / (.4 + .3 + .1 + .2), whatever the lengths
    wrong = [loss(0.3, 1), loss(0.1, 5), loss(0.2, 3)]
    assert choice_probability(loss(0.4, 7), wrong) == pytest.approx(0.4)


def test_choice_probability_of_very_unlikely_answers():
    # e^-2000 is 0 as a float; the share is 1 / (1 + e^-1) all the same.
    assert choice_probability((2000.0, 1), [(2001.0, 1)]) == pytest.approx(1 / (1 + math.exp(-1)))
    assert choice_probability((2000.0, 1), [(1.0, 1)]) == 0.0


def test_truth_ratio_arithmetic_is_the_papers_equation():
    # mean(.1, .4) / .5 = .25 / .5; lengths differ and do not matter
    assert truth_ratio(loss(0.5, 4), [loss(0.1, 3), loss(0.4, 9)], "arithmetic") == pytest.approx(0.5)


def test_truth_ratio_geometric_is_open_unlearnings():
    # sqrt(.1 * .4) / .5 = .2 / .5
    assert truth_ratio(loss(0.5, 4), [loss(0.1, 3), loss(0.4, 9)], "geometric") == pytest.approx(0.4)


def test_truth_ratio_beyond_floats():
    assert truth_ratio((5000.0, 1), [(1.0, 1), (5000.0, 1)], "arithmetic") == math.inf
    assert truth_ratio((5000.0, 1), [(1.0, 1)], "geometric") == math.inf
    assert truth_ratio((1.0, 1), [(5000.0, 1)], "arithmetic") == 0.0


@pytest.mark.parametrize("ratio, rescaled", [(0.0, 1.0), (0.25, 0.75), (1.0, 0.0), (3.0, 0.0), (math.inf, 0.0)])
def test_rescaled_truth_ratio(ratio, rescaled):
    assert rescaled_truth_ratio(ratio) == rescaled


def test_harmonic_mean():
    assert harmonic_mean([1, 0.5, 0.25]) == pytest.approx(3 / 7)
    assert harmonic_mean([0.5, 0.0]) == 0.0


def questions() -> list[QuestionLosses]:
    return [
        QuestionLosses(loss(0.6), loss(0.5), (loss(0.1), loss(0.4))),  # R .5 and .4; share .6 / 1.1
        QuestionLosses(loss(0.2), loss(0.1), (loss(0.8), loss(0.2))),  # R 5 and 4; share .2 / 1.2
    ]


def test_figures_of_a_set():
    assert set_figures(questions(), [0.3, 0.6], multiple_choice=False) == pytest.approx(
        {
            "questions": 2,
            "probability": 0.4,
            "rougeL_recall": 0.45,
            "truth_ratio_questions": 2,
            "truth_ratio_arithmetic": 0.25,  # (1 - .5) / 2: the mean of the rescaled ratios, not 1 - their mean
            "truth_ratio_geometric": 0.3,
        }
    )
    shares = set_figures(questions(), [0.3, 0.6], multiple_choice=True)["probability"]
    assert shares == pytest.approx((0.6 / 1.1 + 0.2 / 1.2) / 2)


def test_only_questions_with_wrong_answers_count_in_the_truth_ratio():
    rows = [*questions(), QuestionLosses(loss(0.1), loss(0.1), ())]
    figures = set_figures(rows, [0.3, 0.6, 0.9], multiple_choice=False)
    assert (figures["questions"], figures["truth_ratio_questions"]) == (3, 2)
    assert figures["probability"] == pytest.approx(0.3)
    assert figures["truth_ratio_arithmetic"] == pytest.approx(0.25)


def test_an_empty_set_has_no_figures():
    figures = set_figures([], [], multiple_choice=True)
    assert figures["questions"] == 0
    assert figures["probability"] is figures["rougeL_recall"] is figures["truth_ratio_geometric"] is None


def test_model_utility():
    first = {"probability": 1.0, "rougeL_recall": 0.5, "truth_ratio_arithmetic": 0.25, "truth_ratio_geometric": 0.5}
    second = {"probability": 0.5, "rougeL_recall": 0.5, "truth_ratio_arithmetic": 1.0, "truth_ratio_geometric": 1.0}
    # arithmetic: 6 / (1 + 2 + 4 + 2 + 2 + 1); geometric: 6 / (1 + 2 + 2 + 2 + 2 + 1)
    assert model_utility([first, second], "arithmetic") == pytest.approx(6 / 12)
    assert model_utility([first, second], "geometric") == pytest.approx(6 / 10)
    assert model_utility([first, second | {"truth_ratio_geometric": None}], "geometric") is None
    assert model_utility([first, second | {"rougeL_recall": 0.0}], "geometric") == 0.0


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: probability((1.0, 0)), "expected 1 token or more, got 0"),
        (lambda: probability((math.nan, 3)), "expected a finite number of nats, got nan"),
        (lambda: choice_probability(loss(0.5), []), "perturbed answers: expected at least one"),
        (lambda: truth_ratio(loss(0.5), [], "arithmetic"), "perturbed answers: expected at least one"),
        (lambda: truth_ratio(loss(0.5), [loss(0.5)], "harmonic"), "mean is 'harmonic', expected arithmetic or geo"),
        (lambda: harmonic_mean([]), "expected at least one value"),
        (lambda: harmonic_mean([0.5, -0.1]), "expected values of 0 or more, got -0.1"),
        (lambda: harmonic_mean([0.5, math.nan]), "got nan"),
        (lambda: set_figures(questions(), [0.5], False), "got 1 for 2"),
    ],
)
def test_what_makes_no_sense_is_named(call, message):
    with pytest.raises(UserError, match=message):
        call()
