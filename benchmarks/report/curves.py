"""What happened during the runs, thinned out to what a plot can show: history, weights, memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.compare.files import read_json, read_rows
from benchmarks.report.read import Comparison, number
from gantune.diagnostics import load_trajectory
from gantune.diagnostics.plots import rows_of_steps
from gantune.errors import UserError

FIGURES = (
    *(
        "likelihood_loss",
        "loss",
        "eval_loss",
        "policy_gradient",
        "discriminator_loss",
        "reward",
        "reward_std",
        "no_spread_share",
        "distinct_answers",
        "most_common_answer",
        "entropy",
        "kl",
    ),
    *("answer_length", "ended", "discriminator_accuracy_real", "discriminator_accuracy_generated"),
    *("held_out_discriminator_accuracy_real", "held_out_discriminator_accuracy_generated"),
    *("grad_norm", "discriminator_grad_norm"),
)
MAX_POINTS = 120
MAX_WEIGHTS = 16
DIGITS = 4


def runs(comparison: Comparison) -> dict[str, dict[str, dict[str, Any]]]:
    """By seed and method: `history`, `weights` and `memory`, each None where nothing was stored.

    Raises:
        UserError: if a file is there and holds something else.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {str(seed): {} for seed in comparison.seeds}
    for row in comparison.rows:
        directory = comparison.run_directory(row)
        found[str(row["seed"])][row["method"]] = {
            "history": history(read_rows(directory / "history.jsonl"), likelihood_weight(directory)),
            "weights": weights(directory / "weights.npz"),
            "memory": memory(directory),
        }
    return found


def likelihood_weight(directory: Path) -> float | None:
    """The weight of the likelihood in the loss of a run's adversarial steps; None if it is not stored or zero."""
    config = read_json(directory / "config.json") or {}
    return number((config.get("tuning") or {}).get("likelihood_weight"), 17) or None


def history(rows: Sequence[dict[str, Any]], weight: float | None = None) -> dict[str, dict[str, Any]] | None:
    """The figures of each phase over its steps, which may lie apart: `{phase: {"step": [...], "loss": [...], ...}}`.

    A phase of more than 120 steps is given as means over as many steps running as it takes, `block`. The figure
    `likelihood_loss` is the loss of a step that is not adversarial, else the likelihood's part of it. The loss of
    held-out pairs, `eval_loss`, has a phase of its own, "held out".

    Args:
        rows: of `history.jsonl`.
        weight: that of the likelihood in the adversarial loss; None leaves that part out.
    """
    phases: dict[str, list[dict[str, Any]]] = {}
    rows = [row for row in rows if number(row.get("step")) is not None]
    held_out = [row | {"phase": "held out"} for row in rows if "eval_loss" in row]
    for row in rows_of_steps(rows) + held_out:
        phase, loss = str(row["phase"]), number(row.get("loss"), 17)
        if phase == "adversarial":
            part = number(row.get("likelihood"), 17)
            loss = part / weight if part is not None and weight else None
        phases.setdefault(phase, []).append(row | {"likelihood_loss": loss})
    thinned = {}
    for phase, of_phase in phases.items():
        size = -(-len(of_phase) // MAX_POINTS)
        blocks = [of_phase[start : start + size] for start in range(0, len(of_phase), size)]
        series = {"step": [round(fmean(row["step"] for row in block), 2) for block in blocks]}
        series |= {key: [_mean(block, key) for block in blocks] for key in FIGURES}
        series = {key: values for key, values in series.items() if any(value is not None for value in values)}
        thinned[phase] = series | {"block": size}
    return thinned or None


def _mean(rows: Sequence[dict[str, Any]], key: str) -> float | None:
    values = [value for value in (number(row.get(key), 17) for row in rows) if value is not None]
    return number(sum(values) / len(values), DIGITS) if values else None


def weights(path: Path) -> dict[str, Any] | None:
    """Norms of trained parameters over the epochs, and by how much a frozen one moved.

    Returns:
        `lines`: name and change of the L2 norm since the first record in per cent of the largest that it reached, of at
        most 16 parameters, spread evenly over the `trained`; `frozen`: how many; `frozen_change`: the largest change of
        any sampled entry of theirs.

    Raises:
        UserError: if the file is no trajectory.
    """
    if not path.is_file():
        return None
    trajectory = load_trajectory(path)
    trained = np.flatnonzero(trajectory.trainable)
    shown = trained[np.unique(np.linspace(0, len(trained) - 1, min(MAX_WEIGHTS, len(trained))).astype(int))]
    records = np.unique(np.linspace(0, len(trajectory.epochs) - 1, min(MAX_POINTS // 2, len(trajectory.epochs))))
    records = records.astype(int)
    norms = trajectory.norms.astype(np.float64)
    largest = norms.max(axis=0)
    change = 100 * (norms - norms[0]) / np.where(largest > 0, largest, 1)
    moved = np.abs(trajectory.samples - trajectory.samples[0])[:, ~trajectory.trainable]
    names = without_shared_parts([str(trajectory.names[index]) for index in shown])
    return {
        "epochs": [number(epoch, DIGITS) for epoch in trajectory.epochs[records].tolist()],
        "lines": [
            {"name": name, "change": [number(value, DIGITS) for value in change[records, index].tolist()]}
            for name, index in zip(names, shown, strict=True)
        ],
        "trained": len(trained),
        "frozen": int((~trajectory.trainable).sum()),
        "frozen_change": number(float(np.nanmax(moved, initial=0)), 3),
    }


def without_shared_parts(names: Sequence[str]) -> list[str]:
    """The names without the dotted parts that all of them begin with; the last part always stays."""
    parts = [name.split(".") for name in names]
    shared = 0
    while parts and len({tuple(name[: shared + 1]) for name in parts}) == 1 and len(min(parts, key=len)) > shared + 1:
        shared += 1
    return [".".join(name[shared:]) for name in parts]


def memory(directory: Path) -> dict[str, Any] | None:
    """The process's resident memory in `bytes` over the `seconds`.

    Between the first and the last sample each point is the highest of its neighbours. CUDA's snapshot is a pickle,
    which is not read; `snapshot` says that it is there.

    Raises:
        UserError: if the timeline holds something else.
    """
    path = directory / "memory_timeline.json"
    content = read_json(path)
    if content is None:
        return {"snapshot": "memory_snapshot.pickle"} if (directory / "memory_snapshot.pickle").is_file() else None
    try:
        samples = np.array(content["samples"], dtype=float).reshape(-1, 2)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: no memory timeline, expected `samples` of seconds and bytes") from error
    if not len(samples):
        return None
    size = -(-len(samples) // MAX_POINTS)
    blocks = [samples[start : start + size] for start in range(0, len(samples), size)]
    highest = [samples[0], *(block[block[:, 1].argmax()] for block in blocks), samples[-1]]
    return {
        "seconds": [number(float(seconds), DIGITS) for seconds, _ in highest],
        "bytes": [number(float(used), 6) for _, used in highest],
    }
