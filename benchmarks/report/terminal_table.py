"""The comparison as one table, for the terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from benchmarks.compare.decoding_cost import cost_lines
from benchmarks.compare.evaluation import METRICS, RECORD_METRICS
from benchmarks.report.grid import markdown_table, text_table
from benchmarks.statistics.intervals import mean_and_half_width

REFERENCE = "lora"
NOT_RUN = "-"


class Column(NamedTuple):
    """One column: its heading, the key in a summary, and how a value is written."""

    heading: str
    key: str
    write: Callable[[float], str]


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _seconds(value: float) -> str:
    return f"{value:.1f} s"


def _megabytes(value: float) -> str:
    return f"{value / 1e6:.0f} MB"


COLUMNS = (
    Column("trainable", "trainable_parameters", _count),
    Column("ROUGE-1", "rouge1", "{:.3f}".format),
    Column("ROUGE-2", "rouge2", "{:.3f}".format),
    Column("ROUGE-L", "rougeL", "{:.3f}".format),
    Column("ROUGE-Lsum", "rougeLsum", "{:.3f}".format),
    Column("R-L recall", "rougeL_recall", "{:.3f}".format),
    Column("BLEURT", "bleurt", "{:.3f}".format),
    Column("NLL", "nll", "{:.3f}".format),
    Column("distinct-2", "distinct2", "{:.3f}".format),
    Column("words", "mean_length", "{:.1f}".format),
    Column("training", "train_seconds", _seconds),
    Column("peak memory", "peak_memory_bytes", _megabytes),
)
_BY_KEY = {column.key: column for column in COLUMNS}
RECORD_COLUMNS = (
    Column("SER", "slot_error_rate", "{:.3f}".format),
    Column("SER T=1", "slot_error_rate_sampled", "{:.3f}".format),
    Column("right", "right_texts", "{:.3f}".format),
    _BY_KEY["rougeL"],
    Column("BLEU", "bleu", "{:.1f}".format),
    Column("distinct-2 T=1", "distinct2_sampled", "{:.3f}".format),
    *(_BY_KEY[key] for key in ("nll", "trainable_parameters", "train_seconds", "peak_memory_bytes")),
)
"""Of texts about records; SER is the slot error rate, T=1 what is sampled at temperature 1."""


def columns_of(summary: Mapping[str, Mapping[str, Any]]) -> tuple[Column, ...]:
    """The columns of a comparison: those of records if there is a slot error rate."""
    of_records = any("slot_error_rate" in figures for figures in summary.values())
    return RECORD_COLUMNS if of_records else COLUMNS


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each method its means over the seeds that ended well.

    Returns:
        By method: `seeds`, `failed` (how many), and for each figure `mean`, `half_width` (95 %, Student's t over
        seeds; None for one seed) and `ratio_to_lora`; None where there is no value.
    """
    of_records = [name for name in RECORD_METRICS if any(name in row["metrics"] for row in rows)]
    figures = ("trainable_parameters", "train_seconds", "peak_memory_bytes", *METRICS, *of_records)
    summary: dict[str, dict[str, Any]] = {}
    for method in dict.fromkeys(row["method"] for row in rows):
        of_method = [row for row in rows if row["method"] == method]
        ended = [row | row["metrics"] for row in of_method if row["status"] == "success"]
        failed = sum(row["status"] == "failed" for row in of_method)
        summary[method] = {"seeds": len(ended), "failed": failed}
        for figure in figures:
            values = [row[figure] for row in ended if row.get(figure) is not None]
            mean, half_width = mean_and_half_width(values) if values else (None, None)
            summary[method][figure] = {"mean": mean, "half_width": half_width, "ratio_to_lora": None}
    if REFERENCE in summary:
        for of_method in summary.values():
            for figure in figures:
                mean, reference = of_method[figure]["mean"], summary[REFERENCE][figure]["mean"]
                if mean is not None and reference:
                    of_method[figure]["ratio_to_lora"] = mean / reference
    return summary


