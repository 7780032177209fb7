"""Kills a training again and again: `python -m tests.killed_training DIRECTORY SEED KILLS`.

Each attempt is a fork that kills itself (SIGKILL) at a random one of its events: before and after a step of each kind,
in the validation, before and after each file of a checkpoint takes its place. Then one attempt is left alone. What came
out is written to `DIRECTORY/killed.pt`, that of a training which nobody killed to `DIRECTORY/whole.pt`; the number of
kills by kind of event is printed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from gantune.diagnostics import files
from gantune.trainer import checkpoints as checkpoint_module
from gantune.trainer.checkpoints import Checkpoints
from gantune.trainer.language_gan import LanguageGAN
from tests.test_language_gan import PAIRS, build

SETTINGS = {
    "epochs": 6,
    "adversarial_every": 2,
    "warmup_share": 0.3,
    "validation_share": 0.34,
    "advantage": "moving-average",
    "search_policy": "delayed",
    "reward": "monte-carlo",
    "search_completions": 2,
    "replay_rollouts": 3,
    "max_new_tokens": 8,
}


def train(directory: Path | None) -> dict:
    """The whole training; what it leaves."""
    gan = build(**SETTINGS)
    gan.train(PAIRS, checkpoints=directory and Checkpoints(directory, every=2))
    history = [{key: value for key, value in row.items() if key != "seconds"} for row in gan.history]
    return {
        "parameters": [parameter.detach().clone() for parameter in gan.parameters],
        "discriminator": gan.discriminator.state_dict(),
        "history": json.dumps(history),
    }


FUNCTIONS = [
    (LanguageGAN, name)
    for name in ("likelihood_step", "sample", "discriminator_step", "generator_step", "_validation_loss")
]


def watch(kill_at: int, report: Path, functions: Sequence[tuple[object, str]]) -> None:
    """Count events from now on and die at the `kill_at`-th, its kind written to `report`.

    Events are the begin and the end of the functions, given by owner and name, and of writing checkpoints.
    """
    seen = 0

    def event(kind: str) -> None:
        nonlocal seen
        seen += 1
        if seen == kill_at:
            report.write_text(kind)
            os.kill(os.getpid(), signal.SIGKILL)

    def watched(owner: object, name: str) -> None:
        function = getattr(owner, name)

        def wrapper(*args, **kwargs):
            event(f"before {name}")
            result = function(*args, **kwargs)
            event(f"after {name}")
            return result

        setattr(owner, name, wrapper)

    for owner, name in [*functions, (checkpoint_module, "write_json"), (files.os, "replace")]:
        watched(owner, name)


def kill_and_go_on(
    train: Callable[[Path | None], dict],
    functions: Sequence[tuple[object, str]],
    directory: Path,
    draw: random.Random,
    kills: int,
) -> Counter[str]:
    """Kill, go on, write what came out; the number of kills by kind of event.

    Args:
        train: the whole training, with checkpoints in a directory or without any; gives what it leaves.
        functions: see [`watch`].
        directory: of the files.
        draw: draws the moments.
        kills: how often.
    """
    torch.save(train(None), directory / "whole.pt")
    where, report = Counter(), directory / "killed_at"
    for attempt in range(kills + 1):
        child = os.fork()
        if child == 0:
            if attempt < kills:
                watch(draw.randrange(1, 25) if attempt else 7, report, functions)
            torch.save(train(directory / "checkpoints"), directory / "killed.pt")
            os._exit(0)
        draw.random()
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            where[report.read_text()] += 1
        elif os.WEXITSTATUS(status):
            sys.exit(f"attempt {attempt} failed")
    return where


def main() -> None:
    """Of LanguageGAN."""
    directory, draw, kills = Path(sys.argv[1]), random.Random(sys.argv[2]), int(sys.argv[3])
    print(json.dumps(kill_and_go_on(train, FUNCTIONS, directory, draw, kills)))


if __name__ == "__main__":
    main()
