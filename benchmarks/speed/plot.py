"""The figures as a picture: ratios by batch size, parts of a step, growth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.speed.bars import Bar, bars_for, clock_of, is_judged
from benchmarks.speed.contenders import CONTENDERS
from benchmarks.speed.settings import GROWTH
from benchmarks.speed.summary import REFERENCES, find
from gantune.diagnostics.plots import COLOURS, GREY, png_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PARTS = ("prefill", "rollout", "score", "backward", "discriminator", "kl", "rest")
LINES = {"float32": "-", "bfloat16": "--"}
COLOUR = dict(zip(("lora", "gantune", "lora-answers", "plain", "source", "gantune-captured"), COLOURS, strict=False))


def plot_speed(results: Mapping[str, Any], path: str | Path, device: str) -> None:
    """Draw `speed.json`.

    Args:
        results: its content.
        path: the PNG.
        device: where it was measured; it decides which clock is drawn.

    Raises:
        UserError: if the file cannot be written.
    """
    clock, settings, times = clock_of(device), results["settings"], results["summary"]
    bars = [bar for bar in bars_for(device) if bar.kind == "time" and bar.over == "gantune"]
    with png_figure(path, 11.5, 7.6) as figure:
        (top_left, top_right), (bottom_left, bottom_right) = figure.subplots(2, 2)
        _ratios(top_left, times, settings, clock)
        if is_judged(settings):
            _limits(top_left, bars)
        top_left.legend(fontsize=7, handlelength=3)
        _parts(top_right, times, settings, clock)
        _lengths(bottom_left, times, settings, clock)
        _sizes(bottom_right, times, settings, clock)
        quick = "QUICK, means nothing: " if settings["quick"] else ""
        title = f"{quick}{settings['sizes'][0]}, question {settings['question_tokens']}, {clock} seconds"
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")


def _ratios(axes: Axes, times: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], clock: str) -> None:
    """A step beside each LoRA's, by batch size."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    batch_sizes = sorted(settings["batch_sizes"])
    for name in settings["contenders"]:
        for dtype in settings["dtypes"]:
            if name in REFERENCES:
                continue
            for reference, marker in zip(REFERENCES, "os", strict=True):
                if reference == "lora-answers" and name != "gantune":
                    continue
                drawn = [(b, _ratio(times, settings, name, reference, dtype, b, clock)) for b in batch_sizes]
                drawn = [(batch_size, ratio) for batch_size, ratio in drawn if ratio]
                if not drawn:
                    continue
                x, ratios = zip(*drawn, strict=True)
                middle = [ratio["median"] for ratio in ratios]
                note = " (extrapolated)" if name == "source" else ""
                label = f"{CONTENDERS.get(name).label}{note} / {reference}, {dtype}"
                line = axes.plot(x, middle, LINES[dtype], marker=marker, markersize=4, color=COLOUR[name], label=label)
                if reference == "lora-answers":
                    line[0].set_alpha(0.55)
    axes.axhline(1, color=GREY, linewidth=1)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(batch_sizes, [str(b) for b in batch_sizes])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set(title="A step beside a LoRA step", xlabel="batch size", ylabel="ratio")


def _limits(axes: Axes, bars: Sequence[Bar]) -> None:
    """What gantune's ratios are to stay under."""
    for number, bar in enumerate(bars):
        filled = "full" if bar.under == "lora" else "none"
        label = "limits of gantune (hollow: / lora-answers, bfloat16)" if number == 0 else None
        style = {"marker": "v", "markersize": 7, "fillstyle": filled, "color": "black", "linestyle": "", "zorder": 3}
        axes.plot(bar.batch_size, bar.limit, label=label, **style)


def _ratio(
    times: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
    name: str,
    reference: str,
    dtype: str,
    batch_size: int,
    clock: str,
) -> Mapping[str, float] | None:
    row = find(times, name, **_base(settings), dtype=dtype, batch_size=batch_size)
    return row["ratios"].get(reference, {}).get(clock) if row else None


