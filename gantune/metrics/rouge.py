"""ROUGE of generated answers against the true ones (Lin 2004), by the rouge-score package, with the Porter stemmer."""

from __future__ import annotations

from collections.abc import Sequence

from gantune.metrics.base import ReferenceMetric, check_answers
from gantune.metrics.rouge_words import rouge_scorer

_F1 = ("rouge1", "rouge2", "rougeL", "rougeLsum")


class Rouge(ReferenceMetric):
    """ROUGE-1, ROUGE-2, ROUGE-L and ROUGE-Lsum (F1), and ROUGE-L recall, the figure that TOFU reports.

    Each score is between 0 and 1. Words are [`gantune.data.words.words`], of any script; a text without any scores 0,
    an empty answer too. ROUGE-Lsum takes each line of a text as one sentence. Of an answer with several references each
    score is that against the one where it is highest, as ROUGE takes the maximum over references (Lin 2004, section 2).

    `Rouge().compute(predictions=[...], references=[...])` gives the mean of each score over the pairs; a reference is
    a text, or a list of several.
    """

    says = "ROUGE (F1, Porter stemmer) and ROUGE-L recall, means over the pairs."
    source = """Chin-Yew Lin. 2004. ROUGE: A Package for Automatic Evaluation of Summaries.
In Text Summarization Branches Out, pages 74-81. https://aclanthology.org/W04-1013"""

    def __init__(self) -> None:
        super().__init__()
        self._scorer = rouge_scorer(*_F1)

    def score_pairs(
        self, predictions: Sequence[str], references: Sequence[str | Sequence[str]]
    ) -> list[dict[str, float]]:
        """`rouge1`, `rouge2`, `rougeL`, `rougeLsum` (F1) and `rougeL_recall` of each answer against its true ones."""
        rows = []
        for prediction, answers in zip(*check_answers(predictions, references), strict=True):
            against = [self._score(prediction, reference) for reference in answers]
            rows.append({name: max(scores[name] for scores in against) for name in against[0]})
        return rows

    def _score(self, prediction: str, reference: str) -> dict[str, float]:
        scores = self._scorer.score(target=reference, prediction=prediction)
        return {name: float(scores[name].fmeasure) for name in _F1} | {"rougeL_recall": float(scores["rougeL"].recall)}

    def _compute(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        rows = self.score_pairs(predictions, references)
        return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
