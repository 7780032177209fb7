"""Plots of a run, as PNG files.

matplotlib is imported when the first plot is drawn, and figures are built without its global state.
"""

from __future__ import annotations

import json
import math
import numbers
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gantune.diagnostics.files import replacing
from gantune.diagnostics.weights import Trajectory
from gantune.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MB = 1e6

# Okabe and Ito's colours, which stay apart for colour-blind readers, darkened until they stand out from white; those of
# benchmarks/report/page.css.
COLOURS = ("#0072B2", "#C44F00", "#00845F", "#B3558E", "#9A6F00", "#2E86C1", "#7A58A8", "#A3243B")
GREY = "#8A8A8A"
STYLE = {
    "figure.dpi": 150,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.4,
}


@contextmanager
def png_figure(path: str | Path, width: float, height: float) -> Iterator[Figure]:
    """A figure of that many inches which is saved to `path` when the block ends."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        yield figure
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png")


# ---- Weights


def plot_weight_trajectories(trajectory: Trajectory, path: str | Path) -> None:
    """Norms and sampled entries of the trained weights over the epochs, beside the base's, which should stay flat.

    Both panels show the change since the first record. Norms are in per cent of the largest norm that the parameter
    reached: adapters begin with some norms at zero. Up to eight trained modules get a colour each, biases dashed.
    """
    frozen = ~trajectory.trainable
    largest = trajectory.norms.max(axis=0)
    norms = 100 * (trajectory.norms - trajectory.norms[0]) / np.where(largest > 0, largest, 1)
    entries = trajectory.samples - trajectory.samples[0]
    with png_figure(path, 10, 4.6) as figure:
        left, right = figure.subplots(1, 2)
        for columns, style in _trained_styles(trajectory):
            _curves(left, trajectory.epochs, norms[:, columns], **style)
            _curves(right, trajectory.epochs, entries[:, columns], **style | {"linewidth": 0.6, "alpha": 0.5})
        base = {"color": "#555555", "linewidth": 2, "zorder": 3, "label": f"base, frozen ({frozen.sum()} parameters)"}
        _curves(left, trajectory.epochs, norms[:, frozen], **base)
        _curves(right, trajectory.epochs, entries[:, frozen], **base)
        left.set(title="Norms", xlabel="epoch", ylabel="change of L2 norm (% of its largest)")
        title = f"Sampled entries (up to {entries.shape[2]} a parameter)"
        right.set(title=title, xlabel="epoch", ylabel="change of the entry")
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower left", ncols=4)


def _trained_styles(trajectory: Trajectory) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
    """Indices of trained parameters that are drawn alike, and how."""
    trained = np.flatnonzero(trajectory.trainable)
    names = _without_shared_parts(trajectory.names[trained])
    modules = {name: name.rpartition(".")[0] for name in names}
    colours = dict(zip(dict.fromkeys(modules.values()), COLOURS, strict=False))
    if len(set(modules.values())) > len(colours):
        yield trained, {"color": COLOURS[0], "alpha": 0.6, "label": f"trained ({len(trained)} parameters)"}
        return
    for index, name in zip(trained, names, strict=True):
        bias = name.endswith("bias")
        yield np.array([index]), {"color": colours[modules[name]], "linestyle": "--" if bias else "-", "label": name}


def _curves(axes: Axes, x: np.ndarray, values: np.ndarray, **style: Any) -> None:
    """Draw every column of `values` as one path with gaps: thousands of separate lines would take seconds."""
    columns = values.reshape(len(x), -1)
    if columns.size:
        gap = np.full((1, columns.shape[1]), np.nan)
        axes.plot(np.tile([*x, np.nan], columns.shape[1]), np.concatenate([columns, gap]).T.ravel(), **style)


def _without_shared_parts(names: Sequence[str]) -> list[str]:
    """The names without the dotted parts that all of them begin with; the last part always stays."""
    parts = [str(name).split(".") for name in names]
    shared = len(os.path.commonprefix([name[:-1] for name in parts]))  # noqa: RUF071 (of lists, part by part)
    return [".".join(name[shared:]) for name in parts]


# ---- Training history

WARMUP = "discriminator"
PHASES = {"likelihood": COLOURS[5], "adversarial": COLOURS[3]}
LABELS = {
    "loss": ("Generator loss", ""),
    "likelihood_loss": ("Likelihood loss", "nats a token"),
    "eval_loss": ("Loss on held-out pairs", "nats a token"),
    "reward": ("Reward", "mean of the batch"),
    "discriminator_loss": ("Discriminator loss", "nats"),
    "discriminator_accuracy": ("Discriminator accuracy", "share"),
}
# figures of health that `plot_health` draws
HEALTH = {
    *("reward_std", "no_spread_share", "distinct_answers", "most_common_answer", "entropy", "kl", "answer_length"),
    *("ended", "grad_norm", "discriminator_grad_norm"),
    *(
        f"{before}discriminator_accuracy_{kind}"
        for before in ("", "held_out_")
        for kind in ("real", "generated", "corrupted", "mismatched")
    ),
}
NOT_DRAWN = {"step", "discriminator_step", "phase", "epoch", "tokens", "learning_rate", *HEALTH}


def rows_of_steps(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a training history that are of steps; those of the discriminator's warm-up have steps of their own.

    These are the `discriminator_step`, in older histories a row each: all have the generator's `step` before them.
    """
    found: list[dict[str, Any]] = []
    for phase, span in groupby((row for row in rows if "phase" in row), key=lambda row: row["phase"]):
        for number, row in enumerate(span, start=1):
            found.append(dict(row) | ({"step": row.get("discriminator_step", number)} if phase == WARMUP else {}))
    return found


