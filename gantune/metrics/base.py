"""What the metrics share: an `evaluate.Metric` that leaves nothing on disk, and the check of its inputs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import evaluate
from datasets import Features, Value

from gantune.errors import UserError
from gantune.field_types import text_list


def check_texts(least: int = 0, **columns: Sequence[str] | None) -> dict[str, list[str]]:
    """Columns as [`text_list`] gives them, by name; a [`UserError`] unless they are of the same length."""
    return _of_one_length({name: text_list(texts, name, least) for name, texts in columns.items()})


def check_answers(
    predictions: Sequence[str], references: Sequence[str | Sequence[str]], least: int = 0
) -> tuple[list[str], list[list[str]]]:
    """Answers, and of each the list of its references, at least one; a reference that is a text is the only one.

    Raises:
        UserError: naming the column and the row of what is no text and no list of texts; if the numbers differ.
    """
    if isinstance(references, str | bytes) or not isinstance(references, Collection):
        text_list(references, "references")  # which says what is wrong
    lists = [
        text_list([answers], f"references, row {row}") if isinstance(answers, str) else _several(answers, row)
        for row, answers in enumerate(references)
    ]
    if len(lists) < least:
        text_list([], "references", least)
    columns = _of_one_length({"predictions": text_list(predictions, "predictions", least), "references": lists})
    return columns["predictions"], columns["references"]


def _several(answers: Any, row: int) -> list[str]:
    if not isinstance(answers, Collection):
        raise UserError(f"references, row {row}: expected a string or a list of them, got {type(answers).__name__}")
    return text_list(answers, f"references, row {row}", least=1)


def _of_one_length(lists: dict[str, list[Any]]) -> dict[str, list[Any]]:
    if len({len(texts) for texts in lists.values()}) > 1:
        told = " and ".join(f"{len(texts)} {name}" for name, texts in lists.items())
        raise UserError(f"expected as many predictions as references, got {told}")
    return lists


class InMemoryMetric(evaluate.Metric):
    """An `evaluate.Metric` of texts that keeps its inputs in memory, without a folder in the cache, and checks them."""

    columns: tuple[str, ...] = ("predictions", "references")
    says: str  # what its figures are
    source: str  # the papers that it is from

    def __init__(self) -> None:
        super().__init__(keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        texts = Features({column: Value("string") for column in self.columns})
        return evaluate.MetricInfo(description=self.says, citation=self.source, features=texts)

    def _build_data_dir(self) -> str:
        return ""

    def add_batch(self, *, predictions=None, references=None, **kwargs) -> None:
        """Adds a batch of texts, checked by [`check_texts`], at least one, to those that the next `compute` scores."""
        given = {"predictions": predictions, "references": references}
        super().add_batch(**given | check_texts(1, **{name: given[name] for name in self.columns}), **kwargs)


class ReferenceMetric(InMemoryMetric):
    """A metric of answers against their references: of each one text, or a list of several, not of all equally many."""

    def _info(self) -> evaluate.MetricInfo:
        features = Features({"predictions": Value("string"), "references": [Value("string")]})
        return evaluate.MetricInfo(description=self.says, citation=self.source, features=features)

    def add(self, *, prediction=None, reference=None, **kwargs) -> None:
        """Adds one answer and its reference or references."""
        self.add_batch(predictions=[prediction], references=[reference], **kwargs)

    def add_batch(self, *, predictions=None, references=None, **kwargs) -> None:
        """Adds a batch of answers and references, checked by [`check_answers`], to those that `compute` scores."""
        predictions, references = check_answers(predictions, references, least=1)
        evaluate.Metric.add_batch(self, predictions=predictions, references=references, **kwargs)
