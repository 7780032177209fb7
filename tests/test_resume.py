"""A training that is killed and gone on with ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gantune.errors import UserError
from gantune.trainer.checkpoints import Checkpoints
from gantune.trainer.observer import Silent
from tests.test_language_gan import PAIRS, build

ROOT = Path(__file__).resolve().parents[1]


def test_killed_at_25_random_moments_it_ends_equal_to_the_bit(tmp_path):
    command = [sys.executable, "-m", "tests.killed_training", str(tmp_path), "3", "25"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # forks may not have run threads before
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    where = json.loads(done.stdout.splitlines()[-1])
    assert sum(where.values()) >= 20 and len(where) >= 8, where
    whole, killed = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("whole", "killed"))
    assert killed["history"] == whole["history"]
    assert all(torch.equal(a, b) for a, b in zip(killed["parameters"], whole["parameters"], strict=True))
    assert all(torch.equal(weight, whole["discriminator"][name]) for name, weight in killed["discriminator"].items())


class Interrupting(Silent):
    """Presses Ctrl-C in the middle of a training; counts steps, and resumes with it."""

    def __init__(self, at: int | None):
        self.at, self.steps = at, []

    def on_step(self, row):
        self.steps.append(row["step"])
        if row["step"] == self.at:
            signal.raise_signal(signal.SIGINT)

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps = state["steps"]


def test_an_interrupt_finishes_its_step_and_the_training_goes_on_from_there(tmp_path):
    whole = build().train(PAIRS)
    checkpoints = Checkpoints(tmp_path / "checkpoints", every=100)
    first = build()
    with pytest.raises(KeyboardInterrupt):
        first.train(PAIRS, Interrupting(at=5), checkpoints)
    assert len(first.history) in range(5, 10) and len(first.history) < len(whole)
    again, observer = build(), Interrupting(at=None)
    history = again.train(PAIRS, observer, checkpoints)
    assert observer.steps == [row["step"] for row in whole] == [row["step"] for row in history]
    assert [row.get("loss") for row in history] == [row.get("loss") for row in whole]


def test_checkpoints_of_another_training_are_refused(tmp_path):
    checkpoints = Checkpoints(tmp_path, every=1)
    build().train(PAIRS, checkpoints=checkpoints)
    for other, pairs in ((build(learning_rate=1e-4), PAIRS), (build(), PAIRS[:5])):
        with pytest.raises(UserError, match="holds checkpoints of a training with other settings or data"):
            other.train(pairs, checkpoints=checkpoints)


def test_a_finished_training_is_not_trained_again(tmp_path):
    checkpoints = Checkpoints(tmp_path, every=1)
    first, again = build(), build()
    first.train(PAIRS, checkpoints=checkpoints)
    again.likelihood_step = again.generator_step = None  # not to be called
    assert again.train(PAIRS, checkpoints=checkpoints) == first.history
    assert all(torch.equal(a, b) for a, b in zip(again.parameters, first.parameters, strict=True))
