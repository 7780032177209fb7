"""`gantune compare`: the comparison of `benchmarks.compare`."""

from __future__ import annotations

from collections.abc import Sequence

from gantune.errors import UserError


def run(arguments: Sequence[str]) -> int:
    """Hand the command line to the comparison, if it is installed."""
    try:
        from benchmarks.compare import __main__ as compare
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("benchmarks", "baselines"):
            raise
        raise UserError("gantune compare: the packages benchmarks and baselines of gantune are not installed") from None
    return compare.main(arguments)
