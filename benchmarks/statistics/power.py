"""How small a difference a comparison can show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.stats import chi2, norm
from scipy.stats import t as student_t

from benchmarks.statistics.bootstrap import as_groups, mean_and_standard_error

QUANTILES = 4000


def smallest_detectable(differences: Sequence[ArrayLike], power: float = 0.8, alpha: float = 0.05) -> float | None:
    """The smallest true difference that as many seeds and questions show with probability `power`.

    The two-sided t test of a true difference d has a noncentral t distribution with noncentrality d / (standard
    error); S - 1 degrees of freedom, with one seed questions - 1. The standard error is estimated from `differences`
    and with 3 to 5 seeds known only roughly. One seed with strongly skewed differences of few questions has less
    power in the direction against the skew.

    Args:
        differences: per seed an array `[questions]` of the score of the method minus that of its rival.
        power: wanted probability of p < alpha.
        alpha: level of the test.

    Returns:
        The difference, in units of the score; None if nothing tells the spread.

    Raises:
        UserError: as `paired_bootstrap`.
    """
    _, standard_error, degrees = mean_and_standard_error(as_groups(differences))
    if standard_error == 0:
        return None
    critical = student_t.ppf(1 - alpha / 2, degrees)

    # SciPy's noncentral t is NaN far out for few degrees of freedom: average over the chi-square of the error instead.
    spread = np.sqrt(chi2.ppf((np.arange(QUANTILES) + 0.5) / QUANTILES, degrees) / degrees)

    def missing(shift: float) -> float:
        return float(np.mean(norm.sf(critical * spread - shift) + norm.cdf(-critical * spread - shift))) - power

    upper = 1.0
    while missing(upper) < 0:
        upper *= 2
    return float(brentq(missing, 0.0, upper)) * standard_error
