"""How the commands of this package end."""

from __future__ import annotations

import sys
from collections.abc import Callable

from gantune.errors import UserError


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
