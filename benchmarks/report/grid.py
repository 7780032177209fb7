"""A grid of cells, the first row its heading, as a table for the terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def text_table(grid: Sequence[Sequence[str]], rules: Collection[int] = (1,)) -> str:
    """Columns aligned, the first to the left; a rule stands above each of the rows numbered in `rules`."""
    widths = [max(len(row[column]) for row in grid) for column in range(len(grid[0]))]
    lines = []
    for number, row in enumerate(grid):
        if number in rules:
            lines.append("-" * len(lines[0]))
        cells = [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells))
    return "\n".join(lines)


def markdown_table(grid: Sequence[Sequence[str]]) -> str:
    """A Markdown table, the first column to the left."""
    heading, *body = [[cell.replace("|", "\\|") for cell in row] for row in grid]
    alignment = ["---", *("---:" for _ in heading[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heading, alignment, *body))
