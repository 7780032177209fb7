"""The table that a comparison's task has beside the one of every comparison."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.report.before_after import before_after_grid

TABLES: dict[str, tuple[str, Callable[[Sequence[Mapping[str, Any]]], list[list[str]] | None]]] = {
    "summarise": ("Before and after tuning", before_after_grid),
}
"""By task its title, and what makes the table, heading row first, of a comparison's rows; None if nothing is there."""


def table_of_task(settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> tuple[str, list[list[str]]] | None:
    """Title and grid of the table of a comparison's task; None if it has no task, or nothing to show yet.

    Args:
        settings: of the comparison, as stored.
        rows: of its runs.
    """
    title, table = TABLES.get(settings.get("task"), ("", lambda rows: None))
    grid = table(rows)
    return (title, grid) if grid else None
