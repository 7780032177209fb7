"""A directory that one process at a time writes to, paths as users give them, and the modes of what is written."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from baselines import TunedModel
from gantune.cli import main
from gantune.cli.adapters import AdapterOptions, load_adapter
from gantune.cli.train import DataOptions
from gantune.data import load_pairs
from gantune.diagnostics import local_path, locked
from gantune.diagnostics.files import absolute_path, umask_followed
from gantune.errors import UserError
from gantune.hub.loading import load_model, load_tokenizer
from gantune.metrics import Bleurt
from gantune.trainer.arguments import PairConfig
from gantune.trainer.pretrained import Pretrained
from gantune.tuning import TuningConfig
from tests.test_checkpoints import trainer
from tests.test_cli_train import train

HOLD = """
import sys, time
from gantune.diagnostics import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_told_and_a_killed_one_lets_go(tmp_path):
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "out")], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another process is writing there"), locked(tmp_path / "out"):
            pytest.fail("it is held")
    finally:
        other.kill()
        other.wait()
    with locked(tmp_path / "out"):
        pass


def test_errors_of_the_block_pass_and_unlock(tmp_path):
    with pytest.raises(OSError, match="mine"), locked(tmp_path):
        raise OSError("mine")
    with locked(tmp_path):
        pass


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"), locked(tmp_path / "file"):
        pytest.fail("it is a file")


SHELL = ["~", "~/models/x", "~ann/x", "$HOME/x", "${HOME}/x", "runs/$USER/x", "%USERPROFILE%/x"]
WINDOWS = ["C:\\models\\x", "c:/models/x", "models\\x", "\\\\server\\x", ".\\x.jsonl"]
READERS = {
    "model": load_model,
    "tokenizer": load_tokenizer,
    "data": load_pairs,
    "the data of a command": lambda name: DataOptions(dataset=name).check(),
    "adapter": lambda name: load_adapter(AdapterOptions(name)),
    "trainer": Pretrained.from_pretrained,
    "bleurt": Bleurt,
    "output": lambda name: PairConfig(output_dir=name, use_cpu=True),
    "save": lambda name: Pretrained().save_pretrained(name),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", SHELL + WINDOWS)
def test_a_path_that_only_a_shell_or_another_system_understands_is_told_so(name, reader, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        READERS[reader](name)
    told = "~ and variables such as $HOME are not replaced" if name in SHELL else "it looks like one of Windows"
    assert told in str(error.value) and name[:3] in str(error.value) and "\n" not in str(error.value)
    assert not list(tmp_path.iterdir()), "nothing of that name is made"


def test_what_is_there_and_names_of_other_things_are_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("~", "$HOME", "C:\\x"):
        (tmp_path / name).mkdir()
        assert local_path(name) == Path(name)
    for name in ("owner/name", "owner/name:a-b", "tofu:full", "/nowhere", "a~b/x~", "5$/x", "100%/x", "a\0b"):
        assert str(local_path(name)) == name


@pytest.fixture(params=[(0o022, 0o644, 0o755), (0o077, 0o600, 0o700)], ids=["022", "077"])
def modes(request):
    """The modes of files and folders under a umask, which holds for the test."""
    mask, *modes = request.param
    before = os.umask(mask)
    yield tuple(modes)
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def of_other_modes(folder: Path, modes: tuple[int, int]) -> dict[str, str]:
    """What in a folder, itself included, has another mode than files and folders are to have."""
    inside = [folder, *folder.rglob("*")]
    return {str(path): oct(mode(path)) for path in inside if mode(path) != modes[path.is_dir()]}


def test_an_adapter_and_a_merged_folder_follow_the_umask(modes, tmp_path, monkeypatch):
    monkeypatch.setattr("gantune.cli.plot.draw", lambda directory: [])
    assert train(tmp_path, "--generator", "embedding+lora") == 0
    tuned, plain = tmp_path / "tuned", tmp_path / "plain"
    assert main(["merge", "--adapter", str(tuned), "--output", str(plain)]) == 0
    weights = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.safetensors")}
    assert weights == {
        "base/model.safetensors", "plain/model.safetensors", "tuned/discriminator.safetensors",
        "tuned/embedding_generator/adapter_model.safetensors", "tuned/lora/adapter_model.safetensors",
    }  # fmt: skip
    assert not of_other_modes(tuned, modes) | of_other_modes(plain, modes)


def test_checkpoints_and_what_a_trainer_or_a_method_saves_follow_the_umask(modes, tmp_path):
    trained = trainer(tmp_path / "out")
    trained.train()
    assert len([*(tmp_path / "out").rglob("trained.safetensors")]) == 2
    trained.save_model(str(tmp_path / "whole"))
    TunedModel(trained.model, None, TuningConfig(), save=trained.model.save_pretrained).save(tmp_path / "method")
    for name in ("out", "whole", "method"):
        assert not of_other_modes(tmp_path / name, modes)


def test_only_what_the_block_writes_gets_the_mode_of_a_new_file(modes, tmp_path):
    old, new = tmp_path / "old.safetensors", tmp_path / "deep" / "new.safetensors"
    new.parent.mkdir()
    save_file({"x": torch.zeros(1)}, old)
    old.chmod(0o640)
    (tmp_path / "broken.safetensors").symlink_to("nowhere")
    with umask_followed(tmp_path):
        save_file({"x": torch.zeros(2)}, new)
    assert (mode(old), mode(new)) == (0o640, modes[0])
    with umask_followed(tmp_path):
        save_file({"x": torch.zeros(3)}, old)
    assert mode(old) == modes[0]
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "broken.safetensors", "deep", "new.safetensors", "old.safetensors",
    ]  # fmt: skip


def test_a_file_here_is_named_for_every_directory_and_a_hub_id_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here" / "base").mkdir(parents=True)
    names = ("here/base", "./here/../here/base", str(tmp_path / "here"), "owner/name", "gpt2", "")
    assert [absolute_path(name) for name in names] == [
        str(tmp_path / "here" / "base"), str(tmp_path / "here" / "base"), str(tmp_path / "here"),
        "owner/name", "gpt2", "",
    ]  # fmt: skip
