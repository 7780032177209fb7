"""The exception that a user's mistake raises."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST = 1500
"""Characters of a message; what a file holds can be named in it, and be of any length."""


def printable(message: str) -> str:
    """A message in one line of at most about [`LONGEST`] characters, what a terminal would act on escaped."""
    shown = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in message
    )
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST // 2]} ... {shown[-LONGEST // 2 :]}"


class UserError(ValueError):
    """Bad input, told in one line that names the file, row and field and what is expected.

    Command lines print the message without a traceback and exit with status 2. It may quote what was given, so what a
    terminal would act on (line ends, escape sequences, marks that turn the direction of writing) is shown escaped.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(str(message)))


class NotAvailable(UserError):
    """Something cannot be had on this machine; the message is the reason, in one line."""


def first_line(error: Exception) -> str:
    """What another library's error says first, to be told within one line."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(": \t")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the known one that is nearest, or holds it; empty without any."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1) or [other for other in known if len(name) > 3 and name in other]
    return f"; did you mean {near[0]}?" if near else ""


class PeerEnded(UserError):
    """Another of the processes that work together has ended; it has said why."""
