"""The console command: its subcommands, its errors, what needs no training."""

from __future__ import annotations

import builtins
import json
import subprocess
import sys

import pytest
import torch

from gantune.cli import COMMANDS, main
from gantune.version import __version__

TRAIN = ["train", "--output-dir", "OUT", "--dataset", "mini-tofu"]


def test_help_names_every_command_and_imports_no_torch():
    code = (
        "import sys; from gantune.cli import main; status = main(['--help']); assert 'torch' not in sys.modules; "
        "sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "compare"])
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    assert f"gantune {name}" in capsys.readouterr().out


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"gantune {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["tain"], "unknown command 'tain': expected one of train, generate"),
        (["train", "--num-train-epochs", "many"], "--num-train-epochs: invalid float value: 'many'"),
        (["train", "--epoch", "3"], "unknown option --epoch"),
        (["train", "stray"], "unknown argument stray"),
        (["train", "--dataset", "mini-tofu"], "--output-dir: expected a new directory"),
        (["train", "--num-train-epochs", "0"], "--num-train-epochs 0.0: expected above 0"),
        (["train", "--output-dir", "OUT"], "--dataset: expected a file"),
        (["train", "--output-dir", "OUT", "--dataset", "none.jsonl"], "none.jsonl: no such file"),
        ([*TRAIN, "--report-to", "paper"], "--report-to paper: expected none, all, or one of"),
        ([*TRAIN, "--device", "abacus"], "--device abacus: cannot be used here"),
        (["generate", "--adapter", "nowhere", "Who?"], "nowhere: no such folder"),
        (["generate", "--adapter", "x", "Who?", "--file", "y"], "expected a question or --file, not both"),
        (["generate", "--adapter", "x", "  "], "the question is empty"),
        (["generate", "--adapter", "x", "Who?", "--samples", "2"], "greedy answers with zero noise are all the same"),
        (["generate", "Who?"], "required: --adapter"),
        (["evaluate", "--dataset", "mini-tofu"], "--adapter: expected a folder"),
        (["evaluate", "--adapter", "nowhere", "--dataset", "mini-tofu"], "nowhere: no such folder"),
        (["plot", "nowhere"], "nowhere: neither history.jsonl nor weights.npz"),
        (["merge", "--adapter", "nowhere", "--output", "OUT", "--noise", "3"], "--noise 3: expected zero or seed:N"),
        (["data", "show", "none.jsonl"], "none.jsonl: no such file"),
        (["env", "now"], "unrecognized arguments: now"),
    ],
)
def test_mistakes_are_told_in_one_line_with_status_2(arguments, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ") and err.count("\n") == 1 and told in err and not out
    assert not list(tmp_path.iterdir()), "a mistake leaves nothing behind"


def test_env_names_what_runs_here(capsys):
    assert main(["env"]) == 0
    out = capsys.readouterr().out
    assert f"- gantune: {__version__}\n" in out and f"- torch: {torch.__version__}\n" in out
    assert f"- CPU threads of torch: {torch.get_num_threads()}\n" in out


def test_data_is_the_command_of_gantune_data(tmp_path, capsys):
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps({"question": "Who?", "answer": "Ann."}) + "\n")
    assert main(["data", "clean", str(file), str(tmp_path / "out.jsonl")]) == 0
    assert (tmp_path / "out.jsonl").read_text() == file.read_text()


def test_compare_hands_its_arguments_on(monkeypatch):
    from benchmarks.compare import __main__ as compare

    monkeypatch.setattr(compare, "main", lambda arguments: {("--list",): 7}[tuple(arguments)])
    assert main(["compare", "--list"]) == 7


def test_compare_without_its_package_says_so(monkeypatch, capsys):
    real = builtins.__import__

    def without_benchmarks(name, *args, **kwargs):
        if name.partition(".")[0] == "benchmarks":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_benchmarks)
    assert main(["compare", "--list"]) == 2
    assert "benchmarks and baselines of gantune are not installed" in capsys.readouterr().err
