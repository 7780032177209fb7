"""Kills the training of baselines: `python -m tests.killed_baselines DIRECTORY SEED KILLS METHOD...`.

As [`tests.killed_training`] does it, with the files of each method in `DIRECTORY/METHOD/`. The number of kills by kind
of event, of all methods together, is printed.
"""

from __future__ import annotations

import gc
import json
import logging
import random
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from baselines.resumable_trainer import ResumableTrainer
from gantune.trainer.observer import Silent

from baselines import METHODS, SelfPlay, likelihood_training
from gantune.data import Pair
from gantune.trainer.checkpoints import Checkpoints
from tests.killed_training import kill_and_go_on
from tests.tiny_models import TINY_MODELS
from tests.tiny_tokenizer import tiny_tokenizer

PAIRS = [Pair(f"who is n{i}{i * 'x'}?", f"n{i} is {'old' if i % 2 else 'a cook'}.") for i in range(9)]
LIMITS = {
    "num_train_epochs": 4,
    "per_device_train_batch_size": 2,
    "max_prompt_length": 40,
    "max_completion_length": 12,
    "validation_share": 0.2,
}
OPTIONS = {
    "lora": {"lora_dropout": 0.2, "early_stopping_patience": 3, "lr_scheduler_type": "cosine", "warmup_steps": 0.2},
    "p-tuning": {"p_tuning_virtual_tokens": 3, "micro_batch_size": 1, "p_tuning_learning_rate": 1e-2},
    "prefix-tuning": {"prefix_tuning_virtual_tokens": 3, "prefix_tuning_hidden_size": 8},
    "full": {"max_tokens": 900},
    "self-play": {"generator": "lora", "warmup_share": 0.3, "learning_rate": 1e-2},
}
FUNCTIONS = [
    (ResumableTrainer, "training_step"),
    (ResumableTrainer, "save_state"),
    (likelihood_training, "mean_loss"),
    *((SelfPlay, name) for name in ("likelihood_step", "play", "preference_step", "_validation_loss")),
]


class Remembering(Silent):
    """Keeps the rows and the epochs, and goes on with them."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.epochs: list[int] = []

    def on_step(self, row: dict[str, Any]) -> None:
        self.rows.append({name: value for name, value in row.items() if name != "seconds"})

    def on_epoch(self, epoch: int, model: Any) -> None:
        self.epochs.append(epoch)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "num_train_epochs": self.epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows, self.epochs = state["rows"], state["num_train_epochs"]


def train(method: str, directory: Path | None, every: int = 3, observer: Remembering | None = None) -> dict[str, Any]:
    """The whole training by a method; what it leaves."""
    found, observer = METHODS.get(method), observer or Remembering()
    torch.manual_seed(0)
    config = found.config_class(**LIMITS | OPTIONS[method])
    checkpoints = Checkpoints(directory / "checkpoints", every=every) if directory else None
    tuned = found.tune(TINY_MODELS["gpt2"](), tiny_tokenizer(), PAIRS, config, observer, checkpoints=checkpoints)
    return {
        "parameters": [parameter.detach() for parameter in tuned.model.parameters() if parameter.requires_grad],
        "rows": json.dumps(observer.rows),
        "num_train_epochs": observer.epochs,
        "losses": tuned.losses(PAIRS),
    }


def main() -> None:
    """Kill the methods' trainings one after the other."""
    gc.freeze()  # of all the modules, which every attempt would go through again
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    directory, draw, kills = Path(sys.argv[1]), random.Random(sys.argv[2]), int(sys.argv[3])
    where: Counter[str] = Counter()
    for method in sys.argv[4:]:
        (directory / method).mkdir()
        where += kill_and_go_on(
            lambda at, method=method: train(method, at and at.parent), FUNCTIONS, directory / method, draw, kills
        )
    print(json.dumps(where))


if __name__ == "__main__":
    main()
