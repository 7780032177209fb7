"""Kills trainings again and again: `python -m tests.killed_training gan lora --kills 25`.

Each attempt is a fork that kills itself (SIGKILL) at a random one of its events: before and after a step of each kind,
in the validation, before, in the middle of and after each file of a checkpoint. Then one attempt is left alone. What
came out and the last checkpoint are compared with those of a training that nobody killed; the number of kills by kind
of event is printed.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import random
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback, TrainerState, trainer

from baselines import METHODS
from gantune.data import Pair
from gantune.diagnostics import files
from gantune.trainer import checkpoints
from gantune.trainer.callbacks import Weights, epoch_ends
from gantune.trainer.checkpoints import MANIFEST, folders_of
from gantune.trainer.language_gan import LanguageGAN
from gantune.trainer.pair_trainer import PairTrainer
from gantune.trainer.policy_trainer import PolicyTrainer
from gantune.trainer.self_play import SelfPlay
from gantune.trainer.self_training import SelfTraining
from gantune.trainer.unpaired import Unpaired
from tests.tiny_models import TINY_MODELS
from tests.tiny_tokenizer import tiny_tokenizer

PAIRS = [Pair(f"who is n{i}{i * 'x'}?", f"n{i} is {'old' if i % 2 else 'a cook'}.") for i in range(9)]
LIMITS = {
    "num_train_epochs": 4,
    "per_device_train_batch_size": 2,
    "max_prompt_length": 40,
    "max_completion_length": 8,
    "validation_share": 0.2,
}
OPTIONS = {
    "gan": {
        "warmup_share": 0.3,
        "adversarial_every": 2,
        "advantage": "moving-average",
        "search_policy": "delayed",
        "reward": "monte-carlo",
        "search_completions": 2,
        "num_generations": 2,
        "discriminator_warmup_steps": 3,
        "replay_rollouts": 3,
    },
    "lora": {"lora_dropout": 0.2, "early_stopping_patience": 3, "lr_scheduler_type": "cosine", "warmup_steps": 0.2},
    "p-tuning": {"p_tuning_virtual_tokens": 3, "micro_batch_size": 1, "p_tuning_learning_rate": 1e-2},
    "prefix-tuning": {"prefix_tuning_virtual_tokens": 3, "prefix_tuning_hidden_size": 8},
    "full": {"max_tokens": 900},
    "self-play": {"generator": "lora", "warmup_share": 0.3, "learning_rate": 1e-2},
    "self-training": {"self_training_decoding": "mbr-3", "learning_rate": 1e-2},
}
MORE = {"self-training": {"unpaired": Unpaired(["who is m1?", "who is m2?", "who is m3?"], ["m4 is old."])}}
STEPS = [
    (PairTrainer, "training_step"),
    (PairTrainer, "evaluate"),
    (PolicyTrainer, "likelihood_step"),
    (LanguageGAN, "sample"),
    (LanguageGAN, "discriminator_step"),
    (LanguageGAN, "generator_step"),
    (SelfPlay, "play"),
    (SelfPlay, "preference_step"),
    (SelfTraining, "_encoded"),
]
WRITING = [  # owner, name, and which argument is the file that is written
    (checkpoints, "save_file", 1),
    (torch, "save", 1),
    (TrainerState, "save_to_json", 1),
    (trainer, "rotate_checkpoints", None),
    (checkpoints, "mark_whole", None),
    (files.os, "replace", None),
]


def timeless(log: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of a log without what no two trainings have alike."""
    rows = [{name: row[name] for name in row if name != "seconds" and "runtime" not in name} for row in log]
    return [row for row in rows if not any("per_second" in name for name in row)]


