"""The comparison as one table, for the terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.compare.evaluation import METRICS, RECORD_METRICS
from benchmarks.report.grid import markdown_table, text_table
from benchmarks.statistics.intervals import clear_best, mean_and_half_width

REFERENCE = "lora"
CONTROLS = ("copy-question", "random-answer", "lead-3", "base")
"""What every method should beat: they stand below the others, dimmed."""
NOT_RUN = "-"
WIDTH = 80
BOLD, DIM, PLAIN = "\033[1m", "\033[2m", "\033[0m"


class Column(NamedTuple):
    """One column.

    Args:
        heading: of it.
        key: of its figure in a summary.
        write: a value as text.
        better: "high" or "low"; None where neither is better in itself, as with longer or more varied answers.
    """

    heading: str
    key: str
    write: Callable[[float], str]
    better: str | None = None


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _seconds(value: float) -> str:
    return f"{value:.{0 if value >= 100 else 1}f} s"


def _megabytes(value: float) -> str:
    return f"{value / 1e6:.0f} MB"


_ROUGE_L = Column("ROUGE-L", "rougeL", "{:.3f}".format, "high")
_NLL = Column("NLL", "nll", "{:.3f}".format, "low")
_BLEURT = Column("BLEURT", "bleurt", "{:.3f}".format, "high")
COSTS = (
    Column("trainable", "trainable_parameters", _count, "low"),
    Column("time", "train_seconds", _seconds, "low"),
    Column("memory", "peak_memory_bytes", _megabytes, "low"),
)
HEADLINES = (_ROUGE_L, _BLEURT, _NLL)
COLUMNS = (
    *(*HEADLINES, *COSTS),
    Column("ROUGE-1", "rouge1", "{:.3f}".format, "high"),
    Column("ROUGE-2", "rouge2", "{:.3f}".format, "high"),
    Column("ROUGE-Lsum", "rougeLsum", "{:.3f}".format, "high"),
    Column("R-L recall", "rougeL_recall", "{:.3f}".format, "high"),
    Column("distinct-2", "distinct2", "{:.3f}".format),
    Column("words", "mean_length", "{:.1f}".format),
)
_SER = Column("SER", "slot_error_rate", "{:.3f}".format, "low")
_SAMPLED_SER = Column("SER T=1", "slot_error_rate_sampled", "{:.3f}".format, "low")
RECORD_HEADLINES = (_SER, _SAMPLED_SER, _ROUGE_L)
RECORD_COLUMNS = (
    *(_SER, _SAMPLED_SER),
    *(Column(name, name, "{:.3f}".format, "low") for name in ("missing", "wrong", "added")),
    Column("right", "right_texts", "{:.3f}".format, "high"),
    _ROUGE_L,
    Column("BLEU", "bleu", "{:.1f}".format, "high"),
    Column("distinct-2 T=1", "distinct2_sampled", "{:.3f}".format),
    *(_NLL, *COSTS),
)
"""Of texts about records; SER is the slot error rate, T=1 what is sampled at temperature 1."""


def columns_of(summary: Mapping[str, Mapping[str, Any]], wide: bool = True) -> list[Column]:
    """The columns of a comparison that have a value: those of records if there is a slot error rate.

    Args:
        summary: see [`summarise`].
        wide: all of them; else the headline metrics of the task, and costs.
    """
    of_records = any("slot_error_rate" in figures for figures in summary.values())
    columns, headlines = (RECORD_COLUMNS, RECORD_HEADLINES) if of_records else (COLUMNS, HEADLINES)
    shown = columns if wide else (*headlines, *COSTS)
    return [column for column in shown if any(figure_of(figures, column) for figures in summary.values())]


def headline_of(summary: Mapping[str, Mapping[str, Any]]) -> Column:
    """The metric that methods are sorted and compared by."""
    return RECORD_HEADLINES[0] if any("slot_error_rate" in figures for figures in summary.values()) else HEADLINES[0]


def figure_of(figures: Mapping[str, Any], column: Column) -> Mapping[str, Any] | None:
    """`mean`, `half_width` and `ratio_to_lora` of one method; None without a value, as of parameters not trained."""
    figure = figures.get(column.key) or {}
    untrained = column.key == "trainable_parameters" and not figure.get("mean")
    return None if untrained or figure.get("mean") is None else figure


def sorted_methods(summary: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The methods with the best in the headline metric first, those without a value last; the controls after all."""
    column = headline_of(summary)
    sign = 1 if column.better == "low" else -1

    def place(method: str) -> tuple[bool, bool, float]:
        figure = figure_of(summary[method], column)
        return method in CONTROLS, figure is None, sign * figure["mean"] if figure else 0

    return sorted(summary, key=place)


