"""Slot errors of a text about a record: fields that it leaves out, tells wrongly, or makes up (Wen et al. 2015)."""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from gantune.data.question import all_records
from gantune.data.record_formats import parse_record
from gantune.diagnostics.files import read_object
from gantune.errors import UserError

SHIPPED = {"e2e": "e2e-slots.json", "mini-records": "mini-records-slots.json"}
"""Patterns that come with gantune: the restaurants of the E2E NLG Challenge (Novikova et al. 2017), and our authors."""
EXACT = "exact"
"""The name of no patterns."""
Fields = Mapping[str, str | Sequence[str]]
"""Values by field; of some fields several."""


class SlotErrors(NamedTuple):
    """The slot errors of one text."""

    missing: int  # values of the record of whose field the text says nothing
    wrong: int  # values instead of which it says another one
    added: int  # values beyond those of the record


def by_field(fields: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Names and values as a record that [`SlotMatcher`] reads."""
    record: dict[str, list[str]] = {}
    for name, value in fields:
        record.setdefault(name, []).append(value)
    return record


def records_of(questions: Sequence[str]) -> list[dict[str, list[str]]] | None:
    """The records that questions are, values by field; None unless every one is a record."""
    return [by_field(question.fields) for question in questions] if all_records(questions) else None


def parse_meaning_representation(text: str) -> dict[str, list[str]]:
    """The record that E2E writes as `name[The Mill], eatType[pub]`, values by field; a [`UserError`] if it is none."""
    return by_field(parse_record(text))


def count_slots(record: Fields) -> int:
    """How many values a record has."""
    return sum(len(_values(value)) for value in record.values())


def slot_figures(rows: Sequence[SlotErrors], slots: int) -> dict[str, float]:
    """The measures of texts with these errors about records of so many values in all; see [`SlotMatcher.figures`]."""
    if not slots:
        raise UserError("records: expected at least one field, got none")
    kinds = {kind: sum(row[index] for row in rows) / slots for index, kind in enumerate(SlotErrors._fields)}
    right = sum(not any(row) for row in rows) / len(rows)
    return {"slot_error_rate": sum(kinds.values()), **kinds, "right_texts": right}


class SlotMatcher:
    """Finds what a text says of each field, by patterns.

    ```python
    matcher = SlotMatcher("e2e")
    matcher.errors({"name": "The Mill", "food": "French"}, "The Mill serves sushi.")  # SlotErrors(0, 1, 0)
    ```

    Args:
        patterns: `e2e`, `mini-records`, or a JSON file: an object that has, by field, a list of
            `{"values": [...], "said": PATTERN}`, where the regular expression finds these values in a text, whole words
            of any case. Of a field with an empty list, and of one that is not in the file, the value itself has to be
            there.

    Raises:
        UserError: naming file and field, if the file is not as described.
    """

    def __init__(self, patterns: str | Path | None = None) -> None:
        self.fields: dict[str, list[tuple[list[str], re.Pattern[str]]]] = {}
        if patterns is None:
            return
        shipped = SHIPPED.get(str(patterns))
        file = Path(str(importlib.resources.files("gantune.assets") / shipped)) if shipped else Path(patterns)
        for field, said in read_object(file, "slot patterns").items():
            try:
                self.fields[field] = [(list(item["values"]), _words(item["said"])) for item in said]
            except (TypeError, KeyError, re.error) as error:
                expected = 'a list of {"values": [...], "said": PATTERN}'
                raise UserError(f"{file}: {field!r} is not {expected} ({error})") from error

    @classmethod
    def for_records(cls, records: Iterable[Fields], patterns: str | None = None) -> SlotMatcher:
        """The matcher of these patterns, or of none if they are called `exact`.

        If None, of those that come with gantune and know every field; if none do, each value itself has to be there.
        """
        if patterns is not None:
            return cls(None if patterns == EXACT else patterns)
        names = {name for record in records for name in record}
        shipped = (cls(name) for name in SHIPPED)
        return next((matcher for matcher in shipped if names and names <= matcher.fields.keys()), cls())

    def errors(self, record: Fields, text: str) -> SlotErrors:
        """What is wrong with a text about a record; a value that is not said is wrong if another one is."""
        missing = wrong = added = 0
        for field in {**self.fields, **record}:
            values, known = _values(record.get(field, ())), self.fields.get(field) or []
            if known:
                said = [meant for meant, pattern in known if pattern.search(text)]
            else:
                said = [[value] for value in values if _words(re.escape(value)).search(text)]
            unsaid = sum(all(value not in meant for meant in said) for value in values)
            others = sum(not set(values) & set(meant) for meant in said)
            missing += max(unsaid - others, 0)
            wrong += min(unsaid, others)
            added += max(others - unsaid, 0)
        return SlotErrors(missing, wrong, added)

    def figures(self, records: Sequence[Fields], texts: Iterable[str]) -> dict[str, float]:
        """The measures of texts, each about the record at its place.

        Returns:
            `slot_error_rate`, all errors over the values of all records; `missing`, `wrong` and `added`, the same for
            one kind; `right_texts`, the share of texts without an error.
        """
        rows = [self.errors(record, text) for record, text in zip(records, texts, strict=True)]
        return slot_figures(rows, sum(map(count_slots, records)))


def _values(value: str | Sequence[str]) -> Sequence[str]:
    return [value] if isinstance(value, str) else value


def _words(pattern: str) -> re.Pattern[str]:
    """A pattern that matches whole words only."""
    return re.compile(rf"(?<!\w)(?:{pattern})(?!\w)", re.IGNORECASE)
