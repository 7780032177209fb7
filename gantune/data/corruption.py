"""Records that a text is not of: corrupted ones for a judge to learn from, and made-up ones to be put into words."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Sequence
from itertools import combinations
from random import Random
from typing import NamedTuple

from gantune.data.question import RecordQuestion
from gantune.errors import UserError

VAIN_DRAWS = 1000
"""So many made-up records in a row that are no new ones, and there are taken to be no more."""


class Corrupted(NamedTuple):
    """A record that a text is no longer right for, and of each of its fields whether the text says it."""

    record: RecordQuestion
    said: tuple[bool, ...]


class Field(NamedTuple):
    """A field of a record that is being changed."""

    name: str
    value: str
    said: bool = True


class Values:
    """The values of each field of some records. One is drawn as often as they have it, so that rare ones tell nothing.

    Args:
        records: at least one; of one that is given twice the values count twice.

    Raises:
        UserError: if there is no record.
    """

    def __init__(self, records: Sequence[RecordQuestion]) -> None:
        if not records:
            raise UserError("no record, expected at least one, whose fields and values others are made of")
        self._values: dict[str, list[str]] = defaultdict(list)
        for name, value in (field for record in records for field in record.fields):
            self._values[name].append(value)
        self._distinct = {name: set(values) for name, values in self._values.items()}
        self.names = list(self._values)

    def has_other(self, name: str, than: Container[str]) -> bool:
        """Whether a field of this name has a value that is none of `than`."""
        return any(value not in than for value in self._distinct.get(name, ()))

    def draw(self, name: str, than: Container[str], random: Random) -> str:
        """A value of the field `name` that is none of `than`, of which there has to be one."""
        while (value := random.choice(self._values[name])) in than:
            pass
        return value


class Corruptions:
    """Changes records by what others of their kind hold; see [`Values`] for the argument and what is raised."""

    def __init__(self, records: Sequence[RecordQuestion]) -> None:
        self._values = Values(records)
        self._before = Counter(
            names for record in records for names in combinations([name for name, _ in record.fields], 2)
        )

    def corrupted(self, record: RecordQuestion, random: Random) -> Corrupted:
        """The record with a field or two that differ: another value (swap), left out (drop), or one more (add).

        Two thirds differ in one. The first field is never dropped, and none of two or fewer. A value that the record
        itself has for a field is not taken, so that `said` is right. Fields keep their order, and one more stands where
        most records would have it. The system prompt stays.

        Raises:
            UserError: if nothing can differ: no field has another value, none is absent, none may be dropped.
        """
        fields = [Field(*field) for field in record.fields]
        for number in range(random.choice([1, 1, 2])):
            changes = self._changes(record, fields)
            if not changes and not number:
                raise UserError(f"record {str(record)!r:.60}: all records are like it, expected another value or field")
            if not changes:
                break
            kind = random.choice(list(changes))
            chosen = random.choice(changes[kind])
            if kind == "swap":
                name = fields[chosen].name
                fields[chosen] = Field(name, self._values.draw(name, _held(name, record.fields, fields), random), False)
            elif kind == "drop":
                del fields[chosen]
            else:
                fields.insert(self._place(fields, chosen), Field(chosen, self._values.draw(chosen, (), random), False))
        return Corrupted(
            RecordQuestion((field[:2] for field in fields), record.system), tuple(field.said for field in fields)
        )

    def _changes(self, record: RecordQuestion, fields: Sequence[Field]) -> dict[str, list]:
        """What can be swapped (places), dropped (places) and added (names), by kind, of kinds that are possible."""
        untouched = [(place, field) for place, field in enumerate(fields) if field.said]
        present = {name for name, *_ in (*record.fields, *fields)}
        changes = {
            "swap": [
                place
                for place, field in untouched
                if self._values.has_other(field.name, _held(field.name, record.fields, fields))
            ],
            "drop": [place for place, field in untouched if field[:2] != record.fields[0] and len(fields) > 2],
            "add": [name for name in self._values.names if name not in present],
        }
        return {kind: possible for kind, possible in changes.items() if possible}

    def _place(self, fields: Sequence[Field], name: str) -> int:
        """Where among `fields` one more is contradicted by the fewest records; the last such place."""
        names = [field.name for field in fields]

        def contradicting(place: int) -> int:
            too_late = sum(self._before[name, other] for other in names[:place])
            return too_late + sum(self._before[other, name] for other in names[place:])

        return min(range(len(names), -1, -1), key=contradicting)


def make_up(
    records: Sequence[RecordQuestion], n: int, random: Random, but: Container[str] = ()
) -> list[RecordQuestion]:
    """Up to `n` records, no two alike: fields and system prompt of one of `records`, with values drawn for each.

    They are fewer where chance finds no more. Of fields of one name no two have the same value.

    Args:
        records: at least one; likely fields and values are those that are likely among them.
        but: texts of records that are not wanted, such as those to be tested on.

    Raises:
        UserError: if there is no record.
    """
    values = Values(records)
    made: dict[str, RecordQuestion] = {}
    vain = 0
    while len(made) < n and vain < VAIN_DRAWS:
        fields: list[tuple[str, str]] = []
        like = random.choice(records)
        for name, _ in like.fields:
            held = _held(name, fields)
            if values.has_other(name, held):  # not if a record repeats a field with its value
                fields.append((name, values.draw(name, held, random)))
        record, vain = RecordQuestion(fields, like.system), vain + 1
        if record not in but and record not in made:
            made[record], vain = record, 0
    return list(made.values())


def _held(name: str, *of: Sequence[tuple]) -> set[str]:
    """The values that fields of this name have."""
    return {value for fields in of for other, value, *_ in fields if other == name}
