"""The pairs of a comparison: read, divided, and freed of training pairs that the test set holds too."""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from gantune.data import (
    FORMATS,
    Contaminated,
    Pair,
    RecordQuestion,
    decontaminate,
    load_pairs,
    load_prompts,
    open_source,
    pairs_of,
    split_pairs,
    split_records,
)
from gantune.data.decontamination import question_key
from gantune.data.prompts import questions_of
from gantune.data.question import identity
from gantune.errors import UserError
from gantune.field_types import check_range

if TYPE_CHECKING:
    from gantune.trainer.unpaired import Unpaired

TEST_SIZE = 400


@dataclass
class DataArguments:
    """Questions and answers."""

    _argument_group_name = "data"

    dataset: str = field(
        default="mini-tofu",
        metadata={
            "help": "'mini-tofu', 'mini-dialogues' or 'mini-records' (come with gantune), 'tofu' or "
            "'tofu:CONFIGURATION' (locuslab/TOFU on the Hub), a .jsonl, .json, .csv, .tsv or .parquet file, "
            "a folder of them, or a Hub id"
        },
    )
    format: str | None = field(
        default=None, metadata={"help": f"of the rows; found by the columns if not given: {', '.join(FORMATS.names())}"}
    )
    question_column: str = field(
        default="question", metadata={"help": "name of the column with the questions, of format question-answer"}
    )
    answer_column: str = field(default="answer", metadata={"help": "name of the column with the answers"})
    answers: Literal["last", "every"] = field(
        default="last", metadata={"help": "which answers of a conversation are learned"}
    )
    train_size: int = field(default=50, metadata={"help": "pairs to train on"})
    test_size: int | None = field(
        default=None, metadata={"help": f"pairs to test on (default: {TEST_SIZE}, or all that are left)"}
    )
    test_dataset: str | None = field(
        default=None,
        metadata={"help": "where the test pairs come from, if not from --dataset; what is in both is not trained on"},
    )
    apart_from: list[int] = field(
        default_factory=list,
        metadata={
            "help": "test nothing that these seeds test, to choose settings for them, as the sweep of --tune does"
        },
    )
    unpaired: int = field(
        default=0,
        metadata={
            "help": "also so many questions without answers and as many answers to other questions, for the methods "
            "that can use them"
        },
    )
    prompts: list[str] = field(
        default_factory=list,
        metadata={
            "help": "also questions without answers, for the methods that can use them: 'rest', those neither trained "
            "nor tested; 'made:N', N records made up of the values of the training pairs and of the prompts before; "
            "or a file, see gantune train --prompts; 'none' where a preset has some"
        },
    )
    decontamination: bool = field(
        default=True,
        metadata={
            "help": "leave out training pairs that repeat a test pair, word for word or nearly; they are counted"
        },
    )
    forgetting: bool = field(
        default=False,
        metadata={"help": "also TOFU's own measures, on what was tuned, held-out authors and what was known before"},
    )

    def __post_init__(self) -> None:
        check_range(self, "at least 1", "train_size", *(["test_size"] if self.test_size is not None else []))
        check_range(self, "at least 0", "unpaired")
        if self.forgetting and self.test_dataset:
            raise UserError(
                "--forgetting and --test-dataset: expected one of them, authors are told by one file's rows"
            )


class Split(NamedTuple):
    """The pairs of one seed.

    Args:
        pairs: all.
        train: to tune on.
        test: to judge by.
        left_out: training pairs that repeated a test pair.
        unpaired: questions of some other pairs and answers of yet others, or prompts alone; None if none were asked
            for.
        references: of records, all the texts of each test pair's; None of other questions.
        warnings: what else was left out.
    """

    pairs: list[Pair]
    train: list[Pair]
    test: list[Pair]
    left_out: list[Contaminated]
    unpaired: Unpaired | None = None
    references: list[list[str]] | None = None
    warnings: Sequence[str] = ()


def read_split(data: DataArguments, seed: int) -> Split:
    """Read the data, and divide them by a seed; records so that none is both trained and tested.

    A `test_size` that is not given is set.

    Raises:
        UserError: naming file, row and field of what cannot be read, or the sizes that do not fit.
    """
    check_prompts(data)
    source = open_source(data.dataset, data.question_column, data.answer_column, format=data.format)
    pairs = pairs_of(source, data.answers)
    others = pairs
    if data.test_dataset:
        columns = data.question_column, data.answer_column
        others = load_pairs(data.test_dataset, *columns, format=data.format, answers=data.answers)
        pairs = without(pairs, others)
    kinds = {isinstance(pair.question, RecordQuestion) for pair in [*pairs, *others]}
    if len(kinds) > 1:
        named = ", ".join(name for name in (data.dataset, data.test_dataset) if name)
        raise UserError(f"{named}: some questions are records and some are not, expected one kind")
    records = kinds == {True}
    if data.test_size is None:
        there = _questions(others, records)
        data.test_size = max(1, min(TEST_SIZE, there if data.test_dataset else there - data.train_size))
    train, test, references = _drawn(pairs, others, data, seed, records)
    unpaired, warnings = _unpaired(pairs, train, test, data, seed) if data.unpaired else None, []
    if data.prompts:
        rest = questions_of(source) if records else [pair.question for pair in pairs if pair.question]
        unpaired, warnings = _prompts(rest, train, test, data, seed)
    left_out: list[Contaminated] = []
    if data.decontamination:
        train, left_out = decontaminate(train, test)
    if not train:
        raise UserError(f"{data.dataset}: every training pair repeats a test pair (--decontamination false keeps them)")
    return Split(pairs, train, test, left_out, unpaired, references, warnings)


