"""The programs of `examples/`, each run in this process at a tiny size, and the notebook."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NOTEBOOK = ROOT / "examples/first_steps.ipynb"
SMALLER = {
    r"discriminator_warmup_steps=\d+,": "",
    r"logging_steps=\d+,? ?": "",
    r"num_train_epochs=\d+": "num_train_epochs=3, discriminator_warmup_steps=2, logging_steps=1",
    r"max_steps=\d+": "max_steps=1",
    r"everything, \d+, \d+": "everything, 8, 4",
    r"\[:\d+\]": "[:4]",
    r"\[(\d+):\d+\]": r"[\1:][:4]",
}
"""What makes a program quick: fewer pairs and steps."""
PRINTS = {
    "continue_in_trl": "",
    "data_to_text": r"8 texts to learn from, \d+ records without text, 4 records .*\n.*-> .*\nslot error rate \d",
    "distillation": r"\?\n  teacher: .*\n  student: ",
    "own_discriminator": r"right on \d+% of what it read last\n",
    "own_generator": r"56256 trained parameters\n.*the same answers: True\n",
    "own_reward": r"mean reward of the sampled answers: \d.\d\d at first, \d.\d\d at last\n",
    "plots": "health.png history.png weights.png\n",
    "quickstart": r"(\?\n  tuned: .*\n  true:  .*\n.*){3}",
}
"""What each program says, log lines aside."""


def smaller(source: str) -> str:
    for pattern, replacement in SMALLER.items():
        source = re.sub(pattern, replacement, source)
    return source


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder of its own for what a program writes."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("program", EXAMPLES, ids=lambda path: path.stem)
def test_examples_run(program, elsewhere, capsys):
    source = program.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 40
    if "trl" in program.stem:
        pytest.importorskip("trl", reason="TRL is not installed, and no dependency")
    exec(compile(smaller(source), program, "exec"), {"__name__": "__main__"})
    said = "".join(line for line in capsys.readouterr().out.splitlines(keepends=True) if not line.startswith("{"))
    assert re.search(PRINTS[program.stem], said), said
    folder = re.search(r'save_\w+\("(\w+)"\)', source)
    assert folder is None or any((elsewhere / folder[1]).iterdir())


def test_the_notebook_runs_as_it_is_stored(elsewhere, capsys, monkeypatch):
    cells = [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
    shown = ModuleType("IPython.display")  # which is a notebook's own, and no dependency
    shown.Image = lambda file: (elsewhere / file).stat().st_size
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", shown)
    names = {"__name__": "__main__"}
    for cell in cells:
        assert cell["outputs"] and all(output["output_type"] != "error" for output in cell["outputs"])
        exec(compile(smaller("".join(cell["source"])), NOTEBOOK, "exec"), names)
    said = capsys.readouterr().out
    assert said.count("before:") == said.count("after: ") == 2
    assert re.search(r"game \d.\d{3}, control \d.\d{3}\n", said)
