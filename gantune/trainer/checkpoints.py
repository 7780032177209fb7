"""Checkpoints of a training run: whole or not there, checked when they are read, the last few kept."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any, BinaryIO

import torch

from gantune.diagnostics.files import replacing, write_json
from gantune.errors import UserError

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"


class _Hashing:
    """Takes a file's bytes on their way to it, so that a large state is never in memory twice."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.checksum = file, hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        self.checksum.update(data)
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


class Checkpoints:
    """A directory of checkpoints. Only files with the checksum that the manifest names are ever loaded.

    A checkpoint is written beside the others, then entered in the manifest, and only then do older ones go. So at every
    moment the directory holds a whole one, once there was one.

    Args:
        directory: of the checkpoints of one run, and of nothing else.
        every: steps from one to the next.
        keep: how many are kept.
    """

    def __init__(self, directory: str | Path, every: int = 50, keep: int = 2) -> None:
        if every < 1 or keep < 1:
            raise UserError(f"checkpoints every {every} steps, {keep} kept: expected at least 1 of each")
        self.directory, self.every, self.keep = Path(directory), every, keep

    def due(self, step: int) -> bool:
        """Whether one is to be written after this step, counted from 1."""
        return step % self.every == 0

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Keep a state of tensors, numbers, text, and lists and dictionaries of such.

        Raises:
            UserError: if it cannot be written; those that are there stay as they are.
        """
        name = f"step-{step:08d}.pt"
        with replacing(self.directory / name) as temporary, open(temporary, "wb") as file:
            hashing = _Hashing(file)
            try:
                torch.save(state, hashing)
            except RuntimeError as error:  # torch says so whatever the file's error is
                raise hashing.error or error from None
            os.fsync(file.fileno())
        known = self._manifest() | {name: hashing.checksum.hexdigest()}
        kept = dict(sorted(known.items())[-self.keep :])
        write_json(self.directory / MANIFEST, kept)
        for file in self.directory.glob("step-*.pt"):
            if file.name not in kept:
                file.unlink(missing_ok=True)

    def latest(self) -> dict[str, Any] | None:
        """The newest state that is whole; None if there is none. What is damaged is named in a warning and passed over.

        What is loaded are tensors and plain values (`weights_only`): a file cannot make anything run.
        """
        for name, checksum in sorted(self._manifest().items(), reverse=True):
            file = self.directory / name
            try:
                content = file.read_bytes()
            except OSError as error:
                logger.warning("%s: passed over, cannot be read (%s)", file, error.strerror)
                continue
            if hashlib.sha256(content).hexdigest() != checksum:
                logger.warning("%s: passed over, it is damaged: its checksum is not that of the manifest", file)
                continue
            return torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
        return None

    def clear(self) -> None:
        """Remove all of them, when the run has ended and its results are stored."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _manifest(self) -> dict[str, str]:
        file = self.directory / MANIFEST
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            if all(re.fullmatch(r"step-\d+\.pt", name) and isinstance(sum_, str) for name, sum_ in content.items()):
                return content
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError):
            pass
        logger.warning("%s: passed over, it is no manifest of checkpoints", file)
        return {}
