"""Records and the texts that put them into words, as E2E writes them (Novikova et al. 2017) or as JSON objects."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from gantune.data.question import Pair, RecordQuestion
from gantune.data.records import Record
from gantune.errors import UserError

SLOT = re.compile(r"([^\[\],]+)\[([^\]]*)\]")
EXPECTED = "expected a record as name[The Mill], eatType[pub]"


def parse_record(text: str) -> tuple[tuple[str, str], ...]:
    """The fields of a record that E2E writes as `name[The Mill], eatType[pub]`, in their order, some several times.

    Fields without a value are left out. A [`UserError`] if the text is no such record, or no field has a value.
    """
    fields = tuple((name.strip(), " ".join(value.split())) for name, value in SLOT.findall(text))
    fields = tuple((name, value) for name, value in fields if name and value)
    if not fields or SLOT.sub("", text).strip(", "):
        raise UserError(f"{text!r:.60}: {EXPECTED}")
    return fields


class RecordFormat:
    """A record in one column and what is said of it in another.

    A record is a text as `name[The Mill], eatType[pub]`, or an object whose values are texts, numbers, booleans (as yes
    and no) or lists of such: several values of one field. A field without a value is left out.

    What is said is a text, or a list of several, each of which gives a pair. A record of which nothing is said gives
    none: it is a question without an answer, see [`gantune.data.load_prompts`].
    """

    optional_columns = ()

    def __init__(self, record_column: str, text_column: str) -> None:
        self.columns = record_column, text_column
        self.question_columns = self.columns[:1]

    def question(self, record: Record) -> RecordQuestion:
        column = self.columns[0]
        value = record.values.get(column)
        if isinstance(value, RecordQuestion):
            return value
        if isinstance(value, dict):
            fields = tuple(_fields(record, column, value))
            if not fields:
                raise record.error(f"{column!r} has no field with a value, expected at least one")
            return RecordQuestion(fields)
        if value is not None and not isinstance(value, str):
            raise record.error(f"{column!r} is {type(value).__name__} {value!r:.40}, expected a text or an object")
        text = record.text(column)
        try:
            return RecordQuestion(parse_record(text))
        except UserError:
            raise record.error(f"{column!r} is {text!r:.60}, {EXPECTED}, or an object") from None

    def pairs(self, record: Record) -> list[Pair]:
        column = self.columns[1]
        said = record.values.get(column)
        if not isinstance(said, list):
            texts = [record.optional_text(column)]
        else:
            texts = [record.checked(text, f"{column}[{index}]") for index, text in enumerate(said)]
        question = self.question(record)
        return [Pair(question, text) for text in texts if text]


def _fields(record: Record, column: str, values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        place, name = f"{column}.{name}", " ".join(str(name).split())
        if not name:
            raise record.error(f"{column!r} has a field without a name")
        several = value if isinstance(value, list) else [value]
        texts = [_value(record, f"{place}[{i}]" if several is value else place, one) for i, one in enumerate(several)]
        yield from ((name, text) for text in texts if text)


def _value(record: Record, place: str, value: Any) -> str:
    """The text of a value, empty for none."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() else repr(float(value))
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return " ".join(record.checked(value, place).split())
    found = "an object" if isinstance(value, dict) else "a list" if isinstance(value, list) else f"{value!r:.40}"
    raise record.error(f"{place!r} is {found}, expected a text, a number, true or false, or a list of such")