class Remembering(TrainerCallback):
    """Keeps the epochs, and goes on with them; knows the log."""

    def __init__(self) -> None:
        self.epochs: list[float] = []

    @property
    def log(self) -> list[dict[str, Any]]:
        """All rows, those of before included if the training was gone on with."""
        return timeless(self.state.log_history)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Those of steps."""
        return [row for row in self.log if "phase" in row]

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        self.state = state

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        if epoch_ends(state, control):
            self.epochs.append(state.epoch)

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": self.epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epochs = state["epochs"]


def train(method: str, directory: Path, callbacks: Sequence[TrainerCallback] = (), **arguments: Any) -> dict[str, Any]:
    """The whole training by a method, with checkpoints in a directory; what it leaves."""
    found, kept, weights = METHODS.get(method), Remembering(), Weights(directory / "weights.npz")
    torch.manual_seed(0)
    config = found.config_class(**LIMITS | OPTIONS[method])
    tuned = found.tune(
        TINY_MODELS["gpt2"](),
        tiny_tokenizer(),
        PAIRS,
        config,
        [kept, weights, *callbacks],
        {"output_dir": str(directory), "save_steps": 3} | arguments,
        **MORE.get(method, {}),
    )
    weights.save()
    return {
        "parameters": [parameter.detach() for parameter in tuned.model.parameters() if parameter.requires_grad],
        "trajectory": weights.trajectory.state_dict(),
        "log": kept.log,
        "epochs": kept.epochs,
        "losses": tuned.losses(PAIRS),
        "checkpoint": content_of(folders_of(directory)[0]),
    }


def content_of(checkpoint: Path) -> dict[str, Any]:
    """What a checkpoint holds, file by file, without times: weights, optimisers, discriminator, best weights, log."""
    held: dict[str, Any] = {"step": checkpoint.name}
    for file in sorted(checkpoint.iterdir()):
        if file.suffix == ".safetensors":
            held[file.name] = checkpoints.load_file(file)
        elif file.name == "trainer_state.json":
            held[file.name] = timeless(json.loads(file.read_text())["log_history"])
        elif file.name not in (MANIFEST, "training_args.bin"):
            held[file.name] = torch.load(file, weights_only=False)
    held["gantune.pt"]["parts"]["Limits"].pop("seconds")
    return held


def difference(a: Any, b: Any, where: str = "") -> str | None:
    """Where two structures of tensors and plain values differ first; None if they are equal to the bit."""
    if type(a) is not type(b):
        return where
    if isinstance(a, torch.Tensor | np.ndarray):
        a, b = (np.asarray(each) for each in (a, b))
        return None if (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()) else where
    if isinstance(a, Mapping):
        a, b = dict(a), dict(b)
        if a.keys() != b.keys():
            return f"{where}: {a.keys() ^ b.keys()}"
        return next(filter(None, (difference(a[key], b[key], f"{where}.{key}") for key in a)), None)
    if isinstance(a, list | tuple):
        if len(a) != len(b):
            return f"{where}: {len(a)} and {len(b)}"
        parts = enumerate(zip(a, b, strict=True))
        return next(filter(None, (difference(*both, f"{where}[{i}]") for i, both in parts)), None)
    return None if a == b else where


def watch(kill_at: int, report: Path) -> None:
    """Count events from now on and die at the `kill_at`-th, its kind written to `report`."""
    seen = 0

    def event(kind: str, file: Any = None) -> None:
        nonlocal seen
        seen += 1
        if seen == kill_at:
            if file is not None:
                os.truncate(file, os.path.getsize(file) // 2)
            report.write_text(kind)
            os.kill(os.getpid(), signal.SIGKILL)

    def watched(owner: Any, name: str, argument: int | None) -> None:
        function = getattr(owner, name)

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            event(f"before {name}")
            result = function(*args, **kwargs)
            if argument is not None:
                event(f"in {name}", args[argument])
            event(f"after {name}")
            return result

        setattr(owner, name, wrapper)

    for owner, name in STEPS:
        watched(owner, name, None)
    for owner, name, argument in WRITING:
        watched(owner, name, argument)


def attempt(method: str, directory: Path, kill_at: int | None) -> bool:
    """Train in a fork, from where the last one was killed; whether it came to its end, instead of to its own."""
    child = os.fork()
    if child == 0:
        try:
            if kill_at is not None:
                watch(kill_at, directory / "killed_at")
            torch.save(train(method, directory / "run"), directory / "left.pt")
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        sys.exit(f"{method}: going on failed")
    return os.WIFEXITED(status)


def kill_and_go_on(method: str, directory: Path, draw: random.Random, kills: int) -> Counter[str]:
    """Kill the training by a method, go on, and compare what came out; again with a new one until it was so often.

    Returns:
        The number of kills by kind of event.
    """
    whole, where = train(method, directory / "whole"), Counter()
    while where.total() < kills:
        of_training = directory / f"{where.total()}"
        of_training.mkdir()
        while not attempt(method, of_training, draw.randrange(1, 60) if where.total() < kills else None):
            where[(of_training / "killed_at").read_text()] += 1
        left = torch.load(of_training / "left.pt", weights_only=False)
        if found := difference(left, whole):
            sys.exit(f"{method}: after {where.total()} kills what is left differs in {found}")
    return where


def main(argv: Sequence[str] | None = None) -> None:
    """Kill the methods' trainings one after the other."""
    parser = argparse.ArgumentParser(prog="python -m tests.killed_training", description=__doc__.split(":")[0])
    parser.add_argument("methods", nargs="+", choices=OPTIONS, metavar="METHOD")
    parser.add_argument("--kills", type=int, default=25, help="of each method's training")
    parser.add_argument("--seed", default="0", help="of the moments")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)  # forks may not have run threads before
    gc.freeze()  # of all the modules, which every attempt would go through again
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    draw = random.Random(args.seed)
    where: Counter[str] = Counter()
    for method in args.methods:
        with tempfile.TemporaryDirectory() as directory:
            where += kill_and_go_on(method, Path(directory), draw, args.kills)
    print(json.dumps(where))


if __name__ == "__main__":
    main()
