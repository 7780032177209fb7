"""True slot errors as a reward: what a judge that makes no mistake would give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from baselines.method import NotAvailable
from gantune.field_types import option
from gantune.metrics.slots import SlotMatcher, by_field, records_of
from gantune.trainer.config import GameConfig


@dataclass
class SlotRewardConfig(GameConfig):
    """Settings of the game with [`SlotReward`]; those of the discriminator are not used."""

    _argument_group_name = "gan-oracle: beside the options of gan"

    slots: str | None = option(None, "patterns of slot errors, see gantune.metrics.SlotMatcher")


class SlotReward:
    """Minus the number of slot errors of an answer, by the matcher that the test answers are counted by.

    It knows what no method may know, and so bounds what a judge of the same errors can bring.

    Args:
        questions: records, all of them.
        slots: patterns, see [`gantune.metrics.SlotMatcher.for_records`].

    Raises:
        NotAvailable: if they are no records.
    """

    per_token, unjudged = False, True

    def __init__(self, questions: Sequence[str], slots: str | None = None) -> None:
        records = records_of(questions)
        if records is None:
            raise NotAvailable("slot errors as a reward: expected records as questions")
        self.matcher = SlotMatcher.for_records(records, slots)

    def __call__(self, questions: Sequence[str], answers: Sequence[str], rollout: Any) -> list[float]:
        """One number an answer, at most 0."""
        errors = self.matcher.errors
        return [
            -float(sum(errors(by_field(question.fields), answer)))
            for question, answer in zip(questions, answers, strict=True)
        ]