def plot_history(rows: list[dict], path: str | Path, title: str) -> None:
    """Each quantity of a training history over the steps, the phases shaded; figures of health have their own plot.

    What the discriminator's warm-up logged has panels of its own, over the steps of the warm-up.

    Args:
        rows: of steps, with `step`, `phase` and any numbers: `loss`, `reward`, `discriminator_loss`, ... A row may lack
            a quantity. Of the others those with an `eval_loss` are drawn.

    Raises:
        UserError: if there is nothing to draw, or the file cannot be written.
    """
    all_steps = rows_of_steps(rows)
    steps = [row for row in all_steps if row["phase"] != WARMUP]
    warmup = [row for row in all_steps if row["phase"] == WARMUP]
    drawn: list[tuple[str, bool, list[dict]]] = [(key, False, steps) for key in _quantities(steps)]
    if held_out := [row | {"phase": None} for row in rows if is_number(row.get("eval_loss"))]:
        drawn.append(("eval_loss", False, held_out))
    drawn.sort(key=lambda panel: [*LABELS, panel[0]].index(panel[0]))
    drawn += [(key, True, warmup) for key in _quantities(warmup)]
    if not drawn:
        raise UserError(f"{path}: the training history has no numbers to draw")
    columns = min(len(drawn), 2 if len(drawn) <= 4 else 3)
    lines = math.ceil(len(drawn) / columns)
    spans = _phase_spans(steps)
    with png_figure(path, 4.4 * columns, 0.7 + 2.4 * lines) as figure:
        panels = figure.subplots(lines, columns, squeeze=False).ravel()
        for axes, (key, own, of_panel) in zip(panels, drawn, strict=False):
            for phase, start, end in [] if own else spans:
                axes.axvspan(start, end, color=PHASES.get(phase, GREY), alpha=0.13, linewidth=0)
            for phase in dict.fromkeys(row["phase"] for row in of_panel):  # those of the game lie among others
                points = [(r["step"], r[key]) for r in of_panel if r["phase"] == phase and is_number(r.get(key))]
                if points:
                    draw_series(axes, *np.array(points, dtype=float).T, color=COLOURS[0])
            name, unit = LABELS.get(key, (key.replace("_", " ").capitalize(), ""))
            axes.set(title=f"{name}, warm-up" if own else name, ylabel=unit)
            axes.set_xlabel("step of the discriminator's warm-up" if own else "step")
            axes.xaxis.get_major_locator().set_params(integer=True)
            if not own:
                axes.set_xlim(spans[0][1], max(spans[-1][2], spans[0][1] + 1))
            if key == "discriminator_accuracy":
                axes.axhline(0.5, color=GREY, linestyle="--", linewidth=1)
                axes.set_ylim(-0.03, 1.03)
        for axes in panels[len(drawn) :]:
            axes.remove()
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        if spans:
            _phase_legend(figure, dict.fromkeys(phase for phase, _, _ in spans))


