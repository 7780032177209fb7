"""One row of a source, and what it holds, checked."""

from __future__ import annotations

from typing import Any, NamedTuple

from gantune.data.question import Question
from gantune.errors import UserError


class Record(NamedTuple):
    """A row."""

    source: str  # what the user named, such as a file
    where: str  # where the row stands in it ("line 3")
    values: dict[str, Any]  # by column

    def error(self, problem: str) -> UserError:
        """The error that says what is wrong with this row."""
        return UserError(f"{self.source}, {self.where}: {problem}")

    def text(self, column: str) -> str:
        """The text in one column, without the white space around it; a [`UserError`] if there is none."""
        value = self.values.get(column)
        if value is None:
            raise self.error(f"no {column!r}, expected a text")
        return self.checked(value, column)

    def optional_text(self, column: str) -> str:
        """The text in one column, empty if there is none; a [`UserError`] if something else is there."""
        value = self.values.get(column)
        return "" if value is None or (isinstance(value, str) and not value.strip()) else self.checked(value, column)

    def checked(self, value: Any, name: str) -> str:
        """The value of field `name` as text; a [`UserError`] if it is no text, or an empty or broken one."""
        if not isinstance(value, str):
            raise self.error(f"{name!r} is {type(value).__name__} {value!r:.40}, expected a text")
        if not value.strip():
            raise self.error(f"{name!r} is empty, expected a text")
        try:
            value.encode()
        except UnicodeEncodeError:  # JSON's \ud83d without its second half: tokenizers fail on it
            raise self.error(f"{name!r} has half a surrogate pair, expected valid Unicode") from None
        return value if isinstance(value, Question) else value.strip()
