"""Texts that are nearly the same, found by MinHash (Broder 1997) with locality-sensitive hashing."""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import TYPE_CHECKING

from gantune.data.words import caseless, words
from gantune.errors import UserError

if TYPE_CHECKING:
    from datasketch import MinHash

NEAR_DUPLICATE = 0.7
"""Least similarity of near-duplicates: one word changed in the middle of twenty leaves 0.71. Between 50 training pairs
and 400 test pairs of TOFU or mini-tofu (5 splits) the greatest is 0.52: questions of one form about others stay."""

SHINGLE_WORDS = 3
PERMUTATIONS = 128


def normalised(text: str) -> str:
    """The words of a text alone: one case, one form of each character, no punctuation; all of it if it has no words."""
    text = caseless(unicodedata.normalize("NFKC", text))
    return " ".join(words(text) or text.split())


def shingles(text: str) -> frozenset[str]:
    """Every three words that follow one another in a normalised text; all of it where it has fewer."""
    parts = text.split()
    last = max(len(parts) - SHINGLE_WORDS, 0)
    return frozenset(" ".join(parts[start : start + SHINGLE_WORDS]) for start in range(last + 1))


def jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    """Shared share of two sets, between 0 and 1."""
    return len(first & second) / len(first | second)


@cache
def bands(threshold: float) -> tuple[int, int]:
    """Hash tables, and hashes in each, for a similarity: found by integration, which takes longer than a small file."""
    from datasketch import MinHashLSH

    tables = MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS, weights=(0.1, 0.9))
    return tables.b, tables.r


class NearDuplicates:
    """Texts by likeness: the Jaccard similarity of the sets of their [`shingles`].

    MinHash proposes candidates, the true similarity decides. So no text is reported that is less alike than the
    threshold; one that is just above it may be missed, rarely: the hash tables are made for 0.9 times the threshold.
    One that is not above 0 and at most 1 is a [`UserError`].
    """

    def __init__(self, threshold: float = NEAR_DUPLICATE) -> None:
        from datasketch import MinHash, MinHashLSH

        if not 0 < threshold <= 1:
            raise UserError(f"similarity threshold {threshold}: expected above 0 and at most 1")
        self.threshold = threshold
        self._tables = MinHashLSH(num_perm=PERMUTATIONS, params=bands(0.9 * threshold))
        self._empty = MinHash(num_perm=PERMUTATIONS, seed=1)
        self._texts: list[str] = []

    def add(self, text: str) -> int:
        """Keep a text; its number, counted from 0."""
        text = normalised(text)
        self._texts.append(text)
        self._tables.insert(len(self._texts) - 1, self._min_hash(shingles(text)))
        return len(self._texts) - 1

    def find(self, text: str) -> tuple[int, float] | None:
        """The most similar text that was added: its number and the similarity; None if none reaches the threshold."""
        own = shingles(normalised(text))
        numbers = sorted(self._tables.query(self._min_hash(own)))
        alike = [(jaccard(own, shingles(self._texts[number])), -number) for number in numbers]
        similarity, number = max(alike, default=(0.0, 0))
        return (-number, similarity) if similarity >= self.threshold else None

    def _min_hash(self, items: frozenset[str]) -> MinHash:
        sketch = self._empty.copy()  # which shares the random permutations: drawing them costs more than the rest
        sketch.update_batch([item.encode("utf-8", "surrogatepass") for item in items])
        return sketch
