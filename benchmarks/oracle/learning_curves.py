"""The learning curves, as in figure 2 of Yu et al. 2017, with the likelihood of test data below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gantune.diagnostics.plots import COLOURS, GREY, png_figure


def plot_learning_curves(rows: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """NLL_oracle and NLL_test over MLE epochs, then adversarial rounds; thin lines are seeds, thick ones their mean.

    Args:
        rows: of the benchmark, those with a history are drawn.
        path: the PNG.
    """
    mle = [row["history"] for row in rows if row["method"] == "mle"]
    methods = [name for name in dict.fromkeys(row["method"] for row in rows if "history" in row) if name != "mle"]
    end = max((history[-1]["epoch"] for history in mle), default=0)
    with png_figure(path, 8, 6.4) as figure:
        panels = figure.subplots(2, 1, sharex=True)
        for axes, (key, name) in zip(panels, (("nll_oracle", "NLL_oracle"), ("nll_test", "NLL_test")), strict=True):
            _curves(axes, mle, key, "epoch", 0, COLOURS[-1], "mle")
            for colour, method in zip(COLOURS, methods, strict=False):
                histories = [row["history"] for row in rows if row["method"] == method]
                _curves(axes, histories, key, "round", end + 1, colour, method)
            axes.axvline(end + 0.5, color=GREY, linestyle="--", linewidth=1)
            axes.set(ylabel=f"{name} (nats a token)")
        panels[1].set_xlabel("epochs of maximum likelihood | adversarial rounds")
        panels[0].legend(ncols=3)


def _curves(axes: Any, histories: list, key: str, index: str, offset: int, colour: str, label: str) -> None:
    curves = [np.array([(offset + row[index], row[key]) for row in history], dtype=float) for history in histories]
    for curve in curves:
        axes.plot(*curve.T, color=colour, alpha=0.35, linewidth=0.8)
    if curves:
        axes.plot(*np.mean(curves, axis=0).T, color=colour, linewidth=2, label=label)
