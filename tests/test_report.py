"""The page of a comparison: what it holds, that texts of the data cannot break out of it, and how it acts in a browser.

The browser is a headless Chromium, spoken to over its DevTools pipe; the tests that need it skip without one.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.compare.files import read_rows
from benchmarks.compare.run import METRICS
from benchmarks.report import write_report
from benchmarks.report.__main__ import main as report_command
from benchmarks.report.curves import history, memory, weights
from benchmarks.report.forgetting_table import MEASURES, SETS, UTILITIES
from benchmarks.report.page import content, embedded_json, render
from benchmarks.report.pictures import colour_numbers
from benchmarks.report.questions import of_seed, questions
from benchmarks.report.read import read_comparison
from benchmarks.report.table import pareto_front
from benchmarks.report.terminal_table import COLUMNS, best_method, summarise
from gantune.errors import UserError

HOSTILE = (
    "</script><script>window.hacked = 1</script>",
    '<img src=x onerror="window.hacked = 2">',
    "<!--<script>",
    "\" onmouseover='window.hacked = 3' x=\"",
    "javascript:window.hacked=4",
    "{{SCRIPT}} {{DATA}} \\1 \\g<0> ${window.hacked = 5}",
    "nul \0 bell \a escape \x1b delete \x7f next line \x85 separators \u2028 \u2029",
    "lone surrogates \ud800 and \udfff",
    "]]> &lt;b&gt; &amp; <b>bold</b>",
)
READING = (
    "Paired differences: hierarchical bootstrap-t, questions within seeds; Holm's correction over the methods compared "
    "with one rival; * marks p (Holm) < .05. A lower NLL is better."
)
REFERENCE = Path(__file__).parents[1] / "results" / "reference"


# ---- Comparisons to write pages of


def run_row(method: str, seed: int, rouge: float, **more: Any) -> dict[str, Any]:
    """A row of `comparison.json` as `benchmarks.compare.run` gives it."""
    row = {"method": method, "seed": seed, "status": "success", "error": None, "trainable_parameters": 0}
    row |= {"train_seconds": None, "peak_memory_bytes": None, "not_run": {}, "warnings": [], "memory_record": None}
    return row | {"metrics": dict.fromkeys(METRICS) | {"rougeL": rouge}} | more


def write_comparison(directory: Path, rows: Sequence[dict[str, Any]], **settings: Any) -> Path:
    """A directory that holds `comparison.json` alone."""
    directory.mkdir(parents=True, exist_ok=True)
    asked = {"model": "a/model", "dtype": "float32", "device": "cpu", "command": "python -m benchmarks.compare"}
    asked |= {"data": {"dataset": "pairs.jsonl", "train_size": 5, "test_size": 3}, "tuning": {"epochs": 2}}
    asked |= {name: list(dict.fromkeys(row[name[:-1]] for row in rows)) for name in ("methods", "seeds")}
    stored = {"schema": 1, "settings": asked | settings, "rows": rows, "summary": summarise(rows)}
    (directory / "comparison.json").write_text(json.dumps(stored))
    return directory


def write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def sample(question: str, answer: str, rouge: float, reference: str = "the true answer") -> dict[str, Any]:
    return {"question": question, "reference": reference, "base_answer": "?", "answer": answer} | {
        "scores": {"rougeL": rouge}
    }


def two_methods(directory: Path) -> Path:
    """Methods gan and lora, three seeds, three questions each; gan is faster beyond doubt, its quality is not."""
    figures = {
        ("gan", 0): (0.30, 10.0),
        ("gan", 1): (0.50, 10.2),
        ("gan", 2): (0.40, 10.1),
        ("lora", 0): (0.45, 20.0),
        ("lora", 1): (0.41, 20.2),
        ("lora", 2): (0.43, 20.1),
    }
    rows = [run_row("base", seed, 0.1 + 0.01 * seed) for seed in (0, 1, 2)]
    for (method, seed), (rouge, seconds) in figures.items():
        rows.append(run_row(method, seed, rouge, train_seconds=seconds, peak_memory_bytes=2e6, trainable_parameters=9))
    for row in rows:
        runs = directory / f"runs/{row['method']}-seed{row['seed']}"
        score = {"base": (0, 0, 0), "gan": (0.2, 0.9, 0.4), "lora": (0.6, 0.4, 0.4)}[row["method"]]
        asked = [f"Question {name} of seed {row['seed']}?" for name in ("one", "two", "three")]
        answers = [f"{row['method']} answers {name}" for name in ("alpha", "beta", "gamma")]
        write_lines(runs / "samples.jsonl", [sample(*one) for one in zip(asked, answers, score, strict=True)])
        if row["method"] != "base":
            steps = [{"step": step, "phase": "likelihood", "loss": 5 / step} for step in range(1, 9)]
            write_lines(runs / "history.jsonl", steps)
    return write_comparison(directory, rows)


def hostile(directory: Path) -> Path:
    """Every text that a comparison can hold is one that would do harm as markup."""
    methods = [*HOSTILE, "gan"]
    trained = {"train_seconds": 3.0}
    rows = [
        run_row(name, 0, 0.5, **trained, directory=f"runs/{index}", warnings=[name], forgetting=known_after(0.5, name))
        for index, name in enumerate(methods)
    ]
    rows[0] |= {"status": "failed", "error": HOSTILE[1]}
    for index, name in enumerate(methods):
        samples = [sample(text, f"{text} answer", 0.5, f"{text} {text}") for text in HOSTILE]
        write_lines(directory / f"runs/{index}/samples.jsonl", samples)
        steps = [{"step": step, "phase": "adversarial", "loss": 1.0, "reward": 0.1 * step} for step in (1, 2)]
        write_lines(directory / f"runs/{index}/history.jsonl", steps)
        environment = {"python": name, "versions": {name: name}, "git": {"commit": name, "dirty": True}}
        (directory / f"runs/{index}/environment.json").write_text(json.dumps(environment))
        np.savez(
            directory / f"runs/{index}/weights.npz",
            names=np.array([f"x.{name}".replace("\ud800", "").replace("\udfff", ""), "frozen"]),
            trainable=np.array([True, False]),
            epochs=np.array([0.0, 1.0]),
            norms=np.ones((2, 2), np.float32),
            samples=np.ones((2, 2, 4), np.float32),
        )
    data = {"dataset": HOSTILE[0], "train_size": 5, "test_size": 3}
    everywhere = dict(zip(("model", "dtype", "device"), HOSTILE, strict=False))
    settings = everywhere | {"data": data, "command": " ".join(HOSTILE), "tuning": dict.fromkeys(HOSTILE, HOSTILE[0])}
    return write_comparison(directory, rows, **settings)


def hostile_differences() -> list[dict[str, Any]]:
    return [
        {"method": text, "rival": text, "metric": text, "difference": 0.1, "low": 0, "high": 0.2} for text in HOSTILE
    ]


def known_after(level: float, source: str = "a source", **changes: float | None) -> dict[str, Any]:
    """What `benchmarks.compare.forgetting` gives, one value for all; `tuned__probability=...` changes one."""
    of_set = {"source": source, "questions": 7, "truth_ratio_questions": 7} | dict.fromkeys(MEASURES, level)
    found = {name: dict(of_set) for name in SETS} | dict.fromkeys(UTILITIES, level)
    for name, value in changes.items():
        *sets, figure = name.split("__")
        (found[sets[0]] if sets else found)[figure] = value
    return found


def forgetful(directory: Path) -> Path:
    """Base, gan and lora, three seeds; gan's figures for world facts are better beyond doubt, its utility is not."""
    rows = []
    for seed in (0, 1, 2):
        gan = known_after(0.5 + 0.05 * seed, world_facts__probability=0.9 + 0.002 * seed, tuned__rougeL_recall=None)
        lora = known_after(0.4 + 0.05 * seed, world_facts__probability=0.3)
        rows += [run_row("base", seed, 0.1, forgetting=known_after(0.2, tuned__rougeL_recall=None))]
        rows += [run_row("gan", seed, 0.5, train_seconds=1.0, forgetting=gan), run_row("copy-question", seed, 0.1)]
        rows += [run_row("lora", seed, 0.5, train_seconds=1.0, forgetting=lora)]
    rows += [run_row("full", 0, 0.5, status="failed", error="no")]
    return write_comparison(directory, rows)


