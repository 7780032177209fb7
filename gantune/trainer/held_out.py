"""What held-out pairs choose the weights by: their likelihood, or a measure of the answers to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from gantune.data import Pair
from gantune.errors import UserError
from gantune.metrics.rouge_words import rouge_scorer
from gantune.metrics.slots import SlotMatcher, records_of


def rouge_l(pairs: Sequence[Pair], answers: Sequence[str]) -> float:
    """Mean ROUGE-L of answers against the true ones; higher is better."""
    scorer = rouge_scorer("rougeL")
    return fmean(
        scorer.score(pair.answer, answer)["rougeL"].fmeasure for pair, answer in zip(pairs, answers, strict=True)
    )


def slot_error_rate(pairs: Sequence[Pair], answers: Sequence[str]) -> float:
    """Slot errors of texts over the values of their records, see [`SlotMatcher.figures`]; lower is better."""
    records = records_of([pair.question for pair in pairs])
    return SlotMatcher.for_records(records).figures(records, answers)["slot_error_rate"]


OF_ANSWERS: Mapping[str, Callable[[Sequence[Pair], Sequence[str]], float]] = {
    "rougeL": rouge_l,
    "slot_error_rate": slot_error_rate,
}
"""Measures of greedy answers to held-out questions, by the names of `metric_for_best_model`."""


def check_metric(name: str, pairs: Sequence[Pair]) -> None:
    """Refuse a metric that these held-out pairs do not have."""
    if name == "slot_error_rate" and records_of([pair.question for pair in pairs]) is None:
        raise UserError(
            "--metric-for-best-model slot_error_rate: the held-out questions are not all records, expected loss or "
            "rougeL"
        )
