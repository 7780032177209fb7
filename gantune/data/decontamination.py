"""Training pairs that the test set holds too, word for word or nearly."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

from gantune.data.near_duplicates import NEAR_DUPLICATE, NearDuplicates, normalised
from gantune.data.question import Pair, RecordQuestion, identity


class Contaminated(NamedTuple):
    """A training pair left out: its place among the training pairs, from 0, and the pair of the test set it repeats."""

    index: int
    pair: Pair
    test_pair: Pair
    reason: str


class HeldOut:
    """Test pairs, to be asked whether a training pair repeats one of them.

    It does if it has the same question (the same text, for raw text without questions) but for case, punctuation and
    white space, or if question and answer together are a near-duplicate (see [`NearDuplicates`]). Records are the same
    if all their fields are, in whatever order. That others are alike is in their nature, and costs little: of 500 pairs
    of E2E some 5 are near-duplicates of one of 300 test pairs.
    """

    def __init__(self, pairs: Sequence[Pair], threshold: float = NEAR_DUPLICATE) -> None:
        self.pairs = list(pairs)
        self._near = NearDuplicates(threshold)
        self._exact: dict[Hashable, int] = {}
        for index, pair in enumerate(self.pairs):
            self._exact.setdefault(_key(pair), index)
            self._near.add(whole_text(pair))

    def find(self, pair: Pair) -> tuple[Pair, str] | None:
        """The test pair that a pair repeats, and in what; None if there is none."""
        if (index := self._exact.get(_key(pair))) is not None:
            kind = "record" if isinstance(pair.question, RecordQuestion) else "question" if pair.question else "text"
            return self.pairs[index], f"the same {kind} is in the test set"
        if near := self._near.find(whole_text(pair)):
            return self.pairs[near[0]], f"similarity {near[1]:.2f} to a pair of the test set"
        return None


def decontaminate(
    train: Sequence[Pair], test: Sequence[Pair], threshold: float = NEAR_DUPLICATE
) -> tuple[list[Pair], list[Contaminated]]:
    """The training pairs that repeat no test pair, in order, and those left out, as [`HeldOut`] says.

    A threshold out of range is a `UserError`, as of [`NearDuplicates`].
    """
    test_set = HeldOut(test, threshold)
    kept: list[Pair] = []
    dropped: list[Contaminated] = []
    for index, pair in enumerate(train):
        if found := test_set.find(pair):
            dropped.append(Contaminated(index, pair, *found))
        else:
            kept.append(pair)
    return kept, dropped


def whole_text(pair: Pair) -> str:
    """Question and answer in one text."""
    return f"{pair.question}\n{pair.answer}"


def _key(pair: Pair) -> Hashable:
    """What two pairs share that are the same: the question, or the text where there is none."""
    return question_key(pair.question) if pair.question else normalised(pair.answer)


def question_key(question: str) -> Hashable:
    """What two questions share that are the same but for case, punctuation and white space; records exactly."""
    return identity(question) if isinstance(question, RecordQuestion) else normalised(question)