class Elements(HTMLParser):
    """Every element of a page with its attributes, and the texts of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._raw = False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if self._raw or tag in ("script", "style"):
            self._raw = True
            self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._raw = False

    def handle_data(self, data: str) -> None:
        if self._raw:
            self.texts[-1] += data


# ---- What the page holds


def test_best_is_marked_only_where_its_interval_overlaps_with_no_other():
    columns = {column.key: column for column in COLUMNS}

    def figures(**values: tuple[float, float | None] | None) -> dict[str, dict[str, Any]]:
        keys = ("mean", "half_width")
        return {name: {"nll": v and dict(zip(keys, v, strict=True))} for name, v in values.items()}

    def best(summary: dict[str, dict[str, Any]], key: str = "nll") -> str | None:
        return best_method(summary, columns[key])

    assert best(figures(a=(1.0, 0.2), b=(1.5, 0.2))) == "a"
    assert best(figures(a=(1.0, 0.3), b=(1.5, 0.2))) is None  # 1.3 meets 1.3
    assert best(figures(a=(1.0, 0.1), b=(1.5, 0.1), c=(2.0, 1.5))) is None  # the third overlaps
    assert best(figures(a=(1.0, None), b=(9.0, 0.1))) is None
    assert best(figures(a=(1.0, 0.1), b=None)) is None
    assert best(figures(a=(1.0, 0.0), b=(1.0, 0.0))) is None
    higher = {name: {"rougeL": figure["nll"]} for name, figure in figures(a=(1.0, 0.2), b=(1.5, 0.2)).items()}
    assert best(higher, "rougeL") == "b"
    neutral = {name: {"mean_length": figure["nll"]} for name, figure in figures(a=(1.0, 0.0), b=(9.0, 0.0)).items()}
    assert best(neutral, "mean_length") is None


def test_pareto_front_drops_what_is_beaten_at_no_more_cost():
    points = {"dear": (30, 0.9), "cheap": (1, 0.2), "beaten": (20, 0.5), "good": (10, 0.5), "worse": (10, 0.4)}
    rows = [{"method": name, "cost": [cost, 0], "quality": [q, 0]} for name, (cost, q) in points.items()]
    rows += [{"method": "free", "cost": [None, None], "quality": [1.0, 0]}]
    assert pareto_front(rows, "cost") == ["cheap", "good", "dear"]
    assert pareto_front(rows, "cost", "low") == ["cheap"]


def test_cells_of_the_table(tmp_path):
    report = content(read_comparison(two_methods(tmp_path)))
    headings = [column["heading"] for column in report["table"]["columns"]]
    assert headings == ["ROUGE-L", "trainable", "time", "memory"], "the headline first, nothing that has no value"
    assert [row["method"] for row in report["table"]["rows"]] == ["lora", "gan", "base"], "best first, controls last"
    lora, gan, base = report["table"]["rows"]
    assert base["cells"][1] is None and base["cells"][2] is None
    assert [row["control"] for row in (lora, gan, base)] == [False, False, True]
    # mean 0.4, standard deviation 0.1, t(0.975, 2) = 4.3027: half width 4.3027 * 0.1 / sqrt(3)
    assert (gan["cells"][0]["text"], gan["cells"][0]["interval"]) == ("0.400", "±0.248")
    assert gan["cells"][0]["ratio"] == pytest.approx(0.4 / 0.43, rel=1e-4)
    assert [row["cells"][2] and row["cells"][2]["best"] for row in (lora, gan, base)] == [False, True, None]
    assert not any(row["cells"][0]["best"] for row in (lora, gan, base))


def test_a_method_has_one_colour_everywhere_and_controls_have_none():
    methods = ["copy-question", "base", "gan", "full", "lora", "few-shot"]
    assert colour_numbers(methods) == {
        "copy-question": None, "base": None, "gan": 1, "full": 2, "lora": 0, "few-shot": 3,
    }  # fmt: skip


def test_cells_of_the_tables_of_forgetting(tmp_path):
    found = content(read_comparison(forgetful(tmp_path)))["forgetting"]
    titles = ["utility", "tuned authors", "held-out authors", "real authors", "world facts"]
    assert [table["title"] for table in found["tables"]] == titles
    facts = found["tables"][-1]
    assert [row["method"] for row in facts["rows"]] == ["base", "gan", "lora"]
    # of .900, .902 and .904 the standard error is .002 / sqrt(3), and t(0.975, 2) = 4.3027
    assert facts["rows"][1]["cells"][0] == {"mean": 0.902, "text": "0.902", "interval": "±0.005", "best": True}
    assert not any(cell["best"] for row in facts["rows"] for cell in row["cells"][1:])
    assert [row["cells"][1] and row["cells"][1]["text"] for row in found["tables"][1]["rows"]] == [None, None, "0.450"]
    assert content(read_comparison(two_methods(tmp_path / "without")))["forgetting"] is None


def test_forgetting_of_another_kind_is_refused_in_one_line(tmp_path):
    for index, stored in enumerate(([0.5], {"tuned": {}}, known_after(0.5, tuned__probability="high"))):
        rows = [run_row("gan", 0, 0.5, forgetting=stored)]
        with pytest.raises(UserError, match=r"comparison\.json: is no comparison"):
            read_comparison(write_comparison(tmp_path / str(index), rows))


def test_a_single_seed_has_no_best_value(tmp_path):
    rows = [run_row("gan", 0, 0.9, train_seconds=1.0), run_row("lora", 0, 0.1, train_seconds=9.0)]
    report = content(read_comparison(write_comparison(tmp_path, rows)))
    assert not any(cell["best"] for row in report["table"]["rows"] for cell in row["cells"] if cell)
    assert any("One seed: no interval" in note for note in report["cautions"])


def test_history_is_thinned_by_phase_and_parts_the_likelihood_from_the_policy_gradient():
    rows = [{"step": step, "phase": "likelihood", "loss": float(step)} for step in range(1, 361)]
    rows += [{"step": 361, "phase": "adversarial", "loss": 0.5, "likelihood": 0.6, "reward": None, "kl": float("nan")}]
    found = history(rows, weight=2.0)
    assert found["likelihood"]["block"] == 3
    assert found["likelihood"]["step"][:2] == [2, 5] and found["likelihood"]["likelihood_loss"][-1] == 359.0
    assert found["adversarial"] == {"step": [361], "likelihood_loss": [0.3], "loss": [0.5], "block": 1}
    assert "likelihood_loss" not in history(rows, weight=None)["adversarial"]
    assert history([]) is None


def test_history_has_the_held_out_loss_and_the_discriminators_warm_up_by_themselves():
    rows = [{"step": step, "phase": "likelihood", "loss": 2.0, "grad_norm": 1.0} for step in (1, 2)]
    rows.insert(1, {"step": 1, "epoch": 0.5, "eval_loss": 4.0})
    rows += [{"step": 2, "phase": "discriminator", "discriminator_loss": loss} for loss in (0.9, 0.8, 0.7, 0.6)]
    rows += [{"step": 3, "phase": "adversarial", "loss": 1.0}, {"step": 3, "train_runtime": 9.0, "train_loss": 2.0}]
    found = history(rows)
    assert found["held out"] == {"step": [1], "eval_loss": [4.0], "block": 1}
    assert found["discriminator"]["step"] == [1, 2, 3, 4], "steps of its own, none of the generator's"
    assert found["discriminator"]["discriminator_loss"] == [0.9, 0.8, 0.7, 0.6]
    assert found["likelihood"]["step"] == [1, 2] and found["likelihood"]["grad_norm"] == [1.0, 1.0]
    assert [*found] == ["likelihood", "discriminator", "adversarial", "held out"]


def test_weights_are_changes_in_per_cent_of_the_largest_norm(tmp_path):
    norms = np.array([[0, 2, 7], [1, 1, 7], [4, 2, 7]], np.float32)
    samples = np.zeros((3, 3, 2), np.float32)
    samples[2, 2] = (np.nan, 0.5)
    arrays = {"names": np.array(["m.a.w", "m.b.w", "m.c"]), "trainable": np.array([True, True, False])}
    np.savez(tmp_path / "w.npz", **arrays, epochs=np.arange(3.0), norms=norms, samples=samples)
    found = weights(tmp_path / "w.npz")
    assert found["lines"] == [{"name": "a.w", "change": [0, 25, 100]}, {"name": "b.w", "change": [0, -50, 0]}]
    assert (found["trained"], found["frozen"], found["frozen_change"]) == (2, 1, 0.5)
    assert weights(tmp_path / "none.npz") is None


def test_memory_keeps_the_peak(tmp_path):
    used = [1000.0] * 1000
    used[777] = 5000.0
    stored = {"samples": [[0.05 * i, value] for i, value in enumerate(used)]}
    (tmp_path / "memory_timeline.json").write_text(json.dumps(stored))
    found = memory(tmp_path)
    assert len(found["bytes"]) <= 122 and max(found["bytes"]) == 5000
    assert (found["seconds"][0], found["seconds"][-1]) == (0, pytest.approx(49.95))
    assert found["seconds"][found["bytes"].index(5000)] == pytest.approx(38.85)


def test_questions_are_matched_by_text_and_capped(tmp_path):
    rows = [run_row("gan", 3, 0.5), run_row("lora", 3, 0.5)]
    write_lines(tmp_path / "runs/gan-seed3/samples.jsonl", [sample("a?", "x", 0.1), sample("b?", "y\u2028", 0.2)])
    write_lines(tmp_path / "runs/lora-seed3/samples.jsonl", [sample("b?", "z" * 3000, 0.3)])
    comparison = read_comparison(write_comparison(tmp_path, rows))
    found = questions(comparison)["3"]
    assert found["pairs"] == [("a?", "the true answer"), ("b?", "the true answer")] and found["total"] == 2
    assert found["answers"]["gan"] == [["x", 0.1], ["y\u2028", 0.2]]
    assert found["answers"]["lora"][0] is None
    assert found["answers"]["lora"][1][0] == "z" * 2000 + " [...]"
    assert found["answers"]["base"] == [["?", None], ["?", None]]
    capped = of_seed(comparison, 3, budget=100)
    assert (len(capped["pairs"]), capped["total"], capped["answers"]["gan"]) == (1, 2, [["x", 0.1]])


def test_a_torn_last_line_is_left_out_and_other_bad_lines_are_named(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text('{"text": "one \u2028 line"}\n{"step": 2')
    assert read_rows(path) == [{"text": "one \u2028 line"}]
    path.write_text('{"step": 1}\n[2]\n')
    with pytest.raises(UserError, match="line 2: expected a JSON object"):
        read_rows(path)


@pytest.mark.parametrize("text", [None, "{", "[]", '{"settings": {}, "rows": [{"seed": 0}], "summary": {}}'])
def test_what_is_no_comparison_is_refused_in_one_line(tmp_path, text):
    if text is not None:
        (tmp_path / "comparison.json").write_text(text)
    with pytest.raises(UserError, match="comparison") as error:
        write_report(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "said"), [([], "directory"), (["--nothing", "x"], "--nothing"), (["x"], "x: has no")]
)
def test_the_command_tells_in_one_line_what_is_wrong(capsys, given, said):
    assert report_command(given) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ") and said in line


@pytest.mark.parametrize("rows", [[], [run_row("gan", 0, 0.5)], [run_row("gan", 0, 0.5, status="failed", error="no")]])
def test_missing_pieces_do_not_fail(tmp_path, rows):
    path = write_report(write_comparison(tmp_path, rows))
    assert path == tmp_path / "comparison.html" and os.listdir(tmp_path).count("comparison.html") == 1
    (tmp_path / "comparison.json").write_text(json.dumps({"settings": {}, "rows": rows, "summary": {}}))
    assert "not stored" in write_report(tmp_path).read_text()


def test_differences_are_those_given_or_stored(tmp_path):
    directory = two_methods(tmp_path)
    stored = json.loads((directory / "comparison.json").read_text())
    row = {"method": "gan", "rival": "lora", "difference": -0.03, "low": None, "p": 0.25, "seeds": 2}
    (directory / "comparison.json").write_text(json.dumps(stored | {"differences": [row | {"metric": "nll"}]}))
    comparison = read_comparison(directory)
    assert content(comparison)["reading"] == [READING], "of power nothing is stored"
    (found,) = content(comparison)["differences"]
    assert (found["metric"], found["difference"], found["low"], found["p_holm"]) == ("NLL", -0.03, None, None)
    assert content(comparison, [row])["differences"][0]["metric"] == "ROUGE-L"
    assert content(comparison, [])["differences"] == content(comparison, [])["reading"] == []


def test_what_the_terminal_says_of_power_and_of_few_questions_stands_in_the_page(tmp_path):
    row = {"method": "gan", "rival": "lora", "metric": "rougeL", "difference": -0.03, "p": 0.25, "p_holm": 0.5}
    found = [row | {"seeds": 1, "questions": 40, "detectable": size} for size in (0.0512, 0.125)]
    found += [row | {"metric": "nll", "seeds": 2, "questions": 90, "detectable": 0.9}]
    report = content(read_comparison(two_methods(tmp_path)), found)
    assert report["reading"] == [
        READING,
        "Power: with 1 seed and 40 answers a method, a true difference in ROUGE-L of 0.051 to 0.125 is found 4 times "
        "in 5; smaller ones mostly are not.",
        "One seed: these differences hold for this one training run of each method, not for the methods.",
    ]
    assert report["cautions"] == [
        "3 test questions are few: differences of several hundredths in ROUGE-L may be chance; "
        "take more with --test-size"
    ]
    enough = {"data": {"dataset": "pairs.jsonl", "train_size": 5, "test_size": 51}}
    rows = [run_row("gan", seed, 0.5) for seed in (0, 1, 2)]
    assert content(read_comparison(write_comparison(tmp_path / "more", rows, **enough)))["cautions"] == []


def test_the_page_names_the_decoding_and_the_words_of_its_figures(tmp_path):
    def told(**settings: Any) -> tuple[str, str]:
        facts = dict(content(read_comparison(write_comparison(tmp_path, [], **settings)))["facts"])
        return facts["Decoding"], facts["Words of the metrics"]

    fairness = {"decoding": "mbr-8", "decoding_temperature": [0.7, 1.0], "reasoning_tokens": 9}
    decoded = "mbr-8 at temperature 0.7 after up to 9 tokens of reasoning"
    assert told(fairness=fairness, word_tokenizer="unicode-words") == (decoded, "unicode-words")
    assert told() == ("greedy", "not stored")


def test_the_published_table_stands_in_the_page_of_the_sources_preset(tmp_path):
    rows = [run_row("gan-source", 0, 0.25, train_seconds=90.0), run_row("lora", 0, 0.5, train_seconds=30.0)]
    found = content(read_comparison(write_comparison(tmp_path, rows, preset="source")))["published"]
    assert found["title"] == "The source study's published table beside this one"
    assert found["grid"][3:5] == [
        ["GAN tuning (published)", "0.109", "0.036", "0.099", "0.101", "-0.611", "91", "12.3"],
        ["gan-source (here)", "-", "-", "0.250", "-", "-", "1.5", "-"],
    ]
    assert (
        found["notes"][0].startswith("Published: model GPT-2 124M") and "only where model and data" in found["notes"][1]
    )
    assert content(read_comparison(write_comparison(tmp_path, rows)))["published"] is None


# ---- That texts stay texts


@pytest.mark.parametrize("text", HOSTILE)
def test_embedded_json_is_whole_and_inert(text):
    embedded = embedded_json({text: [text]})
    assert json.loads(embedded) == {text: [text]}
    assert not set("<>&\u2028\u2029\x7f\x85\0\x1b") & set(embedded)
    embedded.encode()


def test_hostile_texts_do_not_break_out(tmp_path):
    harmless = write_report(two_methods(tmp_path / "harmless")).read_bytes().decode()
    page = write_report(hostile(tmp_path / "hostile"), hostile_differences()).read_bytes().decode()
    found, expected = Elements(page), Elements(harmless)
    assert found.found == expected.found
    assert found.texts[0] == expected.texts[0] and found.texts[2] == expected.texts[2]  # style and script
    data = json.loads(found.texts[1])
    assert [method["name"] for method in data["methods"]][: len(HOSTILE)] == list(HOSTILE)
    assert data["command"] == " ".join(HOSTILE)


def test_the_page_loads_nothing_and_its_policy_allows_nothing_else(tmp_path):
    elements = Elements(write_report(two_methods(tmp_path)).read_bytes().decode())
    loading = {"src", "href", "srcset", "action", "data", "poster", "ping", "background", "style"}
    assert not [tag for tag, attributes in elements.found if loading & attributes.keys()]
    assert not [tag for tag, _ in elements.found if tag in ("link", "iframe", "object", "embed", "base", "img")]
    style, _, script = elements.texts
    assert not re.search(r"url\(|@import|https?:", style)
    assert re.findall(r"https?:[^\"]*", script) == ["http://www.w3.org/2000/svg"]  # a name, not an address
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\(|Function\(|fetch\(|import\(", script
    )
    policy = next(attributes["content"] for tag, attributes in elements.found if "http-equiv" in attributes)
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; "
        "base-uri 'none'; form-action 'none'"
    )


@pytest.mark.parametrize("name", ["mini", "tofu-tinystories"])
def test_reference_results_make_a_small_page(name):
    page = render(content(read_comparison(REFERENCE / name)))
    assert len(page.encode()) < 3_000_000


# ---- In a browser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None or shutil.which("bash") is None, reason="no Chromium on PATH (apt-get install chromium)"
)


class Browser:
    """One page without a network; `events` holds what Chromium reported since it was opened."""

    def __init__(self) -> None:
        self._profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        command += ["--no-first-run", "--disable-extensions", "--disable-background-networking"]
        command += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={self._profile.name}"]
        command += ["--remote-debugging-pipe", "about:blank"]  # which reads from 3 and writes to 4
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{to_browser} 4>&{from_browser}', "bash", *command],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._buffer, self._last = b"", 0
        self._session: dict[str, str] = {}
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)

    def close(self) -> None:
        """End the browser."""
        self._process.kill()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)
        self._profile.cleanup()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Give one command of the protocol and wait for its result."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters} | self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._last:
            self.events.append(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def _read(self) -> dict[str, Any]:
        deadline = time.monotonic() + 120
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(deadline - time.monotonic(), 0))
            part = os.read(self._in, 1 << 20) if ready else b""
            assert part, "Chromium ended or did not answer within two minutes"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def open(self, path: Path, width: int = 1280) -> None:
        """Load a page, let its script run, and see that nothing went wrong and nothing else was asked for."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500
        )
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while not self.seen("Page.loadEventFired"):
            self.events.append(self._read())
        self.run("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
        assert not self.seen("Runtime.exceptionThrown") and not self.seen("Log.entryAdded")
        assert not self.seen("Page.javascriptDialogOpening")
        assert [event["request"]["url"] for event in self.seen("Network.requestWillBeSent")] == [path.as_uri()]

    def seen(self, method: str) -> list[dict[str, Any]]:
        """The parameters of the events of that name."""
        return [event["params"] for event in self.events if event.get("method") == method]

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def texts(self, selector: str) -> list[str]:
        """The texts of the elements that a selector finds."""
        return self.run(f"[...document.querySelectorAll({json.dumps(selector)})].map((node) => node.textContent)")

    def choose(self, label: str, value: str) -> None:
        """Set the control that has that label."""
        script = """((label, value) => {
            const found = [...document.querySelectorAll("label")].find((node) => node.firstChild.nodeValue === label);
            const control = found.querySelector("select, input");
            control.value = value;
            control.dispatchEvent(new Event(control.tagName === "SELECT" ? "change" : "input", { bubbles: true }));
            return control.value;
        })"""
        assert self.run(f"{script}({json.dumps(label)}, {json.dumps(value)})") == value


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    opened = Browser()
    yield opened
    opened.close()


@needs_chromium
def test_hostile_texts_are_shown_and_do_nothing(browser, tmp_path):
    browser.open(write_report(hostile(tmp_path), hostile_differences()))
    assert browser.run("window.hacked === undefined")
    assert browser.run("document.querySelectorAll('img, b b, iframe').length") == 0
    assert browser.run("document.scripts.length") == 2
    visible = "lone surrogates \ufffd and \ufffd"  # what a browser makes of them
    shown = [visible if "surrogates" in text else text for text in HOSTILE]
    assert [
        text.replace("\ud800", "\ufffd").replace("\udfff", "\ufffd") for text in browser.texts("article h3")
    ] == shown
    assert browser.texts(".command code")[0].startswith(HOSTILE[0])
    # sorting, filtering and choosing handle them as well
    browser.run("document.querySelectorAll('th button').forEach((button) => button.click())")
    browser.choose("Text in question, reference or answers shown", "<img src=x")
    assert browser.texts("article h3") == [HOSTILE[1]]
    browser.choose("Adversarial method", HOSTILE[1])
    browser.choose("Compare", HOSTILE[1])
    assert browser.run("window.hacked === undefined")


@needs_chromium
def test_the_policy_stops_foreign_scripts_and_requests(browser, tmp_path):
    browser.open(write_report(two_methods(tmp_path)))
    inject = "const s = document.createElement('script'); s.textContent = 'window.hacked = 1'; document.body.append(s);"
    assert browser.run(f"{inject} window.hacked === undefined")
    assert browser.run("fetch('data:text/plain,x').then(() => 'sent', () => 'refused')") == "refused"
    image = """new Promise((done) => {
        const image = new Image();
        image.onload = () => done("loaded");
        image.onerror = () => done("refused");
        image.src = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA=";
    })"""
    assert browser.run(image) == "refused"


@needs_chromium
def test_the_table_sorts_by_click_and_by_key(browser, tmp_path):
    browser.open(write_report(two_methods(tmp_path)))
    methods = "(() => [...document.querySelectorAll('table')][0].querySelectorAll('tbody th'))()"
    names = f"[...{methods}].map((node) => node.textContent)"
    head = "[...document.querySelectorAll('table')[0].querySelectorAll('thead th')]"
    assert browser.run(names) == ["lora", "gan", "base"]
    quality = f"{head}.find((th) => th.textContent.startsWith('ROUGE-L'))"
    browser.run(f"{quality}.querySelector('button').click()")
    assert browser.run(names) == ["lora", "gan", "base"]
    assert browser.run(f"{quality}.getAttribute('aria-sort')") == "descending"

    browser.run(f"{quality}.querySelector('button').focus()")
    for kind, text in (("keyDown", "\r"), ("keyUp", "")):
        key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13}
        browser.call("Input.dispatchKeyEvent", type=kind, text=text, **key)
    assert browser.run(names) == ["base", "gan", "lora"]
    assert browser.run(f"{quality}.getAttribute('aria-sort')") == "ascending"

    browser.run(f"{head}.find((th) => th.textContent.startsWith('time')).querySelector('button').click()")
    assert browser.run(names) == ["gan", "lora", "base"]  # lower is better; no value comes last
    assert browser.run(f"{quality}.getAttribute('aria-sort')") == "none"
    assert browser.run("[...document.querySelectorAll('th')].every((th) => th.scope)")
    assert browser.texts("td.best") == ["10.1 s (best)±0.2 s"]


