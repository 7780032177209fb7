"""Questions without answers: what a game may ask, and likelihood alone cannot learn from."""

from __future__ import annotations

from collections.abc import Sequence

from gantune.data.formats import Format, build_format
from gantune.data.question import RecordQuestion
from gantune.data.record_formats import parse_record
from gantune.data.records import Record
from gantune.data.sources import Row, Source, decoded, read_bytes, read_rows
from gantune.diagnostics.files import local_path
from gantune.errors import UserError


def load_prompts(
    source: str, question_column: str = "question", split: str = "train", *, format: str | None = None
) -> list[str]:
    """Read questions, each once, in the order of the source. Columns of answers need not be there, and are not read.

    Args:
        source: what [`gantune.data.load_pairs`] reads, in any format but raw text; or a .txt file, a question a line.
            Its lines are records if each is one, as `name[The Mill], eatType[pub]`.
        question_column: of format question-answer.
        split: split of a Hub data set.
        format: a name from [`FORMATS`]; None finds it by the columns.

    Raises:
        UserError: naming file, row and column, if the source cannot be read or any row lacks a question.
    """
    path = local_path(source)
    if path.suffix.lower() == ".txt":
        questions = questions_in_text(source, read_bytes(source, path))
    else:
        questions = questions_in(source, read_rows(source, split), question_column, format)
    if not questions:
        raise UserError(f"{source}: has no rows, expected questions")
    return list(dict.fromkeys(questions))


def questions_in_text(source: str, data: bytes) -> list[str]:
    """The lines of a text, which messages call `source`, as [`as_records`]; blank ones hold no question."""
    return as_records([line.strip() for line in decoded(source, data).splitlines() if line.strip()])


def questions_in(
    source: str, rows: Sequence[Row], question_column: str = "question", format: str | None = None
) -> list[str]:
    """The question of each of the rows, which messages call `source`; see [`load_prompts`]."""
    columns = list(dict.fromkeys(column for _, row in rows for column in row))
    name, found = build_format(source, columns, format, question_column, "answer", question_columns)
    return questions_of(Source(name, found, [Record(source, *row) for row in rows]))


def as_records(lines: list[str]) -> list[str]:
    """The lines as records if each is one, as `name[The Mill], eatType[pub]`; otherwise as they are."""
    try:
        return [RecordQuestion(parse_record(line)) for line in lines]
    except UserError:
        return lines


def questions_of(source: Source) -> list[str]:
    """The question of every row, of a conversation all up to what the user says last."""
    format = source.format
    if hasattr(format, "question"):
        return [format.question(record) for record in source.records]
    return [format.pairs(record)[-1].question for record in source.records]


def question_columns(format: Format) -> tuple[str, ...]:
    """The columns that a format's questions need."""
    return getattr(format, "question_columns", format.columns)
