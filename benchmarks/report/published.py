"""The source study's published table, beside the same rows of a comparison."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

NO_VALUE = "-"
SETTING = "GPT-2 124M | data TOFU (50 to train, 50 to test) | device Colab GPU"
TITLE = "The source study's published table beside this one"
HOW_TO_READ = "Figures compare only where model and data are the same; memory here is the peak above the loaded model."


class Figures(NamedTuple):
    """A row of the table; None where there is no value.

    Args:
        rouge1: ROUGE-1.
        rouge2: ROUGE-2.
        rougeL: ROUGE-L.
        rougeLsum: ROUGE-Lsum.
        bleurt: BLEURT.
        minutes: of training.
        gigabytes: of memory, 10^9 bytes.
    """

    rouge1: float | None = None
    rouge2: float | None = None
    rougeL: float | None = None
    rougeLsum: float | None = None
    bleurt: float | None = None
    minutes: float | None = None
    gigabytes: float | None = None


class Published(NamedTuple):
    """One method of the study.

    Args:
        name: in the study.
        method: its name here.
        figures: as published.
    """

    name: str
    method: str
    figures: Figures


# SOURCE_STUDY section 5
BASE = Published("base GPT-2", "base", Figures(0.066, 0.020, 0.062, 0.061, -0.936))
GAN = Published("GAN tuning", "gan-source", Figures(0.109, 0.036, 0.099, 0.101, -0.611, 91, 12.3))
LORA = Published("LoRA", "lora-attention", Figures(0.127, 0.027, 0.111, 0.112, -0.536, 2, 1.1))

HEADING = ("method", "ROUGE-1", "ROUGE-2", "ROUGE-L", "ROUGE-Lsum", "BLEURT", "time, min", "memory, GB")


def measured(figures: Mapping[str, Any] | None) -> Figures:
    """A row of [`benchmarks.report.terminal_table.summarise`] in the study's columns and units; empty if not run."""

    def mean(name: str) -> float | None:
        return ((figures or {}).get(name) or {}).get("mean")

    seconds, size = mean("train_seconds"), mean("peak_memory_bytes")
    return Figures(
        *map(mean, ("rouge1", "rouge2", "rougeL", "rougeLsum", "bleurt")),
        minutes=None if seconds is None else seconds / 60,
        gigabytes=None if size is None else size / 1e9,
    )


def _cells(figures: Figures) -> list[str]:
    scores = [NO_VALUE if value is None else f"{value:.3f}" for value in figures[:5]]
    return scores + [NO_VALUE if value is None else f"{value:.3g}" for value in figures[5:]]


def _ratios(gan: Figures, lora: Figures) -> list[str]:
    """Time and memory only: a ratio of BLEURT's, which are below zero, would say nothing."""
    pairs = zip(gan[5:], lora[5:], strict=True)
    return [NO_VALUE] * 5 + [NO_VALUE if a is None or not b else f"{a / b:.1f} x" for a, b in pairs]


def published_grid(summary: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Heading and rows: the study's table, and the same rows of what `summarise` gives of a comparison."""
    ours = {row.method: measured(summary.get(row.method)) for row in (BASE, GAN, LORA)}
    grid = [list(HEADING)]
    for row in (BASE, GAN, LORA):
        grid.append([f"{row.name} (published)", *_cells(row.figures)])
        grid.append([f"{row.method} (here)", *_cells(ours[row.method])])
    grid.append([f"{GAN.name} / {LORA.name} (published)", *_ratios(GAN.figures, LORA.figures)])
    grid.append([f"{GAN.method} / {LORA.method} (here)", *_ratios(ours[GAN.method], ours[LORA.method])])
    return grid


def beside_published(
    summary: Mapping[str, Mapping[str, Any]], here: str, table: Callable[[list[list[str]]], str]
) -> str:
    """[`published_grid`] under a heading that names model and data of each.

    Args:
        summary: what [`benchmarks.report.terminal_table.summarise`] gives.
        here: model, data and device of the comparison.
        table: writes a grid of cells, see `benchmarks.report.grid`.
    """
    sides = f"- published: model {SETTING}\n- here: {here}"
    return "\n\n".join([f"{TITLE}:", sides, table(published_grid(summary)), HOW_TO_READ])
