"""What a person sees of a comparison: the tables on the terminal, and `comparison.json`, `.md`, `.png` and `.html`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.compare.run import SCHEMA
from benchmarks.compare.stored import FILE, Stored
from benchmarks.judge.table import judged_tables
from benchmarks.report import write_report
from benchmarks.report.differences import caution, differences, differences_grid, how_to_read
from benchmarks.report.forgetting_table import forgetting_grid, forgetting_tables, how_to_read_forgetting
from benchmarks.report.grid import markdown_table, text_table
from benchmarks.report.page import headline_decoding
from benchmarks.report.published import beside_published
from benchmarks.report.task_tables import table_of_task
from benchmarks.report.terminal_table import as_markdown, as_text, notes, summarise
from gantune.diagnostics import plot_comparison, write_atomically, write_json
from gantune.generation.decoding import Decoding


def store(directory: Path, stored: Stored, summary: Mapping[str, Any], found: Sequence[Mapping[str, Any]] = ()) -> None:
    """Write `comparison.json`, which everything else is made from again."""
    content = {
        "schema": SCHEMA,
        "settings": stored.settings,
        "warnings": stored.warnings,
        "rows": stored.rows,
        "summary": summary,
        "differences": found,
    }
    write_json(directory / FILE, content | ({"winners": stored.winners} if stored.winners else {}))


def present(directory: Path, stored: Stored) -> None:
    """Write the files of a comparison whose runs are in `directory`, and print its tables."""
    settings, rows = stored.settings, stored.rows
    summary, found = summarise(rows), differences(directory, rows)
    store(directory, stored, summary, found)
    header = heading(settings)
    said = [*stored.warnings, *caution(settings["data"]["test_size"]), *notes(rows), *how_to_read(found)]
    said += how_to_read_forgetting(rows)
    tables = [(as_text(summary), as_markdown(summary))]
    if of_task := table_of_task(settings, rows):
        title, grid = of_task
        tables.append((f"{title}\n{text_table(grid)}", f"## {title}\n\n{markdown_table(grid)}"))
    for table in forgetting_tables(rows):
        title, bold = f"Forgetting: {table.title}", forgetting_grid(table, best="**{}**")
        tables.append((f"{title}\n{text_table(forgetting_grid(table))}", f"## {title}\n\n{markdown_table(bold)}"))
    if found:
        grid = differences_grid(found)
        tables.append((text_table(grid), markdown_table(grid)))
    tables += judged_tables(directory)
    if settings.get("preset") == "source":
        tables.append(tuple(beside_published(summary, header, write) for write in (text_table, markdown_table)))
    text, markdown = zip(*tables, strict=True)
    write_atomically(directory / "comparison.md", "\n\n".join([header, *markdown, *said]) + "\n")
    drawn = [_plotted(method, figures) for method, figures in summary.items() if figures["seeds"]]
    if drawn:
        plot_comparison(drawn, directory / "comparison.png")
    page = write_report(directory, found)
    print("", *(f"{table}\n" for table in text), *said, f"results: {directory}", f"page: {page}", sep="\n")


def heading(settings: Mapping[str, Any]) -> str:
    """Model, data, device and decoding in one line."""
    data, decoding = settings["data"], headline_decoding(settings)
    told = "" if decoding == Decoding() else f" | {decoding}"
    return (
        f"model {settings['model']} | data {data['dataset']} ({data['train_size']} to train, {data['test_size']} to "
        f"test) | device {settings['device']} | dtype {settings['dtype']}{told}"
    )


def _plotted(method: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "method": method,
        "rougeL": figures["rougeL"]["mean"],
        "half_width": figures["rougeL"]["half_width"],
        "train_seconds": figures["train_seconds"]["mean"],
        "peak_memory_bytes": figures["peak_memory_bytes"]["mean"],
    }
