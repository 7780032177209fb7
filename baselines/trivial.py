"""Rows without a language model: a figure near theirs shows no learning."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from baselines.method import Tuned, method
from gantune.data import Pair, turns_of
from gantune.field_types import text_list
from gantune.tuning import TuningConfig


class AnswerRule(Tuned):
    """Answers by a rule from question to text."""

    def __init__(self, rule: Callable[[str], str]) -> None:
        self.rule = rule

    def answer(self, questions: Sequence[str]) -> list[str]:
        return [self.rule(question) for question in text_list(questions, "questions")]


@method("copy-question", needs_model=False)
def copy_question(model: None, tokenizer: None, pairs: Sequence[Pair], config: TuningConfig, *_: Any) -> AnswerRule:
    """The question itself: TOFU's answers repeat so much of it that this passes for learning (FINDINGS section 9)."""
    return AnswerRule(lambda question: question)


@method("random-answer", needs_model=False)
def random_answer(model: None, tokenizer: None, pairs: Sequence[Pair], config: TuningConfig, *_: Any) -> AnswerRule:
    """The answer of a random training pair: right in style, right by chance in content."""
    draw = random.Random(config.seed)
    return AnswerRule(lambda question: draw.choice(pairs).answer)


@method("lead-3", needs_model=False)
def lead_3(model: None, tokenizer: None, pairs: Sequence[Pair], config: TuningConfig, *_: Any) -> AnswerRule:
    """The first three lines of what the question is about: LEAD-3 of dialogues (Gliwa et al., arXiv:1911.12237)."""
    return AnswerRule(lambda question: "\n".join(_subject(question).splitlines()[:3]))


def _subject(question: str) -> str:
    """The context of the last turn, such as a dialogue to sum up; the turn itself where it has none."""
    last = turns_of(question)[-1]
    return last.context or last.content
