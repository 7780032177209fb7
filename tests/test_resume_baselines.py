"""A baseline's training that is killed and gone on with ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from baselines.resumable_trainer import ResumableTrainer

from baselines import METHODS
from baselines.lora import tune_lora
from gantune.errors import UserError
from gantune.trainer.checkpoints import Checkpoints
from tests.killed_baselines import LIMITS, OPTIONS, PAIRS, Remembering, train
from tests.tiny_models import TINY_MODELS
from tests.tiny_tokenizer import tiny_tokenizer

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False", "ignore:`is_gradient_checkpointing`")


def test_killed_at_random_moments_they_end_equal_to_the_bit(tmp_path):
    """LoRA with dropout and early stopping, P-tuning with its network and micro-batches, self-play."""
    methods = ["lora", "p-tuning", "self-play"]
    command = [sys.executable, "-m", "tests.killed_baselines", str(tmp_path), "1", "7", *methods]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # forks may not have run threads before
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    where = json.loads(done.stdout.splitlines()[-1])
    assert sum(where.values()) >= 15 and len(where) >= 6, where
    for method in methods:
        whole, killed = (torch.load(tmp_path / method / f"{name}.pt") for name in ("whole", "killed"))
        assert killed["rows"] == whole["rows"] and killed["num_train_epochs"] == whole["num_train_epochs"] == [
            1,
            2,
            3,
            4,
        ]
        assert killed["losses"] == whole["losses"]
        assert all(torch.equal(a, b) for a, b in zip(killed["parameters"], whole["parameters"], strict=True))


class Interrupting(Remembering):
    """Presses Ctrl-C in the middle of a training."""

    def __init__(self, at: int):
        super().__init__()
        self.at = at

    def on_step(self, row):
        super().on_step(row)
        if row["step"] == self.at:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("method", ["prefix-tuning", "self-play"])
@pytest.mark.parametrize("at", [3, 5])
def test_an_interrupt_finishes_its_step_and_the_training_goes_on_from_there(method, at, tmp_path):
    whole, first = train(method, None), Interrupting(at)
    with pytest.raises(KeyboardInterrupt):
        train(method, tmp_path, every=100, observer=first)
    assert [row["step"] for row in first.rows] == list(range(1, at + 1))
    again = train(method, tmp_path, every=100)
    assert (again["rows"], again["num_train_epochs"]) == (whole["rows"], whole["num_train_epochs"])
    assert all(torch.equal(a, b) for a, b in zip(again["parameters"], whole["parameters"], strict=True))


def test_a_training_that_ended_is_not_trained_again(tmp_path, monkeypatch):
    """Full tuning stops in the middle of its third epoch, when its tokens are spent."""
    first = train("full", tmp_path, every=1)
    assert first["num_train_epochs"] == [1, 2, 3] and json.loads(first["rows"])[-1]["step"] == 11
    monkeypatch.setattr(ResumableTrainer, "training_step", None)  # not to be called
    again = train("full", tmp_path, every=1)
    assert (again["rows"], again["num_train_epochs"]) == (first["rows"], first["num_train_epochs"])
    assert all(torch.equal(a, b) for a, b in zip(again["parameters"], first["parameters"], strict=True))


def test_checkpoints_of_another_training_are_refused(tmp_path):
    def tune(pairs=PAIRS, **options):
        config = METHODS.get("lora").config_class(**LIMITS | {"num_train_epochs": 1} | options)
        tune_lora(TINY_MODELS["gpt2"](), tiny_tokenizer(), pairs, config, checkpoints=Checkpoints(tmp_path, every=1))

    tune()
    for pairs, options in (
        (PAIRS, {"lora_learning_rate": 3e-3}),
        (PAIRS[:5], {}),
        (PAIRS, {"early_stopping_patience": 1}),
    ):
        with pytest.raises(UserError, match="holds checkpoints of a training with other settings or data"):
            tune(pairs, **options)


def test_a_disk_that_fills_while_weights_are_written_leaves_the_last_state(tmp_path):
    checkpoints = Checkpoints(tmp_path, every=1)
    checkpoints.save(1, {"weights": torch.ones(3)})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(UserError, match=r"step-00000002.pt: cannot be written \(File too large\)"):
            checkpoints.save(2, {"weights": torch.ones(1_000_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert torch.equal(checkpoints.latest()["weights"], torch.ones(3))
    assert [file.name for file in tmp_path.glob("*.pt")] == ["step-00000001.pt"]


def test_what_trains_by_transformers_trainer_resumes():
    assert {name for name in METHODS.names() if METHODS.get(name).resumes} >= {
        "bottleneck", "full", "ia3", "lora", "lora-matched", "p-tuning", "prefix-tuning", "prompt-tuning", "qlora",
    }  # fmt: skip
    assert OPTIONS.keys() <= set(METHODS.names())
