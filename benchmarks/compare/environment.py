"""On what a run happened: versions, device, commit."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from gantune.distributed import launched_processes

PACKAGES = ("gantune", "torch", "transformers", "peft", "accelerate", "datasets", "evaluate", "rouge-score", "numpy")


def describe_device(device: str) -> str:
    """The device in words, such as "cpu, 2 threads" or "NVIDIA H100 80GB HBM3", and how many processes have one."""
    if device.startswith("cuda"):
        words = torch.cuda.get_device_name(device)
    else:
        words = f"{device}, {torch.get_num_threads()} threads"
    return words if launched_processes() == 1 else f"{words}, {launched_processes()} processes"


def git_state() -> dict[str, Any]:
    """Commit of the source tree and whether it has uncommitted changes; None for both outside a checkout."""

    def git(*arguments: str) -> str:
        folder = Path(__file__).parent
        return subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}


def environment(device: str, dtype: str, seed: int) -> dict[str, Any]:
    """What a figure needs beside it to be believed later."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
        "device": describe_device(device),
        "dtype": dtype,
        "threads": torch.get_num_threads(),
        "seed": seed,
        "git": git_state(),
    }
