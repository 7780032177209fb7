"""A comparison's directory: whether a command may go on with it, what it holds, and how several become one."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.compare.answers import Answers, stored_answers, write_answers
from benchmarks.compare.files import read_json
from benchmarks.compare.run_folder import copy_run, folder_of
from gantune.diagnostics.files import LOCK
from gantune.errors import UserError

FILE = "comparison.json"
BEFORE = {"word_tokenizer": "rouge-score"}  # what settings were before they were stored
GROWING = ("methods", "seeds", "command")  # settings in which comparisons of one directory may differ
ROUNDING = 1e-4  # by which the figures of one run may differ on another processor, as a share of them


@dataclass(frozen=True)
class Stored:
    """What a directory holds.

    Args:
        settings: what was asked for.
        rows: one a run; its `directory` is relative.
        warnings: what was said before the first run.
        winners: of `--tune` or `--winners`, by method, as `tuning.json` has them.
    """

    settings: dict[str, Any]
    rows: list[dict[str, Any]]
    warnings: list[str]
    winners: dict[str, Any] = field(default_factory=dict)


def claim(directory: Path, described: dict[str, Any]) -> Stored | None:
    """See that results may go into a directory: it is new or empty, or holds a comparison of the same settings.

    Returns:
        What an earlier command left there; None if there is nothing.

    Raises:
        UserError: if the directory holds something else, or results of other settings.
    """
    if directory.exists() and not directory.is_dir():
        raise UserError(f"{directory}: is a file, expected a directory for the results")
    if not directory.exists() or all(path.name == LOCK for path in directory.iterdir()):
        return None
    if not (directory / FILE).is_file():
        raise UserError(f"{directory}: holds files that are no comparison; give --output an empty or new directory")
    earlier = read(directory)
    if difference := _difference(earlier.settings, described):
        raise UserError(f"{directory}: holds a comparison with another {difference}; give --output another directory")
    return earlier


def read(directory: Path) -> Stored:
    """What is in a directory; rows come from the runs themselves where they are still there.

    Raises:
        UserError: if there is no comparison in it, none that this version wrote, or one whose runs lie elsewhere.
    """
    file = directory / FILE
    if not file.is_file():
        raise UserError(f"{directory}: has no {FILE}, expected the --output directory of a comparison")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        settings = BEFORE | dict(content["settings"])
        rows = [_as_run(directory, row) for row in content["rows"]]
        _touch(settings, rows)
        winners = dict(content.get("winners") or read_json(directory / "tuning.json") or {})
        return Stored(settings, rows, [str(line) for line in content.get("warnings", [])], winners)
    except UserError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: is no comparison that this version of gantune wrote") from error


def _touch(settings: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
    """Use what is needed later, so that what is missing or of another kind raises now."""
    data, fairness = settings["data"], settings.get("fairness") or {}
    settings["model"], settings["device"], settings["dtype"], data["dataset"], data["train_size"]
    (data["test_size"] or 0) + 0, fairness.get("decoding_temperature", [1.0])[0] + 0
    " ".join([settings["command"], *settings["methods"]]), sum(settings["seeds"])
    for row in rows:
        row["method"] + row["status"], row["seed"] + 0, row["metrics"]["rougeL"], row["not_run"].items()
        figures = [*row["metrics"].values(), *map(row.get, ("trainable_parameters", "train_seconds"))]
        if not math.isfinite(math.fsum(figure for figure in figures if figure is not None)):
            raise ValueError("a figure that is no number")


def join(directories: Sequence[Path], output: Path, compact: bool = False) -> Stored:
    """One comparison of the runs of several, copied into `output`.

    Args:
        directories: of the comparisons.
        output: of what they become.
        compact: in place of the runs' folders keep one `answers.parquet`, and the environments in the rows.

    Raises:
        UserError: if they differ in more than methods and seeds, hold a run with two results, or `output` is not empty.
    """
    parts = [read(directory) for directory in directories]
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output}: expected a new or empty directory for the joined comparison")
    first = parts[0]
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for directory, part in zip(directories, parts, strict=True):
        if difference := _difference(first.settings, {k: v for k, v in part.settings.items() if k not in GROWING}):
            raise UserError(f"{directories[0]} and {directory} cannot be joined: they differ in {difference}")
        for row in part.rows:
            run = row["method"], row["seed"]
            if run in rows and not _agree(rows[run]["metrics"], row["metrics"]):
                raise UserError(
                    f"{directories[0]} and {directory} cannot be joined: both hold {run[0]}, seed {run[1]}, with other "
                    "results; give them different methods or seeds"
                )
            rows.setdefault(run, row | {"from": directory})
    kept: dict[Path, list[dict[str, Any]]] = {}
    for row in rows.values():
        directory = row.pop("from")
        folder = folder_of(directory, row)
        if folder.is_dir() and not compact:
            copy_run(folder, output / row["directory"])
            continue
        kept.setdefault(directory, []).append(row)
        if environment := read_json(folder / "environment.json"):
            row["environment"] = environment
    answers: dict[tuple[str, int], Answers] = {}
    for directory, of_directory in kept.items():
        answers |= stored_answers(directory, of_directory)
    if answers:
        write_answers(output, answers)
    settings = first.settings | {
        "methods": list(dict.fromkeys(method for part in parts for method in part.settings["methods"])),
        "seeds": sorted({seed for part in parts for seed in part.settings["seeds"]}),
        "command": " ; ".join(part.settings["command"] for part in parts),
    }
    warnings = list(dict.fromkeys(line for part in parts for line in part.warnings))
    order = {method: place for place, method in enumerate(settings["methods"])}
    winners = {method: winner for part in parts for method, winner in part.winners.items()}
    ordered = sorted(rows.values(), key=lambda row: (row["seed"], order[row["method"]]))
    return Stored(settings, ordered, warnings, winners)


def _agree(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two runs measured the same, up to how another processor rounds."""
    return one.keys() == other.keys() and all(
        value == other[name] or (value and other[name] and math.isclose(value, other[name], rel_tol=ROUNDING))
        for name, value in one.items()
    )


def _as_run(directory: Path, row: dict[str, Any]) -> dict[str, Any]:
    file = folder_of(directory, row) / "metrics.json"
    return json.loads(file.read_text(encoding="utf-8")) | {"directory": row["directory"]} if file.is_file() else row


def _difference(earlier: dict[str, Any], now: dict[str, Any]) -> str:
    """The first of the settings `now` that was another `earlier`, with both values; empty if there is none.

    Of a group of settings only those count that both know: methods bring options of their own.
    """
    for name, value in now.items():
        before = earlier.get(name)
        if isinstance(before, dict) and isinstance(value, dict):
            both = {key: value[key] for key in value if key in before}
            if inside := _difference(before, both):
                return f"{name} ({inside})"
        elif before != value:
            return f"{name} {before!r} against {value!r}"
    return ""
