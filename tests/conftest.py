"""What is printed after the tests: how many cases of bad input were tried."""

from __future__ import annotations

import sys


def pytest_terminal_summary(terminalreporter) -> None:
    """Print the counts of `tests.hostile`, if any test has used it."""
    tried = getattr(sys.modules.get("tests.hostile"), "TRIED", None)
    if tried:
        terminalreporter.section("bad input")
        for given_to, count in sorted(tried.items()):
            terminalreporter.write_line(f"{count:>6} {given_to}")
        terminalreporter.write_line(f"{sum(tried.values()):>6} cases tried")
