"""The pairs of a comparison: read, divided, and freed of training pairs that the test set holds too."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from gantune.data import FORMATS, Contaminated, Pair, decontaminate, load_pairs, split_pairs
from gantune.errors import UserError

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
    unpaired: int = field(
        default=0,
        metadata={
            "help": "also so many questions without answers and as many answers to other questions, for the methods "
            "that can use them"
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


class Split(NamedTuple):
    """The pairs of one seed.

    Args:
        pairs: all.
        train: to tune on.
        test: to judge by.
        left_out: training pairs that repeated a test pair.
        unpaired: questions of some other pairs and answers of yet others, None if none were asked for.
    """

    pairs: list[Pair]
    train: list[Pair]
    test: list[Pair]
    left_out: list[Contaminated]
    unpaired: Unpaired | None = None


def read_split(data: DataArguments, seed: int) -> Split:
    """Read the data, and divide them by a seed. A `test_size` that is not given is set.

    Raises:
        UserError: naming file, row and field of what cannot be read, or the sizes that do not fit.
    """
    pairs = load_pairs(data.dataset, data.question_column, data.answer_column, format=data.format, answers=data.answers)
    if data.test_size is None:
        data.test_size = max(1, min(TEST_SIZE, len(pairs) - data.train_size))
    train, test = split_pairs(pairs, data.train_size, data.test_size, seed)
    unpaired = _unpaired(pairs, train, test, data, seed) if data.unpaired else None
    left_out: list[Contaminated] = []
    if data.decontamination:
        train, left_out = decontaminate(train, test)
    if not train:
        raise UserError(f"{data.dataset}: every training pair repeats a test pair (--decontamination false keeps them)")
    return Split(pairs, train, test, left_out, unpaired)


def _unpaired(pairs: list[Pair], train: list[Pair], test: list[Pair], data: DataArguments, seed: int) -> Unpaired:
    """Questions and answers of pairs that are neither trained on nor tested; no pair gives both."""
    from gantune.trainer.unpaired import Unpaired

    rest, _ = decontaminate(list(dict.fromkeys(pairs)), [*train, *test]) if data.decontamination else (pairs, [])
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
