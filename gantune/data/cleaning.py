"""Rows that are better not learned from: what is left out, at which step and why."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gantune.data.decontamination import HeldOut
from gantune.data.formats import LABEL
from gantune.data.near_duplicates import NEAR_DUPLICATE, NearDuplicates, normalised
from gantune.data.question import Pair
from gantune.data.records import Record
from gantune.data.sources import Source
from gantune.data.words import UNSPACED, marks
from gantune.errors import UserError


@dataclass(frozen=True)
class CleaningConfig:
    """The steps of [`clean`], in their order.

    Args:
        format_check: leave out rows that are not as the format wants them; without it the first one is an error.
        min_question: fewest characters of a question, earlier turns included; None for no limit. Likewise the others,
            those of answers for each answer.
        forbidden: words and phrases, in any case; a row that holds one as whole words is left out.
        exact_duplicates: leave out rows that repeat an earlier one but for case, punctuation and white space.
        near_duplicates: leave out rows nearly the same as an earlier one that stays, see [`NearDuplicates`].
        decontamination: leave out rows with a pair that the test set holds too, see [`HeldOut`].
        similarity: least similarity of near-duplicates, also in the decontamination.
    """

    format_check: bool = True
    min_question: int | None = None
    max_question: int | None = None
    min_answer: int | None = None
    max_answer: int | None = None
    forbidden: tuple[str, ...] = ()
    exact_duplicates: bool = True
    near_duplicates: bool = True
    decontamination: bool = True
    similarity: float = NEAR_DUPLICATE


class Dropped(NamedTuple):
    """A row left out, by which step and why."""

    record: Record
    step: str
    reason: str


class Cleaned(NamedTuple):
    """Rows that stay, unchanged, and rows left out, both in their order; `counts` has the rows that each step left out.

    The steps that were taken are in the counts, in their order. Rows with a false label are left out before all others.
    """

    kept: list[Record]
    dropped: list[Dropped]
    counts: dict[str, int]


Check = Callable[[Record, list[Pair]], str | None]
"""Says why a row is to be left out, None if it is not; the pairs are the row's, one for each answer.

The last one's text is all of it: of a conversation, the last answer and everything before it. Of a record with several
texts it is each one's; a record without a text is a pair with an empty answer.
"""


def clean(source: Source, config: CleaningConfig, test: Sequence[Pair] | None = None) -> Cleaned:
    """Leave out rows; each is counted at the first step that leaves it out. `test` must not be learned.

    Raises:
        UserError: if an option is out of range, or without the format check, a row is not as the format wants it.
    """
    checks = _checks(config, test)
    counts = ({"format": 0} if config.format_check else {}) | dict.fromkeys(checks, 0)
    kept: list[Record] = []
    dropped = [Dropped(record, LABEL, f"{LABEL!r} is false") for record in source.left_out]
    if dropped:
        counts = {LABEL: len(dropped)} | counts
    for record in source.records:
        try:
            pairs = source.format.pairs(record) or [Pair(source.format.question(record), "")]
        except UserError as error:
            if not config.format_check:
                raise
            found = ("format", str(error).removeprefix(f"{record.source}, {record.where}: "))
        else:
            reasons = ((step, check(record, pairs)) for step, check in checks.items())
            found = next((reason for reason in reasons if reason[1]), None)
        if found is None:
            kept.append(record)
        else:
            counts[found[0]] += 1
            dropped.append(Dropped(record, *found))
    return Cleaned(kept, dropped, counts)


def _checks(config: CleaningConfig, test: Sequence[Pair] | None) -> dict[str, Check]:
    """The steps that are taken, after the format check."""
    limits = {
        "question": (config.min_question, config.max_question),
        "answer": (config.min_answer, config.max_answer),
    }
    checks: dict[str, Check] = {}
    if any(limit is not None for both in limits.values() for limit in both):
        checks["length"] = _length_check(limits)
    if config.forbidden:
        checks["keywords"] = _keyword_check(config.forbidden)
    if config.exact_duplicates:
        checks["exact duplicates"] = _exact_check()
    if config.near_duplicates:
        checks["near duplicates"] = _near_check(config.similarity)
    if config.decontamination and test is not None:
        checks["decontamination"] = _test_check(HeldOut(test, config.similarity))
    return checks


def _row_text(pairs: list[Pair]) -> str:
    """All that a row says: the last question with every answer to it."""
    question = pairs[-1].question
    return "\n".join([question, *(pair.answer for pair in pairs if pair.question == question)])


def _length_check(limits: dict[str, tuple[int | None, int | None]]) -> Check:
    for name, both in limits.items():
        for end, limit in zip(("min", "max"), both, strict=True):
            if limit is not None and limit < 0:
                raise UserError(f"{end}_{name} is {limit}, expected 0 or more")

    def check(record: Record, pairs: list[Pair]) -> str | None:
        texts = [("question", pairs[-1].question), *(("answer", pair.answer) for pair in pairs)]
        for name, text in texts:
            least, most = limits[name]
            if least is not None and len(text) < least:
                return f"{name} of {len(text)} characters, expected at least {least}"
            if most is not None and len(text) > most:
                return f"{name} of {len(text)} characters, expected at most {most}"
        return None

    return check


def _keyword_check(forbidden: Sequence[str]) -> Check:
    if not all(phrase.strip() for phrase in forbidden):
        raise UserError("forbidden: an empty phrase, expected words")
    phrases = "|".join(re.escape(unicodedata.normalize("NFC", phrase.strip())) for phrase in forbidden)
    inside = rf"(?![{UNSPACED}])[\w{marks()}]"
    pattern = re.compile(rf"(?<!{inside})(?:{phrases})(?!{inside}|[{marks()}])", re.IGNORECASE)

    def check(record: Record, pairs: list[Pair]) -> str | None:
        found = pattern.search(unicodedata.normalize("NFC", _row_text(pairs)))
        return f"holds {found[0]!r}" if found else None

    return check


def _exact_check() -> Check:
    first: dict[str, str] = {}

    def check(record: Record, pairs: list[Pair]) -> str | None:
        where = first.setdefault(normalised(_row_text(pairs)), record.where)
        return None if where == record.where else f"the same as {where}"

    return check


def _near_check(similarity: float) -> Check:
    near, places = NearDuplicates(similarity), []

    def check(record: Record, pairs: list[Pair]) -> str | None:
        text = _row_text(pairs)
        if found := near.find(text):
            return f"similarity {found[1]:.2f} to {places[found[0]]}"
        near.add(text)
        places.append(record.where)
        return None

    return check


def _test_check(test_set: HeldOut) -> Check:
    def check(record: Record, pairs: list[Pair]) -> str | None:
        for pair in pairs:
            if found := test_set.find(pair):
                test_pair, reason = found
                return f"{reason}: {(test_pair.question or test_pair.answer)!r:.80}"
        return None

    return check
