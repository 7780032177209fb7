"""Means over seeds and how far to trust them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from scipy.stats import t as student_t

FEWEST = 3
"""Values that it takes for an interval."""


def mean_and_half_width(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float | None]:
    """Mean of independent values and the half width of its confidence interval by Student's t.

    Returns:
        (mean, half width); the half width is None for fewer than three values, which tell next to nothing of the
        spread: that of two is 13 times their distance from the mean.
    """
    mean = statistics.fmean(values)
    n = len(values)
    if n < FEWEST:
        return mean, None
    return mean, float(student_t.ppf(0.5 + confidence / 2, n - 1)) * statistics.stdev(values) / math.sqrt(n)


def clear_best(figures: Mapping[str, tuple[float, float | None]], sign: int = 1) -> str | None:
    """The name with the best mean, if its interval overlaps with no other's.

    Args:
        figures: mean and half width by name.
        sign: 1 if more is better, -1 if less is.

    Returns:
        None as well if there is but one name, or one has no interval.
    """
    if len(figures) < 2 or any(half_width is None for _, half_width in figures.values()):
        return None
    best = max(figures, key=lambda name: sign * figures[name][0])
    worst_case = sign * figures[best][0] - figures[best][1]
    others = (figure for name, figure in figures.items() if name != best)
    return best if all(sign * mean + half_width < worst_case for mean, half_width in others) else None
