"""A grid of cells, the first row its heading, as a table for the terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence


def thousandths(value: float) -> str:
    """A number below 1 without its zero: .123."""
    return f"{value:.3f}".removeprefix("0")


def text_table(
    grid: Sequence[Sequence[str]],
    rules: Collection[int] = (1,),
    paint: Callable[[int, int, str], str] | None = None,
) -> str:
    """Columns aligned, the first to the left.

    Args:
        grid: of cells.
        rules: numbers of rows above which a rule stands.
        paint: of row, column and the cell as wide as its column, what is printed.
    """
    widths = [max(len(row[column]) for row in grid) for column in range(len(grid[0]))]
    lines = []
    for number, row in enumerate(grid):
        if number in rules:
            lines.append("-" * (sum(widths) + 2 * len(widths) - 2))
        cells = [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(paint(number, column, cell) if paint else cell for column, cell in enumerate(cells)))
    return "\n".join(lines)


def markdown_table(grid: Sequence[Sequence[str]]) -> str:
    """A Markdown table, the first column to the left."""
    heading, *body = [[cell.replace("|", "\\|") for cell in row] for row in grid]
    alignment = ["---", *("---:" for _ in heading[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heading, alignment, *body))
