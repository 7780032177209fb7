"""Rows and question-answer pairs from the built-in sets, local files and the Hugging Face Hub."""

from __future__ import annotations

import csv
import importlib.resources
import io
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from pathlib import Path
from typing import Any, Literal, NamedTuple

from gantune.data.formats import FORMATS, LABEL, ROLE_KEYS, TURN_FIELDS, Format, build_format
from gantune.data.question import Pair
from gantune.data.records import Record
from gantune.diagnostics.files import local_path
from gantune.errors import UserError, printable

logger = logging.getLogger(__name__)

TOFU = "locuslab/TOFU"
TOFU_CONFIG = "full"
SHIPPED = ("mini-tofu", "mini-dialogues", "mini-records")
BUILT_IN = (*SHIPPED, "tofu")

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
LABELS = dict.fromkeys(("true", "1", "1.0", "none", ""), True) | dict.fromkeys(("false", "0", "0.0"), False)
"""What a label that is there says of an answer, by its lower-case text; a column that holds others is of classes."""

Answers = Literal["last", "every"]
Row = tuple[str, dict[str, Any]]
"""Where a row stands ("line 3") and its columns."""


class Source(NamedTuple):
    """The rows of a data set in their order, and what their columns mean; `left_out` are those with a false label."""

    format_name: str
    format: Format
    records: list[Record]
    left_out: Sequence[Record] = ()


def load_pairs(
    source: str,
    question_column: str = "question",
    answer_column: str = "answer",
    split: str = "train",
    *,
    format: str | None = None,
    answers: Answers = "last",
) -> list[Pair]:
    """Read question-answer pairs, in the order of the source. White space around questions and answers is removed.

    Args:
        source: `mini-tofu`, `mini-dialogues` or `mini-records` (shipped with gantune), `tofu` or `tofu:CONFIG` (TOFU,
            Maini et al. 2024, from the Hub), any other Hub data set as `owner/name` or `owner/name:CONFIG`, a .jsonl,
            .json, .csv, .tsv or .parquet file, or a folder of them.
        question_column: of format question-answer, as is `answer_column`.
        split: split of a Hub data set; files and shipped sets have one only.
        format: a name from [`FORMATS`]; None finds it by the columns.
        answers: which answers of a conversation are learned, its last one or every one. Every text of a record is.

    Raises:
        UserError: naming file, row and column, if the source cannot be read or any row lacks a question or an answer.
    """
    return pairs_of(open_source(source, question_column, answer_column, split, format=format), answers)


def open_source(
    source: str,
    question_column: str = "question",
    answer_column: str = "answer",
    split: str = "train",
    *,
    format: str | Format | None = None,
) -> Source:
    """Read the rows of a data set and find its format; arguments and errors are those of [`load_pairs`]."""
    return source_of(source, read_rows(source, split), question_column, answer_column, format)


def source_of(
    name: str, rows: Sequence[Row], question_column: str, answer_column: str, format: str | Format | None
) -> Source:
    """[`open_source`] with the rows given, and what messages call them; what is not read is logged as a warning."""
    if not rows:
        raise UserError(f"{name}: has no rows, expected questions and answers")
    columns = list(dict.fromkeys(column for _, row in rows for column in row))
    format_name, found = build_format(name, columns, format, question_column, answer_column)
    optional = {*getattr(found, "optional_columns", ())} - {*found.columns}
    labels = [LABELS.get(str(row.get(LABEL)).strip().lower()) for _, row in rows]
    if LABEL not in optional or None in labels:
        optional, labels = optional - {LABEL}, [True] * len(rows)
    unread = _unread({*found.columns, *optional}, rows)
    if unread and name not in SHIPPED:
        logger.warning(printable(f"{name}: columns not read: {', '.join(unread)}"))

    kept = [Record(name, *row) for row, true in zip(rows, labels, strict=True) if true]
    left_out = [Record(name, *row) for row, true in zip(rows, labels, strict=True) if not true]
    if not kept:
        raise UserError(f"{name}: {LABEL!r} is false in every row, expected true answers")
    if left_out:
        logger.warning(printable(f"{name}: {len(left_out)} of {len(rows)} rows left out, their {LABEL!r} is false"))
    return Source(format_name, found, kept, left_out)


