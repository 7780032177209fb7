"""The pairs of answers that a judge is to judge, from the stored samples of a comparison."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.compare.answers import Answers, stored_answers
from benchmarks.judge.base import Duel
from benchmarks.report.read import number
from gantune.errors import UserError


class AnswerPair(NamedTuple):
    """The answers of a method and of its rival to one question.

    Args:
        method: not the rival.
        seed: of both runs.
        place: of the question in the samples, from 0.
        question: as text.
        reference: the true answer.
        own: the method's answer.
        other: the rival's.
        rouge_gap: ROUGE-L of `own` minus that of `other`; None where it is not stored.
    """

    method: str
    seed: int
    place: int
    question: str
    reference: str
    own: str
    other: str
    rouge_gap: float | None

    @property
    def identical(self) -> bool:
        """Whether the answers are the same, up to white space."""
        return self.own.split() == self.other.split()

    @property
    def digest(self) -> str:
        """Of all the texts."""
        texts = json.dumps([self.question, self.reference, self.own, self.other])
        return hashlib.sha256(texts.encode()).hexdigest()[:16]

    def duels(self) -> tuple[Duel, Duel]:
        """In both orders, the method first and the rival first."""
        return (
            Duel(self.question, self.reference, self.own, self.other),
            Duel(self.question, self.reference, self.other, self.own),
        )


def answer_pairs(directory: Path, rows: Sequence[Mapping[str, Any]], rival: str, questions: int) -> list[AnswerPair]:
    """Every method against the rival, on the seeds that both have.

    Of each seed the same questions for all methods, drawn at random; a larger number has those of a smaller one too.

    Args:
        directory: of the comparison.
        rows: its runs; those that did not end well or have no answers stored are passed over.
        rival: a method.
        questions: how many of each seed, or as many as there are.

    Raises:
        UserError: if the rival or all others have no samples, or two runs of a seed answer different questions.
    """
    stored = stored_answers(directory, [row for row in rows if row["status"] == "success"])
    for answers in stored.values():
        _check(answers)
    of_rival = {seed: answers for (method, seed), answers in stored.items() if method == rival}
    if not of_rival:
        there = ", ".join(dict.fromkeys(method for method, _ in stored)) or "none"
        raise UserError(f"--judge-rival {rival}: expected a method with stored answers in {directory} ({there})")
    pairs = []
    for (method, seed), (where, own) in stored.items():
        if method == rival or seed not in of_rival:
            continue
        other = of_rival[seed].samples
        if [sample["question"] for sample in own] != [sample["question"] for sample in other]:
            raise UserError(f"{where}: other questions than in {of_rival[seed].where}, expected the same in that order")
        order = list(range(len(own)))
        random.Random(f"judge {seed}").shuffle(order)
        pairs += [_pair(method, seed, place, own[place], other[place]) for place in sorted(order[:questions])]
    if not pairs:
        raise UserError(f"{directory}: no answers beside those of {rival}, expected another method to judge")
    return pairs


def _pair(method: str, seed: int, place: int, own: Mapping[str, Any], other: Mapping[str, Any]) -> AnswerPair:
    scores = [number(sample["scores"].get("rougeL"), digits=9) for sample in (own, other)]
    gap = None if None in scores else scores[0] - scores[1]
    return AnswerPair(method, seed, place, own["question"], own["reference"], own["answer"], other["answer"], gap)


def _check(answers: Answers) -> None:
    for line, sample in enumerate(answers.samples, start=1):
        texts = [sample.get(name) for name in ("question", "reference", "answer")]
        if not all(isinstance(text, str) for text in texts) or not isinstance(sample.get("scores"), dict):
            raise UserError(
                f"{answers.where}, line {line}: expected question, reference and answer as text, and scores"
            )
