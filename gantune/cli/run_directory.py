"""The directory of a training run: who may write there, and whether there is something to go on with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gantune.diagnostics.files import LOCK, locked
from gantune.errors import UserError

RUN_FILE, TRAINING_FILE = "run.yaml", "training.json"


@contextmanager
def claimed(directory: Path, resume: bool) -> Iterator[None]:
    """Let nobody else train into `directory` in the block; a directory that is still empty after it is removed.

    The directory is made if it is not there; `resume` is whether a run in it is to be gone on with.

    Raises:
        UserError: if another process trains there, or something is there that would be overwritten.
    """
    made = not directory.exists()
    try:
        with locked(directory):
            _check(directory, resume)
            yield
    finally:
        if made and directory.is_dir() and _contents(directory) <= {LOCK}:
            with suppress(OSError):
                (directory / LOCK).unlink(missing_ok=True)
                directory.rmdir()


def ended(directory: Path) -> bool:
    """Whether there is a run that came to its end."""
    return (directory / RUN_FILE).is_file() and (directory / TRAINING_FILE).is_file()


def has_checkpoint(directory: Path) -> bool:
    """Whether there is something to go on from; a run that broke off before is no loss, another takes its place."""
    return any(directory.glob("checkpoint-*"))


def _contents(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def _check(directory: Path, resume: bool) -> None:
    if not _contents(directory) - {LOCK}:
        return
    if not (directory / RUN_FILE).is_file():
        raise UserError(f"{directory}: holds other files, expected a new directory as --output-dir")
    if not resume and ended(directory):
        raise UserError(f"{directory}: holds a run that has ended, expected a new directory as --output-dir")
    if not resume and has_checkpoint(directory):
        raise UserError(f"{directory}: holds a run that has not ended: --resume-from-checkpoint goes on with it")