@needs_chromium
def test_forgetting_is_a_table_a_set_that_sorts(browser, tmp_path):
    browser.open(write_report(forgetful(tmp_path)))
    tables = "[...document.querySelectorAll('#forgetting ~ .tables > .together')]"
    titles = ["Utility", "Tuned authors", "Held-out authors", "Real authors", "World facts"]
    assert browser.texts("#forgetting ~ .tables h3") == titles
    assert browser.texts("#forgetting ~ .tables td.best") == ["0.902 (best)±0.005"]
    of_facts = f"[...{tables}[4].querySelectorAll('tbody th')].map((node) => node.textContent)"
    assert browser.run(of_facts) == ["base", "gan", "lora"]
    browser.run(f"{tables}[4].querySelectorAll('th button')[1].click()")
    assert browser.run(of_facts) == ["gan", "lora", "base"]
    said = browser.run("document.getElementById('forgetting').parentNode.textContent")
    assert "World facts: a source; 7 questions a run." in said and "truth ratio (geometric)" in said

    browser.open(write_report(tmp_path), width=390)
    assert browser.run("document.documentElement.scrollWidth") <= 390
    browser.call("Emulation.setEmulatedMedia", media="print")
    browser.call("Emulation.setDeviceMetricsOverride", width=700, height=900, deviceScaleFactor=1, mobile=False)
    assert browser.run(f"{tables}.every((node) => node.scrollWidth <= node.clientWidth)")
    browser.call("Emulation.setEmulatedMedia", media="")
    browser.open(write_report(two_methods(tmp_path / "without")))
    assert browser.run("document.getElementById('forgetting')") is None


