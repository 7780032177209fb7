"""What the columns of a data set mean: the formats in which questions and answers are published."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

from gantune.data.question import Pair, Question, Role, Turn
from gantune.data.record_formats import RecordFormat
from gantune.data.records import Record
from gantune.errors import UserError, did_you_mean
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
ROLE_KEYS = {"from", "role"}
TURN_FIELDS = {*ROLE_KEYS, "value", "content", "weight"}
"""What is read of a turn; one of [`ROLE_KEYS`] tells that it is one."""
LABEL = "label"
"""Column that says whether an answer is a true one (TRL's unpaired preference, WikiQA)."""


class Format(Protocol):
    """Reads the pairs of a row, which must have its `columns`; by these the format is known.

    `optional_columns`, which may be left out, are the others that it reads; columns that are in neither are named as
    not read. With [`LABEL`] among them, rows with a false one are left out.

    A format whose questions can be read without their answers has `question_columns`, which suffice for it, and the
    method `question(record) -> str`, which raises what `pairs` raises.
    """

    columns: tuple[str, ...]
    optional_columns: tuple[str, ...] = ()

    def pairs(self, record: Record) -> list[Pair]:
        """Every question and answer of a row, in their order.

        There is at least one; of records, where several texts answer one question, as many as there are texts.

        Raises:
            UserError: naming file, row and field, if the row is not as the format wants it.
        """
        ...


class ColumnFormat:
    """A question and its answer in the first two columns, as in TOFU; or what a subclass reads from its columns."""

    columns: tuple[str, ...] = ()
    optional_columns: tuple[str, ...] = (LABEL,)

    def __init__(self, *columns: str) -> None:
        self.columns = columns or self.columns
        self.question_columns = self.columns[:1]

    def question(self, record: Record) -> str:
        return record.text(self.columns[0])

    def pairs(self, record: Record) -> list[Pair]:
        return [Pair(self.question(record), record.text(self.columns[1]))]


class Alpaca(ColumnFormat):
    """`instruction`, `output`, maybe `input` (tatsu-lab/stanford_alpaca), `system` and `history` (LLaMA-Factory)."""

    optional_columns = ("input", "system", "history", LABEL)

    def question(self, record: Record) -> str:
        return _question(self._asked(record))

    def pairs(self, record: Record) -> list[Pair]:
        turns = [*self._asked(record), Turn("assistant", record.text("output"))]
        return [_pair(turns[: index + 1]) for index, turn in enumerate(turns) if turn.role == "assistant"]

    def _asked(self, record: Record) -> list[Turn]:
        asked = Turn("user", record.text("instruction"), record.optional_text("input"))
        return [*_system(record), *_history(record), asked]


class ConversationFormat(ColumnFormat):
    """Turns in one column, or in several that follow one another: a system prompt or none, then user and assistant.

    Every answer in the last column gives a pair, whose question is all that stands before it. A turn is an object with
    `from` and `value` (ShareGPT) or `role` and `content` (OpenAI); what the user says last is not used, nor learned an
    answer of `weight` 0. A column `system` may hold the system prompt.
    """

    optional_columns = ("system", LABEL)

    def question(self, record: Record) -> str:
        """All up to what the user says last."""
        turns = self._turns(record, self.question_columns)
        while turns and turns[-1].role != "user":
            turns.pop()
        if not turns:
            raise record.error(f"{self.columns[0]!r} has no turn of the user, expected at least one")
        return _question(turns)

    def pairs(self, record: Record) -> list[Pair]:
        turns, column = self._turns(record, self.columns), self.columns[-1]
        listed = dict(enumerate(record.values[column], start=len(turns) - len(record.values[column])))
        answers = [index for index in listed if turns[index].role == "assistant"]
        learned = [index for index in answers if listed[index].get("weight") != 0]
        if not learned:
            found = "only turns of weight 0" if answers else "no turn"
            raise record.error(f"{column!r} has {found} of the assistant, expected at least one")
        return [_pair(turns[: index + 1]) for index in learned]

    def _turns(self, record: Record, columns: Sequence[str]) -> list[Turn]:
        """The turns of these columns, the system prompt first, if there is one."""
        listed: dict[str, Any] = {}
        for column in columns:
            value = record.values.get(column)
            if not isinstance(value, list):
                raise record.error(f"{column!r} is {type(value).__name__}, expected a list of turns")
            listed |= {f"{column}[{index}]": turn for index, turn in enumerate(value)}
        names, turns = list(listed), [_turn(record, name, turn) for name, turn in listed.items()]
        start = bool(turns) and turns[0].role == "system"
        system = _system(record)
        if start and system and system != turns[:1]:
            raise record.error(f"'system' and {names[0]!r} are two system prompts, expected one")
        for index, turn in enumerate(turns[start:]):
            expected = ("user", "assistant")[index % 2]
            if turn.role != expected:
                raise record.error(f"{names[index + start]!r} is a turn of role {turn.role!r}, expected {expected!r}")
        return turns if start else [*system, *turns]


class PromptCompletion(ConversationFormat):
    """`prompt` and `completion` (TRL), two texts or two lists of turns."""

    def question(self, record: Record) -> str:
        if isinstance(record.values.get("prompt"), list):
            return super().question(record)
        return _question([*_system(record), Turn("user", record.text("prompt"))])

    def pairs(self, record: Record) -> list[Pair]:
        if isinstance(record.values.get("prompt"), list):
            return super().pairs(record)
        return [Pair(self.question(record), record.text("completion"))]


class DialogueSummary(ColumnFormat):
    """`dialogue` and `summary` (DialogSum, Chen et al. 2021); the question asks to summarize the dialogue."""

    instruction = "Summarize the following conversation."

    def question(self, record: Record) -> str:
        return Question([Turn("user", self.instruction, record.text("dialogue"))])


class Text(ColumnFormat):
    """`text`, for language modelling: pairs without a question."""

    optional_columns = ()

    def question(self, record: Record) -> str:
        raise record.error("format text has no questions, expected columns of another format")

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
    "records": RecordFormat("record", "text"),
    "e2e": RecordFormat("meaning_representation", "text"),
    "e2e-nlg": RecordFormat("meaning_representation", "human_reference"),  # the Hub's e2e_nlg
    "e2e-csv": RecordFormat("mr", "ref"),  # the challenge's own files
    "text": Text("text"),
}
DETECTION_ORDER = tuple(BUILT_IN)
"""The first whose columns are there is taken: published sets often hold a rendered `text` beside what it is made of."""
for _name, _format in BUILT_IN.items():
    FORMATS.register(_name)(_format)


