"""Pairs from whatever a program holds: lists, a `datasets.Dataset`, a pandas DataFrame, or the name of a source."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Set
from typing import Any

from gantune.data.question import Pair
from gantune.data.records import Record
from gantune.data.sources import Answers, Row, load_pairs, pairs_of, source_of
from gantune.errors import UserError

ROW = "a Pair, (question, answer), a dict with named columns, or a conversation as a list of messages"
TURNS = ({"role", "content"}, {"from", "value"})


def as_pairs(
    source: Any,
    question_column: str = "question",
    answer_column: str = "answer",
    split: str = "train",
    *,
    format: str | None = None,
    answers: Answers = "last",
    name: str = "data",
) -> list[Pair]:
    """The pairs of any source; rows with named columns are read by their format, as those of a file are.

    The arguments that are not here are those of [`load_pairs`].

    Args:
        source: what [`load_pairs`] reads, as a string or a Path; a list or another iterable of pairs, which are taken
            as they are, of (question, answer) tuples or lists, of dicts, or of conversations, each a list of
            `{"role": ..., "content": ...}`; one such conversation; a `Dataset` or `DatasetDict`; a pandas DataFrame.
        name: what messages call a source that is no string.

    Raises:
        UserError: naming row and field, if it is something else, is empty, or a row is not as its kind wants it.
    """
    if isinstance(source, str | os.PathLike):
        return load_pairs(str(source), question_column, answer_column, split, format=format, answers=answers)
    rows = _rows(source, split, name)
    kinds = [_kind(row) for row in rows]
    named: list[Row] = []
    for number, (row, kind) in enumerate(zip(rows, kinds, strict=True), start=1):
        where = f"row {number}"
        if kind is None:
            raise UserError(f"{name}, {where}: is {type(row).__name__} {row!r:.40}, expected {ROW}")
        if kind != kinds[0]:
            raise UserError(f"{name}, {where}: is a {kind}, expected a {kinds[0]} as row 1 is")
        if kind == "(question, answer)":
            if len(row) != 2:
                raise UserError(f"{name}, {where}: is a {type(row).__name__} of {len(row)}, expected {kind}")
            row = dict(zip((question_column, answer_column), row, strict=True))
        elif kind == "Pair":
            row = row._asdict()
        elif kind == "conversation":
            row = {"messages": list(row)}
        named.append((where, {str(column): value for column, value in row.items()}))
    if kinds[:1] == ["Pair"]:
        return [_as_it_is(Record(name, *row)) for row in named]
    return pairs_of(source_of(name, named, question_column, answer_column, format), answers)


def _rows(source: Any, split: str, name: str) -> list[Any]:
    """The rows that a source holds, of whatever kind."""
    if isinstance(source, Mapping) and hasattr(source, "column_names"):  # a DatasetDict
        if split not in source:
            raise UserError(f"{name}: no split {split!r}, existing ones: {', '.join(source) or 'none'}")
        source = source[split]
    if hasattr(source, "iterrows"):  # a DataFrame: NaN is a missing value, and what parquet files list is an array
        rows = source.astype(object).where(source.notna(), None).to_dict("records")
        return [{key: _listed(cell) for key, cell in row.items()} for row in rows]
    if not isinstance(source, Iterable) or isinstance(source, Mapping | Set | bytes):
        raise UserError(
            f"{name}: is {type(source).__name__} {source!r:.40}, expected a list whose rows are each {ROW}; "
            "a datasets.Dataset, a pandas DataFrame, a file, or a Hub data set as owner/name"
        )
    rows = list(source)
    first = rows[0] if rows and isinstance(source, list | tuple) else None
    return [rows] if isinstance(first, Mapping) and any(turn <= first.keys() for turn in TURNS) else rows


def _listed(value: Any) -> Any:
    """A value with arrays, and arrays in them, as lists."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, dict):
        return {key: _listed(inner) for key, inner in value.items()}
    return [_listed(inner) for inner in value] if isinstance(value, list) else value


def _kind(row: Any) -> str | None:
    if isinstance(row, Pair):
        return "Pair"
    if isinstance(row, list | tuple):
        return "conversation" if row and isinstance(row[0], Mapping) else "(question, answer)"
    return "dict" if isinstance(row, Mapping) else None


def _as_it_is(record: Record) -> Pair:
    """The pair that a record was made of, once checked."""
    if record.values["question"] != "":
        record.text("question")
    record.text("answer")
    return Pair(**record.values)
