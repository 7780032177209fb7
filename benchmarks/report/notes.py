"""What has to be said beside the figures, by its weight and once for all seeds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from benchmarks.compare.decoding_cost import cost_lines
from benchmarks.report.differences import caution, how_to_read
from benchmarks.report.forgetting_table import how_to_read_forgetting
from benchmarks.report.grid import thousandths
from benchmarks.statistics.intervals import FEWEST

LEARNING_RATES = "learning rates: "
"""How the line begins that says where they come from."""
CAUTION = "caution: "
STEP, NUMBER = re.compile(r"step (\d+): "), re.compile(r"\d[\d.,]*")


class Notes(NamedTuple):
    """Lines by their weight.

    Args:
        cautions: why a figure is missing, or less than it seems.
        settings: how the methods were made comparable, and what they do otherwise.
        reading: what the figures are.
    """

    cautions: list[str]
    settings: list[str]
    reading: list[str]


TITLES = Notes("Cautions", "Settings and other figures", "How to read the figures")


def notes(
    rows: Sequence[Mapping[str, Any]],
    said: Sequence[str] = (),
    found: Sequence[Mapping[str, Any]] = (),
    test_size: float | None = None,
) -> Notes:
    """All that is said of a comparison.

    Args:
        rows: of its runs.
        said: before the first run: learning rates, else cautions.
        found: paired differences, see [`benchmarks.report.differences.differences`].
        test_size: number of test questions, if it is known.
    """
    cautions = [*_failures(rows), *_not_run(rows), *caution(test_size)]
    cautions += [line for line in said if not line.startswith(LEARNING_RATES)]
    settings = [line for line in said if line.startswith(LEARNING_RATES)]
    for method in dict.fromkeys(row["method"] for row in rows):
        settings += _of_method(method, [row for row in rows if row["method"] == method])
    for line in cost_lines(rows):
        (cautions if line.startswith(CAUTION) else settings).append(line)
    reading = []
    for kind, file in {tuple(row["memory_record"].values()): None for row in rows if row.get("memory_record")}:
        what = "a timeline of the process's memory" if kind == "process-timeline" else "PyTorch's CUDA memory snapshot"
        reading.append(f"Memory recorded in each run's {file}: {what}")
    seeds = len({row["seed"] for row in rows})
    if seeds == 1:
        cautions.append("One seed: no interval, and a difference between methods may be chance (--seeds 0 1 2 3 4).")
    elif 1 < seeds < FEWEST:
        cautions.append(f"{seeds} seeds: no interval from fewer than {FEWEST} (--seeds 0 1 2 3 4).")
    elif seeds:
        reading.append(f"Means over {seeds} seeds, ± half of the 95 % confidence interval (Student's t over seeds).")
    reading += [*how_to_read(found), *how_to_read_forgetting(rows)]
    return Notes([line.removeprefix(CAUTION) for line in cautions], settings, reading)


def _failures(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Runs that did not end well, then what went wrong in those that did; the seeds of a method in one line."""
    told: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for row in rows:
        if row["status"] != "success":
            line = f"{row['status']}: {row['error']}"
            told.setdefault((row["method"], line), []).append((row["seed"], line))
    for row in rows:
        for warning in row.get("warnings", ()):
            kind = NUMBER.sub("#", STEP.sub("", warning))
            told.setdefault((row["method"], kind), []).append((row["seed"], f"warning: {warning}"))
    return [f"{method}, {_seeds(seed for seed, _ in lines)}: {_merged(lines)}" for (method, _), lines in told.items()]


def _merged(lines: Sequence[tuple[int, str]]) -> str:
    """The first of lines that differ in numbers alone, with the steps of all."""
    steps = sorted({int(found[1]) for _, line in lines if (found := STEP.search(line))})
    first = lines[0][1]
    return STEP.sub(f"from step {steps[0]} to {steps[-1]} on: ", first, count=1) if len(steps) > 1 else first


def _seeds(seeds: Iterable[int]) -> str:
    seeds = sorted(set(seeds))
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _not_run(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for metric, reason in {(metric, reason): None for row in rows for metric, reason in row["not_run"].items()}:
        methods = [row["method"] for row in rows if row["not_run"].get(metric) == reason]
        everywhere = len(methods) == sum(row["status"] == "success" for row in rows)
        where = "" if everywhere else f" for {', '.join(dict.fromkeys(methods))}"
        lines.append(f"{metric.upper()} not run{where}: {reason}")
    return lines


def _of_method(method: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """How a method was made comparable, and what it does under other decodings and noise: means over its seeds."""
    ended = [row for row in rows if row["status"] == "success"]
    lines = [f"{method}: {swept}" for swept in dict.fromkeys(row.get("swept") for row in ended) if swept]
    lines += [f"{method}: {matched}" for matched in dict.fromkeys(row.get("matched") for row in ended) if matched]
    stopped = [row for row in ended if row.get("steps") and row["steps"] < row["planned_steps"]]
    if stopped:
        steps, planned = (fmean(row[name] for row in stopped) for name in ("steps", "planned_steps"))
        lines.append(f"{method}: training stopped after {steps:.0f} of {planned:.0f} steps")
    decoded = [row["metrics_by_decoding"] for row in ended if row.get("metrics_by_decoding")]
    if decoded:
        told = (f"{thousandths(fmean(of[name]['rougeL'] for of in decoded))} {name}" for name in decoded[0])
        lines.append(f"{method}: ROUGE-L {', '.join(told)}")
    noisy = [row for row in ended if row.get("noise")]
    if noisy:
        lines.append(f"{method}: ROUGE-L {_under_noise(noisy)}")
    return lines


def _under_noise(rows: Sequence[Mapping[str, Any]]) -> str:
    headline = fmean(row["metrics"]["rougeL"] for row in rows)
    draws, figures = rows[0]["noise"]["draws"], [row["noise"]["rougeL"] for row in rows]
    text = f"{thousandths(headline)} at zero noise, {thousandths(fmean(figure['mean'] for figure in figures))}"
    if draws > 1:
        text += f" ±{thousandths(fmean(figure['sd'] for figure in figures))} (SD)"
    return f"{text} over {draws} noise draw{'s' if draws > 1 else ''}"