def build_format(
    source: str,
    columns: Collection[str],
    name: str | None,
    question_column: str,
    answer_column: str,
    needed: Callable[[Format], Sequence[str]] = lambda format: format.columns,
) -> tuple[str, Format]:
    """The name of a source's format, and the format: a registry name or a dotted path; None finds it by the columns.

    Question and answer column are those of format question-answer; others than the usual also choose it. `needed` gives
    the columns that a format cannot do without; of several formats that fit, one that has all its columns is taken.

    Raises:
        UserError: if the name is unknown, a column is missing, or no format has such columns.
    """
    known = {found: FORMATS.get(found) for found in [*DETECTION_ORDER, *FORMATS.names()]}
    known["question-answer"] = ColumnFormat(question_column, answer_column)
    if name is None and (question_column, answer_column) == ("question", "answer"):
        fits = (
            found
            for wanted in (lambda format: format.columns, needed)
            for found in known
            if set(wanted(known[found])) <= set(columns)
        )
        name = next(fits, None)
        if name == "text" and {"parent_id", "role"} <= set(columns):  # Open Assistant's flat sets
            found = "each row is one message of a tree ('parent_id', 'role'), expected a conversation a row (as openai)"
            raise UserError(f"{source}: {found}; format text learns every message by itself")
        hint = "; or those of another data format: " + ", ".join(
            f"{other} ({', '.join(needed(candidate))})" for other, candidate in known.items()
        )
    else:
        hint = ""
    name = name or "question-answer"
    chosen = known[name] if name in known else FORMATS.resolve(name)
    chosen = FORMATS.tried(name, chosen) if isinstance(chosen, type) else chosen
    for column in FORMATS.tried(name, lambda: needed(chosen)):
        if column not in columns:
            existing = ", ".join(columns) or "none"
            near = did_you_mean(column, columns)
            raise UserError(f"{source}: no column {column!r}, existing ones: {existing}{hint}{near}")
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
    if turn.get("weight") not in (None, 0, 1):
        raise record.error(f"'{name}.weight' is {turn['weight']!r:.40}, expected 0 or 1")
    if turn.get(text_key) is None:
        raise record.error(f"no '{name}.{text_key}', expected a text")
    return Turn(ROLES[role], record.checked(turn[text_key], f"{name}.{text_key}"))


def _system(record: Record) -> list[Turn]:
    """The system prompt in its column, if there is one."""
    system = record.optional_text("system")
    return [Turn("system", system)] if system else []


def _history(record: Record) -> list[Turn]:
    """The turns before the question in the column `history`, a list of [question, answer]."""
    history = record.values.get("history") or []
    if not isinstance(history, list) or any(not isinstance(both, list | tuple) or len(both) != 2 for both in history):
        raise record.error(f"'history' is {history!r:.40}, expected a list of [question, answer]")
    return [
        Turn(role, record.checked(text, f"history[{index}][{side}]"))
        for index, both in enumerate(history)
        for side, (role, text) in enumerate(zip(("user", "assistant"), both, strict=True))
    ]


def _pair(turns: list[Turn]) -> Pair:
    """The last turn as the answer to the others."""
    return Pair(_question(turns[:-1]), turns[-1].content)


def _question(turns: list[Turn]) -> str:
    """One plain question as it is, more turns as a conversation."""
    plain = len(turns) == 1 and not turns[0].context
    return turns[0].content if plain else Question(turns)
