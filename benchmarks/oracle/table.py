"""The benchmark as one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.oracle.curves import TEMPERATURE, beside_temperature, game_names
from benchmarks.oracle.settings import OracleSettings
from benchmarks.report.grid import markdown_table, text_table
from benchmarks.statistics.intervals import mean_and_half_width

COLUMNS = {
    "seeds": ("seeds", "{:.0f}"),
    "nll_oracle": ("NLL_oracle", "{:.3f}"),
    "nll_test": ("NLL_test", "{:.3f}"),
    "beside_temperature": ("beside temperatures", "{:+.3f}"),
    "forward_kl": ("forward KL", "{:.3f}"),
    "reverse_kl": ("reverse KL", "{:.3f}"),
    "js": ("JS", "{:.4f}"),
    "entropy": ("entropy", "{:.3f}"),
    "unique": ("unique sequences", "{:.1%}"),
    "distinct": ("distinct tokens", "{:.0f}"),
    "knows": ("judge knows", "{:.2f}"),
    "knows_at_the_end": ("at the end", "{:.2f}"),
    "seconds": ("seconds", "{:.0f}"),
}
PUBLISHED = "Published (Yu et al. 2017, full size): MLE 9.038, SeqGAN 8.736 NLL_oracle."

Summary = Mapping[str, Mapping[str, tuple[float, float | None] | None]]


def summarise(rows: Sequence[Mapping[str, Any]]) -> Summary:
    """For each method the mean of each column over seeds and half of its 95 % interval; None where there is none."""
    games = game_names(rows)
    rows = [
        row | {"beside_temperature": beside_temperature(rows, row)} if row["method"] in games else row for row in rows
    ]
    summary: dict[str, dict[str, tuple[float, float | None] | None]] = {}
    for method in dict.fromkeys(row["method"] for row in rows):
        of_method = [row for row in rows if row["method"] == method]
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
    if not float(text.rstrip("%")):
        text = text.lstrip("+-")
    if half_width is not None and column != "seconds":
        text += f" ±{form.replace('+', '').format(half_width)}"
    return text


def table(summary: Summary, markdown: bool = False) -> str:
    """The table for the terminal, or in Markdown; of the columns that some row has."""
    columns = [name for name in COLUMNS if any(figures[name] is not None for figures in summary.values())]
    grid = [["method", *(COLUMNS[name][0] for name in columns)]]
    grid += [[method, *(_cell(name, figures[name]) for name in columns)] for method, figures in summary.items()]
    return markdown_table(grid) if markdown else text_table(grid)


def notes(scale: float, settings: OracleSettings, oracle: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What has to be said beside the figures."""
    size = "the paper's size" if scale == 1 else f"scale {scale:g} of the paper's epochs and rounds"
    lines = [
        f"Oracle: {oracle}; {size}: {settings.mle_epochs} MLE epochs, {settings.discriminator_rounds} discriminator "
        f"rounds of {settings.discriminator_epochs} epochs, {settings.adversarial_rounds} adversarial rounds with "
        f"{settings.discriminator_rounds_each} discriminator rounds each, N = {settings.completions}; "
        f"{settings.ratio_steps} steps of {settings.ratio_sequences} sequences with a likelihood ratio.",
        PUBLISHED if scale == 1 else f"{PUBLISHED} A run at another scale is not comparable with them.",
    ]
    best: dict[str, list[str]] = {}
    for row in rows:
        if "epoch" in row and TEMPERATURE not in row["method"]:
            best.setdefault(row["method"], []).append(str(row["epoch"]))
    if best:
        told = "; ".join(f"{method} {', '.join(epochs)}" for method, epochs in best.items())
        lines.append(f"Best epochs by held-out sequences, counted from 0, a seed each: {told}.")
    return [
        *lines,
        "NLL_oracle alone proves nothing: a lower temperature, or a reward that knows nothing, lowers it too, at the "
        "price of NLL_test and of diversity.",
        "'beside temperatures' is a game's NLL_oracle less the lowest that a model without a game has at another "
        "temperature and no higher NLL_test, or at the nearest if none is as low: below 0 no temperature does as well.",
        "KL, JS and entropy are those of the next token, in nats; 'judge knows' is the partial correlation of its "
        "logit with the oracle's log-likelihood, given the policy's own.",
        "Means over seeds, ± half of the 95 % confidence interval (Student's t); one seed has none.",
    ]
