"""A training that is killed and gone on with ends as if nothing had happened, whatever is trained."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import TrainerCallback

from baselines import METHODS
from gantune.errors import UserError
from gantune.trainer import checkpoints
from gantune.trainer.checkpoints import MANIFEST, folders_of, last_whole_checkpoint, load_file
from gantune.trainer.language_gan import LanguageGAN
from gantune.trainer.pair_trainer import PairTrainer
from tests.killed_training import OPTIONS, PAIRS, difference, train

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False", "ignore:`is_gradient_checkpointing`")


def test_killed_at_random_moments_they_end_equal_to_the_bit():
    """More of them by hand: `python -m tests.killed_training gan --kills 25`."""
    command = [sys.executable, "-m", "tests.killed_training", "--kills", "6"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # forks may not have run threads before
    methods = ["gan", "lora", "p-tuning", "self-play", "self-training"]
    done = subprocess.run(command + methods, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    where = json.loads(done.stdout.splitlines()[-1])
    assert sum(where.values()) == 30 and len(where) >= 8, where
    assert {"in save_file", "in save", "in save_to_json", "before replace"} <= where.keys(), (
        "with torn files, and whole"
    )


@pytest.mark.parametrize("method", OPTIONS)
def test_from_each_of_its_checkpoints_it_ends_equal_to_the_bit(method, tmp_path):
    """In the middle of an epoch and of a row of the log, between two epochs, and when all is done."""
    kept = {"save_steps": 6, "save_total_limit": None, "logging_steps": 4}
    whole = train(method, tmp_path / "whole", **kept)
    steps = [folder.name for folder in folders_of(tmp_path / "whole")]
    assert steps[-2:] == ["checkpoint-12", "checkpoint-6"]
    for name in steps:
        shutil.copytree(tmp_path / "whole" / name, tmp_path / name / name)
        assert not difference(train(method, tmp_path / name, **kept), whole), name


def test_p_tunings_network_is_in_the_checkpoints_and_not_in_what_is_saved(tmp_path):
    train("p-tuning", tmp_path)
    held = load_file(last_whole_checkpoint(tmp_path) / "trained.safetensors")
    assert sum("mlp_head" in name for name in held) == 6 and any("embedding" in name for name in held)


# ---- Damage


def damaged(file: Path, how: str) -> None:
    content = bytearray(file.read_bytes())
    if how == "flipped bit":
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    elif how == "torn":
        file.write_bytes(content[: len(content) // 2])
    else:
        file.unlink()


def test_whatever_file_is_damaged_the_last_whole_checkpoint_is_gone_on_from(tmp_path, caplog):
    whole = train("gan", tmp_path / "whole", save_steps=8)
    last, before = folders_of(tmp_path / "whole")
    files = [file.name for file in last.iterdir()]
    assert len(files) == 7 and (last.name, before.name) == ("checkpoint-16", "checkpoint-8")
    for name in files:
        for how in ("flipped bit", "torn", "gone"):
            content = (last / name).read_bytes()
            damaged(last / name, how)
            caplog.clear()
            assert last_whole_checkpoint(tmp_path / "whole") == before, (name, how)
            assert f"{last}: passed over, it is " in caplog.text
            (last / name).write_bytes(content)
    assert last_whole_checkpoint(tmp_path / "whole") == last
    for name, how in (("trained.safetensors", "flipped bit"), ("optimizer.pt", "torn"), (MANIFEST, "gone")):
        shutil.copytree(tmp_path / "whole", tmp_path / name)
        damaged(tmp_path / name / last.name / name, how)
        assert not difference(train("gan", tmp_path / name, save_steps=8), whole), name


def test_torn_checkpoints_do_not_push_out_whole_ones(tmp_path, monkeypatch):
    """Of two that are kept one is torn: the whole one stays until the next one is whole, too."""
    train("lora", tmp_path / "whole", save_steps=5, save_total_limit=None)
    shutil.copytree(tmp_path / "whole" / "checkpoint-5", tmp_path / "again" / "checkpoint-5")
    shutil.copytree(tmp_path / "whole" / "checkpoint-10", tmp_path / "again" / "checkpoint-7")  # of a Ctrl-C
    (tmp_path / "again" / "checkpoint-7" / MANIFEST).unlink()

    def killed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "mark_whole", killed)
    with pytest.raises(KeyboardInterrupt):
        train("lora", tmp_path / "again", save_steps=5)
    assert folders_of(tmp_path / "again")[0].name == "checkpoint-10"
    assert last_whole_checkpoint(tmp_path / "again").name == "checkpoint-5"


class LittleRoom(TrainerCallback):
    """A disk that is full after some step: no file may be longer than this."""

    def __init__(self, step: int, longest: int) -> None:
        self.step, self.longest = step, longest

    def on_step_end(self, args, state, control, **_):
        if state.global_step == self.step:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.longest, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@pytest.mark.parametrize("longest", [10, 20_000])
def test_a_disk_that_fills_while_a_checkpoint_is_written_leaves_the_last_one(longest, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(UserError, match=r"checkpoint-6: cannot be written \(") as error:
            train("lora", tmp_path, [LittleRoom(6, longest)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(error.value)
    assert last_whole_checkpoint(tmp_path).name == "checkpoint-3"


# ---- Ctrl-C, and trainings that are over


class Interrupting(TrainerCallback):
    """Presses Ctrl-C in the middle of a training."""

    def __init__(self, at: int) -> None:
        self.at, self.done = at, 0

    def on_step_begin(self, args, state, control, **_):
        if state.global_step + 1 == self.at:
            signal.raise_signal(signal.SIGINT)

    def on_step_end(self, args, state, control, **_):
        self.done = state.global_step


@pytest.mark.parametrize("method", ["gan", "prefix-tuning", "self-play", "self-training"])
def test_an_interrupt_finishes_its_step_and_the_training_goes_on_from_there(method, tmp_path):
    whole = train(method, tmp_path / "whole", save_steps=100)
    for at in (3, 5, 12):
        first, directory = Interrupting(at), tmp_path / f"{at}"
        with pytest.raises(KeyboardInterrupt):
            train(method, directory, [first], save_steps=100)
        assert first.done == at and last_whole_checkpoint(directory).name == f"checkpoint-{at}"
        assert not difference(train(method, directory, save_steps=100), whole), at


def fails(*args, **kwargs):
    raise AssertionError("not to be called")


@pytest.mark.parametrize("save_steps", [1, 100])
@pytest.mark.parametrize(
    ("method", "options", "steps"),
    [
        ("full", {}, 12),  # its tokens are spent
        ("lora", {"early_stopping_patience": 1, "lora_learning_rate": 3.0, "lora_target_modules": ["c_attn"]}, 12),
        ("gan", {"max_tokens": 3000}, 13),
        ("gan", {}, 16),
    ],
)
def test_a_training_that_has_ended_is_not_trained_again(method, options, steps, save_steps, tmp_path, monkeypatch):
    monkeypatch.setitem(OPTIONS, method, OPTIONS[method] | options)
    first = train(method, tmp_path, save_steps=save_steps)
    assert [row["step"] for row in first["log"] if "loss" in row] == list(range(1, steps + 1))
    for trainer in (PairTrainer, LanguageGAN):
        monkeypatch.setattr(trainer, "training_step", fails)
    assert not difference(train(method, tmp_path, save_steps=save_steps), first)


def test_checkpoints_of_another_training_are_refused(tmp_path, monkeypatch):
    for method, others in {
        "lora": ({"lora_dropout": 0.1}, {"lora_learning_rate": 3e-3}, {"early_stopping_patience": 1}, PAIRS[:5]),
        "gan": ({"learning_rate": 1e-4}, {"reward": "token"}, {"seed": 1}, PAIRS[:5]),
        "self-play": ({"self_play_scale": 0.2},),
        "self-training": ({"self_training_share": 0.4}, {"self_training_decoding": "greedy"}),
    }.items():
        train(method, tmp_path / method)
        for other in others:
            with monkeypatch.context() as changed:
                if isinstance(other, dict):
                    changed.setitem(OPTIONS, method, OPTIONS[method] | other)
                else:
                    changed.setattr("tests.killed_training.PAIRS", other)
                with pytest.raises(UserError, match="is of a training with other settings or data"):
                    train(method, tmp_path / method)


def test_what_trains_by_transformers_trainer_resumes():
    assert {name for name in METHODS.names() if METHODS.get(name).resumes} >= {
        "bottleneck", "full", "gan", "ia3", "lora", "lora-matched", "mle", "p-tuning", "prefix-tuning", "prompt-tuning",
        "qlora", "self-play", "self-training",
    }  # fmt: skip
    assert OPTIONS.keys() <= set(METHODS.names())