def without(pairs: Sequence[Pair], others: Sequence[Pair]) -> list[Pair]:
    """The pairs whose question none of the others has."""
    known = {question_key(pair.question) for pair in others}
    return [pair for pair in pairs if question_key(pair.question) not in known]


def divided(
    pairs: list[Pair], train_size: int, test_size: int, seed: int, records: bool
) -> tuple[list[Pair], list[Pair], list[list[str]] | None]:
    """Training pairs, test pairs, and the references of these if the questions are records."""
    if records:
        return split_records(pairs, train_size, test_size, seed)
    return *split_pairs(pairs, train_size, test_size, seed), None


def _drawn(
    pairs: list[Pair], others: list[Pair], data: DataArguments, seed: int, records: bool
) -> tuple[list[Pair], list[Pair], list[list[str]] | None]:
    """What [`divided`] gives of a seed; test pairs come from `others`, which are `pairs` without a `test_dataset`."""
    if not data.test_dataset and not data.apart_from:
        return divided(pairs, data.train_size, data.test_size, seed, records)
    size = data.test_size
    if data.apart_from:
        beside = 0 if data.test_dataset else data.train_size
        each = [divided(others, beside, size, reported, records)[1] for reported in data.apart_from]
        others = without(others, [pair for tested in each for pair in tested])
        if not others:
            seeds = ", ".join(map(str, data.apart_from))
            raise UserError(
                f"{data.dataset}: seeds {seeds} test all of it, expected fewer seeds or a smaller --test-size"
            )
        size = min(size, _questions(others, records))
    _, test, references = divided(others, 0, size, seed, records)
    return divided(without(pairs, test), data.train_size, 0, seed, records)[0], test, references


def _questions(pairs: Sequence[Pair], records: bool) -> int:
    """How many there are to test on: pairs, or records, each of which is tested once."""
    return len({identity(pair.question) for pair in pairs}) if records else len(pairs)


def check_prompts(data: DataArguments) -> None:
    """Refuse prompts that cannot be meant; files are not looked at."""
    if data.prompts and data.unpaired:
        raise UserError("--prompts and --unpaired: expected one of them, questions alone or with answers to others")
    for name in data.prompts:
        kind, _, number = name.partition(":")
        if kind == "made" and not (number.isdecimal() and int(number)):
            raise UserError(f"--prompts {name}: expected made:N, N at least 1")


def _unpaired(pairs: list[Pair], train: list[Pair], test: list[Pair], data: DataArguments, seed: int) -> Unpaired:
    """Questions and answers of pairs that are neither trained on nor tested; no pair gives both, and no record."""
    from gantune.trainer.unpaired import Unpaired

    rest, _ = decontaminate(list(dict.fromkeys(pairs)), [*train, *test]) if data.decontamination else (pairs, [])
    if isinstance(pairs[0].question, RecordQuestion):
        known = {identity(pair.question) for pair in [*train, *test]}
        by_record = {identity(pair.question): pair for pair in reversed(rest)}
        rest = [pair for record, pair in reversed(by_record.items()) if record not in known]
    else:
        known = {*train, *test}
        rest = [pair for pair in rest if pair not in known]
    if len(rest) < 2 * data.unpaired:
        raise UserError(
            f"--unpaired {data.unpaired}: {data.dataset} has {len(rest)} pairs beside those to train and to test on, "
            f"expected at least {2 * data.unpaired}"
        )
    drawn = random.Random(f"{seed}/unpaired").sample(rest, 2 * data.unpaired)
    questions, answers = drawn[: data.unpaired], drawn[data.unpaired :]
    return Unpaired([pair.question for pair in questions], [pair.answer for pair in answers])


def _prompts(
    rest: list[str], train: list[Pair], test: list[Pair], data: DataArguments, seed: int
) -> tuple[Unpaired, list[str]]:
    """The questions that `--prompts` names, each once, without those of the pairs; and how many these are.

    `rest` has the questions of all pairs; that those to train and to test on are not among the others goes unsaid.
    """
    from gantune.trainer.unpaired import Unpaired

    known = {question_key(pair.question) for pair in [*train, *test]}
    found: dict[Hashable, str] = {}
    left_out, told = 0, []
    for name in data.prompts:
        before = len(found)
        if name == "rest":
            questions = [question for question in rest if question_key(question) not in known]
        elif name.startswith("made:"):
            questions = _made(name, [pair.question for pair in train], [*found.values()], test, data, seed)
        else:
            questions = load_prompts(name, data.question_column)
        for key, question in zip(map(question_key, questions), questions, strict=True):
            left_out += key in known
            if key not in known:
                found.setdefault(key, question)
        told.append(f"{len(found) - before} of {name}")
    if not found:
        raise UserError(f"--prompts {' '.join(data.prompts)}: no question beside those to train and to test on")
    line = f"prompts of seed {seed}: {', '.join(told)}"
    if left_out:
        line += f"; {left_out} left out, they are questions of training or test pairs"
    return Unpaired([*found.values()]), [line]


def _made(
    name: str, trained: list[str], found: list[str], test: list[Pair], data: DataArguments, seed: int
) -> list[RecordQuestion]:
    """Records made up of the values of those at hand; the values of test records are not used."""
    known = [question for question in [*trained, *found] if isinstance(question, RecordQuestion)]
    if not known:
        raise UserError(f"--prompts {name}: {data.dataset} has no records, expected some to make others like them")
    from gantune.data.corruption import make_up

    number = int(name.partition(":")[2])
    but = {*known, *(pair.question for pair in test)}
    return make_up(known, number, random.Random(f"{seed}/{name}"), but)
