"""What the columns of a data set mean: the formats in which questions and answers are published."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

from gantune.data.question import Pair, Question, Role, Turn
from gantune.data.records import Record
from gantune.errors import UserError
from gantune.registry import Registry

FORMATS = Registry("data format", option="format")
ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
}
"""What the sets call the sides of a conversation."""


class Format(Protocol):
    """Reads the pairs of a row, which must have its `columns`; by these the format is known."""

    columns: tuple[str, ...]

    def pairs(self, record: Record) -> list[Pair]:
        """Every question and answer of a row, in their order, at least one.

        Raises:
            UserError: naming file, row and field, if the row is not as the format wants it.
        """
        ...


class ColumnFormat:
    """A question and its answer in two columns, such as TOFU; or what a subclass reads from its columns."""

    columns: tuple[str, ...] = ()

    def __init__(self, *columns: str) -> None:
        self.columns = columns or self.columns

    def pairs(self, record: Record) -> list[Pair]:
        question, answer = map(record.text, self.columns)
        return [Pair(question, answer)]


class Alpaca(ColumnFormat):
    """`instruction`, `output`, and an `input` that may be empty or absent (tatsu-lab/stanford_alpaca)."""

    def pairs(self, record: Record) -> list[Pair]:
        instruction, context = record.text("instruction"), record.optional_text("input")
        question = Question([Turn("user", instruction, context)]) if context else instruction
        return [Pair(question, record.text("output"))]


class ConversationFormat(ColumnFormat):
    """Turns in one column, or in several that follow one another: a system prompt or none, then user and assistant.

    Every answer in the last column gives a pair, whose question is all that stands before it. A turn is an object with
    `from` and `value` (ShareGPT) or `role` and `content` (OpenAI); what the user says last is not used.
    """

    def pairs(self, record: Record) -> list[Pair]:
        names: list[str] = []
        turns: list[Turn] = []
        for column in self.columns:
            value = record.values.get(column)
            if not isinstance(value, list):
                raise record.error(f"{column!r} is {type(value).__name__}, expected a list of turns")
            first = len(turns)
            names += [f"{column}[{index}]" for index in range(len(value))]
            turns += [_turn(record, name, turn) for name, turn in zip(names[first:], value, strict=True)]
        start = bool(turns) and turns[0].role == "system"
        for index, turn in enumerate(turns[start:]):
            expected = ("user", "assistant")[index % 2]
            if turn.role != expected:
                raise record.error(f"{names[index + start]!r} is a turn of role {turn.role!r}, expected {expected!r}")
        answers = [index for index in range(first, len(turns)) if turns[index].role == "assistant"]
        if not answers:
            raise record.error(f"{column!r} has no turn of the assistant, expected at least one")
        return [Pair(_question(turns[:index]), turns[index].content) for index in answers]


class PromptCompletion(ConversationFormat):
    """`prompt` and `completion` (TRL), two texts or two lists of turns."""

    def pairs(self, record: Record) -> list[Pair]:
        listed = isinstance(record.values.get("prompt"), list)
        return super().pairs(record) if listed else ColumnFormat.pairs(self, record)


class DialogueSummary(ColumnFormat):
    """`dialogue` and `summary` (DialogSum, Chen et al. 2021); the question asks to summarize the dialogue."""

    instruction = "Summarize the following conversation."

    def pairs(self, record: Record) -> list[Pair]:
        return [Pair(Question([Turn("user", self.instruction, record.text("dialogue"))]), record.text("summary"))]


class Text(ColumnFormat):
    """`text`, for language modelling: pairs without a question."""

    def pairs(self, record: Record) -> list[Pair]:
        return [Pair("", record.text("text"))]


BUILT_IN: dict[str, Format] = {
    "question-answer": ColumnFormat("question", "answer"),
    "alpaca": Alpaca("instruction", "output"),
    "sharegpt": ConversationFormat("conversations"),
    "openai": ConversationFormat("messages"),
    "prompt-completion": PromptCompletion("prompt", "completion"),
    "oasst": ColumnFormat("INSTRUCTION", "RESPONSE"),  # the Open Assistant instruction sets
    "dialogue-summary": DialogueSummary("dialogue", "summary"),
    "text": Text("text"),
}
DETECTION_ORDER = tuple(BUILT_IN)
"""The first whose columns are there is taken: published sets often hold a rendered `text` beside what it is made of."""
for _name, _format in BUILT_IN.items():
    FORMATS.register(_name)(_format)


def build_format(
    source: str, columns: Collection[str], name: str | None, question_column: str, answer_column: str
) -> tuple[str, Format]:
    """The name of a source's format, and the format: a registry name or a dotted path; None finds it by the columns.

    Question and answer column are those of format question-answer; others than the usual also choose it.

    Raises:
        UserError: if the name is unknown, a column is missing, or no format has such columns.
    """
    known = {found: FORMATS.get(found) for found in [*DETECTION_ORDER, *FORMATS.names()]}
    known["question-answer"] = ColumnFormat(question_column, answer_column)
    if name is None and (question_column, answer_column) == ("question", "answer"):
        name = next((found for found in known if set(known[found].columns) <= set(columns)), None)
        hint = "; or those of another data format: " + ", ".join(
            f"{other} ({', '.join(candidate.columns)})" for other, candidate in known.items()
        )
    else:
        hint = ""
    name = name or "question-answer"
    chosen = known[name] if name in known else FORMATS.resolve(name)
    chosen = FORMATS.tried(name, chosen) if isinstance(chosen, type) else chosen
    for column in FORMATS.tried(name, lambda: chosen.columns):
        if column not in columns:
            existing = ", ".join(columns) or "none"
            raise UserError(f"{source}: no column {column!r}, existing ones: {existing}{hint}")
    return name, chosen


def _turn(record: Record, name: str, turn: Any) -> Turn:
    if not isinstance(turn, dict):
        raise record.error(f"{name!r} is {type(turn).__name__}, expected an object with a role and a text")
    role_key, text_key = ("from", "value") if "from" in turn else ("role", "content")
    if role_key not in turn:
        raise record.error(f"{name!r} has no 'from' or 'role', existing fields: {', '.join(turn) or 'none'}")
    role = turn[role_key]
    if not isinstance(role, str) or role not in ROLES:
        raise record.error(f"'{name}.{role_key}' is {role!r:.40}, expected one of {', '.join(ROLES)}")
    if turn.get(text_key) is None:
        raise record.error(f"no '{name}.{text_key}', expected a text")
    return Turn(ROLES[role], record.checked(turn[text_key], f"{name}.{text_key}"))


def _question(turns: list[Turn]) -> str:
    """One plain question as it is, more as a conversation."""
    return turns[0].content if len(turns) == 1 else Question(turns)
