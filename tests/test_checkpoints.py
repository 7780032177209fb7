"""What is kept of a run: whole or not there, checked when read; random states; an interrupt that waits."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import threading

import numpy as np
import pytest
import torch

from gantune.data.batch import Batch, Pair
from gantune.errors import UserError
from gantune.policy import Rollout
from gantune.policy.random_state import random_state, set_random_state
from gantune.trainer.checkpoints import MANIFEST, Checkpoints
from gantune.trainer.interrupts import Interrupts


def filled(directory, steps=(10, 20, 30)) -> Checkpoints:
    checkpoints = Checkpoints(directory, every=10, keep=2)
    for step in steps:
        checkpoints.save(step, {"step": step, "weights": [torch.full((3,), float(step))], "text": "a"})
    return checkpoints


def test_the_last_ones_are_kept_and_the_newest_comes_back(tmp_path):
    checkpoints = filled(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [MANIFEST, "step-00000020.pt", "step-00000030.pt"]
    state = checkpoints.latest()
    assert state["step"] == 30 and torch.equal(state["weights"][0], torch.full((3,), 30.0))
    assert [step for step in range(1, 31) if checkpoints.due(step)] == [10, 20, 30]
    checkpoints.clear()
    assert not tmp_path.exists() and checkpoints.latest() is None


@pytest.mark.parametrize("damage", ["flipped bit", "cut off", "gone"])
def test_a_damaged_one_is_named_and_the_one_before_taken(tmp_path, damage, caplog):
    checkpoints = filled(tmp_path)
    file = tmp_path / "step-00000030.pt"
    content = bytearray(file.read_bytes())
    if damage == "flipped bit":
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    elif damage == "cut off":
        file.write_bytes(content[:100])
    else:
        file.unlink()
    assert checkpoints.latest()["step"] == 20
    (record,) = caplog.records
    assert "step-00000030.pt: passed over" in record.message


def test_a_file_that_the_manifest_does_not_name_is_never_loaded(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    checkpoints = filled(tmp_path)
    torch.save(Evil(), tmp_path / "step-00000099.pt")
    assert checkpoints.latest()["step"] == 30
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", ["", "[1]", '{"../../etc/passwd": "x"}', '{"step-1.pt": 3}', "\x00"])
def test_a_manifest_that_is_none_is_passed_over(tmp_path, content, caplog):
    checkpoints = filled(tmp_path)
    (tmp_path / MANIFEST).write_text(content)
    assert checkpoints.latest() is None
    assert "no manifest of checkpoints" in caplog.text


def test_a_full_disk_leaves_what_is_there(tmp_path, monkeypatch):
    checkpoints = filled(tmp_path)

    def full(number):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(UserError, match=r"step-00000040.pt: cannot be written \(No space left on device\)"):
            checkpoints.save(40, {"step": 40})
    assert checkpoints.latest()["step"] == 30
    assert set(json.loads((tmp_path / MANIFEST).read_text())) == {"step-00000020.pt", "step-00000030.pt"}


def test_senseless_numbers_are_refused(tmp_path):
    with pytest.raises(UserError, match="expected at least 1 of each"):
        Checkpoints(tmp_path, every=0)


def test_all_generators_go_back_also_through_a_file(tmp_path):
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item(), np.random.randn(), random.gauss(0, 1)

    random.gauss(0, 1)
    np.random.randn()
    checkpoints = Checkpoints(tmp_path, every=1)
    checkpoints.save(1, random_state())
    expected = draw()
    draw()
    set_random_state(checkpoints.latest())
    assert draw() == expected


def test_batches_and_rollouts_come_back_through_a_file(tmp_path):
    pairs = (Pair("who?", "me"), Pair("what?", "it"))
    tensors = {name: torch.randint(0, 9, (2, 3)) for name in ("prompt_ids", "prompt_mask", "answer_ids", "answer_mask")}
    rollout = Rollout(
        **tensors,
        pairs=pairs,
        log_probs=torch.randn(2, 3),
        noise=None,
        temperature=0.7,
        samples_per_prompt=2,
        max_new_tokens=9,
    )
    checkpoints = Checkpoints(tmp_path, every=1)
    checkpoints.save(1, {"batch": Batch(**tensors).state_dict(), "rollout": rollout.state_dict()})
    state = checkpoints.latest()
    again = Rollout.from_state_dict(state["rollout"])
    assert again.pairs == pairs and isinstance(again.pairs[0], Pair) and again.temperature == 0.7
    assert torch.equal(again.log_probs, rollout.log_probs) and again.noise is None
    assert Batch.from_state_dict(state["batch"]).pairs is None


def test_the_first_interrupt_waits_and_the_second_does_not():
    before = signal.getsignal(signal.SIGINT)
    with Interrupts() as interrupts:
        assert not interrupts.asked
        signal.raise_signal(signal.SIGINT)
        assert interrupts.asked
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_in_another_thread_interrupts_stay_as_they_are():
    before, seen = signal.getsignal(signal.SIGINT), []

    def work():
        with Interrupts() as interrupts:
            seen.append((interrupts.asked, signal.getsignal(signal.SIGINT) is before))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, True)]
