"""README and docs: figures are those of stored runs, what they point to and name is there; stored results are small."""

from __future__ import annotations

import ast
import importlib
import json
import re
from configparser import ConfigParser
from pathlib import Path
from statistics import fmean
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest

import gantune
from benchmarks.compare.answers import FILE, stored_answers
from benchmarks.compare.stored import read
from benchmarks.report.differences import differences
from benchmarks.report.readme_figures import MARKED, REFERENCE, documents, filled, means, verdict
from benchmarks.report.readme_figures import differences as differences_of
from benchmarks.report.readme_figures import main as fill_documents
from gantune.cli.options import TrainingOptions
from gantune.diagnostics import write_json
from gantune.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FOREIGN = {
    "--multi-gpu",
    "--num-processes",
    "--config-file",
    "--nproc-per-node",
    "--model-args",
    "--tasks",
    "--index-url",
    "--logdir",
    "--backend-store-uri",
}
"""Options of other programs."""


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(language: str) -> list[str]:
    texts = (page.read_text(encoding="utf-8") for page in PAGES)
    return [block for text in texts for block in re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)]


def test_readme_is_short_and_begins_with_python():
    lines = README.splitlines()
    assert len(lines) <= 150
    assert lines.index("```python") < 25


def test_badges_say_what_the_package_says():
    package = ConfigParser()
    package.read(ROOT / "setup.cfg")
    python = package["options"]["python_requires"].removeprefix(">=") + "+"
    told = {"python": python, "licence": package["metadata"]["license"]}
    for label, words in told.items():
        address = f"{label}-{quote(words.replace('-', '--'))}-blue"
        assert f"![{label} {words}](https://img.shields.io/badge/{address})" in README
    assert README.count("https://img.shields.io/") == len(told)


def test_version_changes_and_citation_are_of_one_version():
    changes = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    cited = re.search(r"^version: (\S+)", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert changes[1] == cited[1] == gantune.__version__


@pytest.mark.parametrize("document", documents(), ids=name)
def test_every_figure_is_that_of_the_stored_runs(document):
    text = document.read_text(encoding="utf-8")
    assert filled(text, document.name) == text, "run: python -m benchmarks.report.readme_figures"
    assert text.count("<!--figure ") == text.count("<!--/figure-->") == len(MARKED.findall(text))


def test_figures_are_written_anew_and_unknown_ones_refused():
    new = filled("GAN <!--figure means mini rougeL gan-->9.999<!--/figure--> and text")
    of_gan = json.loads((REFERENCE / "mini/comparison.json").read_text())["summary"]["gan"]["rougeL"]
    mean, half_width = (f"{of_gan[key]:.3f}".removeprefix("0") for key in ("mean", "half_width"))
    assert new.startswith("GAN <!--figure means mini rougeL gan-->\n\n| method | ROUGE-L |\n")
    assert f"\n| `gan` | {mean} ±{half_width} |\n" in new and new.endswith("<!--/figure--> and text")
    assert filled(new) == new
    for mark in ("colour mini", "means mini rougeL nobody", "means nowhere rougeL gan", "means mini", "printed no.txt"):
        with pytest.raises(UserError, match=r"README.md: figure"):
            filled(f"<!--figure {mark}-->1<!--/figure-->")


def stored_differences(monkeypatch, **intervals):
    """A comparison of a method `ours` with `lora`, whose differences have these intervals and corrected p."""
    rows = [
        {"method": "ours", "rival": "lora", "metric": metric, "difference": (low + high) / 2, "low": low, "high": high,
         "p_holm": p}
        for metric, (low, high, p) in intervals.items()
    ]  # fmt: skip
    ours = {"train_seconds": {"mean": 30.0}, "peak_memory_bytes": {"mean": 5e6}}
    lora = {"train_seconds": {"mean": 20.0}, "peak_memory_bytes": {"mean": 2e6}}
    ours["nll"] = {"mean": 10.25, "half_width": 0.125}
    stored = {"differences": rows, "summary": {"ours": ours, "lora": lora}, "rows": [{"seed": 1}, {"seed": 2}]}
    monkeypatch.setattr("benchmarks.report.readme_figures._stored", lambda name: stored)


def test_the_verdict_says_what_holms_correction_leaves(monkeypatch):
    better = {"slot_errors": (-0.3, -0.1, 0.04), "right": (0.1, 0.2, 0.001)}
    stored_differences(monkeypatch, **better, slot_errors_sampled=(0.1, 0.3, 0.04), rougeL=(-0.1, 0.1, 0.9))
    first, price = verdict("any", "ours", "lora").split("\n- ")[1:]
    assert first == (
        "Beside `lora`: the game is better in slot errors and texts without an error; the game is worse in slot errors "
        "of samples; in ROUGE-L 2 seeds cannot tell, the interval contains zero."
    )
    assert price.startswith("Its price, training time and memory: 1.5 and 2.5 times those of `lora`.")
    unsure = {"slot_errors": (-0.3, -0.1, 0.06), "right": (0.1, 0.2, 0.05)}
    stored_differences(monkeypatch, **unsure, slot_errors_sampled=(0.1, 0.3, 0.04), rougeL=(-0.1, 0.1, 0.9))
    assert "in slot errors and texts without an error 2 seeds cannot tell, after Holm's correction." in (
        verdict("any", "ours", "lora")
    )


def test_the_price_is_that_of_the_part_that_measures_it_alone(monkeypatch, tmp_path):
    monkeypatch.setattr("benchmarks.report.readme_figures.REFERENCE", tmp_path)
    rows = [{"method": "ours", "rival": "lora", "metric": metric, "difference": 1, "low": 1, "high": 1, "p_holm": 0}
            for metric in ("slot_errors", "slot_errors_sampled", "right", "rougeL")]  # fmt: skip
    for folder, seconds in (("priced", 90.0), ("priced-timing", 30.0)):
        costs = {"train_seconds": {"mean": seconds}, "peak_memory_bytes": {"mean": 1e6}}
        summary = {"ours": costs, "lora": costs | {"train_seconds": {"mean": 20.0}}}
        write_json(tmp_path / folder / "comparison.json", {"differences": rows, "summary": summary, "rows": []})
    assert "memory: 1.5 and 1.0 times those of `lora`." in verdict("priced", "ours", "lora")


def test_only_numbers_below_one_lose_their_zero(monkeypatch):
    stored_differences(monkeypatch, nll=(-10.5, 0.25, 0.9))
    assert "| -5.125 (-10.500 to +.250) |" in differences_of("any", "nll", "ours,lora")
    assert "| 10.250 ±.125 |" in means("any", "nll", "ours")


@pytest.mark.parametrize(("argument", "status"), [("--help", 0), ("README.md", 2)])
def test_filling_takes_no_arguments(monkeypatch, capsys, argument, status):
    monkeypatch.setattr("benchmarks.report.readme_figures.documents", lambda: pytest.fail("it was done"))
    if status:
        assert fill_documents([argument]) == status
        assert "unrecognized arguments: README.md" in capsys.readouterr().err
    else:
        with pytest.raises(SystemExit):
            fill_documents([argument])


@pytest.mark.parametrize("block", blocks("python"))
def test_python_blocks_parse_and_import_what_exists(block):
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "gantune":
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names)
            assert node.module != "gantune" or {alias.name for alias in node.names} <= set(gantune.__all__)


