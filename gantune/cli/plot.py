"""`gantune plot`: the plots of a run, from its files alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gantune.command import OneLineParser
from gantune.diagnostics.files import local_path
from gantune.errors import UserError

HISTORY, WEIGHTS = "history.jsonl", "weights.npz"


def run(arguments: Sequence[str]) -> None:
    """Draw as the command line says."""
    summary = "Draw history.png, health.png and weights.png again from a run's files."
    parser = OneLineParser(prog="gantune plot", description=summary)
    parser.add_argument("run", metavar="RUN_DIRECTORY", help=f"with the {HISTORY} and {WEIGHTS} of a training")
    directory = local_path(parser.parse_args(arguments).run)
    if not (directory / HISTORY).is_file() and not (directory / WEIGHTS).is_file():
        raise UserError(f"{directory}: neither {HISTORY} nor {WEIGHTS}, expected the directory of a training run")
    print("\n".join(map(str, draw(directory))))


def draw(directory: Path) -> list[Path]:
    """Draw what the files of a run allow; the plots that were written.

    Raises:
        UserError: if a file is not what a training writes, or a plot cannot be written.
    """
    from gantune.diagnostics import load_trajectory, plot_health, plot_history, plot_weight_trajectories

    title = directory.resolve().name
    rows = read_history(directory / HISTORY) if (directory / HISTORY).is_file() else []
    drawn = []
    if rows:
        plot_history(rows, directory / "history.png", title)
        drawn.append(directory / "history.png")
    if any(row.get("phase") == "adversarial" for row in rows):
        plot_health(rows, directory / "health.png", title)
        drawn.append(directory / "health.png")
    if (directory / WEIGHTS).is_file():
        plot_weight_trajectories(load_trajectory(directory / WEIGHTS), directory / "weights.png")
        drawn.append(directory / "weights.png")
    return drawn


def read_history(path: Path) -> list[dict[str, Any]]:
    """The rows of a `history.jsonl`; a last line that a killed run has left unfinished is left out.

    Raises:
        UserError: naming the line, if one holds something else.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({getattr(error, 'strerror', 'not UTF-8')})") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            if not isinstance(row["step"], int):
                raise TypeError
        except (ValueError, TypeError, KeyError):
            raise UserError(f"{path}, line {number}: expected a JSON object with a step, as training writes") from None
        rows.append(row)
    return rows
