"""The console command `gantune`: one subcommand a file, imported when it is called, so that `--help` is quick."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from gantune.command import exit_status
from gantune.errors import did_you_mean
from gantune.version import __version__

COMMANDS: dict[str, tuple[str, str]] = {
    "train": (
        "tune a frozen language model on questions and answers",
        "the same command with --resume-from-checkpoint goes on from here",
    ),
    "generate": ("answer a question, a file of them, or one after the other", "no more answers"),
    "evaluate": ("score the answers of what was tuned", "nothing was written"),
    "compare": ("tune by several methods and compare them in one table", "nothing was written"),
    "plot": ("draw the plots of a run again from its files", "the same command draws them all"),
    "merge": ("write adapter and noise into a plain Hugging Face folder", "the folder is not whole, remove it"),
    "run": ("start another program that loads adapters through peft", "what the program did stays"),
    "data": ("look at data before it is learned, and clean it", "nothing was written"),
    "env": ("print versions and devices, to paste into a report", "nothing was written"),
}
"""Of each subcommand, the `run(arguments)` of its module, a summary, and what is said after an interrupt."""


def usage() -> str:
    """What `gantune --help` prints."""
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:<{width}}  {summary}" for name, (summary, _) in COMMANDS.items())
    return (
        f"usage: gantune COMMAND [options]\n\ngantune {__version__}: GAN-based prompt tuning of frozen language models."
        f"\n\n{listed}\n\ngantune COMMAND --help lists the options of a command."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line after `gantune`, None for the process's own.

    The process's own also finds modules in the folder that it is started in, as `python -m gantune` does.

    Returns:
        Exit status: 0, 1 for a run that failed, 2 for bad input, told in one line, 130 if interrupted.
    """
    if arguments is None:
        sys.path.append(os.getcwd())
    name, *rest = [*(sys.argv[1:] if arguments is None else arguments)] or ["--help"]
    if name in ("-h", "--help"):
        print(usage())
        return 0
    if name == "--version":
        print(f"gantune {__version__}")
        return 0
    if name not in COMMANDS:
        near = did_you_mean(name, COMMANDS)
        print(f"error: unknown command {name!r}: expected one of {', '.join(COMMANDS)}{near}", file=sys.stderr)
        return 2
    try:
        return exit_status(lambda: import_module(f"gantune.cli.{name}").run(rest), goes_on=COMMANDS[name][1])
    except BrokenPipeError:  # the reader of the output has seen enough
        sys.stderr.close()
        return 0
