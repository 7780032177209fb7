"""Which differences between methods the runs show, and how small a one they could show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from baselines.method import known_method
from benchmarks.compare.answers import Answers, stored_answers
from benchmarks.report.grid import thousandths
from benchmarks.report.terminal_table import CONTROLS, REFERENCE
from benchmarks.statistics import compare_methods, smallest_detectable, stored_scores
from gantune.errors import UserError

METRICS_COMPARED = {"rougeL": "ROUGE-L", "nll": "NLL"}
RECORD_METRICS_COMPARED = {
    "slot_errors": "SER",
    "slot_errors_sampled": "SER T=1",
    "right": "right",
    "rougeL": "ROUGE-L",
}
"""Scores of texts about records by their names in the table."""
OF_ALL = {
    "slot_errors": "slot_error_rate",
    "slot_errors_sampled": "slot_error_rate_sampled",
    "right": "right_texts",
}
"""What a score is called among the metrics of all answers, where that is another name."""
SLOT_ERRORS = ("slot_errors", "slot_errors_sampled")
METRIC_NAMES = METRICS_COMPARED | RECORD_METRICS_COMPARED
LOWER_IS_BETTER = ("nll", *SLOT_ERRORS)
FEW_QUESTIONS = 50


def differences(directory: Path, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each tuned method against LoRA, its likelihood-only control and further rivals, by the scores of each question.

    Slot errors are divided by the mean number of values of the seed's records, and in NLL an answer weighs as many
    tokens as it has, so that a difference is one of the figures that the table of means has. On records the game is
    also compared with every other way to train its generator that was run.

    Returns:
        Rows of [`compare_methods`] with `metric` and `detectable`, the smallest true difference that would be found
        with 80 % probability. Nothing for runs whose answers are not stored.
    """
    found = []
    ended = [row for row in rows if row["status"] == "success"]
    answers = stored_answers(directory, ended)
    records = any("slot_error_rate" in row["metrics"] for row in ended)
    for metric in RECORD_METRICS_COMPARED if records else METRICS_COMPARED:
        runs: dict[str, dict[int, Answers]] = {}
        for row in ended:
            method, seed = row["method"], row["seed"]
            if (method, seed) in answers and row["metrics"].get(OF_ALL.get(metric, metric)) is not None:
                runs.setdefault(method, {})[seed] = answers[method, seed]
        rivals = {method: _rivals(method, runs, records) for method in runs if method not in (*CONTROLS, REFERENCE)}
        scores = stored_scores(runs, metric)
        if metric in SLOT_ERRORS:
            scores = _each(scores, stored_scores(runs, "slots"), lambda errors, slots: errors / slots.mean())
        elif metric == "nll":
            scores = _each(scores, stored_scores(runs, "tokens"), lambda nll, tokens: nll * tokens / tokens.mean())
        for row in compare_methods(scores, rivals):
            own, other = scores[row["method"]], scores[row["rival"]]
            gaps = [np.subtract(own[seed], other[seed]) for seed in sorted(own.keys() & other.keys())]
            found.append({"metric": metric, **row, "detectable": smallest_detectable(gaps)})
    return found


Scores = dict[str, dict[int, list[float]]]


def _each(scores: Scores, others: Scores, compute: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Scores:
    return {
        method: {seed: list(compute(np.array(own), np.array(others[method][seed]))) for seed, own in of_method.items()}
        for method, of_method in scores.items()
    }


def _rivals(method: str, there: Mapping[str, Any], records: bool) -> list[str]:
    try:
        known = known_method(method)
        own = (known.control, *known.rivals, *(known.siblings if records else ()))
    except UserError:  # stored by a user whose method is not at hand now
        own = ()
    return [rival for rival in dict.fromkeys((REFERENCE, *own)) if rival in there and rival != method]


def differences_grid(found: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Heading and a row a comparison; stars where the corrected p-value is below .05."""
    grid = [["method - rival", "metric", "difference", "95 % interval", "p", "p (Holm)", "could be shown"]]
    for row in found:
        interval = "-" if row["low"] is None else f"{row['low']:+.3f} to {row['high']:+.3f}"
        star = " *" if row["p_holm"] < 0.05 else ""
        grid.append(
            [
                f"{row['method']} - {row['rival']}",
                METRIC_NAMES[row["metric"]],
                f"{row['difference']:+.3f}{star}",
                interval,
                _p(row["p"]),
                _p(row["p_holm"]),
                "-" if row["detectable"] is None else f"{row['detectable']:.3f}",
            ]
        )
    return grid


def _p(value: float) -> str:
    return "<.001" if value < 0.001 else thousandths(value)


def how_to_read(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """What has to be said below the differences; of power nothing where a row does not have what it takes."""
    if not found:
        return []
    lower = "SER, the slot error rate," if any(row.get("metric") in SLOT_ERRORS for row in found) else "NLL"
    lines = [
        "Paired differences: hierarchical bootstrap-t, questions within seeds; Holm's correction over the methods "
        f"compared with one rival; * marks p (Holm) < .05. A lower {lower} is better.",
    ]
    needed = ("detectable", "seeds", "questions")
    known = [row for row in found if row["metric"] == "rougeL" and all(row[name] is not None for name in needed)]
    if known:
        detectable, seeds, questions = ([row[name] for row in known] for name in needed)
        seeds, questions = max(seeds), max(questions)
        low, high = f"{min(detectable):.3f}", f"{max(detectable):.3f}"
        lines.append(
            f"Power: with {seeds:.0f} seed{'s' if seeds > 1 else ''} and {questions:.0f} answers a method, a true "
            f"difference in ROUGE-L of {low if low == high else f'{low} to {high}'} is found 4 times in 5; smaller "
            "ones mostly are not."
        )
    if any(row["seeds"] == 1 for row in found):
        lines.append("One seed: these differences hold for this one training run of each method, not for the methods.")
    return lines


def caution(test_size: float | None) -> list[str]:
    """A warning about few test questions; nothing where it is not known how many there are."""
    if test_size is None or test_size > FEW_QUESTIONS:
        return []
    return [
        f"caution: {test_size:.0f} test questions are few: differences of several hundredths in ROUGE-L may be chance; "
        "take more with --test-size"
    ]
