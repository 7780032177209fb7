import json
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from scipy.stats import t as student_t
from scipy.stats import ttest_1samp

from benchmarks.statistics import (
    compare_methods,
    holm,
    paired_bootstrap,
    paired_differences,
    smallest_detectable,
    stored_scores,
)
from gantune.errors import UserError

SIMULATIONS = 1000
QUESTIONS = 60
QUESTION_SD = math.sqrt(0.4 * 0.1 - 0.1**2)  # of `question_noise`


def question_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Skewed, bounded, 6 of 10 questions the same; mean 0, as Beta(1, 3) has mean 1/4 and mean square 1/10."""
    return rng.binomial(1, 0.4, shape) * rng.beta(1, 3, shape) - 0.1


def experiments(seeds: int, seed_sd: float, difference: float, random_state: int) -> np.ndarray:
    """Differences `[simulations, seeds, questions]` with a random effect of each seed."""
    rng = np.random.default_rng(random_state)
    effects = rng.normal(0.0, seed_sd, (SIMULATIONS, seeds, 1))
    return difference + effects + question_noise(rng, (SIMULATIONS, seeds, QUESTIONS))


@pytest.mark.parametrize(("seeds", "seed_sd"), [(1, 0.0), (3, 0.0), (3, 0.03), (5, 0.0), (5, 0.05)])
def test_interval_covers_the_true_difference_in_95_percent_of_experiments(seeds: int, seed_sd: float) -> None:
    found = [paired_bootstrap(one, resamples=399, seed=i) for i, one in enumerate(experiments(seeds, seed_sd, 0.04, 0))]
    covered = np.mean([result.low <= 0.04 <= result.high for result in found])
    assert 0.93 <= covered <= (0.97 if seed_sd or seeds == 1 else 0.995)


@pytest.mark.parametrize(("seeds", "seed_sd"), [(1, 0.0), (3, 0.0), (3, 0.03), (5, 0.05)])
def test_p_is_below_5_percent_in_5_percent_of_experiments_without_a_difference(seeds: int, seed_sd: float) -> None:
    found = [paired_bootstrap(one, resamples=399, seed=i).p for i, one in enumerate(experiments(seeds, seed_sd, 0, 1))]
    assert (0.03 if seed_sd or seeds == 1 else 0.005) <= np.mean(np.array(found) < 0.05) <= 0.07


@pytest.mark.parametrize(("seeds", "seed_sd"), [(1, 0.0), (3, 0.05)])
def test_smallest_detectable_difference_is_found_in_80_percent_of_experiments(seeds: int, seed_sd: float) -> None:
    # the noise of two methods; a pilot whose estimated standard error is exactly that of the simulated experiments
    noise_variance = 2 * QUESTION_SD**2
    values = np.random.default_rng(2).normal(size=QUESTIONS if seeds == 1 else seeds)
    values = (values - values.mean()) / values.std(ddof=1)
    if seeds == 1:
        pilot = [values * math.sqrt(noise_variance)]
    else:
        pilot = [[value * math.sqrt(seed_sd**2 + noise_variance / QUESTIONS)] for value in values]
    data = experiments(seeds, seed_sd, smallest_detectable(pilot), 3) - experiments(seeds, 0.0, 0.0, 4)
    found = [paired_bootstrap(one, resamples=999, seed=i).p < 0.05 for i, one in enumerate(data)]
    assert 0.75 <= np.mean(found) <= 0.85


def test_smallest_detectable_difference_with_many_questions_is_that_of_the_normal_test() -> None:
    # z(0.975) + z(0.8) = 1.95996 + 0.84162 standard errors; sd of half +1, half -1 is 1
    difference = smallest_detectable([[1.0, -1.0] * 5000])
    assert difference == pytest.approx((1.95996 + 0.84162) / 100, rel=1e-3)
    assert smallest_detectable([[1.0, -1.0] * 5000], power=0.9, alpha=0.01) == pytest.approx(
        (2.57583 + 1.28155) / 100, rel=1e-3
    )


def test_near_normal_scores_give_students_t_over_seed_means() -> None:
    rng = np.random.default_rng(4)
    data = [rng.normal(0.3, 1.0, 200) + effect for effect in (-0.3, 0.1, 0.2, 0.4)]
    means = [group.mean() for group in data]
    error = np.std(means, ddof=1) / 2
    found = paired_bootstrap(data, resamples=100_000)
    assert found.difference == pytest.approx(np.mean(means))
    assert found.standard_error == pytest.approx(error)
    assert (found.high - found.low) / 2 == pytest.approx(student_t.ppf(0.975, 3) * error, rel=0.03)
    assert found.p == pytest.approx(ttest_1samp(means, 0.0).pvalue, rel=0.03)
    assert (found.seeds, found.questions, found.this_seed_only) == (4, 800, False)


def test_seeds_that_agree_by_luck_are_no_surer_than_their_questions() -> None:
    noise = np.tile([1.0, -1.0], 50)  # mean 0, variance 100/99
    data = [noise + mean for mean in (0.2, 0.2001, 0.1999)]
    error = math.sqrt(100 / 99 / 100 / 3)  # of the mean of 300 questions
    found = paired_bootstrap(data)
    assert (found.high - found.low) / 2 == pytest.approx(1.95996 * error, rel=1e-4)
    assert found.p == pytest.approx(2 * scipy.stats.norm.sf(0.2 / error))


def test_one_seed_gives_students_t_over_its_questions_and_says_so() -> None:
    data = np.random.default_rng(5).normal(0.1, 1.0, 300)
    found = paired_bootstrap([data], resamples=100_000)
    assert found.p == pytest.approx(ttest_1samp(data, 0.0).pvalue, rel=0.05)
    assert found.high - found.difference == pytest.approx(
        student_t.ppf(0.975, 299) * data.std(ddof=1) / math.sqrt(300), rel=0.02
    )
    assert found.this_seed_only


def test_every_seed_counts_the_same_whatever_its_number_of_questions() -> None:
    found = paired_bootstrap([[0.1] * 100, [0.4, 0.6]])
    assert found.difference == pytest.approx(0.3)
    assert found.questions == 102


@pytest.mark.parametrize("shift", [0.0, 0.03, 0.06, 0.09, 0.12])
def test_interval_excludes_zero_exactly_if_p_is_at_most_5_percent(shift: float) -> None:
    data = [group + shift for group in experiments(3, 0.03, 0.0, 6)[0]]
    found = paired_bootstrap(data, resamples=999)
    assert (found.low > 0 or found.high < 0) == (found.p <= 0.05)


def test_exchanging_the_methods_changes_only_the_sign() -> None:
    data = experiments(3, 0.03, 0.05, 7)[0]
    there, back = paired_bootstrap(data), paired_bootstrap(-data)
    assert (back.low, back.high) == (pytest.approx(-there.high, rel=0.05), pytest.approx(-there.low, rel=0.05))
    assert back.difference == -there.difference


def test_the_same_seed_gives_the_same_result() -> None:
    data = experiments(3, 0.03, 0.05, 8)[0]
    assert paired_bootstrap(data, seed=3) == paired_bootstrap(data, seed=3)
    assert paired_bootstrap(data, seed=3) != paired_bootstrap(data, seed=4)


@pytest.mark.parametrize("data", [[[0.0] * 9] * 3, [[0.1] * 9] * 3, [[0.3] * 9], [[0.3]], [[0.5, -0.5], [-0.5, 0.5]]])
def test_without_any_spread_there_is_no_interval(data: list[list[float]]) -> None:
    found = paired_bootstrap(data)
    assert (found.low, found.high, found.p) == (None, None, 1.0)
    assert smallest_detectable(data) is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "no seed"),
        ([[0.1, 0.2], []], r"differences\[1\]"),
        ([[0.1, math.nan]], r"differences\[0\]"),
        ([[[0.1, 0.2]]], r"differences\[0\]"),
    ],
)
def test_unusable_differences_are_refused(data: list, message: str) -> None:
    with pytest.raises(UserError, match=message):
        paired_bootstrap(data)


def test_too_few_resamples_are_refused() -> None:
    with pytest.raises(UserError, match="at least 100 resamples"):
        paired_bootstrap([[0.1, 0.2]], resamples=10)


def test_holm_multiplies_the_smallest_by_the_number_and_keeps_the_order() -> None:
    # 4 * .01, 3 * .02, 2 * .04, 1 * .03 -> sorted .01 .02 .03 .04: .04, .06, .06, max(.06, .04)
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.02})
    assert adjusted == pytest.approx({"a": 0.04, "b": 0.06, "c": 0.06, "d": 0.06})
    assert list(adjusted) == ["a", "b", "c", "d"]


def test_holm_is_capped_at_one_and_leaves_a_single_comparison_alone() -> None:
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}
    assert holm({"a": 0.02, "b": 0.02}) == {"a": 0.04, "b": 0.04}
    assert holm({"a": 0.03}) == {"a": 0.03}
    assert holm({}) == {}


def test_methods_are_compared_on_common_seeds_and_corrected_within_each_rival() -> None:
    rng = np.random.default_rng(9)
    rival = {seed: rng.uniform(0, 1, 40) for seed in range(4)}
    scores = {
        "lora": rival,
        "gan": {seed: rival[seed] + rng.normal(0.1, 0.1, 40) for seed in (0, 1, 3)} | {7: rng.uniform(0, 1, 40)},
        "mle": {seed: rival[seed] + rng.normal(0.0, 0.1, 40) for seed in range(4)},
        "other": {9: [0.5] * 40},
    }
    rows = compare_methods(
        scores, {"gan": ["lora", "mle"], "mle": ["lora"], "other": ["lora"], "absent": ["lora"]}, resamples=999
    )
    assert [(row["method"], row["rival"], row["seeds"], row["questions"]) for row in rows] == [
        ("gan", "lora", 3, 120),
        ("gan", "mle", 3, 120),
        ("mle", "lora", 4, 160),
    ]
    assert list(rows[0]) == ["method", "rival", "difference", "low", "high", "p", "p_holm", "seeds", "questions"]
    gan_lora, gan_mle, mle_lora = rows
    direct = paired_bootstrap([scores["gan"][seed] - rival[seed] for seed in (0, 1, 3)], resamples=999)
    assert (gan_lora["difference"], gan_lora["low"], gan_lora["p"]) == (direct.difference, direct.low, direct.p)
    assert gan_mle["p_holm"] == gan_mle["p"]
    assert gan_lora["p"] < mle_lora["p"]
    assert gan_lora["p_holm"] == pytest.approx(2 * gan_lora["p"])
    assert mle_lora["p_holm"] == pytest.approx(max(2 * gan_lora["p"], mle_lora["p"]))


def test_methods_with_unequal_numbers_of_questions_are_refused() -> None:
    with pytest.raises(UserError, match="gan and lora, seed 5: 2 and 3 questions"):
        compare_methods({"gan": {5: [0.1, 0.2]}, "lora": {5: [0.1, 0.2, 0.3]}}, {"gan": ["lora"]})


def write_run(file: Path, rows: list[tuple[str, object]]) -> Path:
    lines = [json.dumps({"question": question, "scores": {"rougeL": score, "tokens": 3}}) for question, score in rows]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def test_differences_of_stored_runs_are_paired_by_question(tmp_path: Path) -> None:
    gan = write_run(tmp_path / "gan.jsonl", [("Who?\u2028", 0.5), ("Where?", 1)])
    lora = write_run(tmp_path / "lora.jsonl", [("Who?\u2028", 0.75), ("Where?", 0.25)])
    (differences,) = paired_differences([gan], [lora], "rougeL")
    assert differences.tolist() == [-0.25, 0.75]
    assert stored_scores({"gan": {3: gan}, "lora": {3: lora, 4: gan}}, "rougeL") == {
        "gan": {3: [0.5, 1.0]},
        "lora": {3: [0.75, 0.25], 4: [0.5, 1.0]},
    }


@pytest.mark.parametrize(
    ("rows", "metric", "message"),
    [
        ([("Who?", 0.1), ("When?", 0.2)], "rougeL", r"gan.jsonl, line 2: question 'When\?', but 'Where\?' in .*lora"),
        ([("Who?", 0.1)], "rougeL", r"gan.jsonl, line 2: the file ends, but .*lora.jsonl has 2 questions"),
        (
            [("Who?", 0.1), ("Where?", 0.2)],
            "nll",
            "gan.jsonl, line 1: no number in scores.nll; there is rougeL, tok",
        ),
        ([("Who?", 0.1), ("Where?", None)], "rougeL", "gan.jsonl, line 2: no number in scores.rougeL"),
        ([("Who?", 0.1), ("Where?", math.nan)], "rougeL", "gan.jsonl, line 2: no number in scores.rougeL"),
    ],
)
def test_runs_that_do_not_fit_are_refused_with_file_and_line(
    tmp_path: Path, rows: list[tuple[str, object]], metric: str, message: str
) -> None:
    gan = write_run(tmp_path / "gan.jsonl", rows)
    lora = write_run(tmp_path / "lora.jsonl", [("Who?", 0.75), ("Where?", 0.25)])
    with pytest.raises(UserError, match=message):
        paired_differences([gan], [lora], metric)
    with pytest.raises(UserError, match=message):
        stored_scores({"lora": {0: lora}, "gan": {0: gan}} if metric == "rougeL" else {"gan": {0: gan}}, metric)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1: the file is empty"),
        ("{}\n", "line 1: expected a JSON object with question and scores"),
        ('{"question": "Who?", "scores": {"rougeL": 1}}\n[1]\n', "line 2: expected a JSON object"),
        ('{"question": "Who?", "scores": {"rougeL": 1}}\n{"quest', "line 2: expected a JSON object"),
    ],
)
def test_files_that_are_no_samples_are_refused(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "samples.jsonl"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        paired_differences([file], [file], "rougeL")


def test_runs_that_are_absent_or_unequal_in_number_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere.jsonl: cannot be read"):
        paired_differences([tmp_path / "nowhere.jsonl"], [tmp_path / "nowhere.jsonl"], "rougeL")
    with pytest.raises(UserError, match="1 runs of the method and 0 of its rival"):
        paired_differences([tmp_path / "a.jsonl"], [], "rougeL")


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_smallest_detectable_difference_is_that_of_the_noncentral_t(seeds):
    """SciPy's noncentral t, where it is defined, at the difference found: power 80 %."""
    groups = [np.full(4, value) + np.array([-0.1, 0.1, -0.2, 0.2]) for value in (0.1, 0.3, 0.15, 0.2, 0.4)[:seeds]]
    found = smallest_detectable(groups)
    error = np.std([group.mean() for group in groups], ddof=1) / seeds**0.5
    critical = scipy.stats.t.ppf(0.975, seeds - 1)
    power = 1 - scipy.stats.nct.cdf(critical, seeds - 1, found / error)
    assert power == pytest.approx(0.8, abs=2e-3) or (seeds == 2 and np.isnan(power))
