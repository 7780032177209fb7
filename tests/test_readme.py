"""What README prints is what a stored run printed, what documents point to is there, and stored results are small."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from statistics import fmean

import pyarrow.parquet as pq
import pytest

import gantune
from benchmarks.compare.answers import FILE, stored_answers
from benchmarks.compare.stored import read
from benchmarks.report.differences import differences
from benchmarks.report.readme_figures import MARKED, REFERENCE, filled
from gantune.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "results").rglob("*.md"))]


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


def anchors(text: str) -> set[str]:
    """The places in a Markdown file that a link can name, as GitHub makes them of its headings."""
    headings = [line.lstrip("# ").lower() for line in text.splitlines() if line.startswith("#")]
    return {re.sub(r"[^\w -]", "", heading).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_points_to_is_there(document):
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        if not link.startswith(("https:", "http:")):
            file, _, anchor = link.partition("#")
            target = (document.parent / file) if file else document
            assert target.exists(), f"{document}: {link}"
            assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), f"{document}: {link}"


def test_the_commands_of_the_results_name_what_is_there():
    text = (ROOT / "results/README.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| `(reference/[^`]+)`", text, flags=re.MULTILINE))
    assert rows == {f"reference/{path.name}" for path in REFERENCE.iterdir()}
    assert all((ROOT / file).is_file() for file in re.findall(r"--winners (\S+)", text))


def test_stored_results_stay_small():
    files = [ROOT / "results/README.md", *(path for path in REFERENCE.rglob("*") if path.is_file())]
    files = [file for file in files if file.name != "comparison.html"]  # ignored by git: `--from` makes it again
    assert len(files) < 60 and sum(file.stat().st_size for file in files) < 8e6


@pytest.mark.parametrize("name", sorted(file.parent.name for file in REFERENCE.glob("*/comparison.json")))
def test_stored_answers_have_the_scores_that_the_stored_rows_say(name):
    directory = REFERENCE / name
    rows = [row for row in read(directory).rows if row["status"] == "success"]
    answers = stored_answers(directory, rows)
    for row in rows:
        assert row["environment"]["git"]["commit"]
        assert_scores(row, [sample["scores"] for sample in answers[row["method"], row["seed"]].samples])


def test_stored_answers_give_the_stored_differences():
    directory = REFERENCE / "mini"
    stored = json.loads((directory / "comparison.json").read_text(encoding="utf-8"))
    assert differences(directory, stored["rows"]) == [
        {name: pytest.approx(value, rel=1e-9) if isinstance(value, float) else value for name, value in row.items()}
        for row in stored["differences"]
    ]


def test_the_ablations_have_the_scores_that_their_rows_say():
    stored = json.loads((REFERENCE / "ablations/comparisons.json").read_text(encoding="utf-8"))
    runs: dict[tuple[str, str, int], list[dict[str, float]]] = {}
    for row in pq.read_table(REFERENCE / "ablations" / FILE).to_pylist():
        runs.setdefault((row["comparison"], row["method"], row["seed"]), []).append(row)
    rows = {(name, row["method"], row["seed"]): row for name, of in stored.items() for row in of["rows"]}
    assert runs.keys() == {run for run in rows if run[0] != "best-of-k-early"}  # of which no answers were kept
    for run, scores in runs.items():
        assert_scores(rows[run], scores)


def assert_scores(row, scores):
    """The figures of a row are those of its answers."""
    for metric in ("rouge1", "rougeL"):
        assert fmean(of_answer[metric] for of_answer in scores) == pytest.approx(row["metrics"][metric], rel=1e-9)
    if row["metrics"]["nll"] is not None:
        nats = sum(of_answer["nll"] * of_answer["tokens"] for of_answer in scores)
        tokens = sum(of_answer["tokens"] for of_answer in scores)
        assert nats / tokens == pytest.approx(row["metrics"]["nll"], rel=1e-9)
