"""What the methods know after tuning, as tables: model utility, and each set of [`benchmarks.compare.forgetting`]."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.statistics.intervals import clear_best, mean_and_half_width

SETS = {
    "tuned": "tuned authors",
    "held_out": "held-out authors",
    "real_authors": "real authors",
    "world_facts": "world facts",
}
MEASURES = {
    "probability": "probability",
    "rougeL_recall": "ROUGE-L recall",
    "truth_ratio_arithmetic": "truth ratio (arithmetic)",
    "truth_ratio_geometric": "truth ratio (geometric)",
}
UTILITIES = {
    f"{utility}_utility_{mean}": f"{utility} utility ({mean})"
    for utility in ("model", "retained")
    for mean in ("arithmetic", "geometric")
}
NO_VALUE = "-"


class Cell(NamedTuple):
    """Mean over the seeds of one figure of one method.

    Args:
        mean: over the seeds that have a value.
        half_width: of the 95 % interval (Student's t over seeds); None for one seed.
        best: whether it is the highest mean of its column, and its interval overlaps with no other.
    """

    mean: float
    half_width: float | None
    best: bool


class Table(NamedTuple):
    """A row a method.

    Args:
        title: what is measured on, such as "real authors".
        headings: of the columns; in all of them more is better.
        rows: by method, a cell a column; None where no run has a value.
    """

    title: str
    headings: tuple[str, ...]
    rows: dict[str, list[Cell | None]]


def forgetting_tables(rows: Iterable[Mapping[str, Any]]) -> list[Table]:
    """One table of the utilities and one a question set.

    Args:
        rows: runs, whose `forgetting` is what [`benchmarks.compare.forgetting.forgetting`] gives.

    Returns:
        Nothing if it was measured in no run. Methods without a language model are not in the tables, and sets without
        a question have none.
    """
    measured: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["status"] == "success" and row.get("forgetting"):
            measured.setdefault(row["method"], []).append(row["forgetting"])
    tables = [_table("utility", UTILITIES, measured)]
    for name, title in SETS.items():
        of_set = {method: [run[name] for run in runs] for method, runs in measured.items()}
        tables.append(_table(title, MEASURES, of_set))
    return [table for table in tables if any(cell for cells in table.rows.values() for cell in cells)]


def _table(title: str, columns: Mapping[str, str], runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Table:
    rows: dict[str, list[Cell | None]] = {method: [] for method in runs}
    for column in columns:
        values = {method: [run[column] for run in of if run[column] is not None] for method, of in runs.items()}
        figures = {method: mean_and_half_width(found) for method, found in values.items() if found}
        best = clear_best(figures)
        for method, cells in rows.items():
            cells.append(Cell(*figures[method], best=method == best) if method in figures else None)
    return Table(title, tuple(columns.values()), rows)


def forgetting_grid(table: Table, best: str = "* {}") -> list[list[str]]:
    """Heading and a row a method, as text.

    Args:
        table: one of [`forgetting_tables`].
        best: how the best value of a column is marked.
    """

    def text(cell: Cell | None) -> str:
        if cell is None:
            return NO_VALUE
        half_width = f" ±{cell.half_width:.3f}".replace("±0", "±") if cell.half_width else ""
        return (best if cell.best else "{}").format(f"{cell.mean:.3f}{half_width}")

    return [["method", *table.headings]] + [[method, *map(text, cells)] for method, cells in table.rows.items()]


def how_to_read_forgetting(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """What has to be said below the tables: what the sets are, and where the definitions come from."""
    measured = [row["forgetting"] for row in rows if row["status"] == "success" and row.get("forgetting")]
    if not measured:
        return []
    lines = [
        "Forgetting: TOFU's measures (Maini et al. 2024, arXiv:2401.06121, section 2.2); more is better in each. "
        "The truth ratio is max(0, 1 - R_truth), R_truth with the arithmetic mean over the wrong answers (the paper's "
        "equation 1) or their geometric mean (its code and open-unlearning).",
        "Model utility is the harmonic mean of the nine figures of tuned authors, real authors and world facts, with "
        "the truth ratio of that name; retained utility that of the six of real authors and world facts: the less it "
        "is below base's, the less was forgotten.",
    ]
    for name, title in SETS.items():
        for source in dict.fromkeys(run[name]["source"] for run in measured):
            sizes = [run[name]["questions"] for run in measured if run[name]["source"] == source]
            low, high = min(sizes), max(sizes)
            lines.append(
                f"{title.capitalize()}: {source}; {low if low == high else f'{low} to {high}'} questions a run."
            )
    return lines