def _cell(column: Column, figure: Mapping[str, Any]) -> str:
    if figure["mean"] is None or (column.key == "trainable_parameters" and not figure["mean"]):
        return NOT_RUN
    text = column.write(figure["mean"])
    if figure["half_width"] and column.key not in ("trainable_parameters", "train_seconds", "peak_memory_bytes"):
        text += f" ±{column.write(figure['half_width']).removeprefix('0')}"
    return text


def _ratio(column: Column, figure: Mapping[str, Any]) -> str:
    ratio = figure["ratio_to_lora"]
    return NOT_RUN if ratio is None or not ratio else f"{ratio:.2f} x"


def _grid(summary: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Heading, a row a method, and a row of ratios for each method but LoRA itself."""
    columns = columns_of(summary)
    grid = [["method", *(column.heading for column in columns)]]
    for method, figures in summary.items():
        grid.append([method, *(_cell(column, figures[column.key]) for column in columns)])
    if REFERENCE in summary:
        for method, figures in summary.items():
            if method != REFERENCE:
                name = f"{method} / {REFERENCE}"
                grid.append([name, *(_ratio(column, figures[column.key]) for column in columns)])
    return grid


def notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What has to be said beside the figures: failures, metrics that were not run, and how to read the intervals."""
    lines = [
        f"{row['method']}, seed {row['seed']}: {row['status']}: {row['error']}"
        for row in rows
        if row["status"] != "success"
    ]
    lines += [
        f"{row['method']}, seed {row['seed']}: warning: {warning}"
        for row in rows
        for warning in row.get("warnings", ())
    ]
    reasons = {(metric, reason): None for row in rows for metric, reason in row["not_run"].items()}
    for metric, reason in reasons:
        methods = [row["method"] for row in rows if row["not_run"].get(metric) == reason]
        everywhere = len(methods) == sum(row["status"] == "success" for row in rows)
        where = "" if everywhere else f" for {', '.join(dict.fromkeys(methods))}"
        lines.append(f"{metric.upper()} not run{where}: {reason}")
    for kind, file in {tuple(row["memory_record"].values()): None for row in rows if row.get("memory_record")}:
        what = "a timeline of the process's memory" if kind == "process-timeline" else "PyTorch's CUDA memory snapshot"
        lines.append(f"Memory recorded in each run's {file}: {what}")
    for method in dict.fromkeys(row["method"] for row in rows):
        lines += _notes_of_method(method, [row for row in rows if row["method"] == method])
    lines += cost_lines(rows)
    seeds = {row["seed"] for row in rows}
    if len(seeds) > 1:
        lines.append(f"Means over {len(seeds)} seeds, ± half of the 95 % confidence interval (Student's t over seeds).")
    else:
        lines.append("One seed: no interval, and a difference between methods may be chance (--seeds 0 1 2 3 4).")
    return lines


def _notes_of_method(method: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
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
        told = (f"{_short(fmean(of[name]['rougeL'] for of in decoded))} {name}" for name in decoded[0])
        lines.append(f"{method}: ROUGE-L {', '.join(told)}")
    noisy = [row for row in ended if row.get("noise")]
    if noisy:
        lines.append(f"{method}: ROUGE-L {_under_noise(noisy)}")
    return lines


def _under_noise(rows: Sequence[Mapping[str, Any]]) -> str:
    headline = fmean(row["metrics"]["rougeL"] for row in rows)
    draws, figures = rows[0]["noise"]["draws"], [row["noise"]["rougeL"] for row in rows]
    text = f"{_short(headline)} at zero noise, {_short(fmean(figure['mean'] for figure in figures))}"
    if draws > 1:
        text += f" ±{_short(fmean(figure['sd'] for figure in figures))} (SD)"
    return f"{text} over {draws} noise draw{'s' if draws > 1 else ''}"


def _short(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def as_text(summary: Mapping[str, Mapping[str, Any]]) -> str:
    """The table for a terminal, columns aligned."""
    return text_table(_grid(summary), rules=(1, 1 + len(summary)))


def as_markdown(summary: Mapping[str, Mapping[str, Any]]) -> str:
    """The table in Markdown."""
    return markdown_table(_grid(summary))
