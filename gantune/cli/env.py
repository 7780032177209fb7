"""`gantune env`: on what gantune runs here."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib import metadata

from gantune.command import OneLineParser
from gantune.version import __version__

PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "datasets",
    "evaluate",
    "huggingface-hub",
    "safetensors",
    "numpy",
    "tensorboard",
)


def run(arguments: Sequence[str]) -> None:
    """Print versions and devices."""
    summary = "Print versions and devices, to paste into a report."
    OneLineParser(prog="gantune env", description=summary).parse_args(arguments)
    print("\n".join(f"- {name}: {value}" for name, value in environment().items()))


def environment() -> dict[str, str]:
    """Names and values, in the order in which they are shown."""
    import torch

    shown = {"gantune": __version__, "Python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        try:
            shown[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            shown[package] = "not installed"
    shown["CUDA of torch"] = torch.version.cuda or "none, CPU only"
    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    shown["GPUs"] = ", ".join(devices) or "none"
    shown["CPU threads of torch"] = str(torch.get_num_threads())
    return shown
