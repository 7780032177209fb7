"""Who is ahead: one sentence a rival, and whether the seeds that were run can tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.report.differences import LOWER_IS_BETTER, METRIC_NAMES

LEVEL = 0.05
MOST_NAMED = 5
NOTHING = (
    "No verdict: it takes the stored answers of a tuned method and of a rival to the same questions (lora, or the "
    "method's own likelihood-only control)."
)


def verdict(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each rival, in the headline metric: who is ahead of it, by how much, and who cannot be told apart.

    Args:
        found: paired differences, the headline metric's first; see [`benchmarks.report.differences.differences`].
    """
    if not found:
        return [NOTHING]
    metric = found[0]["metric"]
    of_rival: dict[str, list[Mapping[str, Any]]] = {}
    for row in found:
        if row["metric"] == metric:
            of_rival.setdefault(row["rival"], []).append(row)
    return [_sentence(rival, rows, metric) for rival, rows in of_rival.items()]


def _sentence(rival: str, rows: Sequence[Mapping[str, Any]], metric: str) -> str:
    sign = -1 if metric in LOWER_IS_BETTER else 1
    rows = sorted(rows, key=lambda row: -sign * row["difference"])
    begin = f"Against {rival}, by {METRIC_NAMES.get(metric, metric)}"

    seeds = max(row.get("seeds") or 1 for row in rows)

    def by(row: Mapping[str, Any]) -> str:
        gap = f"{abs(row['difference']):.3f} {'ahead' if sign * row['difference'] >= 0 else 'behind'}"
        own = row.get("seeds") or 1
        return gap if own == seeds else f"{gap} on {own:.0f} of them"

    def named(row: Mapping[str, Any]) -> str:
        return f"{row['method']} {by(row)}"

    if seeds == 1:
        return f"{begin}: {_named([named(row) for row in rows])}; one seed cannot tell methods apart."
    told = [row for row in rows if row.get("p_holm") is not None and row["p_holm"] < LEVEL]
    shown = [named(row) for row in told]
    unsure = [f"{row['method']} ({by(row)})" for row in rows if row not in told]
    parts = [f"show {_named(shown)}" if shown else "", f"cannot tell {_named(unsure, 'or')} apart" if unsure else ""]
    return f"{begin}, these {seeds:.0f} seeds {' and '.join(filter(None, parts))}."


def _named(names: Sequence[str], last: str = "and") -> str:
    """The names as a list in a sentence, of many the first ones."""
    if len(names) > MOST_NAMED:
        names = [*names[: MOST_NAMED - 1], f"{len(names) - MOST_NAMED + 1} more"]
    return f" {last} ".join(filter(None, (", ".join(names[:-1]), names[-1])))
