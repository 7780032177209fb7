"""The answers of a comparison and their scores: a `samples.jsonl` in each run's folder, or one `answers.parquet`."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.compare.files import read_rows
from benchmarks.compare.run_folder import folder_of, run_folder
from gantune.diagnostics import write_atomically
from gantune.errors import UserError

FILE = "answers.parquet"
RUN = ("method", "seed")
TEXTS = ("question", "reference", "base_answer", "answer")
SEVERAL = "references"


class Answers(NamedTuple):
    """What one run answered.

    Args:
        where: they are stored, for messages.
        samples: one a question: `question`, `reference`, `references` where there are several, `base_answer` (the
            untuned model's), `answer`, `scores`.
    """

    where: str
    samples: list[dict[str, Any]]


def stored_answers(directory: Path, rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, int], Answers]:
    """By method and seed the answers of those runs that have any stored, in their own folder or in `answers.parquet`.

    Args:
        directory: of the comparison.
        rows: its runs.

    Raises:
        UserError: naming the file and line that hold something else, or a file that is not the comparison's.
    """
    together, found = _read(directory / FILE), {}
    for row in rows:
        run, folder = (row["method"], row["seed"]), folder_of(directory, row)
        file = run_folder(directory, (folder / "samples.jsonl").relative_to(directory))
        if file.is_file():
            found[run] = read_samples(file, torn=row["status"] != "success")
        elif run in together:
            found[run] = together[run]
    return found


def read_samples(file: str | Path, torn: bool = False) -> Answers:
    """The answers in a run's `samples.jsonl`; `torn`: see [`read_rows`].

    Raises:
        UserError: if there is no such file, or naming the line that is no JSON object.
    """
    if not Path(file).is_file():
        raise UserError(f"{file}: cannot be read, expected samples.jsonl of a run")
    return Answers(str(file), read_rows(Path(file), torn))


def write_answers(directory: Path, answers: Mapping[tuple[str, int], Answers]) -> None:
    """Write the answers of runs, by method and seed, as one `answers.parquet`: a row an answer, a column a score.

    Raises:
        UserError: if a text or a score cannot be in such a file.
    """
    rows = [
        {"method": method, "seed": seed}
        | {text: sample.get(text) for text in TEXTS}
        | ({SEVERAL: sample[SEVERAL]} if SEVERAL in sample else {})
        | sample.get("scores", {})
        for (method, seed), of_run in answers.items()
        for sample in of_run.samples
    ]
    names = dict.fromkeys(name for row in rows for name in row)
    file = io.BytesIO()
    try:
        table = pa.table({name: [row.get(name) for row in rows] for name in names})
        pq.write_table(table, file, compression="zstd", compression_level=19)
    except (pa.ArrowException, TypeError, UnicodeEncodeError) as error:
        raise UserError(f"{directory / FILE}: the answers cannot be written ({error})") from error
    write_atomically(directory / FILE, file.getvalue())


def _read(file: Path) -> dict[tuple[str, int], Answers]:
    found: dict[tuple[str, int], Answers] = {}
    if not file.is_file():
        return found
    try:
        with pq.ParquetFile(file) as table:
            rows = table.read().to_pylist()
        for row in rows:
            method, seed = (row.pop(name) for name in RUN)
            sample = {text: row.pop(text) for text in TEXTS}
            if several := row.pop(SEVERAL, None):
                sample[SEVERAL] = several
            sample["scores"] = {name: score for name, score in row.items() if score is not None}
            of_run = found.setdefault((method, seed), Answers(f"{file} ({method}, seed {seed})", []))
            of_run.samples.append(sample)
    except KeyError as error:
        raise UserError(f"{file}: has no column {error}, expected the answers of a comparison") from error
    except (OSError, TypeError, UnicodeDecodeError, pa.ArrowException) as error:
        raise UserError(f"{file}: expected the answers of a comparison ({error})") from error
    return found
