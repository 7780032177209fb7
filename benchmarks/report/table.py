"""The table of the page: means, intervals, ratios, which value is best, and which methods are on the Pareto front."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.report.differences import RECORD_METRICS_COMPARED, how_to_read
from benchmarks.report.forgetting_table import Cell, forgetting_tables, how_to_read_forgetting
from benchmarks.report.read import Comparison, number
from benchmarks.report.terminal_table import COLUMNS, REFERENCE, Column, columns_of
from benchmarks.statistics.intervals import clear_best

# Direction in which a figure is better. More varied or longer answers are not better in themselves.
BETTER = dict.fromkeys(("rouge1", "rouge2", "rougeL", "rougeLsum", "rougeL_recall", "bleurt"), "high")
BETTER |= dict.fromkeys(("right_texts", "bleu"), "high")
BETTER |= dict.fromkeys(("slot_error_rate", "slot_error_rate_sampled"), "low")
BETTER |= dict.fromkeys(("nll", "trainable_parameters", "train_seconds", "peak_memory_bytes"), "low")

COSTS = ("train_seconds", "peak_memory_bytes")
DIFFERENCE = ("difference", "low", "high", "p", "p_holm", "detectable", "seeds", "questions")


def table(comparison: Comparison) -> dict[str, Any]:
    """Columns and rows as they are written, with the plain numbers to sort by.

    Columns without any value are named in `empty` and left out.
    """
    columns = columns_of(comparison.summary)
    figures = {
        method: {column.key: _figure(comparison.summary.get(method, {}), column) for column in columns}
        for method in comparison.methods
    }
    shown = [column for column in columns if any(of_method[column.key] for of_method in figures.values())]
    best = {column.key: best_method(figures, column.key) for column in shown}
    rows = []
    for method, of_method in figures.items():
        cells = [_cell(column, of_method[column.key], best[column.key] == method) for column in shown]
        runs = Counter(row["status"] for row in comparison.rows if row["method"] == method)
        rows.append({"method": method, "runs": dict(runs), "cells": cells})
    return {
        "reference": REFERENCE if REFERENCE in figures else None,
        "columns": [{"heading": column.heading, "better": BETTER.get(column.key)} for column in shown],
        "rows": rows,
        "empty": [column.heading for column in columns if column not in shown],
    }


def _figure(figures: Mapping[str, Any], column: Column) -> Mapping[str, Any] | None:
    """Mean, half width and ratio of a figure; None where there is no value, as for the parameters of no training."""
    figure = figures.get(column.key) or {}
    untrained = column.key == "trainable_parameters" and not figure.get("mean")
    return None if untrained or number(figure.get("mean")) is None else figure


def _cell(column: Column, figure: Mapping[str, Any] | None, best: bool) -> dict[str, Any] | None:
    if figure is None:
        return None
    half_width, ratio = figure.get("half_width"), figure.get("ratio_to_lora")
    return {
        "mean": figure["mean"],
        "text": column.write(figure["mean"]),
        "interval": f"±{column.write(half_width)}" if half_width else None,
        "ratio": number(ratio) or None,
        "best": best,
    }


def best_method(figures: Mapping[str, Mapping[str, Any]], key: str) -> str | None:
    """The method with the best mean, if its 95 % interval overlaps with no other method's.

    Args:
        figures: by method and key, `mean` and `half_width`, or None where there is no value.
        key: of the figure.

    Returns:
        None as well if the figure has no better direction, only one method has it, or one has no interval.
    """
    known = {method: of_method[key] for method, of_method in figures.items() if of_method[key]}
    if key not in BETTER:
        return None
    intervals = {method: (figure["mean"], figure["half_width"]) for method, figure in known.items()}
    return clear_best(intervals, 1 if BETTER[key] == "high" else -1)


def forgetting(comparison: Comparison) -> dict[str, Any] | None:
    """The tables of [`benchmarks.report.forgetting_table`] and what is said below; None if nothing was measured."""
    tables = forgetting_tables(comparison.rows)
    if not tables:
        return None
    return {
        "tables": [
            {
                "title": table.title,
                "columns": [{"heading": heading, "better": "high"} for heading in table.headings],
                "rows": [
                    {"method": method, "cells": [cell and _forgetting_cell(cell) for cell in cells]}
                    for method, cells in table.rows.items()
                ],
            }
            for table in tables
        ],
        "notes": how_to_read_forgetting(comparison.rows),
    }


def _forgetting_cell(cell: Cell) -> dict[str, Any]:
    interval = f"±{cell.half_width:.3f}" if cell.half_width else None
    return {"mean": number(cell.mean), "text": f"{cell.mean:.3f}", "interval": interval, "best": cell.best}


def quality_and_cost(comparison: Comparison) -> dict[str, Any]:
    """ROUGE-L of each method beside what it costs, and by cost the methods that no other beats in both."""
    points = []
    for method in comparison.methods:
        figures = comparison.summary.get(method, {})
        point = {"method": method}
        for key in ("rougeL", *COSTS):
            figure = figures.get(key) or {}
            point[key] = [number(figure.get("mean")), number(figure.get("half_width"))]
        points.append(point)
    return {"points": points, "fronts": {cost: pareto_front(points, cost) for cost in COSTS}}


def pareto_front(points: Sequence[Mapping[str, Any]], cost: str) -> list[str]:
    """The methods whose mean ROUGE-L no method reaches at the same or a lower mean cost, cheapest first."""
    known = [(point[cost][0], -point["rougeL"][0], point["method"]) for point in points if _has(point, cost)]
    front, highest = [], float("-inf")
    for _, quality, method in sorted(known):
        if -quality > highest:
            front.append(method)
            highest = -quality
    return front


def _has(point: Mapping[str, Any], cost: str) -> bool:
    return point[cost][0] is not None and point["rougeL"][0] is not None


def paired_differences(rows: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """Paired differences between two methods, as `write_report` takes them, with None for what a row lacks.

    Returns:
        The rows, their metrics named as in the table; and how to read them, as the terminal says it.
    """
    headings = {column.key: column.heading for column in COLUMNS} | RECORD_METRICS_COMPARED
    known = [
        {"method": str(row["method"]), "rival": str(row["rival"]), "metric": str(row.get("metric") or "rougeL")}
        | {key: number(row.get(key)) for key in DIFFERENCE}
        for row in rows
    ]
    return [row | {"metric": headings.get(row["metric"], row["metric"])} for row in known], how_to_read(known)
