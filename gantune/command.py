"""How the commands of this package begin and end."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from gantune.errors import PeerEnded, UserError


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong with the command line in one line; [`exit_status`] prints it."""

    def error(self, message: str) -> NoReturn:
        """Raises it as a [`UserError`]."""
        raise UserError(f"{message} (--help lists the options)")


def exit_status(command: Callable[[], int | None], goes_on: str) -> int:
    """Run a command and say in one line what stopped it; `goes_on` is what it does if run again after an interrupt.

    The status is the command's own, 0 for None, 2 for bad input, 130 if interrupted.
    """
    try:
        return command() or 0
    except PeerEnded:
        return 1
    except UserError as error:
        if _speaks():
            print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if is_first():
            print(f"\ninterrupted; {goes_on}", file=sys.stderr)
        return 130


def is_first() -> bool:
    """Whether this process is the only one, or the first of those that were launched to work together."""
    return os.environ.get("RANK", "0") == "0"


def _speaks() -> bool:
    """Until they have joined, processes find the same wrong with the same input, and the first one tells it."""
    torch = sys.modules.get("torch")
    return is_first() or (torch is not None and torch.distributed.is_initialized())
