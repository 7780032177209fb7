"""A directory that one process at a time writes to, and paths as users give them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gantune.cli.adapters import load_adapter
from gantune.cli.train import DataOptions
from gantune.data import load_pairs
from gantune.diagnostics import local_path, locked
from gantune.errors import UserError
from gantune.hub.loading import load_model, load_tokenizer
from gantune.metrics import Bleurt
from gantune.trainer.arguments import PairConfig
from gantune.trainer.pretrained import Pretrained

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
    "adapter": load_adapter,
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
