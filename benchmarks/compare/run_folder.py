"""Where a run of a stored comparison lies: what a file names is looked for inside the comparison and nowhere else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gantune.errors import UserError


def run_folder(directory: Path, name: Any) -> Path:
    """The folder of a run that `comparison.json` names.

    Args:
        directory: of the comparison.
        name: relative to it.

    Raises:
        UserError: if it is no relative path, or leads out of the comparison, be it by a symbolic link.
    """
    try:
        folder = directory / name
        whole, root = folder.resolve(), directory.resolve()
        inside = whole != root and whole.is_relative_to(root) and not Path(name).is_absolute()
    except (OSError, RuntimeError, TypeError, ValueError):  # no path at all, or links in a circle
        inside = False
    if not inside:
        raise UserError(f"{directory}: the run {name!r:.80} is not inside the comparison's directory")
    return folder


def folder_of(directory: Path, row: Mapping[str, Any]) -> Path:
    """[`run_folder`] of a row of `comparison.json`, whose `directory` is optional."""
    return run_folder(directory, row.get("directory", f"runs/{row['method']}-seed{row['seed']}"))


def copy_run(source: Path, destination: Path) -> None:
    """Copy a run's files. Symbolic links are left out: they may lead to files that are none of the run's."""

    def links(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if os.path.islink(os.path.join(folder, name))]

    shutil.copytree(source, destination, ignore=links)