def best_method(summary: Mapping[str, Mapping[str, Any]], column: Column) -> str | None:
    """The method with the best mean, if its 95 % interval overlaps with no other method's.

    None as well if no direction of the figure is better, only one method has it, or one has no interval.
    """
    figures = {method: figure_of(of_method, column) for method, of_method in summary.items()}
    intervals = {method: (figure["mean"], figure.get("half_width")) for method, figure in figures.items() if figure}
    return clear_best(intervals, 1 if column.better == "high" else -1) if column.better else None


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each method its means over the seeds that ended well.

    Returns:
        By method: `seeds`, `failed` (how many), and for each figure `mean`, `half_width` (95 %, Student's t over
        seeds; None for fewer than three) and `ratio_to_lora`; None where there is no value.
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


def _cell(column: Column, figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return NOT_RUN
    text = column.write(figure["mean"])
    if figure["half_width"] and column not in COSTS:
        text += f" ±{column.write(figure['half_width']).removeprefix('0')}"
    return text


def _ratio(figure: Mapping[str, Any] | None) -> str:
    return f"{figure['ratio_to_lora']:.2f} x" if figure and figure["ratio_to_lora"] else NOT_RUN


def _grid(summary: Mapping[str, Mapping[str, Any]], wide: bool) -> list[list[str]]:
    """Heading, a row a method, and if `wide` a row of ratios for each method but LoRA itself."""
    columns, methods = columns_of(summary, wide), sorted_methods(summary)
    grid = [["method", *(column.heading for column in columns)]]
    for method in methods:
        grid.append([method, *(_cell(column, figure_of(summary[method], column)) for column in columns)])
    if wide and REFERENCE in summary:
        for method in methods:
            if method != REFERENCE:
                ratios = [_ratio(figure_of(summary[method], column)) for column in columns]
                grid.append([f"{method} / {REFERENCE}", *ratios])
    return grid


def shortened(name: str, room: int) -> str:
    """A name in so many characters: what tells methods apart is at its beginning and at its end."""
    if len(name) <= room:
        return name
    tail = (room - 1) // 2
    return f"{name[: room - 1 - tail]}…{name[-tail:]}"


def as_text(summary: Mapping[str, Mapping[str, Any]], wide: bool = False, styled: bool = False) -> str:
    """The table for a terminal, columns aligned.

    Args:
        summary: see [`summarise`].
        wide: every column, and the ratios to LoRA; else what fits 80 columns, long names of methods cut in the middle.
        styled: the best values bold and the controls dim, by escape sequences.
    """
    grid, methods, columns = _grid(summary, wide), sorted_methods(summary), columns_of(summary, wide)
    tuned = sum(method not in CONTROLS for method in methods)
    rules = {1, 1 + tuned, 1 + len(methods)} if 0 < tuned < len(methods) else {1, 1 + len(methods)}
    if not wide:
        rest = sum(max(len(row[i]) for row in grid) + 2 for i in range(1, len(grid[0])))
        room = max(WIDTH - rest, 8)
        grid = [[shortened(row[0], room), *row[1:]] for row in grid]
    best = [None, *(best_method(summary, column) for column in columns)]

    def paint(row: int, column: int, text: str) -> str:
        method = methods[row - 1] if 1 <= row <= len(methods) else None
        style = DIM * (method in CONTROLS) + BOLD * (method is not None and best[column] == method)
        return f"{style}{text}{PLAIN}" if style else text

    return text_table(grid, rules, paint if styled else None)


def as_markdown(summary: Mapping[str, Mapping[str, Any]]) -> str:
    """The table in Markdown, every column and the ratios to LoRA."""
    return markdown_table(_grid(summary, wide=True))
