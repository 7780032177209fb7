"""What the metrics share: an `evaluate.Metric` that leaves nothing on disk, and the check of its inputs."""

from __future__ import annotations

from collections.abc import Sequence

import evaluate
from datasets import Features, Value

from gantune.errors import UserError


def check_texts(**columns: Sequence[str] | None) -> None:
    """A [`UserError`] that names column and row, unless all are non-empty sequences of strings of the same length."""
    for name, texts in columns.items():
        if texts is None or isinstance(texts, str):
            raise UserError(f"{name}: expected a list of strings, got {type(texts).__name__}")
        if len(texts) == 0:
            raise UserError(f"{name}: expected at least one string, got an empty list")
        for row, text in enumerate(texts):
            if not isinstance(text, str):
                raise UserError(f"{name}, row {row}: expected a string, got {type(text).__name__}")
    lengths = {name: len(texts) for name, texts in columns.items()}
    if len(set(lengths.values())) > 1:
        told = " and ".join(f"{length} {name}" for name, length in lengths.items())
        raise UserError(f"expected as many predictions as references, got {told}")


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
        """Adds a batch of texts, checked by [`check_texts`], to those that the next `compute` scores."""
        given = {"predictions": predictions, "references": references}
        check_texts(**{name: given[name] for name in self.columns})
        super().add_batch(predictions=predictions, references=references, **kwargs)
