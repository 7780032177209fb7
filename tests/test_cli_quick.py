"""Help and mistakes in the options are answered before anything is imported that takes seconds."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = (
    "torch",
    "transformers.modeling_utils",
    "peft",
    "datasets",
    "evaluate",
    "pandas",
    "matplotlib",
    "scipy",
    "sklearn",
)
CODE = """
import contextlib, io, json, sys
from gantune.cli import main
told = []
for arguments in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(arguments)
        except SystemExit as stopped:
            status = stopped.code
    told.append([status, out.getvalue(), err.getvalue(), [name for name in json.loads(sys.argv[2]) if name in sys.modules]])
json.dump(told, sys.stdout)
"""  # noqa: E501
TRAIN = ["train", "--output-dir", "OUT", "--dataset", "mini-tofu"]
MISTAKES = {
    "train": [
        (["train", "--dataset", "mini-tofu"], "--output-dir: expected a new directory"),
        (["train", "--output-dir", "OUT"], "--dataset: expected a file"),
        (["train", "--output-dir", "OUT", "--dataset", "gone.jsonl"], "gone.jsonl: no such file"),
        ([*TRAIN, "--epoch", "3"], "unknown option --epoch"),
        ([*TRAIN, "--epochs", "3"], "--epochs is called --num-train-epochs now"),
        ([*TRAIN, "--learning-rate", "fast"], "invalid float value: 'fast'"),
        ([*TRAIN, "--learning-rate", "0"], "--learning-rate 0.0: expected above 0"),
        ([*TRAIN, "--weight-decay", "much"], "invalid float value: 'much'"),
        ([*TRAIN, "--learning-rate", "inf"], "--learning-rate inf: expected a finite number"),
        ([*TRAIN, "--max-grad-norm=-inf"], "--max-grad-norm -inf: expected a finite number"),
        ([*TRAIN, "--weight-decay", "inf"], "--weight-decay inf: expected a finite number"),
        ([*TRAIN, "--adam-epsilon", "nan"], "--adam-epsilon nan: expected a finite number"),
        ([*TRAIN[:3], "--dataset", "C:\\data\\x.jsonl"], "it looks like one of Windows, expected one of this system"),
        ([*TRAIN, "--config", "$HOME/run.yaml"], "$HOME/run.yaml: no such path; ~ and variables such as $HOME"),
        ([*TRAIN, "--discriminator", "cmm"], "unknown discriminator 'cmm': expected one of cnn"),
        ([*TRAIN, "--reward", "token*tokn"], "unknown reward 'tokn': expected one of consensus"),
        ([*TRAIN, "--reward-transform", "square"], "unknown reward transform 'square'"),
        ([*TRAIN, "--advantage", "some"], "unknown advantage 'some'"),
        ([*TRAIN, "--objective", "win"], "unknown objective 'win'"),
        ([*TRAIN, "--template", "plane"], "unknown template 'plane'"),
        ([*TRAIN, "--generator", "embedding+lorra"], "unknown generator 'lorra': expected one of embedding"),
        ([*TRAIN, "--format", "prose"], "unknown data format 'prose'"),
        ([*TRAIN, "--optim", "adamm"], "--optim adamm: expected one of adafactor, adagrad"),
        ([*TRAIN, "--lr-scheduler-type", "steep"], "--lr-scheduler-type steep: expected one of constant"),
        ([*TRAIN, "--report-to", "paper"], "--report-to paper: expected none, all, or one of azure_ml, clearml"),
    ],
    "the others": [
        (["generate", "Who?"], "required: --adapter"),
        (["generate", "--adapter", "x", "Who?", "--samples", "0"], "--samples 0: expected at least 1"),
        (["generate", "--adapter", "nowhere", "Who?"], "nowhere: no such folder"),
        (["generate", "--adapter", "$HOME/x", "Who?"], "$HOME/x: no such path; ~ and variables such as $HOME"),
        (["generate", "--adapter", "x", "Who?", "--temperature", "inf"], "--temperature inf: expected a finite number"),
        (["evaluate", "--adapter", "x", "--dataset", "mini-tofu", "--output", "~/out"], "~/out: no such path; ~ and"),
        (["merge", "--adapter", "x", "--output", "out\\merged"], "it looks like one of Windows"),
        (["evaluate", "--dataset", "mini-tofu"], "--adapter: expected a folder"),
        (["evaluate", "--adapter", "x", "--decoding", "beam"], "--decoding beam: expected greedy"),
        (["merge", "--adapter", "x", "--output", "OUT", "--noise", "3"], "--noise 3: expected zero or seed:N"),
        (["plot", "${RUNS}/1"], "${RUNS}/1: no such path; ~ and variables"),
        (["run", "nowhere.py"], "nowhere.py: no such script, and no module of that name"),
        (["plot", "nowhere"], "nowhere: neither history.jsonl nor weights.npz"),
        (["data", "show", "x.jsonl", "--template", "plane"], "unknown template 'plane'"),
        (["data", "clean", "x.jsonl", "y.jsonl", "--format", "prose"], "unknown data format 'prose'"),
        (["data", "clean", "mini-tofu", "%TEMP%\\y.jsonl"], "no such path; ~ and variables"),
        (["env", "now"], "unrecognized arguments: now"),
    ],
    "compare": [
        (["compare", "--epoks", "3"], "unknown option --epoks"),
        (["compare", "--epochs", "3"], "--epochs is called --num-train-epochs now"),
        (["compare", "--preset", "source", "--epoks", "3"], "unknown option --epoks"),
        (["compare", "--methods", "lorra"], "unknown method 'lorra': expected one of base"),
        (["compare", "--methods", "gan:lorra"], "unknown generator 'lorra'"),
        (["compare", "--discriminator", "cmm"], "unknown discriminator 'cmm': expected one of cnn"),
        (["compare", "--optim", "adamm"], "--optim adamm: expected one of adafactor, adagrad"),
        (["compare", "--lr-scheduler-type", "steep"], "--lr-scheduler-type steep: expected one of constant"),
        (["compare", "--num-train-epochs", "0"], "--num-train-epochs 0.0: expected above 0"),
        (["compare", "--decoding", "beam"], "--decoding beam: expected greedy"),
        (["compare", "--dtype", "fp8"], "--dtype fp8: expected one of float32"),
        (["compare", "--match", "time", "--methods", "gan"], "--match time: expected lora among --methods"),
    ],
}
HELP = {
    "train": ["train"],
    "the others": ["generate", "evaluate", "merge", "run", "plot", "data", "env"],
    "compare": ["compare"],
}


@pytest.mark.parametrize("family", MISTAKES)
def test_help_and_mistakes_import_nothing_heavy(family, tmp_path):
    asked = [[name, "--help"] for name in HELP[family]] + [arguments for arguments, _ in MISTAKES[family]]
    command = [sys.executable, "-c", CODE, json.dumps(asked), json.dumps(HEAVY)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    for arguments, (_, _, _, imported) in zip(asked, told, strict=True):
        assert not imported, f"{' '.join(arguments)} has imported {', '.join(imported)}"
    count = len(HELP[family])
    for name, (status, out, _, _) in zip(HELP[family], told[:count], strict=True):
        assert status == 0 and name in out
    for (arguments, expected), (status, out, err, _) in zip(MISTAKES[family], told[count:], strict=True):
        assert status == 2 and not out and expected in err, arguments
        assert err.startswith("error: ") and err.count("\n") == 1, arguments
    assert not list(tmp_path.iterdir()), "a mistake leaves nothing behind"
