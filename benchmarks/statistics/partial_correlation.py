"""What a judge knows beyond the policy that it judges."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def partial_correlation(x: Sequence[float], y: Sequence[float], given: Sequence[float]) -> float:
    """Pearson's correlation of what a line in `given` leaves of `x` and of `y`; 0 where it leaves nothing of one.

    Of a judge's logit and the truth, given the policy's own log-prob: the diagnostic of FINDINGS 11. A logit that only
    repeats the policy has 0, however well it tells real sequences from sampled ones.
    """
    left = [_residual(np.asarray(values, dtype=np.float64), np.asarray(given, dtype=np.float64)) for values in (x, y)]
    if any(residual is None for residual in left):
        return 0.0
    return float(np.corrcoef(*left)[0, 1])


def _residual(values: np.ndarray, given: np.ndarray) -> np.ndarray | None:
    """Centred, less the least-squares line; None if that is rounding."""
    values, given = values - values.mean(), given - given.mean()
    square = given @ given
    residual = values - (given @ values / square if square else 0.0) * given
    return residual if residual @ residual > 1e-18 * (values @ values) else None
