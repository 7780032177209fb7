"""The answers of every method to the same questions, side by side."""

from __future__ import annotations

from typing import Any

from benchmarks.report.read import Comparison, number

MAX_BYTES = 2_000_000
MAX_TEXT = 2_000
BASE = "base"


def questions(comparison: Comparison) -> dict[str, dict[str, Any]]:
    """By seed: `pairs` of question and reference, and by method `answers` with their ROUGE-L in the same order.

    Of each seed the first questions are given, up to an equal share of 2 million bytes; `total` says of how many.
    Texts beyond 2000 characters are cut.

    Raises:
        UserError: if a file of answers holds something else.
    """
    budget = MAX_BYTES // max(len(comparison.seeds), 1)
    return {str(seed): found for seed in comparison.seeds if (found := of_seed(comparison, seed, budget))["total"]}


def of_seed(comparison: Comparison, seed: int, budget: int) -> dict[str, Any]:
    """What [`questions`] gives for one seed, in at most `budget` bytes."""
    places: dict[tuple[str, str], int] = {}
    answers: dict[str, dict[int, list[Any]]] = {}
    of_base: dict[int, list[Any]] = {}
    for row in comparison.rows:
        if row["seed"] != seed:
            continue
        stored = comparison.answers.get((row["method"], seed))
        for sample in stored.samples if stored else ():
            place = places.setdefault((_text(sample.get("question")), _text(sample.get("reference"))), len(places))
            scores = sample.get("scores")
            score = scores.get("rougeL") if isinstance(scores, dict) else None
            answers.setdefault(row["method"], {})[place] = [_text(sample.get("answer")), number(score, 4)]
            if sample.get("base_answer") is not None:
                of_base.setdefault(place, [_text(sample["base_answer"]), None])
    if of_base and BASE not in answers:
        answers = {BASE: of_base, **answers}

    shown = 0
    for pair, place in places.items():
        given = [of_method[place][0] for of_method in answers.values() if place in of_method]
        budget -= sum(len(text.encode("utf-8", "surrogatepass")) for text in (*pair, *given))
        if budget < 0:
            break
        shown += 1
    return {
        "total": len(places),
        "pairs": list(places)[:shown],
        "answers": {method: [of_method.get(place) for place in range(shown)] for method, of_method in answers.items()},
    }


def _text(value: Any) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]} [...]"
