"""Diversity of a set of generated answers: distinct n-grams (Li et al. 2016), unique answers, mean length."""

from __future__ import annotations

from collections.abc import Sequence

from gantune.data.words import written_words
from gantune.errors import UserError
from gantune.field_types import text_list
from gantune.metrics.base import InMemoryMetric


def distinct_n(texts: Sequence[str], n: int = 2) -> float:
    """Share of distinct n-grams among all n-grams of a set of texts: 1 if none occurs twice.

    Words are [`gantune.data.words.written_words`]; no n-gram spans two texts. The measure is that of Li et al. 2016,
    except that they divide by the number of words: dividing by the number of n-grams makes 1 the largest value.
    The share falls as a set grows, so compare sets of equal size. It is 0 if no text has `n` words.
    """
    texts = text_list(texts, "texts", least=1)
    if n < 1:
        raise UserError(f"n: expected at least 1, got {n}")
    total, distinct = 0, set()
    for text in texts:
        words = written_words(text)
        grams = list(zip(*(words[start:] for start in range(n)), strict=False))
        total += len(grams)
        distinct.update(grams)
    return len(distinct) / total if total else 0.0


def mean_length(texts: Sequence[str]) -> float:
    """Mean number of words of a text, which are [`gantune.data.words.written_words`]."""
    texts = text_list(texts, "texts", least=1)
    return sum(len(written_words(text)) for text in texts) / len(texts)


def unique_share(texts: Sequence[str]) -> float:
    """Number of different texts over the number of texts: 1 if no text occurs twice, whatever its blanks and case."""
    texts = text_list(texts, "texts", least=1)
    return len({tuple(written_words(text)) for text in texts}) / len(texts)


class Diversity(InMemoryMetric):
    """`Diversity().compute(predictions=[...])` gives `distinct2`, `unique` and `mean_length` of the set of answers."""

    columns = ("predictions",)
    says = "Shares of distinct word bigrams and of unique answers over the set of answers, and mean length in words."
    source = """Jiwei Li, Michel Galley, Chris Brockett, Jianfeng Gao and Bill Dolan. 2016. A Diversity-Promoting
Objective Function for Neural Conversation Models. In NAACL-HLT, pages 110-119. https://aclanthology.org/N16-1014"""

    def _compute(self, predictions: Sequence[str]) -> dict[str, float]:
        return {
            "distinct2": distinct_n(predictions, n=2),
            "unique": unique_share(predictions),
            "mean_length": mean_length(predictions),
        }