def _quantities(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted({key for row in rows for key, value in row.items() if is_number(value)} - NOT_DRAWN)


def draw_series(axes: Axes, steps: np.ndarray, values: np.ndarray, **style: Any) -> None:
    """The values, behind their running mean if there are many; `style` is that of the line to be read."""
    means = running_mean(values)
    if len(means) == len(values):
        marker = {"marker": "o", "markersize": 3} if len(values) <= 25 else {}
        axes.plot(steps, values, **marker | style)
        return
    axes.plot(steps, values, **style | {"alpha": 0.3, "linewidth": 0.7, "linestyle": "-", "label": None})
    axes.plot(steps[-len(means) :], means, **style)


def running_mean(values: np.ndarray) -> np.ndarray:
    """The mean of each value and some before it, a fortieth of all; the first that has so many is the first given."""
    window = max(len(values) // 40, 1)
    return np.convolve(values, np.full(window, 1 / window), "valid")


def _phase_spans(rows: list[dict]) -> list[tuple[str, float, float]]:
    """Phase, first step and end of each run of rows in one phase; a span ends where the next begins."""
    starts = [(phase, next(iter(span))["step"]) for phase, span in groupby(rows, key=lambda row: row["phase"])]
    if not starts:
        return []
    ends = [start for _, start in starts[1:]] + [max(row["step"] for row in rows)]
    return [(str(phase), start, end) for (phase, start), end in zip(starts, ends, strict=True)]


def _phase_legend(figure: Figure, phases: Mapping[str, None]) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=PHASES.get(phase, GREY), alpha=0.3, linewidth=0, label=phase) for phase in phases]
    figure.legend(handles=handles, loc="outside lower left", ncols=len(handles), title="phase", alignment="left")


def is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


# ---- Memory


def plot_memory_timeline(path_json: str | Path, path_png: str | Path) -> None:
    """The process's resident memory over time, from what `record_memory_snapshot` writes on CPU.

    A [`UserError`] if the timeline is missing or holds something else.
    """
    try:
        samples = np.array(json.loads(Path(path_json).read_text(encoding="utf-8"))["samples"], dtype=float)
        seconds, used = samples.T
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path_json}: no memory timeline ({error}), expected a memory_timeline.json") from error
    used = used / MB
    peak = int(used.argmax())
    with png_figure(path_png, 7, 3) as figure:
        axes = figure.subplots()
        axes.fill_between(seconds, used[0], used, where=used >= used[0], color=COLOURS[0], alpha=0.15, linewidth=0)
        axes.plot(seconds, used, color=COLOURS[0])
        axes.axhline(used[0], color=GREY, linestyle="--", linewidth=1, label=f"at the start: {used[0]:,.0f} MB")
        label = f"peak: {used[peak]:,.0f} MB ({used[peak] - used[0]:+,.0f})"
        axes.plot(seconds[peak], used[peak], "o", color=COLOURS[1], markersize=5, label=label)
        axes.set(title="Process memory", xlabel="time (s)", ylabel="resident memory (MB)")
        axes.set_xlim(seconds[0], max(seconds[-1], seconds[0] + 1e-3))
        figure.legend(loc="outside lower right", ncols=2)
