"""What a comparison is for, under one name: defaults of the options that suit it, and a table of its own.

A task is an entry in `TASKS`. Its settings are defaults as a preset's are: the command line wins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.before_after import before_after_grid


class Task(NamedTuple):
    """One kind of work.

    Args:
        settings: default by option name.
        title: of its table.
        table: makes the table, heading row first, from the rows of a comparison; None as long as there is nothing to
            show.
    """

    settings: Mapping[str, Any]
    title: str
    table: Callable[[Sequence[Mapping[str, Any]]], list[list[str]] | None]


TASKS: dict[str, Task] = {
    "summarise": Task(
        {
            "dataset": "mini-dialogues",
            "format": "dialogue-summary",
            "template": "summary",
            "methods": ["lead-3", "gan", "lora"],
            "train_size": 140,
            # a page of talk; those of mini-dialogues are shorter: with an answer they fit into mini's 256 positions
            "max_prompt_tokens": 512,
            "max_new_tokens": 80,
        },
        "Before and after tuning",
        before_after_grid,
    ),
}


def table_of_task(settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> tuple[str, list[list[str]]] | None:
    """Title and grid of the table of a comparison's task; None if it has no task, or nothing to show yet.

    Args:
        settings: of the comparison, as stored.
        rows: of its runs.
    """
    task = TASKS.get(settings.get("task"))
    grid = task.table(rows) if task else None
    return (task.title, grid) if grid else None
