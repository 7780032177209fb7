"""The plot of the health of adversarial training, one panel a question that a reader of a run asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gantune.diagnostics.plots import (
    COLOURS,
    GREY,
    WARMUP,
    draw_series,
    is_number,
    png_figure,
    rows_of_steps,
    running_mean,
)
from gantune.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Rows = Sequence[Mapping[str, Any]]
BLUE, VERMILION, GREEN = COLOURS[:3]
HELD_OUT = {"linestyle": "--", "alpha": 0.8}


def plot_health(rows: Rows, path: str | Path, title: str) -> None:
    """Rewards, spread, entropy, lengths, the discriminator and gradient norms over the adversarial steps.

    The last panel, gradient norms, also shows the steps of likelihood and so has a longer axis; the discriminator's
    warm-up, whose steps are none of the generator's, is in no panel. A panel whose quantities are all missing says "not
    measured".

    Args:
        rows: the training history; drawn are those of steps, with `step`, `phase` and the figures of
            [`rollout_health`], `kl`, `discriminator_accuracy_real`, `..._generated`, `..._corrupted` and
            `..._mismatched`, the same after `held_out_`, `grad_norm` and `discriminator_grad_norm`; any may
            be missing or None.

    Raises:
        UserError: if there is no adversarial step, or the file cannot be written.
    """
    rows = [row for row in rows_of_steps(rows) if row["phase"] != WARMUP]
    adversarial = [row for row in rows if row["phase"] == "adversarial"]
    if not adversarial:
        raise UserError(f"{path}: the training history has no adversarial step, whose health could be drawn")
    panels: dict[str, tuple[Callable[[Axes, Rows], None], Rows]] = {
        "Reward (band: ± one standard deviation)": (_reward, adversarial),
        "Spread of a rollout": (_spread, adversarial),
        "Entropy and KL to the base": (_entropy, adversarial),
        "Answers": (_answers, adversarial),
        "Discriminator accuracy": (_discriminator, adversarial),
        "Gradient norms": (_gradient_norms, rows),
    }
    with png_figure(path, 8, 8) as figure:
        grid = figure.subplots(3, 2)
        for axes, (name, (draw, drawn)) in zip(grid.ravel(), panels.items(), strict=True):
            draw(axes, drawn)
            axes.set_title(name)
            steps = [row["step"] for row in drawn]
            margin = 0.02 * (max(steps) - min(steps)) or 0.5
            axes.set_xlim(min(steps) - margin, max(steps) + margin)
            axes.xaxis.get_major_locator().set_params(integer=True, nbins=6, min_n_ticks=1)
            if not any(shown.lines for shown in axes.get_shared_x_axes().get_siblings(axes)):
                axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center", color=GREY)
                axes.set_yticks([])
        for axes in grid[-1]:
            axes.set_xlabel("step")
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")


def _points(rows: Rows, *keys: str) -> np.ndarray:
    """Steps and the figures under `keys`, `[1 + keys, N]`, of the rows that have all of them."""
    points = [[row["step"], *(row[key] for key in keys)] for row in rows if all(is_number(row.get(k)) for k in keys)]
    return np.array(points, dtype=float).reshape(-1, 1 + len(keys)).T


def _line(axes: Axes, rows: Rows, key: str, label: str, colour: str, **style: Any) -> None:
    """The figures under `key` over the steps, if there are any."""
    steps, values = _points(rows, key)
    if len(steps):
        draw_series(axes, steps, values, color=colour, label=label, **style)


def _legend(*panel: Axes) -> None:
    """Names the lines of axes that lie one over the other."""
    handles = [line for axes in panel for line in axes.lines if not line.get_label().startswith("_")]
    if handles:
        panel[-1].legend(handles=handles, loc="best", ncols=2, columnspacing=1, handlelength=1.6)


def _shares(axes: Axes) -> None:
    axes.set_ylim(-0.03, 1.03)
    axes.set_ylabel("share")


def _reward(axes: Axes, rows: Rows) -> None:
    axes.set_ylabel("reward of an answer")
    _line(axes, rows, "reward", "mean", BLUE)
    steps, means, deviations = _points(rows, "reward", "reward_std")
    if len(steps) == 1:  # a band of no width would not be seen
        axes.errorbar(steps, means, yerr=deviations, color=BLUE, alpha=0.4, capsize=3)
    elif len(steps):
        means, deviations = running_mean(means), running_mean(deviations)
        band = {"color": BLUE, "alpha": 0.15, "linewidth": 0}
        axes.fill_between(steps[-len(means) :], means - deviations, means + deviations, **band)


def _spread(axes: Axes, rows: Rows) -> None:
    _shares(axes)
    _line(axes, rows, "no_spread_share", "no reward spread", VERMILION)
    _line(axes, rows, "distinct_answers", "distinct answers", GREEN)
    _legend(axes)


def _entropy(axes: Axes, rows: Rows) -> None:
    axes.set_ylabel("nats a token")
    _line(axes, rows, "entropy", "entropy", BLUE)
    _line(axes, rows, "kl", "KL", VERMILION)
    _legend(axes)


def _answers(axes: Axes, rows: Rows) -> None:
    right = axes.twinx()
    right.grid(visible=False)
    right.spines["right"].set_visible(True)
    axes.set_ylabel("mean length (tokens)")
    _shares(right)
    _line(axes, rows, "answer_length", "length", BLUE)
    _line(right, rows, "ended", "ended (right)", VERMILION)
    for side in (axes, right):
        if not side.lines:
            side.set_yticks([])
            side.set_ylabel(f"{side.get_ylabel()}: not measured")
    _legend(axes, right)


def _discriminator(axes: Axes, rows: Rows) -> None:
    _shares(axes)
    for kind, colour in (("real", BLUE), ("generated", VERMILION), ("corrupted", GREEN), ("mismatched", COLOURS[3])):
        _line(axes, rows, f"discriminator_accuracy_{kind}", kind, colour)
        _line(axes, rows, f"held_out_discriminator_accuracy_{kind}", f"{kind}, held out", colour, **HELD_OUT)
    if axes.lines:
        axes.axhline(0.5, color=GREY, linestyle=":", linewidth=1)
    _legend(axes)


def _gradient_norms(axes: Axes, rows: Rows) -> None:
    axes.set_ylabel("L2 norm")
    likelihood = [row for row in rows if row["phase"] == "likelihood"]
    adversarial = [row for row in rows if row["phase"] == "adversarial"]
    _line(axes, likelihood, "grad_norm", "likelihood", COLOURS[5])
    _line(axes, adversarial, "grad_norm", "adversarial", COLOURS[3])
    _line(axes, rows, "discriminator_grad_norm", "discriminator", COLOURS[4])
    if any((line.get_ydata() > 0).any() for line in axes.lines):
        axes.set_yscale("log", nonpositive="mask")
    _legend(axes)
