"""What the metrics share: an `evaluate.Metric` that leaves nothing on disk, and the check of its inputs."""

from __future__ import annotations

from collections.abc import Sequence

import evaluate
from datasets import Features, Value

from gantune.errors import UserError
from gantune.field_types import text_list


def check_texts(least: int = 0, **columns: Sequence[str] | None) -> dict[str, list[str]]:
    """Columns as [`text_list`] gives them, by name; a [`UserError`] unless they are of the same length."""
    lists = {name: text_list(texts, name, least) for name, texts in columns.items()}
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
