"""`gantune run`: another program, such as an evaluation harness or a script, that loads adapters through peft."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from gantune.command import OneLineParser
from gantune.errors import UserError


def run(arguments: Sequence[str]) -> None:
    """Run the program as Python would, to its own exit status; a [`UserError`] if there is no such program."""
    parser = OneLineParser(
        prog="gantune run",
        usage="gantune run MODULE_OR_SCRIPT [ARGUMENTS ...]",
        description="Run a Python program that knows peft and not gantune: the method EMBEDDING_GENERATOR is known to "
        "it. torch and transformers are imported before it begins, so set their environment variables outside.",
    )
    parser.add_argument("program", metavar="MODULE_OR_SCRIPT", help="such as lm_eval or my_script.py")
    parser.add_argument("arguments", metavar="ARGUMENTS", nargs="*", help="its own, handed on as they are")
    program = parser.parse_args(arguments[:1]).program
    is_script = os.path.isfile(program)
    sys.path.insert(0, os.path.dirname(os.path.abspath(program)) if is_script else os.getcwd())
    package = program.partition(".")[0]
    if not is_script and not (package.isidentifier() and find_spec(package)):
        raise UserError(f"{program}: no such script, and no module of that name")

    import gantune.embedding_generator  # noqa: F401 registers the method with peft

    sys.argv = [program, *arguments[1:]]
    if is_script:
        runpy.run_path(program, run_name="__main__")
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)