@needs_chromium
def test_questions_are_filtered_and_ordered(browser, tmp_path):
    browser.open(write_report(two_methods(tmp_path)))
    asked = "article h3"
    assert [text[:12] for text in browser.texts(asked)] == ["Question one", "Question two", "Question thr"]
    assert browser.texts(asked)[0] == "Question one of seed 0?  gan \u2212 lora: \u22120.40"
    assert "gan has the higher ROUGE-L on 1, lora on 1, equal on 1; mean difference +0.033" in browser.run(
        "document.getElementById('answers').parentNode.textContent"
    )
    for order, expected in (("wins", "two thr one"), ("losses", "one thr two"), ("largest", "two one thr")):
        browser.choose("Order", order)
        assert " ".join(text[9:12] for text in browser.texts(asked)) == expected

    browser.choose("Text in question, reference or answers shown", "LORA answers beta")
    assert [text[:12] for text in browser.texts(asked)] == ["Question two"]
    box = "document.querySelector('input[type=checkbox][value=lora]')"
    browser.run(f"{box}.click()")
    assert browser.texts(asked) == []  # the text stands in no answer that is shown
    assert browser.texts("#answers ~ [role=status]")[-1] == "No question of 3 matches."
    browser.choose("Text in question, reference or answers shown", "")
    shown = "[...document.querySelectorAll('article dl > div')].map((node) => node.dataset.method)"
    assert browser.run(shown) == ["base", "gan"] * 3
    browser.run(f"{box}.click()")
    browser.choose("Seed of the questions", "1")
    assert all("of seed 1?" in text for text in browser.texts(asked)) and len(browser.texts(asked)) == 3