def _unread(read: Set[str], rows: Sequence[Row]) -> list[str]:
    """The columns, and fields of turns, that hold something and are not read, each once."""
    found: dict[str, None] = {}
    for column, value in ((column, value) for _, row in rows for column, value in row.items() if value is not None):
        if column not in read:
            found[column or "''"] = None
        elif isinstance(value, list):
            turns = [turn for turn in value if isinstance(turn, dict) and ROLE_KEYS & turn.keys()]
            fields = (field for turn in turns for field in turn if turn[field] is not None)
            found |= dict.fromkeys(f"{column}[].{field}" for field in fields if field not in TURN_FIELDS)
    return list(found)


def pairs_of(source: Source, answers: Answers = "last") -> list[Pair]:
    """The pairs of every row, of conversations the last or every one; of records every text.

    Raises:
        UserError: naming file, row and column if one is not as the format wants it, or no record has a text.
    """
    if answers not in ("last", "every"):
        raise UserError(f"answers is {answers!r}, expected last or every")
    rows = [source.format.pairs(record) for record in source.records]
    if wrong := [pair for row in rows for pair in row if not isinstance(pair, Pair)]:
        raise UserError(f"data format {source.format_name}: gave {wrong[0]!r:.60}, expected a Pair")
    pairs = [pair for row in rows for pair in row if answers == "every" or pair.question == row[-1].question]
    if source.records and not pairs:
        name, column = source.records[0].source, source.format.columns[-1]
        raise UserError(f"{name}: {column!r} is empty in every row, expected some texts; records alone are --prompts")
    return pairs


