"""A directory that one process at a time writes to."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gantune.diagnostics import locked
from gantune.errors import UserError

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
