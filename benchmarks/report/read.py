"""What a comparison left on disk, read back; what is not there is None or empty."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.compare.answers import Answers, stored_answers
from benchmarks.compare.files import read_json
from benchmarks.compare.run_folder import folder_of
from benchmarks.report.forgetting_table import forgetting_tables, how_to_read_forgetting
from gantune.errors import UserError


@dataclass(frozen=True)
class Comparison:
    """`comparison.json`.

    Args:
        directory: of the comparison.
        settings: what was asked for.
        rows: one a run, with `method`, `seed`, `status`, `metrics`, `not_run`; the optional `directory` is relative,
            and the optional `environment` what its folder said where there is none any more.
        summary: by method and figure, `mean`, `half_width` and `ratio_to_lora` over the seeds.
        warnings: what was said before the first run.
        differences: between methods, as [`benchmarks.report.write_report`] takes them.
    """

    directory: Path
    settings: dict[str, Any]
    rows: list[dict[str, Any]]
    summary: dict[str, dict[str, Any]]
    warnings: list[str]
    differences: list[dict[str, Any]]

    @property
    def methods(self) -> list[str]:
        """Their names, in the order of the table."""
        return list(dict.fromkeys(str(row["method"]) for row in self.rows))

    @property
    def seeds(self) -> list[int]:
        """The seeds of the runs, ascending."""
        return sorted({row["seed"] for row in self.rows})

    def run_directory(self, row: dict[str, Any]) -> Path:
        """Where the run of a row keeps its files.

        Raises:
            UserError: if that is not inside the comparison's directory.
        """
        return folder_of(self.directory, row)

    @cached_property
    def answers(self) -> dict[tuple[str, int], Answers]:
        """By method and seed; see [`stored_answers`]."""
        return stored_answers(self.directory, self.rows)


def read_comparison(directory: Path) -> Comparison:
    """Read `comparison.json`.

    Raises:
        UserError: if it is missing or holds something else.
    """
    file = directory / "comparison.json"
    content = read_json(file)
    if content is None:
        raise UserError(f"{directory}: has no comparison.json, expected the --output directory of a comparison")
    try:
        comparison = Comparison(
            directory=directory,
            settings=dict(content["settings"]),
            rows=[dict(row) for row in content["rows"]],
            summary={method: _of_method(figures) for method, figures in content["summary"].items()},
            warnings=[str(warning) for warning in content.get("warnings", ())],
            differences=[dict(row) for row in content.get("differences", ())],
        )
        for row in comparison.rows:
            kinds = {"method": str, "status": str, "seed": int, "metrics": dict, "not_run": dict}
            if not all(isinstance(row[key], kind) for key, kind in kinds.items()):
                raise TypeError("a row of another kind")
            if not isinstance(row.get("environment", {}), dict):
                raise TypeError("an environment of another kind")
        forgetting_tables(comparison.rows), how_to_read_forgetting(comparison.rows)  # can be made
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{file}: is no comparison that this version of gantune wrote") from error
    return comparison


def _of_method(figures: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: figure for name, figure in figures.items() if isinstance(figure, dict)}


def number(value: Any, digits: int = 5) -> float | None:
    """`value` to some significant digits; None if it is no finite number."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool) or not math.isfinite(value):
        return None
    return float(f"{value:.{digits}g}")
