"""rouge-score's scorer, given the words of every script."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING

from gantune.data.words import words

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer


def rouge_scorer(*kinds: str) -> RougeScorer:
    """rouge-score's scorer of these kinds, such as "rougeL", of [`words`]; ASCII ones are stemmed as it does (Porter).

    So texts of ASCII have its own scores, to the digit.
    """
    scorer, stem = _rouge_score()

    def tokenize(text: str) -> list[str]:
        return [stemmed for word in words(text) for stemmed in (stem(word) if word.isascii() else [word])]

    return scorer.RougeScorer(kinds, tokenizer=SimpleNamespace(tokenize=tokenize))


@cache
def _rouge_score() -> tuple[ModuleType, Callable[[str], list[str]]]:
    """Its module, and its stems of a word, which are kept: stemming is most of what a score takes."""
    before = random.getstate()
    from rouge_score import rouge_scorer, tokenizers  # takes over a second, and nltk under it draws random numbers

    random.setstate(before)
    return rouge_scorer, lru_cache(maxsize=2**16)(tokenizers.DefaultTokenizer(use_stemmer=True).tokenize)


def wordless(references: Sequence[str]) -> list[str]:
    """A caution if some true answers have no word, so that no answer scores there; else nothing."""
    without = sum(not words(text) for text in references)
    told = f"caution: {without} of {len(references)} true answers have no word (signs or emoji alone): ROUGE is 0 there"
    return [told] if without else []
