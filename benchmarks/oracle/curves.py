"""What a temperature alone reaches: the curves of maximum likelihood, beside which a game is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

TEMPERATURE = ", temperature "
"""Between a method's name and its temperature, which is 1 in the row without."""

Rows = Sequence[Mapping[str, Any]]


def curve_of(method: str) -> str:
    """The name of a method without its temperature."""
    return method.partition(TEMPERATURE)[0]


def curve_names(rows: Rows) -> set[str]:
    """The methods that were sampled at several temperatures."""
    return {curve_of(row["method"]) for row in rows if TEMPERATURE in row["method"]}


def game_names(rows: Rows) -> set[str]:
    """The methods that trained what begins on a curve."""
    curves = curve_names(rows)
    return {row["method"] for row in rows if "history" in row and curve_of(row["method"]) not in curves}


def beside_temperature(rows: Rows, game: Mapping[str, Any]) -> float | None:
    """A game's NLL_oracle less the lowest that a curve of its seed has at no higher NLL_test.

    Curves are straight between their temperatures. Where none has an NLL_test as low, the point that comes nearest
    stands for them, which flatters them. None without a curve, or for an infinite NLL_test.
    """
    points, lowest, at = [], [], game["nll_test"]
    for name in curve_names(rows) if at is not None else ():
        of_curve = [row for row in rows if row["seed"] == game["seed"] and curve_of(row["method"]) == name]
        curve = sorted((row["nll_test"], row["nll_oracle"]) for row in of_curve if row["nll_test"] is not None)
        within = [oracle for test, oracle in curve if test <= at]
        if within:
            lowest += [*within, float(np.interp(at, *zip(*curve, strict=True)))]
        points += curve
    if not points:
        return None
    _, nearest = min(points)
    return game["nll_oracle"] - min(lowest, default=nearest)
