"""`judge.json`: what judges have said of a comparison.

It holds one record for each judge and rival: `identity`, `parameters`, `rival`, `questions`, `own_model` (whether the
judge is the model that was tuned), `pairs` (how many there are to judge), `rows` (see [`benchmarks.judge.figures`]) and
`figures` (None until all pairs are judged).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.judge.base import VERDICTS
from benchmarks.judge.figures import figures
from gantune.diagnostics import write_json
from gantune.errors import UserError

FILE = "judge.json"
SCHEMA = 1


def write_records(directory: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Write all records at once."""
    write_json(directory / FILE, {"schema": SCHEMA, "judges": records})


def read_records(directory: Path) -> list[dict[str, Any]]:
    """What judges have said of a comparison; nothing without a `judge.json`.

    Raises:
        UserError: if the file holds something else.
    """
    file = directory / FILE
    if not file.is_file():
        return []
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["schema"] != SCHEMA:
            raise ValueError("another schema")
        for record in content["judges"]:
            record["identity"] + record["rival"], record["questions"] + record["pairs"], record["own_model"]
            for row in record["rows"]:
                row["texts"] + row["method"], row["seed"] + row["place"], row["identical"], row["rouge_gap"]
                if {row["method_first"], row["rival_first"]} - {*VERDICTS, None}:
                    raise ValueError("another verdict")
            record["parameters"], record["figures"]
        return content["judges"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: holds no verdicts that this version of gantune wrote") from error


def join_records(directories: Iterable[Path], output: Path) -> None:
    """Put what is known of several comparisons into that which they are joined to; nothing if nothing is.

    The same judge's rows come together, and the figures are those of all of them.
    """
    joined: dict[tuple[str, str], dict[str, Any]] = {}
    for record in (record for directory in directories for record in read_records(directory)):
        first = joined.setdefault((record["identity"], record["rival"]), record)
        if first is not record:
            there = {(row["method"], row["seed"], row["place"]) for row in first["rows"]}
            new = [row for row in record["rows"] if (row["method"], row["seed"], row["place"]) not in there]
            whole = first["figures"] is not None and record["figures"] is not None
            first["rows"] += new
            first["questions"] = max(first["questions"], record["questions"])
            first["pairs"] = len(first["rows"]) if whole else first["pairs"] + record["pairs"]
            first["figures"] = figures(first["rows"]) if whole else None
    if joined:
        write_records(output, [*joined.values()])
