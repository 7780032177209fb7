"""What is kept of a training: whole or not there, checked when read; random states; an interrupt that waits."""

from __future__ import annotations

import errno
import os
import pickle
import random
import resource
import signal
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import TrainerControl

from gantune.data.batch import Batch, Pair
from gantune.errors import UserError
from gantune.policy import Rollout
from gantune.policy.random_state import random_state, set_random_state
from gantune.trainer.arguments import PairConfig
from gantune.trainer.callbacks import Interrupts, NextRow
from gantune.trainer.checkpoints import MANIFEST, check_checkpoint, folders_of, last_whole_checkpoint, mark_whole
from gantune.trainer.pair_trainer import PairTrainer
from tests.test_language_gan import PAIRS, QUIET
from tests.tiny_models import TINY_MODELS
from tests.tiny_tokenizer import tiny_tokenizer


def filled(directory: Path, steps=(8, 9, 10)) -> Path:
    """A folder of checkpoints; the newest one of them."""
    for step in steps:
        folder = directory / f"checkpoint-{step}"
        (folder / "inside").mkdir(parents=True)
        (folder / "weights").write_bytes(bytes(range(200)))
        (folder / "inside" / "state").write_text(str(step))
        mark_whole(folder, "a training")
    return directory / f"checkpoint-{steps[-1]}"


def trainer(directory: Path, pairs=PAIRS, held_out=None, **settings) -> PairTrainer:
    """All of a tiny model is trained, 6 steps with a checkpoint every second one."""
    steps = {"output_dir": str(directory), "save_strategy": "steps", "save_steps": 2}
    limits = {"max_steps": 6, "per_device_train_batch_size": 3, "max_completion_length": 12}
    args = PairConfig(**QUIET | steps | limits | settings)
    return PairTrainer(TINY_MODELS["gpt2"](), args, pairs, held_out, tiny_tokenizer())


def weights(trained: PairTrainer) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in trained.parameters])


def test_the_newest_comes_first_by_its_number(tmp_path):
    newest = filled(tmp_path)
    (tmp_path / "checkpoint-99x").mkdir()
    assert [folder.name for folder in folders_of(tmp_path)] == ["checkpoint-10", "checkpoint-9", "checkpoint-8"]
    assert last_whole_checkpoint(tmp_path) == newest
    check_checkpoint(newest, "a training")
    assert last_whole_checkpoint(tmp_path / "nowhere") is None


def flip_a_bit(folder: Path) -> None:
    content = bytearray((folder / "weights").read_bytes())
    content[100] ^= 1
    (folder / "weights").write_bytes(content)


DAMAGES = {
    "torn": (lambda folder: (folder / MANIFEST).unlink(), "not whole"),
    "flipped bit": (flip_a_bit, "damaged"),
    "cut off": (lambda folder: os.truncate(folder / "weights", 100), "damaged"),
    "gone": (lambda folder: (folder / "weights").unlink(), "damaged"),
    "gone inside": (lambda folder: (folder / "inside" / "state").unlink(), "damaged"),
    "one too many": (lambda folder: (folder / "more").touch(), "damaged"),
}


