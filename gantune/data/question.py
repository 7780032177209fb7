"""A question and its answer; questions of several parts: a conversation, a system prompt, an instruction with input."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

Role = Literal["system", "user", "assistant"]
NAMES: dict[str, str] = {"system": "System", "user": "User", "assistant": "Assistant"}


class Pair(NamedTuple):
    """One question and its answer, as text; the question is empty where there is raw text alone."""

    question: str
    answer: str


class Turn(NamedTuple):
    """What one side of a conversation says; `context` is what it is about (Alpaca's `input`, a dialogue to sum up)."""

    role: Role
    content: str
    context: str = ""

    @property
    def text(self) -> str:
        """Content and context in one text."""
        return f"{self.content}\n\n{self.context}" if self.context else self.content


class Question(str):
    """A question of several parts. As text it is what metrics and samples see; templates write its `turns` apart.

    The text is the turn's own where there is one turn, otherwise a line `User: ...` or `Assistant: ...` for each. The
    turns go from the first one to the user's last.
    """

    turns: tuple[Turn, ...]

    def __new__(cls, turns: Iterable[Turn]) -> Question:
        turns = tuple(turns)
        lines = (f"{NAMES[turn.role]}: {turn.text}" for turn in turns)
        question = super().__new__(cls, turns[0].text if len(turns) == 1 else "\n".join(lines))
        question.turns = turns
        return question

    def __getnewargs__(self) -> tuple[tuple[Turn, ...]]:
        """So that copies have the turns too."""
        return (self.turns,)


class RecordQuestion(Question):
    """A record that is to be put into words: fields with values, in their order; of some fields several.

    As text it is `name[The Mill], food[French]`, as E2E writes records (Novikova et al. 2017), with or without a system
    prompt; a template may lay it out in another way, see `gantune.data.templates.RecordTemplate`.
    """

    fields: tuple[tuple[str, str], ...]

    def __new__(cls, fields: Iterable[tuple[str, str]], system: str = "") -> RecordQuestion:
        fields = tuple((name, value) for name, value in fields)
        text = ", ".join(f"{name}[{value}]" for name, value in fields)
        question = super().__new__(cls, [Turn("user", text)])
        question.fields = fields
        if system:
            question.turns = (Turn("system", system), *question.turns)
        return question

    @property
    def system(self) -> str:
        """The system prompt before the record, empty if there is none."""
        return self.turns[0].content if len(self.turns) > 1 else ""

    def __getnewargs__(self) -> tuple[tuple[tuple[str, str], ...], str]:
        return self.fields, self.system


def all_records(questions: Sequence[str]) -> bool:
    """Whether there are questions, and every one is a record."""
    return bool(questions) and all(isinstance(question, RecordQuestion) for question in questions)


def identity(question: str) -> str | tuple[tuple[str, str], ...]:
    """What two questions share that are the same: the text, or a record's fields, in whatever order."""
    return tuple(sorted(question.fields)) if isinstance(question, RecordQuestion) else question


def turns_of(question: str) -> tuple[Turn, ...]:
    """The turns of a question; one of the user's where it is plain text, none where it is empty (raw text)."""
    if isinstance(question, Question):
        return question.turns
    return (Turn("user", question),) if question else ()


def with_system(question: str, system: str) -> str:
    """The question with a system prompt before it, unless it has one of its own or is empty."""
    turns = turns_of(question)
    if not turns or turns[0].role == "system":
        return question
    if isinstance(question, RecordQuestion):
        return RecordQuestion(question.fields, system)
    return Question((Turn("system", system), *turns))
