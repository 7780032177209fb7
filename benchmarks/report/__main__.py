"""`python -m benchmarks.report DIRECTORY` writes the page of a stored comparison."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from gantune.command import OneLineParser, exit_status


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page of the comparison on the command line and name the file; returns the exit status."""
    parser = OneLineParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("directory", type=Path, help="what a comparison wrote under --output")

    def command() -> None:
        directory = parser.parse_args(arguments).directory
        from benchmarks.report import write_report

        print(f"report: {write_report(directory)}")

    return exit_status(command, "nothing was written")


if __name__ == "__main__":
    sys.exit(main())
