"""The figures that tell what a discriminator knows, against counts by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from benchmarks.discriminators import auc, rank_correlation, ranks, selected, table


def test_ranks_share_the_mean_rank_among_equals():
    assert ranks([3.0, 1.0, 3.0, 2.0]).tolist() == [3.5, 1, 3.5, 2]


def test_auc_is_the_share_of_pairs_in_the_right_order():
    generator = np.random.default_rng(0)
    positive, negative = generator.integers(0, 5, 7).tolist(), generator.integers(0, 5, 9).tolist()
    pairs = [(p > n) + 0.5 * (p == n) for p, n in itertools.product(positive, negative)]
    assert auc(positive, negative) == pytest.approx(sum(pairs) / len(pairs))
    assert auc([2, 3], [0, 1]) == 1 and auc([0], [1]) == 0


def test_rank_correlation_is_within_questions_and_skips_those_that_do_not_vary():
    quality = np.array([[0.1, 0.2, 0.9], [0.3, 0.2, 0.1], [0.5, 0.5, 0.5]])
    scores = np.array([[1.0, 2.0, 3.0], [1.0, 3.0, 2.0], [1.0, 2.0, 3.0]])
    assert rank_correlation(scores, quality) == pytest.approx((1 - 0.5) / 2)  # rho 1, rho 1 - 6 * 6 / 24 = -.5
    assert rank_correlation(np.zeros((3, 3)), quality) == 0


def test_selected_is_the_quality_of_the_highest_score():
    assert selected(np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[0.2, 0.9], [0.4, 0.8]])) == pytest.approx(0.5)


def test_the_table_gives_means_over_seeds():
    lines = table({"cnn": {"auc_real": [0.5, 0.7], "best": [0.25]}, "random": {}}).splitlines()
    assert lines[2] == "| cnn | 0.600 | - | - | 0.250 |" and lines[3] == "| random | - | - | - | - |"
