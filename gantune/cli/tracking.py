"""Experiment trackers by name, through accelerate."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import LoggerType, ProjectConfiguration

from gantune.errors import UserError, first_line


def installed_trackers() -> list[str]:
    """Names of the trackers that can be used here, those registered with accelerate by somebody else included."""
    of_others = set(LOGGER_TYPE_TO_CLASS) - {kind.value for kind in LoggerType}
    return sorted({kind.value for kind in get_available_trackers()} | of_others)


def choose_tracker(name: str) -> str | None:
    """The tracker that `--track` names, None for none; `auto` is TensorBoard where it is installed.

    Raises:
        UserError: if it is not known or not installed.
    """
    if name == "none" or (name == "auto" and "tensorboard" not in installed_trackers()):
        return None
    name = "tensorboard" if name == "auto" else name
    if name not in installed_trackers():
        known = sorted(map(str, LOGGER_TYPE_TO_CLASS))
        if name in known:
            raise UserError(f"--track {name}: its package is not installed here")
        raise UserError(f"--track {name}: expected none, auto, or one of {', '.join(known)}")
    return name


class Tracker:
    """Sends the numbers of each history row to an experiment tracker, at the row's step.

    Args:
        name: of the tracker.
        directory: of the run; trackers that write files do so in its `logs/`.
        settings: of the run.

    Raises:
        UserError: if the tracker does not start.
    """

    def __init__(self, name: str, directory: Path, settings: Mapping[str, Any]) -> None:
        folders = ProjectConfiguration(project_dir=str(directory), logging_dir=str(directory / "logs"))
        self._accelerator = Accelerator(cpu=True, log_with=name, project_config=folders)  # it moves nothing
        plain = {key: value if isinstance(value, bool | int | float) else str(value) for key, value in settings.items()}
        try:
            self._accelerator.init_trackers("gantune", config=plain)
        except Exception as error:  # whatever the tracker's package raises
            raise UserError(f"--track {name}: cannot be started: {first_line(error)}") from error

    def log(self, row: Mapping[str, Any]) -> None:
        """Send the numbers of one row, all but its step, which says when."""
        figures = {
            name: value
            for name, value in row.items()
            if name != "step" and isinstance(value, numbers.Real) and not isinstance(value, bool)
        }
        self._accelerator.log(figures, step=row["step"])

    def close(self) -> None:
        """Let the tracker write what it still holds."""
        self._accelerator.end_training()
