"""What a comparison is for, under one name: defaults of the options that suit it.

A task is an entry in `TASKS`. Its settings are defaults as a preset's are: the command line wins. A table of its own is
an entry of `benchmarks.report.task_tables`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TASKS: dict[str, Mapping[str, Any]] = {
    "summarise": {
        "dataset": "mini-dialogues",
        "format": "dialogue-summary",
        "template": "summary",
        "methods": ["lead-3", "gan", "lora"],
        "train_size": 140,
        # a page of talk; those of mini-dialogues are shorter: with an answer they fit into mini's 256 positions
        "max_prompt_length": 512,
        "max_completion_length": 80,
    },
}