@needs_chromium
def test_seed_of_the_curves_is_chosen_and_what_is_absent_is_said(browser, tmp_path):
    browser.open(write_report(two_methods(tmp_path)))
    assert "Learning curves, seed 0" in browser.texts("h3")
    browser.choose("Seed of the curves", "1")
    assert "Learning curves, seed 1" in browser.texts("h3")
    page = browser.run("document.body.innerText")
    for said in ("Weight trajectories: not stored", "Memory timelines: not stored", "No adversarial run is stored"):
        assert said in page

    rows = [run_row("gan", 0, 0.5, train_seconds=2.0), run_row("lora", 0, 0.6)]
    rows += [run_row("qlora", 0, None, status="not run", error="needs CUDA")]
    browser.open(write_report(write_comparison(tmp_path / "bare", rows, command=None)))
    page = browser.run("document.body.innerText")
    assert "Command to reproduce: not stored" in page and "Answers: not stored" in page
    assert "Learning curves, weights and memory: not stored. Only rows and answers were kept" in page
    assert "Only gan was trained and measured: there is nothing to weigh it against" in page
    assert browser.texts("td.best") == []
    assert "qlora1 not run" in browser.texts("tbody th")
    browser.open(write_report(write_comparison(tmp_path / "empty", [])))
    assert "No run has ended yet" in browser.run("document.body.innerText")


