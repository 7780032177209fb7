"""BLEU of generated answers against one or several true ones each (Papineni et al. 2002), by the sacrebleu package."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from gantune.metrics.base import ReferenceMetric


class Bleu(ReferenceMetric):
    """Corpus BLEU as sacrebleu computes it by default: 13a tokens, exponential smoothing, between 0 and 100.

    `Bleu().compute(predictions=[...], references=[...])` gives `bleu` of the whole set of answers, which is no mean
    over them. A reference is a text, or a list of several; an n-gram counts that is in any of them, and the length is
    compared with the nearest one's.
    """

    says = "Corpus BLEU of the answers, sacrebleu's default."
    source = """Matt Post. 2018. A Call for Clarity in Reporting BLEU Scores. In WMT, pages 186-191.
https://aclanthology.org/W18-6319"""

    def _compute(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        from sacrebleu.metrics import BLEU

        # a stream holds one reference of each answer, None where it has no further one
        streams = [list(stream) for stream in zip_longest(*references)]
        return {"bleu": BLEU(force=True).corpus_score(list(predictions), streams).score}