def _base(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {"size": settings["sizes"][0], "answer_tokens": settings["answer_tokens"]}


def _parts(axes: Axes, times: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], clock: str) -> None:
    """What gantune's step is made of, by dtype and batch size, beside the whole steps of both LoRAs."""
    bars = []
    for dtype in settings["dtypes"]:
        for batch_size in sorted(settings["batch_sizes"]):
            where = {**_base(settings), "dtype": dtype, "batch_size": batch_size}
            if row := find(times, "gantune", **where):
                bars.append(
                    (f"{dtype}\nB={batch_size}", batch_size, row, [find(times, n, **where) for n in REFERENCES])
                )
    found = dict.fromkeys(part for _, _, row, _ in bars for part in row["parts"])
    names = sorted(found, key=lambda part: PARTS.index(part) if part in PARTS else len(PARTS))
    for colour, part in zip((*COLOURS, "#BBBBBB"), names, strict=False):
        heights = [row["parts"][part][clock] / b for _, b, row, _ in bars]
        below = [sum(row["parts"][n][clock] for n in names[: names.index(part)]) / b for _, b, row, _ in bars]
        axes.bar(range(len(bars)), heights, bottom=below, width=0.62, color=colour, label=part)
    for marker, index, reference in zip(("_", "."), range(len(REFERENCES)), REFERENCES, strict=True):
        points = [(i, rows[index][clock]["median"] / b) for i, (_, b, _, rows) in enumerate(bars) if rows[index]]
        if points:
            x, y = zip(*points, strict=True)
            size = 32 if marker == "_" else 9
            axes.plot(x, y, marker, color="black", markersize=size, label=CONTENDERS.get(reference).label)
    axes.set_xticks(range(len(bars)), [name for name, *_ in bars])
    axes.grid(axis="x", visible=False)
    axes.set(title="Parts of gantune's step", ylabel="seconds a pair")
    if bars:
        axes.legend(fontsize=7, markerscale=0.4)


def _lengths(axes: Axes, times: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], clock: str) -> None:
    """Seconds a pair over the length of the answer."""
    where = {"size": settings["sizes"][0], "dtype": settings["dtypes"][0], "batch_size": settings["growth_batch_size"]}
    for name in GROWTH:
        points = []
        for length in sorted(settings["lengths"]):
            if row := find(times, name, **where, answer_tokens=length):
                points.append((length, *(row[clock][k] / where["batch_size"] for k in ("median", "min", "max"))))
        if len(points) > 1:
            x, middle, least, most = zip(*points, strict=True)
            axes.plot(x, middle, marker="o", markersize=4, color=COLOUR[name], label=CONTENDERS.get(name).label)
            axes.fill_between(x, least, most, color=COLOUR[name], alpha=0.2, linewidth=0)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    title = f"Growth with answer length ({where['dtype']}, B={where['batch_size']}; band: least to most)"
    axes.set(title=title, xlabel="answer tokens", ylabel="seconds a pair")
    if axes.lines:
        axes.legend()


def _sizes(axes: Axes, times: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], clock: str) -> None:
    """Seconds a pair for each model size."""
    where = {
        "dtype": settings["dtypes"][0],
        "batch_size": settings["growth_batch_size"],
        "answer_tokens": settings["answer_tokens"],
    }
    names = [name for name in settings["contenders"] if name in GROWTH and find(times, name, **where)]
    width = 0.8 / max(len(names), 1)
    for number, name in enumerate(names):
        for place, size in enumerate(settings["sizes"]):
            row = find(times, name, **where, size=size)
            if row is None:
                continue
            x, height = place + (number - (len(names) - 1) / 2) * width, row[clock]["median"] / where["batch_size"]
            label = CONTENDERS.get(name).label if place == 0 else None
            axes.bar(x, height, width=0.92 * width, color=COLOUR[name], label=label)
            if ratio := row["ratios"].get("lora"):
                text = f"{ratio[clock]['median']:.2f} x"
                axes.annotate(text, (x, height), (0, 2), textcoords="offset points", ha="center", fontsize=7)
    axes.set_xticks(range(len(settings["sizes"])), settings["sizes"])
    axes.grid(axis="x", visible=False)
    title = f"Growth with model size ({where['dtype']}, B={where['batch_size']}; x: beside usual LoRA)"
    axes.set(title=title, ylabel="seconds a pair")
    if names:
        axes.legend()