@needs_chromium
def test_layout_on_a_phone_and_in_print(browser, tmp_path):
    path = write_report(two_methods(tmp_path), [{"method": "gan", "rival": "lora", "difference": -0.03, "p": 0.5}])
    browser.open(path, width=390)
    assert browser.run("document.documentElement.scrollWidth") <= 390
    assert browser.run(
        "[...document.querySelectorAll('input, select')].every((control) => control.labels.length === 1)"
    )
    assert "\u22120.030" in browser.texts("#differences ~ .scroll td")
    assert browser.texts("#differences ~ .said li") == [READING]
    verdict = "Against lora, by ROUGE-L: gan 0.030 behind; one seed cannot tell methods apart."
    assert browser.texts("header .verdict li") == [verdict]
    assert browser.texts("h2") == ["Results", "Quality against cost", "Questions and answers", "Paired differences",
                                   "Training", "Notes", "Where the figures are from"]  # fmt: skip
    ends = "[...document.querySelector('thead tr').children].map((th) => th.getBoundingClientRect().right)"
    assert all(end <= 390 for end in browser.run(ends)[:4]), "method and the three headline columns"
    assert any(text.startswith("3 test questions are few") for text in browser.texts("ul.notes li"))
    browser.call("Emulation.setEmulatedMedia", media="print")
    displays = "[...document.querySelectorAll('.controls, nav, .screen')].map((node) => getComputedStyle(node).display)"
    assert set(browser.run(displays)) == {"none"}
    assert browser.run("getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"
    browser.call("Emulation.setEmulatedMedia", media="")
