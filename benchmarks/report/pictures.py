"""The picture of a comparison, `comparison.png`, and the colour that a method has there and on the page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.report.terminal_table import (
    CONTROLS,
    COSTS,
    REFERENCE,
    Column,
    figure_of,
    headline_of,
    sorted_methods,
)
from gantune.diagnostics.plots import COLOURS, GREY, MB, png_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HIGHEST = {"slot_error_rate": None, "slot_error_rate_sampled": None, "nll": None, "bleu": 100.0}
"""The most that a metric can be where that is not 1; none is below 0 but BLEURT."""
MOST_NAMES = 8
"""Points beside which their names still find room; of more each has its number in the list."""
FONT = 8


def colour_numbers(methods: Iterable[str]) -> dict[str, int | None]:
    """For each method the place of its colour: LoRA's is the first, the others follow as stored; None for controls."""
    coloured = sorted((method for method in methods if method not in CONTROLS), key=lambda method: method != REFERENCE)
    return {method: coloured.index(method) if method in coloured else None for method in methods}


def bounds(key: str) -> tuple[float | None, float | None]:
    """The least and the most that a metric can be, None without a bound."""
    return (None, None) if key == "bleurt" else (0.0, HIGHEST.get(key, 1.0))


def interval(figure: Mapping[str, Any], key: str) -> tuple[float, float]:
    """Ends of the 95 % interval within what the metric can be; twice the mean where there is none."""
    mean, half = figure["mean"], figure.get("half_width") or 0
    least, most = bounds(key)
    low, high = mean - half, mean + half
    return low if least is None else max(low, least), high if most is None else min(high, most)


def draw_comparison(summary: Mapping[str, Mapping[str, Any]], path: str | Path) -> None:
    """The headline metric of each method, best first, and beside it against training time and peak memory.

    Args:
        summary: see [`benchmarks.report.terminal_table.summarise`]; at least one method has the metric.
        path: of the PNG.
    """
    column = headline_of(summary)
    methods = [method for method in sorted_methods(summary) if figure_of(summary[method], column)]
    colours = {
        method: GREY if number is None else COLOURS[number % len(COLOURS)]
        for method, number in colour_numbers(summary).items()
    }
    trained = [method for method in methods if figure_of(summary[method], COSTS[1])]
    numbered = len(trained) > MOST_NAMES
    names = {method: str(place) if numbered else method for place, method in enumerate(methods, start=1)}
    with png_figure(path, 13, max(3.6, 1.3 + 0.27 * len(methods))) as figure:
        bars, *scatters = figure.subplots(1, 3, width_ratios=(1.1, 1, 1))
        _bars(bars, [(method, figure_of(summary[method], column)) for method in methods], column, colours, numbered)
        drawn = []
        for axes, cost, title, scale in zip(
            scatters, COSTS[1:], ("training time (s)", "peak memory (MB)"), (1, MB), strict=True
        ):
            points = []
            for method in trained:
                if paid := figure_of(summary[method], cost):
                    points.append((method, paid["mean"] / scale, figure_of(summary[method], column)))
            _scatter(axes, points, column, title, colours)
            drawn.append((axes, points))
        figure.draw_without_rendering()  # after which it is known where the points lie
        for axes, points in drawn:
            _label(axes, [(names[method], x, metric["mean"]) for method, x, metric in points])


def _bars(
    axes: Axes,
    figures: Sequence[tuple[str, Mapping[str, Any]]],
    column: Column,
    colours: Mapping[str, str],
    numbered: bool,
) -> None:
    """A bar a method, its interval, and its number in a column at the right."""
    places = range(len(figures))
    axes.barh(places, [f["mean"] for _, f in figures], height=0.62, color=[colours[m] for m, _ in figures], alpha=0.85)
    across = axes.get_yaxis_transform()
    for place, (_, figure) in enumerate(figures):
        low, high = interval(figure, column.key)
        if high > low:
            axes.plot([low, high], [place, place], color="#222222", linewidth=1, marker="|", markersize=5)
        axes.text(1.02, place, column.write(figure["mean"]), transform=across, va="center", size=FONT)
    labels = [f"{place + 1}  {method}" if numbered else method for place, (method, _) in enumerate(figures)]
    axes.set_yticks(places, labels)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    low, high = bounds(column.key)
    right = max(interval(figure, column.key)[1] for _, figure in figures)
    if low is not None:
        axes.set_xlim(low, (right if high is None else min(1.05 * right, high)) or 1)
    better = "lower" if column.better == "low" else "higher"
    axes.set(title=f"{column.heading}, {better} is better (line: 95 % interval)", xlabel=column.heading)


def _scatter(
    axes: Axes,
    points: Sequence[tuple[str, float, Mapping[str, Any]]],
    column: Column,
    title: str,
    colours: Mapping[str, str],
) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set(title=f"{column.heading} against cost", xlabel=title, ylabel=column.heading)
    if len(points) < 2:
        said = "one tuned method:\nnothing to weigh it against" if points else "no method was tuned"
        axes.text(0.5, 0.5, said, transform=axes.transAxes, ha="center", va="center", color=GREY)
        axes.set(xticks=[], yticks=[])
        return
    for method, cost, figure in points:
        axes.plot([cost, cost], interval(figure, column.key), color=colours[method], linewidth=1)
        axes.plot(cost, figure["mean"], "o", color=colours[method], markersize=6)
    costs = [cost for _, cost, _ in points]
    if min(costs) > 0:
        axes.set_xscale("log")
        axes.set_xlim(min(costs) / 1.6, max(costs) * 1.6)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if max(costs) < 100 * min(costs) else (1,)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter("{x:g}")
    axes.margins(y=0.08)
    low, high = bounds(column.key)
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom if low is None else max(bottom, low), top if high is None else min(top, high))


def _label(axes: Axes, points: Sequence[tuple[str, float, float]]) -> None:
    """The text of each point where it covers no point and no text before it; else it is left out: the list has it."""
    from matplotlib.patheffects import withStroke

    scale = axes.figure.dpi / 72
    height, room = FONT * 1.25 * scale, axes.get_window_extent()
    places = [tuple(axes.transData.transform((x, y))) for _, x, y in points]
    taken = [(x - 4 * scale, y - 4 * scale, x + 4 * scale, y + 4 * scale) for x, y in places]

    def free(box: tuple[float, float, float, float]) -> bool:
        inside = room.x0 <= box[0] and box[2] <= room.x1 and room.y0 <= box[1] and box[3] <= room.y1
        return inside and all(box[2] < o[0] or o[2] < box[0] or box[3] < o[1] or o[3] < box[1] for o in taken)

    for (text, *_), (x, y) in zip(points, places, strict=True):
        width, gap = FONT * 0.62 * len(text) * scale, 5 * scale
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1), (0, 2), (0, -2)):
            left = x + dx * gap - width * (1 - dx) / 2
            bottom = y + dy * (gap + height / 2) - height / 2
            box = (left, bottom, left + width, bottom + height)
            if free(box):
                taken.append(box)
                label = axes.annotate(text, (left, bottom), xycoords="figure pixels", size=FONT, va="bottom")
                label.set_path_effects([withStroke(linewidth=2, foreground="white")])
                break
