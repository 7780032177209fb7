"""The rows of a comparison that another benchmark runs as a part of its own."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.compare.__main__ import main as compare
from benchmarks.compare.files import read_json
from benchmarks.compare.run_folder import folder_of
from gantune.errors import UserError


def compared_rows(arguments: Sequence[str], output: Path) -> list[dict[str, Any]]:
    """Run a comparison, or go on with it, and give its rows with their `environment`; it prints to standard error.

    Raises:
        UserError: if it does not end well.
    """
    with contextlib.redirect_stdout(sys.stderr):
        status = compare([*arguments, "--output", str(output)])
    if status:
        raise UserError(f"{output}: the comparison ended with status {status}, expected 0")
    rows = json.loads((output / "comparison.json").read_text(encoding="utf-8"))["rows"]
    return [row | {"environment": read_json(folder_of(output, row) / "environment.json")} for row in rows]


def commits_of(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The states of the source tree that rows were made in, each once, as `git` of their environments."""
    found = {row["environment"]["git"]["commit"]: row["environment"]["git"] for row in rows if row["environment"]}
    return [{"git": state} for state in found.values()]
