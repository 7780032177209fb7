"""NLL_oracle against NLL_test: what is better is better in both, and a temperature only moves along its curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.oracle.curves import curve_names, curve_of, game_names
from gantune.diagnostics.plots import COLOURS, GREY, png_figure

MARKERS = "osD^vP*X<>hp"


def plot_plane(rows: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """A line a temperature curve, a mark a method at the means over seeds, a small one each seed; games show their way.

    Args:
        rows: of the benchmark.
        path: the PNG.
    """
    points: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row["nll_test"] is not None:
            points.setdefault(row["method"], []).append((row["nll_test"], row["nll_oracle"]))
    begun, games = curve_names(rows), game_names(rows)
    shown = {name: at for name, at in points.items() if curve_of(name) in begun | games}
    with png_figure(path, 8, 6) as figure:
        axes = figure.subplots()
        for colour, name in zip((GREY, "black", COLOURS[-1]), sorted(begun), strict=False):
            curve = [at for other, at in shown.items() if curve_of(other) == name]
            means = np.array(sorted(np.mean(at, axis=0).tolist() for at in curve))
            axes.plot(*means.T, color=colour, marker=".", linewidth=1.5, label=f"{name}, by temperature")
        for number, name in enumerate(name for name in shown if name in games):
            colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
            for row in rows:
                if row["method"] == name:
                    way = [(each["nll_test"], each["nll_oracle"]) for each in row["history"]]
                    axes.plot(*np.array(way).T, color=colour, alpha=0.3, linewidth=0.7)
            axes.scatter(*np.array(shown[name]).T, color=colour, marker=marker, s=8, alpha=0.5)
            axes.scatter(*np.mean(shown[name], axis=0), color=colour, marker=marker, s=40, label=name)
        axes.set(xlabel="NLL_test (nats a token)", ylabel="NLL_oracle (nats a token)")
        if shown:
            axes.legend(ncols=2)
