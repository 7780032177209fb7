"""What a person sees of a comparison: the tables on the terminal, and `comparison.json`, `.md`, `.png` and `.html`."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.compare.run import SCHEMA
from benchmarks.compare.stored import FILE, Stored
from benchmarks.judge.table import judged_tables
from benchmarks.report import write_report
from benchmarks.report.differences import differences, differences_grid
from benchmarks.report.forgetting_table import forgetting_grid, forgetting_tables
from benchmarks.report.grid import markdown_table, text_table
from benchmarks.report.notes import TITLES, Notes, notes
from benchmarks.report.page import headline_decoding
from benchmarks.report.pictures import draw_comparison
from benchmarks.report.published import beside_published
from benchmarks.report.task_tables import table_of_task
from benchmarks.report.terminal_table import as_markdown, as_text, summarise
from benchmarks.report.verdict import verdict
from gantune.diagnostics import write_atomically, write_json
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


def present(directory: Path, stored: Stored, wide: bool = False) -> None:
    """Write the files of a comparison whose runs are in `directory`, and print who is ahead and its tables.

    What is printed fits 80 columns, and stands whole in the files; `wide` prints all of it.
    """
    settings, rows = stored.settings, stored.rows
    summary, found = summarise(rows), differences(directory, rows)
    store(directory, stored, summary, found)
    header, verdicts = heading(settings), verdict(found)
    said = notes(rows, stored.warnings, found, settings["data"]["test_size"])
    shown = [as_text(summary, wide, styled=sys.stdout.isatty() and "NO_COLOR" not in os.environ)]
    written = [as_markdown(summary)]
    if of_task := table_of_task(settings, rows):
        title, grid = of_task
        shown.append(f"{title}\n{text_table(grid)}")
        written.append(f"## {title}\n\n{markdown_table(grid)}")
    for table in forgetting_tables(rows):
        title, bold = f"Forgetting: {table.title}", forgetting_grid(table, best="**{}**")
        shown.append(f"{title}\n{text_table(forgetting_grid(table))}")
        written.append(f"## {title}\n\n{markdown_table(bold)}")
    if found:
        grid = differences_grid(found)
        shown += [text_table(grid)] * wide
        written.append(markdown_table(grid))
    for text, markdown in judged_tables(directory):
        shown.append(text)
        written.append(markdown)
    if settings.get("preset") == "source":
        shown.append(beside_published(summary, header, text_table))
        written.append(beside_published(summary, header, markdown_table))
    listed = [f"## {title}\n\n" + "\n".join(f"- {line}" for line in lines) for title, lines in _titled(said)]
    write_atomically(directory / "comparison.md", "\n\n".join([header, *verdicts, *written, *listed]) + "\n")
    if any(figures["seeds"] for figures in summary.values()):
        draw_comparison(summary, directory / "comparison.png")
    page = write_report(directory, found)
    print("", *_wrapped(verdicts), "", *(f"{table}\n" for table in shown), sep="\n")
    for title, lines in _titled(said if wide else said._replace(settings=[], reading=[])):
        print(f"{title}:", *_wrapped(f"- {line}" for line in lines), "", sep="\n")
    print(f"results: {directory}", f"page: {page}", sep="\n")
    if not wide:
        print("every column, test and note: comparison.md there, or --wide")


def _titled(said: Notes) -> list[tuple[str, list[str]]]:
    return [(title, lines) for title, lines in zip(TITLES, said, strict=True) if lines]


def _wrapped(lines: Iterable[str]) -> list[str]:
    """Broken between words where a terminal would break them anywhere."""
    if not sys.stdout.isatty():
        return [*lines]
    width = min(shutil.get_terminal_size().columns, 100)
    return [textwrap.fill(line, width, subsequent_indent="  ", break_on_hyphens=False) for line in lines]


def heading(settings: Mapping[str, Any]) -> str:
    """Model, data, device and decoding in one line."""
    data, decoding = settings["data"], headline_decoding(settings)
    told = "" if decoding == Decoding() else f" | {decoding}"
    return (
        f"model {settings['model']} | data {data['dataset']} ({data['train_size']} to train, {data['test_size']} to "
        f"test) | device {settings['device']} | dtype {settings['dtype']}{told}"
    )
