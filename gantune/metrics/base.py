"""What the metrics share: an `evaluate.Metric` that leaves nothing on disk, and the check of its inputs."""

from __future__ import annotations

from collections.abc import Sequence

import evaluate

from gantune.errors import UserError


def check_texts(**columns: Sequence[str] | None) -> None:
    """Checks that every column is a non-empty sequence of strings and that all have the same length.

    Args:
        columns: texts by name, such as `predictions=..., references=...`.

    Raises:
        UserError: if one is not; the message names the column and the row.
    """
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
    """An `evaluate.Metric` of texts that keeps its inputs in memory and checks them.

    `evaluate.Metric` makes a folder in the user's cache even when it keeps its inputs in memory; this one does not.
    """

    def __init__(self) -> None:
        super().__init__(keep_in_memory=True)

    def _build_data_dir(self) -> str:
        return ""

    def add_batch(self, *, predictions=None, references=None, **kwargs) -> None:
        """Adds a batch of texts to those that the next `compute` scores.

        Raises:
            UserError: if a column is missing, empty, of another length, or holds something other than strings.
        """
        given = {"predictions": predictions, "references": references}
        check_texts(**{name: given[name] for name in self._feature_names()})
        super().add_batch(predictions=predictions, references=references, **kwargs)
