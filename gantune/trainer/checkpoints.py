"""Whole checkpoints of transformers' trainer: with the checksums of their files, written last and checked first."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import Any

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from gantune.diagnostics.files import write_json
from gantune.errors import UserError

logger = logging.getLogger(__name__)

MANIFEST = "complete.json"


def folders_of(output_dir: str | Path) -> list[Path]:
    """The checkpoints in a folder, the newest first."""
    found = Path(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*")
    numbered = [folder for folder in found if folder.name.rpartition("-")[2].isdigit()]
    return sorted(numbered, key=lambda folder: -int(folder.name.rpartition("-")[2]))


def make_room(folder: str | Path) -> None:
    """Remove what stands in a checkpoint's place, and what killed runs left half written: it would count as kept."""
    for other in folders_of(Path(folder).parent):
        if other == Path(folder) or _manifest(other) is None:
            shutil.rmtree(other, ignore_errors=True)


def mark_whole(folder: str | Path, training: str) -> None:
    """Write what says that a checkpoint is whole, and of which training it is.

    Args:
        folder: of the checkpoint.
        training: fingerprint of its settings and data.
    """
    write_json(Path(folder) / MANIFEST, {"training": training, "files": _checksums(Path(folder))})


def last_whole_checkpoint(output_dir: str | Path) -> Path | None:
    """The newest checkpoint that is whole, None if there is none; what is damaged is named in a warning and left.

    Unlike `transformers.trainer_utils.get_last_checkpoint` it never gives one that a killed run has left half written.
    """
    for folder in folders_of(output_dir):
        if (wrong := _wrong_with(folder)) is None:
            return folder
        logger.warning("%s: passed over, it is %s", folder, wrong)
    return None


def check_checkpoint(folder: Path, training: str) -> None:
    """Refuse to go on from what is not whole, or of another training.

    Raises:
        UserError: naming the folder.
    """
    if wrong := _wrong_with(folder):
        raise UserError(f"{folder}: {wrong}, expected a whole checkpoint")
    if _manifest(folder)["training"] != training:
        raise UserError(f"{folder}: is of a training with other settings or data; give another directory, or remove it")


def _wrong_with(folder: Path) -> str | None:
    """Why a checkpoint is not to be read; None if it is whole."""
    manifest = _manifest(folder)
    if manifest is None:
        return f"not whole: no {MANIFEST} of a checkpoint"
    if manifest["files"] != _checksums(folder):
        return f"damaged: its checksums are not those of its {MANIFEST}"
    return None


def _manifest(folder: Path) -> dict[str, Any] | None:
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return content if isinstance(content["files"], dict) and isinstance(content["training"], str) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _checksums(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
