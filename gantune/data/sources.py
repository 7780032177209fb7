"""Question-answer pairs from the built-in sets, local files and the Hugging Face Hub."""

from __future__ import annotations

import csv
import importlib.resources
import io
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from gantune.data.batch import Pair
from gantune.errors import UserError

TOFU = "locuslab/TOFU"
TOFU_CONFIG = "full"
BUILT_IN = ("mini-tofu", "tofu")

Row = tuple[str, dict[str, Any]]
"""Where a row stands ("line 3") and its columns."""


def load_pairs(
    source: str, question_column: str = "question", answer_column: str = "answer", split: str = "train"
) -> list[Pair]:
    """Read question-answer pairs. White space around questions and answers is removed.

    Args:
        source: `mini-tofu` (shipped with gantune), `tofu` or `tofu:CONFIG` (TOFU, Maini et al. 2024, from the Hub),
            any other Hub data set as `owner/name` or `owner/name:CONFIG`, or a .jsonl, .json, .csv or .parquet file.
        question_column: column with the question.
        answer_column: column with the answer.
        split: split of a Hub data set; files and `mini-tofu` have one only.

    Returns:
        The pairs in the order of the source.

    Raises:
        UserError: naming file, row and column, if the source cannot be read or any row lacks a question or an answer.
    """
    return _pairs(source, _read(source, split), (question_column, answer_column))


def _read(source: str, split: str) -> list[Row]:
    name, _, config = source.partition(":")
    if source == "mini-tofu":
        return list(_read_jsonl(source, (importlib.resources.files("gantune.assets") / "mini-tofu.jsonl").read_bytes()))
    if name == "tofu":
        return _read_hub(source, TOFU, config or TOFU_CONFIG, split)
    path = Path(source)
    if os.path.exists(source) or path.suffix.lower() in READERS:
        return _read_file(source, path)
    if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        return _read_hub(source, name, config or None, split)
    raise UserError(
        f"{source!r}: no such file or data set; expected {', '.join(BUILT_IN)}, a Hub data set as owner/name, "
        f"or a {', '.join(READERS)} file"
    )


def _read_file(source: str, path: Path) -> list[Row]:
    if path.is_dir():
        raise UserError(f"{source}: is a folder, expected a file ({', '.join(READERS)})")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{source}: unknown suffix {path.suffix!r}, expected one of {', '.join(READERS)}")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{source}: no such file") from None
    except OSError as error:
        raise UserError(f"{source}: cannot be read ({error.strerror})") from error
    if not data.strip():
        raise UserError(f"{source}: is empty, expected rows with a question and an answer")
    return list(reader(source, data))


def _pairs(source: str, rows: Sequence[Row], columns: tuple[str, str]) -> list[Pair]:
    if not rows:
        raise UserError(f"{source}: has no rows, expected questions and answers")
    existing = dict.fromkeys(column for _, row in rows for column in row)
    for column in columns:
        if column not in existing:
            raise UserError(f"{source}: no column {column!r}, existing ones: {', '.join(existing) or 'none'}")
    return [Pair(*(_text(source, where, row, column) for column in columns)) for where, row in rows]


def _text(source: str, where: str, row: dict[str, Any], column: str) -> str:
    """The text in one cell, without the white space around it."""
    if row.get(column) is None:
        raise UserError(f"{source}, {where}: no {column!r}, expected a text")
    value = row[column]
    if not isinstance(value, str):
        raise UserError(f"{source}, {where}: {column!r} is {type(value).__name__} {value!r:.40}, expected a text")
    if not value.strip():
        raise UserError(f"{source}, {where}: {column!r} is empty, expected a text")
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON's \ud83d without its second half: tokenizers fail on it
        raise UserError(f"{source}, {where}: {column!r} has half a surrogate pair, expected valid Unicode") from None
    return value.strip()


def _decode(source: str, data: bytes) -> str:
    try:
        return data.removeprefix(b"\xef\xbb\xbf").decode()
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{source}, line {line}: not UTF-8 (byte 0x{error.object[error.start]:02x})") from error


def _parse(source: str, where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{source}, {where}: not valid JSON ({error.msg}, column {error.colno})") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source}, {where}: not valid JSON ({error})") from error


def _object(source: str, where: str, row: Any) -> Row:
    if not isinstance(row, dict):
        raise UserError(f"{source}, {where}: is a JSON {JSON_KINDS[type(row)]}, expected an object with named columns")
    return where, row


JSON_KINDS = {list: "array", str: "string", int: "number", float: "number", bool: "boolean", type(None): "null"}


def _read_jsonl(source: str, data: bytes) -> Iterator[Row]:
    """One object a line; blank lines hold no row."""
    for number, line in enumerate(_decode(source, data).split("\n"), start=1):
        if line.strip():
            where = f"line {number}"
            yield _object(source, where, _parse(source, where, line))


def _read_json(source: str, data: bytes) -> Iterator[Row]:
    """An array of objects, or one object a line, which is what TOFU's own .json files hold."""
    text = _decode(source, data)
    if not text.lstrip().startswith("["):
        yield from _read_jsonl(source, data)
        return
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{source}, line {error.lineno}: not valid JSON ({error.msg}, column {error.colno})") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source}: not valid JSON ({error})") from error
    for number, row in enumerate(rows, start=1):
        yield _object(source, f"row {number}", row)


def _read_csv(source: str, data: bytes) -> Iterator[Row]:
    """Comma-separated values with a header; a row is named by the line on which it begins."""
    reader = csv.reader(io.StringIO(_decode(source, data), newline=""), strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(f"{source}, line {line}: not valid CSV ({error})") from error
        if not fields:
            continue
        if header is None:
            header = fields
            doubled = [column for column, count in Counter(header).items() if count > 1]
            if doubled:
                raise UserError(f"{source}, line {line}: column {doubled[0]!r} is named twice")
        elif len(fields) != len(header):
            raise UserError(f"{source}, line {line}: {len(fields)} fields, expected {len(header)} as in the header")
        else:
            yield f"line {line}", dict(zip(header, fields, strict=True))


def _read_parquet(source: str, data: bytes) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(io.BytesIO(data)).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{source}: not a valid parquet file ({_one_line(error)})") from error
    for number, row in enumerate(rows, start=1):
        yield f"row {number}", row


READERS: dict[str, Callable[[str, bytes], Iterator[Row]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}


def _read_hub(source: str, name: str, config: str | None, split: str) -> list[Row]:
    import datasets

    try:
        rows = datasets.load_dataset(name, config, split=split)
    except Exception as error:  # whatever the Hub client, the network or the builder raises
        raise UserError(
            f"{source}: cannot load the Hub data set {name} (configuration {config or 'default'}, split {split}): "
            f"{_one_line(error)}"
        ) from error
    return [(f"row {number}", row) for number, row in enumerate(rows, start=1)]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
