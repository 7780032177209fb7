"""Means over seeds and how far to trust them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from scipy.stats import t as student_t


def mean_and_half_width(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float | None]:
    """Mean of independent values and the half width of its confidence interval by Student's t.

    Returns:
        (mean, half width); the half width is None for a single value, which tells nothing of the spread.
    """
    mean = statistics.fmean(values)
    n = len(values)
    if n < 2:
        return mean, None
    return mean, float(student_t.ppf(0.5 + confidence / 2, n - 1)) * statistics.stdev(values) / math.sqrt(n)
