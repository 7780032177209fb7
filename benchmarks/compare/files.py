"""JSON that a comparison left on disk, read back: what is not there is None or empty; and where results may go."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from gantune.errors import UserError


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file, None if there is no such file.

    Raises:
        UserError: if the file cannot be read or holds no JSON object.
    """
    text = _read_text(path)
    try:
        content = None if text is None else json.loads(text)
    except ValueError as error:
        raise UserError(f"{path}: is no JSON ({error})") from error
    if text is not None and not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object")
    return content


def check_writable(file: Path) -> None:
    """Refuse a file that could not be written, before the work begins that it is to hold; missing folders are made."""
    if file.is_dir():
        raise UserError(f"{file}: is a folder, expected a file to write")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=file.parent):
            pass
    except OSError as error:
        raise UserError(f"{file.parent}: expected a folder that can be written to ({error.strerror})") from error


def read_rows(path: Path, torn: bool = True) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file; [] if there is no file.

    Args:
        path: of the file.
        torn: whether the file may end in a torn line, as a killed run leaves it, which is left out.

    Raises:
        UserError: naming the line that is no JSON object.
    """
    # not splitlines: JSON may hold U+2028 and its like, which that takes for ends of lines
    *lines, last = (_read_text(path) or "").split("\n")
    rows = []
    for number, line in enumerate(lines if torn or not last else [*lines, last], start=1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {number}: expected a JSON object")
        rows.append(row)
    return rows


def _read_text(path: Path) -> str | None:
    try:
        return path.read_bytes().decode("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is no UTF-8 text (byte {error.start})") from error
