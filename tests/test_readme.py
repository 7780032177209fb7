"""What README prints is what a stored run printed, and its Python can be read by Python."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

import gantune
from benchmarks.report.readme_figures import MARKED, REFERENCE, filled
from gantune.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_every_figure_is_that_of_the_stored_runs():
    assert len(MARKED.findall(README)) >= 20
    assert filled(README) == README, "run: python -m benchmarks.report.readme_figures"


def test_figures_are_written_anew_and_unknown_ones_refused():
    old = "GAN <!--figure rouge mini gan-->9.999<!--/figure--> and text"
    new = filled(old)
    mean = json.loads((REFERENCE / "mini/comparison.json").read_text())["summary"]["gan"]["rougeL"]["mean"]
    assert new.startswith(f"GAN <!--figure rouge mini gan-->{mean:.3f}".replace("0.", ".", 1))
    assert new.endswith("<!--/figure--> and text") and filled(new) == new
    for mark in ("colour mini", "rouge mini nobody", "rouge nowhere gan", "rouge mini"):
        with pytest.raises(UserError):
            filled(f"<!--figure {mark}-->1<!--/figure-->")


@pytest.mark.parametrize("block", blocks("python"))
def test_python_blocks_parse_and_import_what_exists(block):
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and node.module == "gantune":
            assert {alias.name for alias in node.names} <= set(gantune.__all__)
