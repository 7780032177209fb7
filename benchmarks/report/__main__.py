"""`python -m benchmarks.report DIRECTORY` writes the page of a stored comparison."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gantune.command import exit_status


def main() -> None:
    """Write the page of the comparison on the command line and name the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("directory", type=Path, help="what a comparison wrote under --output")
    directory = parser.parse_args().directory
    from benchmarks.report import write_report

    print(f"report: {write_report(directory)}")


if __name__ == "__main__":
    sys.exit(exit_status(main, "nothing was written"))
