"""The console command `gantune`: one subcommand a file, imported when it is called, so that `--help` is quick."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from gantune.errors import UserError
from gantune.version import __version__

COMMANDS: dict[str, tuple[str, str]] = {
    "train": ("gantune.cli.train", "tune a frozen language model on questions and answers"),
    "generate": ("gantune.cli.generate", "answer a question, a file of them, or one after the other"),
    "evaluate": ("gantune.cli.evaluate", "score the answers of what was tuned"),
    "compare": ("gantune.cli.compare", "tune by several methods and compare them in one table"),
    "plot": ("gantune.cli.plot", "draw the plots of a run again from its files"),
    "merge": ("gantune.cli.merge", "write adapter and noise into a plain Hugging Face folder"),
    "data": ("gantune.cli.data", "look at data before it is learned, and clean it"),
    "env": ("gantune.cli.env", "print versions and devices, to paste into a report"),
}
"""Module and summary of each subcommand; the module's `main(arguments)` returns the exit status."""


def usage() -> str:
    """What `gantune --help` prints."""
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:<{width}}  {summary}" for name, (_, summary) in COMMANDS.items())
    return (
        f"usage: gantune COMMAND [options]\n\ngantune {__version__}: GAN-based prompt tuning of frozen language models."
        f"\n\n{listed}\n\ngantune COMMAND --help lists the options of a command."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand.

    Args:
        arguments: the command line after `gantune`; None takes the process's own.

    Returns:
        Exit status: 0, 1 for a run that failed, 2 for bad input, told in one line, 130 if interrupted.
    """
    name, *rest = [*(sys.argv[1:] if arguments is None else arguments)] or ["--help"]
    if name in ("-h", "--help"):
        print(usage())
        return 0
    if name == "--version":
        print(f"gantune {__version__}")
        return 0
    if name not in COMMANDS:
        print(f"error: unknown command {name!r}: expected one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        command: Callable[[Sequence[str]], int] = import_module(COMMANDS[name][0]).main
        return command(rest)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # before the command itself could take it
        return 130
    except BrokenPipeError:  # the reader of the output has seen enough
        sys.stderr.close()
        return 0
