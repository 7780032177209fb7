"""Paths as users give them; result files, written so that a reader never sees half of one, and read back."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from gantune.errors import UserError, first_line

LOCK = ".lock"


def local_path(name: str | Path) -> Path:
    """The path that a user has given.

    Raises:
        UserError: if it is not there and has what only a shell replaces, or looks like a path of another system.
    """
    if not os.path.exists(name):
        if re.match(r"~\w*(/|$)|.*(\$\{?\w|%\w+%)", str(name), re.DOTALL):
            raise UserError(
                f"{name}: no such path; ~ and variables such as $HOME are not replaced here, expected it whole"
            )
        if os.name != "nt" and re.match(r"[A-Za-z]:[/\\]|.*\\", str(name), re.DOTALL):
            raise UserError(f"{name}: no such path; it looks like one of Windows, expected one of this system")
    return Path(name)


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path` to write under; it takes the place of `path` if the block ends without an error.

    Missing parent folders are made; a [`UserError`] if the file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error
        raise


@contextmanager
def umask_followed(folder: str | Path) -> Iterator[None]:
    """Give the safetensors files that are written below `folder` in the block the mode that any new file has there.

    Their library writes a temporary file, for its owner alone, which takes their place.
    """

    def there() -> set[tuple[Path, int]]:
        return {(file, file.lstat().st_ino) for file in Path(folder).rglob("*.safetensors")}

    before = there()
    yield
    for file, _ in there() - before:
        new = file.with_name(f".{file.name}.{os.getpid()}.tmp")
        new.touch()
        shutil.copymode(new, file)
        new.unlink()


@contextmanager
def locked(directory: str | Path) -> Iterator[None]:
    """Keep other processes from writing to a directory for the block; a process that dies lets go of it.

    Raises:
        UserError: if another process has it, or it cannot be written to.
    """
    lock = FileLock(Path(directory) / LOCK)
    try:
        Path(directory).mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout as error:
        raise UserError(f"{directory}: another process is writing there; wait for it, or take another one") from error
    except OSError as error:
        raise UserError(f"{directory}: cannot be written ({error.strerror or error})") from error
    try:
        yield
    finally:
        lock.release()


def write_atomically(path: str | Path, data: str | bytes) -> None:
    """Write a whole file, text as UTF-8, or leave what was there and raise a [`UserError`]."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)
        file.flush()
        os.fsync(file.fileno())


def absolute_path(name: str) -> str:
    """A name that means the same from other directories: the absolute path of a file or folder, others as they are."""
    return os.path.abspath(name) if os.path.exists(name) else name


def read_object(file: Path, what: str = "") -> dict[str, Any]:
    """The JSON object in a file; a [`UserError`] if it holds another thing, then not `what` it was taken for."""
    wrong = f": not {what}" if what else ""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file}: not valid JSON ({first_line(error)}){wrong}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file}: is a JSON {type(content).__name__}, expected an object{wrong}")
    return content


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, keys in their order.

    Raises:
        ValueError: naming the field, if a number is NaN or infinite: JSON has no such numbers.
        UserError: if the file cannot be written.
    """
    _refuse_non_finite(path, value)
    write_atomically(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


class JsonLines(AbstractContextManager["JsonLines"]):
    """A file of one JSON object a line, complete up to the last row at every moment.

    `append` goes on after what is there, without the torn last line that a killed run may leave; else it starts anew. A
    [`UserError`] if the file cannot be written.
    """

    def __init__(self, path: str | Path, append: bool = False) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if append and self.path.exists():
                os.truncate(self.path, self.path.read_bytes().rfind(b"\n") + 1)
            self._file = open(self.path, "a" if append else "w", encoding="utf-8", newline="\n")  # noqa: SIM115
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror})") from error

    def write(self, row: Mapping[str, Any]) -> None:
        """Add one row and flush it; a ValueError that names the field if a number is NaN or infinite."""
        _refuse_non_finite(self.path, row)
        self._file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def __exit__(self, *_: object) -> None:
        self.close()


def _refuse_non_finite(path: str | Path, value: Any, field: str = "") -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{path}: {field or 'value'} is {value}, expected a finite number")
    if isinstance(value, Mapping):
        for key, item in value.items():
            _refuse_non_finite(path, item, f"{field}.{key}" if field else str(key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _refuse_non_finite(path, item, f"{field}[{index}]")
