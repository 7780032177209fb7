"""BLEU of sequences of one length (Papineni et al. 2002), many at a time: against a corpus, and among themselves.

With equal lengths the brevity penalty is 1. A precision of 0 makes the score 0, as unsmoothed BLEU has it.
"""

from __future__ import annotations

import torch
from torch import Tensor


def _ngrams(ids: Tensor, order: int, vocabulary: int) -> Tensor:
    """Each n-gram as one number, `[B, T - order + 1]`."""
    grams = ids.unfold(1, order, 1)
    return (grams * vocabulary ** torch.arange(order, device=ids.device)).sum(dim=2)


def _earlier(grams: Tensor) -> Tensor:
    """How often each n-gram stands earlier in its own row, `[B, N]`."""
    same = grams[:, :, None] == grams[:, None, :]
    return same.tril(-1).sum(dim=2)


class _Counts:
    """The largest count of each n-gram in one reference, who has it, and the largest among the others."""

    def __init__(self, references: Tensor, order: int, vocabulary: int) -> None:
        grams = _ngrams(references, order, vocabulary)
        counts = (grams[:, :, None] == grams[:, None, :]).sum(dim=2)
        rows = torch.arange(len(grams), device=grams.device)[:, None].expand_as(grams)
        first = _earlier(grams) == 0  # one entry a reference and n-gram
        grams, counts, rows = grams[first], counts[first], rows[first]
        order_ = torch.argsort(grams * (references.shape[1] + 1) - counts)  # by n-gram, the largest count first
        grams, counts, rows = grams[order_], counts[order_], rows[order_]
        self.grams, sizes = grams.unique_consecutive(return_counts=True)
        begin = sizes.cumsum(0) - sizes
        self.most, self.owner = counts[begin], rows[begin]
        self.second = torch.where(sizes > 1, counts[(begin + 1).clamp(max=len(counts) - 1)], 0)

    def clip(self, grams: Tensor, rows: Tensor | None) -> Tensor:
        """The largest count of each n-gram in any reference, that of row `rows` of the corpus left out if given."""
        place = torch.searchsorted(self.grams, grams).clamp(max=len(self.grams) - 1)
        most = self.most[place]
        if rows is not None:
            most = torch.where(self.owner[place] == rows[:, None], self.second[place], most)
        return torch.where(self.grams[place] == grams, most, 0)


class CorpusBleu:
    """BLEU-n against all sequences of a corpus as references.

    Args:
        references: `[B, T]` token ids.
        vocabulary: number of tokens.
        order: n, the longest n-gram, weighted evenly with the shorter ones.
    """

    def __init__(self, references: Tensor, vocabulary: int, order: int = 2) -> None:
        self.vocabulary = vocabulary
        self.counts = [_Counts(references, n, vocabulary) for n in range(1, order + 1)]

    def __call__(self, ids: Tensor, rows: Tensor | None = None) -> Tensor:
        """BLEU of sequences `[B, T]`, between 0 and 1, `[B]` float32.

        Args:
            ids: the hypotheses.
            rows: `[B]`, for each hypothesis a reference that does not count.
        """
        logs = torch.zeros(len(ids), device=ids.device)
        for n, counts in enumerate(self.counts, start=1):
            grams = _ngrams(ids, n, self.vocabulary)
            matched = _earlier(grams) < counts.clip(grams, rows)
            logs += matched.float().mean(dim=1).log()
        return (logs / len(self.counts)).exp()


def self_bleu(ids: Tensor, vocabulary: int, order: int = 2) -> float:
    """Mean BLEU-n of each sequence against all the others, itself not among them; higher is less diverse."""
    return CorpusBleu(ids, vocabulary, order)(ids, torch.arange(len(ids), device=ids.device)).mean().item()