def read_rows(source: str, split: str) -> list[Row]:
    """The rows of a built-in set, a file, a folder or a Hub data set."""
    name, _, config = source.partition(":")
    if source in SHIPPED:
        return list(_read_json(source, (importlib.resources.files("gantune.assets") / f"{source}.jsonl").read_bytes()))
    if name == "tofu":
        return _read_hub(source, TOFU, config or TOFU_CONFIG, split)
    path = local_path(source)
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
        return _read_folder(source, path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{source}: unknown suffix {path.suffix!r}, expected one of {', '.join(READERS)}")
    return list(reader(source, read_bytes(source, path)))


def read_bytes(source: str, path: Path) -> bytes:
    """What a file holds; a [`UserError`] if it cannot be read or is empty."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{source}: no such file") from None
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        raise UserError(f"{source}: cannot be read ({getattr(error, 'strerror', error)})") from error
    if not data.strip():
        raise UserError(f"{source}: is empty, expected rows with a question and an answer")
    return data


def _read_folder(source: str, folder: Path) -> list[Row]:
    """The rows of all data files in a folder, by name; other files, hidden ones and folders in it hold none."""
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in READERS and path.is_file())
    except OSError as error:
        raise UserError(f"{source}: cannot be read ({error.strerror})") from error
    files = [path for path in files if not path.name.startswith(".")]
    if not files:
        raise UserError(f"{source}: is a folder, expected a file ({', '.join(READERS)}) or a folder of such files")
    return [(f"{path.name}, {where}", row) for path in files for where, row in _read_file(str(path), path)]


def decoded(source: str, data: bytes) -> str:
    """The text of a file; a [`UserError`] that names the line if it is not UTF-8."""
    try:
        return data.removeprefix(b"\xef\xbb\xbf").decode()
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{source}, line {line}: not UTF-8 (byte 0x{error.object[error.start]:02x})") from error


def _parse(source: str, text: str, line: int | None = None) -> Any:
    """JSON that is all of a source, or one line of it."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        line = line or getattr(error, "lineno", None)
        place = f"{source}, line {line}" if line else source
        reason = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
        raise UserError(f"{place}: not valid JSON ({reason})") from error


JSON_KINDS = {list: "array", str: "string", int: "number", float: "number", bool: "boolean", type(None): "null"}


def _read_json(source: str, data: bytes) -> Iterator[Row]:
    """An object a line, blank ones aside; an array of objects; an object that is a row, or has one list of objects."""
    text = decoded(source, data)
    try:
        rows = _json_rows(source, _parse(source, text), text.count("\n", 0, len(text) - len(text.lstrip())) + 1)
    except UserError as error:
        if getattr(error.__cause__, "msg", "") != "Extra data":
            raise
        lines = enumerate(text.split("\n"), start=1)
        rows = ((f"line {number}", _parse(source, line, number)) for number, line in lines if line.strip())
    for where, row in rows:
        if not isinstance(row, dict):
            kind = JSON_KINDS[type(row)]
            raise UserError(f"{source}, {where}: is a JSON {kind}, expected an object with named columns")
        yield where, row


def _json_rows(source: str, top: Any, line: int) -> list[tuple[str, Any]]:
    """The rows, each with its place, of JSON that is one value and begins on `line`."""
    rows, of = top, ""
    if isinstance(top, dict) and not any(set(FORMATS.get(name).columns) <= top.keys() for name in FORMATS.names()):
        firsts = {name: value[0] for name, value in top.items() if isinstance(value, list) and value}
        lists = [name for name, row in firsts.items() if isinstance(row, dict) and not ROLE_KEYS & row.keys()]
        if len(lists) > 1:
            raise UserError(f"{source}: is a JSON object with several lists of rows ({', '.join(lists)}), expected one")
        for name in lists:
            rows, of = top[name], f" of {name!r}"
            if others := ", ".join(other for other in top if other != name):
                logger.warning(printable(f"{source}: fields not read beside {name!r}: {others}"))
    if not isinstance(rows, list):
        return [(f"line {line}", rows)]
    return [(f"row {number}{of}", row) for number, row in enumerate(rows, start=1)]


def _read_csv(source: str, data: bytes) -> Iterator[Row]:
    """Values with a header, between commas, semicolons or tabs; a row is named by the line on which it begins."""
    text, limit = decoded(source, data), csv.field_size_limit()
    csv.field_size_limit(max(limit, len(text)))  # the limit is the whole process's
    try:
        delimiter = _delimiter(text)
        table = list(_csv_rows(source, text, delimiter))
    finally:
        csv.field_size_limit(limit)
    if delimiter != "," and not source.lower().endswith(".tsv"):
        logger.warning(printable(f"{source}: fields are divided by {DELIMITERS[delimiter]}"))
    line, header = table[0] if table else (0, [])
    doubled = [column for column, count in Counter(header).items() if count > 1]
    if doubled:
        raise UserError(f"{source}, line {line}: column {doubled[0]!r} is named twice")
    for line, fields in table[1:]:
        if len(fields) != len(header):
            raise UserError(f"{source}, line {line}: {len(fields)} fields, expected {len(header)} as in the header")
        yield f"line {line}", dict(zip(header, fields, strict=True))


def _delimiter(text: str) -> str:
    """The first delimiter that divides the header; of several, the first by which all rows have as many fields."""

    def widths(delimiter: str) -> Iterator[int]:
        try:
            yield from (len(fields) for _, fields in _csv_rows("", text, delimiter))
        except UserError:  # told when the rows are read
            yield 0

    dividing = [delimiter for delimiter in DELIMITERS if next(widths(delimiter), 0) > 1]
    if len(dividing) < 2:
        return dividing[0] if dividing else ","
    return next((delimiter for delimiter in dividing if len({*widths(delimiter)}) == 1), dividing[0])


def _csv_rows(source: str, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The line on which each row that is not blank begins, and its fields."""
    reader, line = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), 1
    try:
        for fields in reader:
            if fields:
                yield line, fields
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{source}, line {line}: not valid CSV ({error})") from error


def _read_parquet(source: str, data: bytes) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(io.BytesIO(data)).to_pylist()
    except Exception as error:  # many kinds, all of them about the file
        raise UserError(f"{source}: not a valid parquet file ({_one_line(error)})") from error
    for number, row in enumerate(rows, start=1):
        yield f"row {number}", row


READERS: dict[str, Callable[[str, bytes], Iterator[Row]]] = {
    ".jsonl": _read_json,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_csv,
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
