"""Questions with the extra answers of TOFU's `*_perturbed` sets: the true one in other words, and wrong ones.

Source: Maini et al. 2024, "TOFU: A Task of Fictitious Unlearning for LLMs", arXiv:2401.06121, section 2.2.
"""

from __future__ import annotations

from typing import NamedTuple

from gantune.data.formats import ColumnFormat
from gantune.data.question import Pair
from gantune.data.records import Record
from gantune.data.sources import open_source, pairs_of

PARAPHRASED = "paraphrased_answer"
PERTURBED = "perturbed_answer"


class PerturbedPair(NamedTuple):
    """A question, its true answer, the same in other words, and wrong answers worded like it.

    Where a set has no paraphrases, the answer itself stands for one.
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

    The arguments are those of [`gantune.data.load_pairs`]; a .csv file cannot hold a list. There is at least one wrong
    answer each.

    Raises:
        UserError: naming file, row and column, if the source cannot be read or any row lacks one of the texts.
    """
    format = ColumnFormat(question_column, answer_column, PERTURBED)
    format.optional_columns += (PARAPHRASED,)
    rows = open_source(source, split=split, format=format)
    return [
        PerturbedPair(
            pair,
            pair.answer if record.values.get(PARAPHRASED) is None else record.text(PARAPHRASED),
            _perturbed(record),
        )
        for pair, record in zip(pairs_of(rows), rows.records, strict=True)
    ]


def _perturbed(record: Record) -> tuple[str, ...]:
    answers = record.values.get(PERTURBED)
    if answers is None or answers == []:
        found = "is missing" if answers is None else "is empty"
        raise record.error(f"{PERTURBED!r} {found}, expected a list of at least one text")
    if not isinstance(answers, list):
        raise record.error(f"{PERTURBED!r} is {type(answers).__name__} {answers!r:.40}, expected a list of texts")
    named = record._replace(values={f"{PERTURBED}[{index}]": answer for index, answer in enumerate(answers)})
    return tuple(map(named.text, named.values))
