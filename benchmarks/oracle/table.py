"""The benchmark as one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.oracle.settings import OracleSettings
from benchmarks.report.grid import markdown_table, text_table
from benchmarks.statistics.intervals import mean_and_half_width

COLUMNS = {
    "seeds": ("seeds", "{:.0f}"),
    "nll_oracle": ("NLL_oracle", "{:.3f}"),
    "nll_test": ("NLL_test", "{:.3f}"),
    "distinct": ("distinct tokens", "{:.0f}"),
    "self_bleu": ("self-BLEU", "{:.3f}"),
    "gain": ("below its MLE start", "{:+.3f}"),
    "seconds": ("seconds", "{:.0f}"),
}
PUBLISHED = "Published (Yu et al. 2017, full size): MLE 9.038, PG-BLEU 8.946, SeqGAN 8.736 NLL_oracle."


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, tuple[float, float | None] | None]]:
    """For each method the mean of each column over seeds and half of its 95 % interval; None where there is none."""
    starts = {row["seed"]: row["nll_oracle"] for row in rows if row["method"] == "mle"}
    summary: dict[str, dict[str, tuple[float, float | None] | None]] = {}
    for method in dict.fromkeys(row["method"] for row in rows):
        of_method = [dict(row) for row in rows if row["method"] == method]
        for row in of_method:
            if "history" in row and method != "mle" and row["seed"] in starts:
                row["gain"] = starts[row["seed"]] - row["nll_oracle"]
        summary[method] = {"seeds": (len(of_method), None)}
        for column in list(COLUMNS)[1:]:
            values = [row[column] for row in of_method if row.get(column) is not None]
            summary[method][column] = mean_and_half_width(values) if values else None
    return summary


def _cell(column: str, value: tuple[float, float | None] | None) -> str:
    if value is None:
        return "-"
    mean, half_width = value
    form = COLUMNS[column][1]
    text = form.format(mean)
    if half_width is not None and column != "seconds":
        text += f" ±{form.replace('+', '').format(half_width)}"
    return text


def table(summary: Mapping[str, Mapping[str, Any]], markdown: bool = False) -> str:
    """The table for the terminal, or in Markdown."""
    grid = [["method", *(heading for heading, _ in COLUMNS.values())]]
    grid += [[method, *(_cell(name, figures[name]) for name in COLUMNS)] for method, figures in summary.items()]
    return markdown_table(grid) if markdown else text_table(grid)


def notes(scale: float, settings: OracleSettings, oracle: str) -> list[str]:
    """What has to be said beside the figures."""
    size = "the paper's size" if scale == 1 else f"scale {scale:g} of the paper's epochs and rounds"
    lines = [
        f"Oracle: {oracle}; {size}: {settings.mle_epochs} MLE epochs, {settings.discriminator_rounds} discriminator "
        f"rounds of {settings.discriminator_epochs} epochs, {settings.adversarial_rounds} adversarial rounds with "
        f"{settings.discriminator_rounds_each} discriminator rounds each, N = {settings.completions}.",
        PUBLISHED if scale == 1 else f"{PUBLISHED} A run at another scale is not comparable with them.",
        "NLL_oracle alone proves nothing: a lower temperature, or a reward that knows nothing, lowers it too, at the "
        "price of NLL_test and of diversity.",
        f"self-BLEU-{settings.bleu_order}: each sequence against all the others, itself not among them.",
    ]
    return [*lines, "Means over seeds, ± half of the 95 % confidence interval (Student's t); one seed has none."]
