"""How the commands of this package begin and end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from gantune.errors import UserError


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong with the command line in one line; [`exit_status`] prints it."""

    def error(self, message: str) -> NoReturn:
        """See `argparse.ArgumentParser.error`.

        Raises:
            UserError: always.
        """
        raise UserError(f"{message} (--help lists the options)")


def exit_status(command: Callable[[], int | None], goes_on: str) -> int:
    """Run a command and say in one line what stopped it.

    Args:
        command: gives its own status, None for 0.
        goes_on: what the same command does after an interrupt.

    Returns:
        The status: the command's own, 2 for bad input, 130 if interrupted.
    """
    try:
        return command() or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\ninterrupted; {goes_on}", file=sys.stderr)
        return 130
