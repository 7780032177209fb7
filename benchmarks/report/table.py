"""The table of the page: means, intervals, ratios, which value is best, and which methods are on the Pareto front."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.report.differences import RECORD_METRICS_COMPARED
from benchmarks.report.forgetting_table import Cell, forgetting_tables, how_to_read_forgetting
from benchmarks.report.pictures import bounds
from benchmarks.report.read import Comparison, number
from benchmarks.report.terminal_table import (
    COLUMNS,
    CONTROLS,
    COSTS,
    REFERENCE,
    Column,
    best_method,
    columns_of,
    figure_of,
    headline_of,
    sorted_methods,
)

DIFFERENCE = ("difference", "low", "high", "p", "p_holm", "detectable", "seeds", "questions")


def table(comparison: Comparison) -> dict[str, Any]:
    """Columns and rows as they are written, with the plain numbers to sort by: the best first, controls last.

    Columns without any value are left out.
    """
    summary = {method: comparison.summary.get(method, {}) for method in comparison.methods}
    shown = columns_of(summary)
    best = {column: best_method(summary, column) for column in shown}
    rows = []
    for method in sorted_methods(summary):
        cells = [_cell(column, figure_of(summary[method], column), best[column] == method) for column in shown]
        runs = Counter(row["status"] for row in comparison.rows if row["method"] == method)
        rows.append({"method": method, "control": method in CONTROLS, "runs": dict(runs), "cells": cells})
    return {
        "reference": REFERENCE if REFERENCE in summary else None,
        "columns": [{"heading": column.heading, "better": column.better} for column in shown],
        "rows": rows,
    }


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
    """The headline metric of each method beside what it costs, and by cost the methods that no other beats in both.

    `heading` names the metric, `better` its direction, `bounds` what it can be.
    """
    column = headline_of(comparison.summary)
    points = []
    for method in comparison.methods:
        figures = comparison.summary.get(method, {})
        point = {"method": method}
        for key, name in ((column.key, "quality"), *((cost.key, cost.key) for cost in COSTS[1:])):
            figure = figures.get(key) or {}
            point[name] = [number(figure.get("mean")), number(figure.get("half_width"))]
        points.append(point)
    fronts = {cost.key: pareto_front(points, cost.key, column.better) for cost in COSTS[1:]}
    told = {"heading": column.heading, "better": column.better, "bounds": bounds(column.key)}
    return told | {"points": points, "fronts": fronts}


def pareto_front(points: Sequence[Mapping[str, Any]], cost: str, better: str | None = "high") -> list[str]:
    """The methods whose mean quality no method reaches at the same or a lower mean cost, cheapest first."""
    sign = 1 if better == "low" else -1
    known = [
        (point[cost][0], sign * point["quality"][0], point["method"])
        for point in points
        if point[cost][0] is not None and point["quality"][0] is not None
    ]
    front, least = [], float("inf")
    for _, loss, method in sorted(known):
        if loss < least:
            front.append(method)
            least = loss
    return front


def paired_differences(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Paired differences between two methods, as `write_report` takes them, with None for what a row lacks."""
    return [
        {"method": str(row["method"]), "rival": str(row["rival"]), "metric": str(row.get("metric") or "rougeL")}
        | {key: number(row.get(key)) for key in DIFFERENCE}
        for row in rows
    ]


def metric_name(metric: str) -> str:
    """A metric of paired differences as the table names it."""
    headings = {column.key: column.heading for column in COLUMNS} | RECORD_METRICS_COMPARED
    return headings.get(metric, metric)