def test_all_names_of_the_package_are_there_for_editors_too():
    tree = ast.parse((ROOT / "gantune/__init__.py").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    assert {alias.name for node in block.body for alias in node.names} == set(gantune.__all__)
    assert all(getattr(gantune, each) for each in gantune.__all__)
    assert (ROOT / "gantune/py.typed").exists()


def test_options_that_documents_name_are_there():
    sources = [path for package in ("gantune", "benchmarks", "baselines") for path in (ROOT / package).rglob("*.py")]
    words = set(re.findall(r"[\w-]+", " ".join(path.read_text(encoding="utf-8") for path in sources)))
    known = words | {option.replace("_", "-") for option in (*words, *TrainingOptions().types)}
    for page in PAGES:
        named = {
            option.replace("_", "-") for option in re.findall(r"(?<![\w`-])--[a-z][\w-]+", page.read_text("utf-8"))
        }
        missing = {option for option in named - FOREIGN if option not in known and option[2:] not in known}
        assert not missing, f"{page}: {missing}"


def anchors(text: str) -> set[str]:
    """The places in a Markdown file that a link can name, as GitHub makes them of its headings."""
    headings = [line.lstrip("# ").lower() for line in text.splitlines() if line.startswith("#")]
    return {re.sub(r"[^\w -]", "", heading).replace(" ", "-") for heading in headings}


ELSEWHERE = ("CONTRIBUTING.md", "CHANGELOG.md", "results/**/*.md", "gantune/assets/**/*.md", ".github/**/*.md")
LINKED = [*PAGES, *(path for pattern in ELSEWHERE for path in sorted(ROOT.glob(pattern)))]


@pytest.mark.parametrize("document", LINKED, ids=name)
def test_what_a_document_points_to_is_there(document):
    text = document.read_text(encoding="utf-8")
    assert all(a == b for a, b in re.findall(r"\[arXiv:([^]]+)\]\(https://arxiv.org/abs/([^)]+)\)", text))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
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
