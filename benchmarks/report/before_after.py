"""What tuning changed: ROUGE of the untuned and of the tuned model, and the absolute improvement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from benchmarks.report.grid import thousandths
from benchmarks.statistics.intervals import mean_and_half_width

BASE = "base"
FIGURES = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L", "rougeLsum": "ROUGE-Lsum"}
"""F1 with the Porter stemmer, by key."""


def before_after_grid(rows: Sequence[Mapping[str, Any]]) -> list[list[str]] | None:
    """A row for each tuned method and ROUGE figure, heading first.

    The improvement is the mean over seeds of tuned minus untuned on the same test pairs, ± half of its 95 % interval
    (Student's t over these differences). Only seeds count that both models ended well.

    Args:
        rows: of a comparison.

    Returns:
        The grid; None if no method was tuned, or the untuned model was not run.
    """
    ended = [row for row in rows if row["status"] == "success"]
    before = {row["seed"]: row["metrics"] for row in ended if row["method"] == BASE}
    grid = [["method", "figure", "base", "tuned", "improvement", "seeds"]]
    for method in dict.fromkeys(row["method"] for row in ended if row["trainable_parameters"]):
        after = {row["seed"]: row["metrics"] for row in ended if row["method"] == method and row["seed"] in before}
        if not after:
            continue
        for key, heading in FIGURES.items():
            untuned, tuned = ([of[seed][key] for seed in after] for of in (before, after))
            change, half_width = mean_and_half_width([b - a for a, b in zip(untuned, tuned, strict=True)])
            interval = "" if half_width is None else f" ±{thousandths(half_width)}"
            sign = "-" if change < 0 else "+"
            grid.append(
                [
                    method,
                    heading,
                    f"{fmean(untuned):.3f}",
                    f"{fmean(tuned):.3f}",
                    f"{sign}{thousandths(abs(change))}{interval}",
                    str(len(after)),
                ]
            )
    return grid if len(grid) > 1 else None
