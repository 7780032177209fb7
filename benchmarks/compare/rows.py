"""The rows of a comparison that another benchmark runs as a part of its own."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.compare.__main__ import main as compare
from gantune.errors import UserError


def compared_rows(arguments: Sequence[str], output: Path) -> list[dict[str, Any]]:
    """Run a comparison, or go on with it, and give its rows; what it prints goes to standard error.

    Raises:
        UserError: if it does not end well.
    """
    with contextlib.redirect_stdout(sys.stderr):
        status = compare([*arguments, "--output", str(output)])
    if status:
        raise UserError(f"{output}: the comparison ended with status {status}, expected 0")
    return json.loads((output / "comparison.json").read_text(encoding="utf-8"))["rows"]