@pytest.mark.parametrize(("damage", "word"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_one_is_named_and_the_one_before_taken(tmp_path, damage, word, caplog):
    newest = filled(tmp_path)
    damage(newest)
    assert last_whole_checkpoint(tmp_path).name == "checkpoint-9"
    (record,) = caplog.records
    assert record.message.startswith(f"{newest}: passed over, it is {word}")
    with pytest.raises(UserError, match=f"checkpoint-10: {word}.*expected a whole checkpoint"):
        check_checkpoint(newest, "a training")


@pytest.mark.parametrize(
    "content", ["", "[1]", '{"files": {}}', '{"files": [], "training": "a training"}', "\x00", "[" * 10**5]
)
def test_a_manifest_that_is_none_is_passed_over(tmp_path, content, caplog):
    newest = filled(tmp_path, steps=[1])
    (newest / MANIFEST).write_text(content)
    assert last_whole_checkpoint(tmp_path) is None
    assert "passed over, it is not whole" in caplog.text
    with pytest.raises(UserError, match="not whole"):
        check_checkpoint(newest, "a training")


def test_the_last_ones_are_kept_and_the_newest_goes_on(tmp_path):
    whole = trainer(tmp_path)
    whole.train()
    assert [folder.name for folder in folders_of(tmp_path)] == ["checkpoint-6", "checkpoint-4"]
    (tmp_path / "checkpoint-6" / MANIFEST).unlink()
    again = trainer(tmp_path)
    with torch.no_grad():
        again.parameters[0].add_(1)
    again.train(resume_from_checkpoint=True)
    assert [row["step"] for row in again.state.log_history if "loss" in row] == [1, 2, 3, 4, 5, 6]
    assert torch.equal(weights(whole), weights(again))
    assert last_whole_checkpoint(tmp_path).name == "checkpoint-6", "written again, and whole now"


def test_it_begins_where_there_is_none(tmp_path):
    whole, again = trainer(tmp_path / "one"), trainer(tmp_path / "two")
    whole.train()
    again.train(resume_from_checkpoint=True)
    assert torch.equal(weights(whole), weights(again))


def test_a_folder_that_is_given_is_gone_on_from_or_refused(tmp_path):
    whole = trainer(tmp_path)
    whole.train()
    again = trainer(tmp_path / "elsewhere")
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert torch.equal(weights(whole), weights(again))
    os.truncate(tmp_path / "checkpoint-4" / "optimizer.pt", 100)
    for folder, word in (("checkpoint-4", "damaged"), ("checkpoint-5", "not whole")):
        with pytest.raises(UserError, match=f"{folder}: {word}.*expected a whole checkpoint"):
            trainer(tmp_path).train(resume_from_checkpoint=str(tmp_path / folder))


@pytest.mark.parametrize(
    "other",
    [
        {"learning_rate": 1e-3},
        {"seed": 1},
        {"max_steps": 7},
        {"lr_scheduler_type": "constant"},
        {"weight_decay": 0.1},
        {"pairs": PAIRS[::-1]},
        {"held_out": PAIRS[:1]},
    ],
    ids=str,
)
def test_another_training_is_refused(tmp_path, other):
    trainer(tmp_path, max_steps=2).train()
    with pytest.raises(UserError, match=r"checkpoint-2: is of a training with other settings or data"):
        trainer(tmp_path, **{"max_steps": 2} | other).train(resume_from_checkpoint=True)


def test_what_decides_nothing_may_be_another(tmp_path):
    trainer(tmp_path, max_steps=2).train()
    again = trainer(tmp_path, max_steps=2, logging_steps=5, save_steps=1, save_total_limit=3)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 2


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self):
        return os.mkdir, (str(self.made),)


def pickled_files(folder: Path) -> list[str]:
    """The files that torch or pickle wrote."""
    return sorted(path.name for path in folder.iterdir() if path.suffix in (".pt", ".pth", ".bin"))


READ = {"gantune.pt", "optimizer.pt", "scheduler.pt", "rng_state.pth"}


@pytest.mark.filterwarnings("ignore:Environment variable TORCH_FORCE")
def test_nothing_of_a_checkpoint_is_unpickled(tmp_path):
    """Even of one that somebody has marked as whole: what is read is refused, the other files are not looked at."""
    trainer(tmp_path).train()
    folder, refused = tmp_path / "checkpoint-4", set()
    assert set(pickled_files(folder)) >= READ
    for name in pickled_files(folder):
        content, made = (folder / name).read_bytes(), tmp_path / f"ran-{name}"
        for write in (torch.save, lambda value, file: file.write_bytes(pickle.dumps(value))):
            write(Evil(made), folder / name)
            again = trainer(tmp_path)
            mark_whole(folder, again.fingerprint())
            try:
                again.train(resume_from_checkpoint=str(folder))
            except pickle.UnpicklingError:
                refused.add(name)
            assert not made.exists(), name
        (folder / name).write_bytes(content)
    assert refused == READ


@contextmanager
def files_up_to(size: int):
    """A disk that is full after so many bytes of a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_told_and_leaves_what_is_there(tmp_path, monkeypatch):
    trainer(tmp_path, max_steps=2).train()

    def full(number):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(UserError, match=r"checkpoint-2/complete.json: cannot be written \(No space left"):
            trainer(tmp_path / "other").train()
    assert last_whole_checkpoint(tmp_path / "other") is None
    size = (tmp_path / "checkpoint-2" / "trained.safetensors").stat().st_size
    for share in (0.5, 1.5):  # in the weights, and in the optimiser's state
        with files_up_to(int(share * size)), pytest.raises(UserError, match=r"checkpoint-2: cannot be written \(.*\w"):
            trainer(tmp_path / str(share)).train()
        assert last_whole_checkpoint(tmp_path / str(share)) is None
    assert last_whole_checkpoint(tmp_path).name == "checkpoint-2"


def test_one_checkpoint_is_too_few(tmp_path):
    for number in (0, 1):
        with pytest.raises(UserError, match=f"--save-total-limit {number}: expected at least 2"):
            trainer(tmp_path, save_total_limit=number)


def through_a_file(directory: Path, value):
    torch.save(value, directory / "file")
    return torch.load(directory / "file", weights_only=True)


def test_all_generators_go_back():
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item(), np.random.randn(), random.gauss(0, 1)

    random.gauss(0, 1)
    np.random.randn()
    state = random_state()
    expected = draw()
    draw()
    set_random_state(state)
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
    state = through_a_file(tmp_path, {"batch": Batch(**tensors).state_dict(), "rollout": rollout.state_dict()})
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


@pytest.mark.parametrize(("save_strategy", "ends"), [("steps", False), ("steps", True), ("no", False)])
def test_an_interrupt_is_saved_as_what_has_ended_only_if_it_has(save_strategy, ends):
    args, control = PairConfig(save_strategy=save_strategy, use_cpu=True), TrainerControl(should_training_stop=ends)
    with Interrupts() as interrupts:
        interrupts.on_step_end(args, None, control)
        assert not control.should_save and control.should_training_stop == ends
        signal.raise_signal(signal.SIGINT)
        interrupts.on_step_end(args, None, control)
    saves = save_strategy == "steps"
    assert control.should_save == saves and control.should_training_stop == (ends or not saves)
    interrupts.on_save(args, None, control)
    assert control.should_training_stop


def test_the_next_row_of_the_log_goes_on(tmp_path):
    before, after = trainer(tmp_path), trainer(tmp_path)
    before._tr_loss, before._globalstep_last_logged, before._phase = torch.tensor(0.5), 3, "adversarial"
    before._figures["kl"].append(0.25)
    row = NextRow(after)
    row.load_state_dict(NextRow(before).state_dict())
    row.on_train_begin(after.args, after.state, after.control)
    assert dict(after._figures) == {"kl": [0.25]} and after._phase == "adversarial"
    assert after._tr_loss.item() == 0.5 and after._globalstep_last_logged == 3


def test_in_another_thread_interrupts_stay_as_they_are():
    before, seen = signal.getsignal(signal.SIGINT), []

    def work():
        with Interrupts() as interrupts:
            seen.append((interrupts.asked, signal.getsignal(signal.SIGINT) is before))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, True)]
