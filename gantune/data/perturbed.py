"""Questions with the extra answers of TOFU's `*_perturbed` sets: the true one in other words, and wrong ones.

Source: Maini et al. 2024, "TOFU: A Task of Fictitious Unlearning for LLMs", arXiv:2401.06121, section 2.2.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from gantune.data.batch import Pair
from gantune.data.sources import _pairs, _read, _text
from gantune.errors import UserError

PARAPHRASED = "paraphrased_answer"
PERTURBED = "perturbed_answer"


class PerturbedPair(NamedTuple):
    """A question, its true answer, the same in other words, and wrong answers worded like it.

    Args:
        pair: the question and its answer.
        paraphrased: the answer in other words, or the answer itself where a set has no paraphrases.
        perturbed: wrong answers.
    """

    pair: Pair
    paraphrased: str
    perturbed: tuple[str, ...]


def load_perturbed(
    source: str, question_column: str = "question", answer_column: str = "answer", split: str = "train"
) -> list[PerturbedPair]:
    """Read questions with `perturbed_answer`, a list of texts, and `paraphrased_answer`, a text.

    A row without `paraphrased_answer` takes the answer itself: TOFU's real authors and world facts have none, and
    locuslab/tofu compares with the answer there (`base_answer_key` in its `config/eval_everything.yaml`).

    Args:
        source: as [`gantune.data.load_pairs`]. A .csv file cannot hold a list.
        question_column: column with the question.
        answer_column: column with the true answer.
        split: split of a Hub data set; files and `mini-tofu` have one only.

    Returns:
        The questions in the order of the source, at least one wrong answer each.

    Raises:
        UserError: naming file, row and column, if the source cannot be read or any row lacks one of the texts.
    """
    rows = _read(source, split)
    pairs = _pairs(source, rows, (question_column, answer_column))
    existing = dict.fromkeys(column for _, row in rows for column in row)
    if PERTURBED not in existing:
        raise UserError(f"{source}: no column {PERTURBED!r}, existing ones: {', '.join(existing)}")
    return [
        PerturbedPair(pair, _paraphrased(source, where, row, pair), _perturbed(source, where, row))
        for pair, (where, row) in zip(pairs, rows, strict=True)
    ]


def _paraphrased(source: str, where: str, row: dict[str, Any], pair: Pair) -> str:
    return pair.answer if row.get(PARAPHRASED) is None else _text(source, where, row, PARAPHRASED)


def _perturbed(source: str, where: str, row: dict[str, Any]) -> tuple[str, ...]:
    answers = row.get(PERTURBED)
    if answers is None or answers == []:
        found = "is missing" if answers is None else "is empty"
        raise UserError(f"{source}, {where}: {PERTURBED!r} {found}, expected a list of at least one text")
    if not isinstance(answers, list):
        kind = type(answers).__name__
        raise UserError(f"{source}, {where}: {PERTURBED!r} is {kind} {answers!r:.40}, expected a list of texts")
    named = {f"{PERTURBED}[{index}]": answer for index, answer in enumerate(answers)}
    return tuple(_text(source, where, named, name) for name in named)
