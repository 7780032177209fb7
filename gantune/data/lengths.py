"""How many tokens questions and answers have, as text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy

COLUMNS = {"min": 0, "median": 50, "95 %": 95, "max": 100}
"""Heading of a column and its percentile."""
BINS = 10
BAR = 40
"""Characters of the longest bar of a histogram."""


def length_table(lengths: dict[str, Sequence[int]]) -> str:
    """A row of statistics for each kind of length in tokens."""
    head = "".join(f"{name:>9}" for name in [*COLUMNS, "mean"])
    rows = [f"{'tokens':<10}{head}"]
    for name, values in lengths.items():
        cells = numpy.percentile(values, list(COLUMNS.values()), method="inverted_cdf")
        rows.append(f"{name:<10}" + "".join(f"{cell:>9.0f}" for cell in cells) + f"{numpy.mean(values):>9.1f}")
    return "\n".join(rows)


def histogram(lengths: Sequence[int]) -> str:
    """Bars of how many rows have a length between two bounds, both included; bounds are whole numbers."""
    low, high = min(lengths), max(lengths)
    width = -(-(high - low + 1) // BINS)
    counts = numpy.bincount((numpy.array(lengths) - low) // width)
    digits = len(str(high + width))
    lines = []
    for index, count in enumerate(counts):
        first = low + index * width
        bar = "#" * -(-BAR * count // max(counts))
        lines.append(f"{first:>{digits}}-{first + width - 1:<{digits}} {count:>7} {bar}".rstrip())
    return "\n".join(lines)
