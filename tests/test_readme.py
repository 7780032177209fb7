"""What README prints is what a stored run printed, and its Python can be read by Python."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

import gantune

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
REFERENCE = ROOT / "results" / "reference"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_first_table_is_what_the_command_printed():
    table = next(block for block in blocks("text") if block.startswith("model mini"))
    printed = (REFERENCE / "make-compare.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in table.splitlines() if line not in printed] == []


@pytest.mark.parametrize(("run", "position"), [("mini", 0), ("tofu-tinystories", 1)])
def test_figures_in_the_text_are_those_of_the_reference_runs(run, position):
    summary = json.loads((REFERENCE / run / "comparison.json").read_text(encoding="utf-8"))["summary"]

    def written(method):
        figure = summary[method]["rougeL"]
        return f"{figure['mean']:.3f} ±{figure['half_width']:.3f}".replace("0.", ".")

    text = " ".join(README.split())
    for method in ("gan", "base", "lora", "mle"):
        assert written(method) in text
    ratios = [summary["gan"][name]["ratio_to_lora"] for name in ("train_seconds", "peak_memory_bytes")]
    time, memory = re.search(r"It costs (.*?) times LoRA's time and (.*?) times its memory", text).groups()
    assert f"{ratios[0]:.1f}" == time.split(" and ")[position]
    assert f"{ratios[1]:.1f}" == memory.split(" and ")[position]


def test_the_table_of_the_synthetic_benchmark_is_the_reference_runs():
    written = (REFERENCE / "oracle" / "oracle.md").read_text(encoding="utf-8").splitlines()
    table = [line for line in README.splitlines() if line in written and line.startswith("|")]
    assert len(table) == len([line for line in written if line.startswith("|")])
    text = " ".join(README.split())
    rows = json.loads((REFERENCE / "oracle" / "oracle.json").read_text(encoding="utf-8"))["rows"]
    for epoch in (5, 10, 15):
        values = [
            next(row["nll_oracle"] for row in run["history"] if row["epoch"] == epoch)
            for run in rows
            if run["method"] == "mle"
        ]
        assert f"{sum(values) / len(values):.2f}" in text


@pytest.mark.parametrize("block", blocks("python"))
def test_python_blocks_parse_and_import_what_exists(block):
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and node.module == "gantune":
            assert {alias.name for alias in node.names} <= set(gantune.__all__)
