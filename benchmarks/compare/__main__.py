"""Tune one model by several methods and compare them in one table: `python -m benchmarks.compare --methods gan lora`.

The command line is read before anything is imported that takes seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks.compare.arguments import parse
from gantune.command import exit_status, is_first


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status: 0, 1 if a run failed, 2 for bad input, 130 if interrupted."""

    def command() -> int | None:
        if not is_first():
            return 0  # the first of the launched processes launches as many for each run
        settings = parse(arguments)
        import transformers

        from benchmarks.compare.comparison import compare, list_components, rebuild

        transformers.utils.logging.set_verbosity_error()
        if settings.comparison.list_components:
            return list_components()
        return rebuild(settings) if settings.comparison.from_directories else compare(settings)

    return exit_status(command, "the same command with the same --output goes on from here")


if __name__ == "__main__":
    sys.exit(main())
