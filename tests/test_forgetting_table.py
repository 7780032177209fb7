"""TOFU's measures as tables, in the terminal and in Markdown, against values computed by hand."""

from __future__ import annotations

import pytest

from benchmarks.compare.stored import read
from benchmarks.report.forgetting_table import forgetting_grid, forgetting_tables, how_to_read_forgetting
from benchmarks.report.grid import markdown_table, text_table
from benchmarks.report.presentation import present
from benchmarks.statistics.intervals import clear_best
from tests.test_report import forgetful, known_after, run_row


def tables_of(*runs):
    """Tables of runs `(method, forgetting)`, the runs of a method in the order of their seeds."""
    seeds = {}
    rows = []
    for method, found in runs:
        seeds[method] = seeds.get(method, -1) + 1
        rows.append(run_row(method, seeds[method], 0.5, forgetting=found))
    return {table.title: table for table in forgetting_tables(rows)}


def test_means_intervals_and_the_best_by_hand():
    tables = tables_of(
        ("gan", known_after(0.2, real_authors__probability=0.4, model_utility_geometric=0.1)),
        ("lora", known_after(0.1, real_authors__probability=0.1, model_utility_geometric=0.2)),
        ("gan", known_after(0.6, real_authors__probability=0.42, model_utility_geometric=0.1)),
        ("lora", known_after(0.1, real_authors__probability=0.1, model_utility_geometric=0.4)),
        ("gan", known_after(0.4, real_authors__probability=0.41, model_utility_geometric=0.1)),
        ("lora", known_after(0.1, real_authors__probability=0.1, model_utility_geometric=0.3)),
    )
    assert list(tables) == ["utility", "tuned authors", "held-out authors", "real authors", "world facts"]
    known = tables["real authors"]
    assert known.headings == ("probability", "ROUGE-L recall", "truth ratio (arithmetic)", "truth ratio (geometric)")
    # Student's t for two degrees of freedom at 97.5 % is 4.30265; the standard error of .4, .41, .42 is .01 / sqrt(3)
    assert known.rows["gan"][0] == (pytest.approx(0.41), pytest.approx(0.0248414, rel=1e-4), True)
    assert known.rows["lora"][0] == (pytest.approx(0.1), 0.0, False)
    assert known.rows["gan"][1][:2] == (pytest.approx(0.4), pytest.approx(0.496828, rel=1e-4))
    assert not known.rows["gan"][1].best  # its interval meets lora's
    utility = tables["utility"]
    assert utility.headings[1] == "model utility (geometric)" and utility.headings[2] == "retained utility (arithmetic)"
    assert [cells[1].mean for cells in utility.rows.values()] == [pytest.approx(0.1), pytest.approx(0.3)]
    assert forgetting_grid(known)[1][:2] == ["gan", "* 0.410 ±.025"]
    assert forgetting_grid(known, "**{}**")[1][:3] == ["gan", "**0.410 ±.025**", "0.400 ±.497"]
    assert forgetting_grid(known)[2][:2] == ["lora", "0.100"]


def test_clear_best():
    assert clear_best({"a": (1.0, 0.2), "b": (0.5, 0.2)}) == "a"
    assert clear_best({"a": (1.0, 0.2), "b": (0.5, 0.2)}, sign=-1) == "b"
    assert clear_best({"a": (1.0, 0.3), "b": (0.5, 0.2)}) is None  # .7 meets .7
    assert clear_best({"a": (1.0, None), "b": (0.5, 0.2)}) is None
    assert clear_best({"a": (1.0, 0.0)}) is None and clear_best({}) is None


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_have_no_interval_and_no_best(seeds):
    tables = tables_of(*(("gan", known_after(0.9)), ("lora", known_after(0.1))) * seeds)
    assert forgetting_grid(tables["utility"])[1:] == [["gan", *["0.900"] * 4], ["lora", *["0.100"] * 4]]


def test_what_was_not_measured_is_not_shown():
    empty = {f"held_out__{name}": None for name in known_after(0.5)["held_out"] if name not in ("source", "questions")}
    tables = tables_of(
        ("gan", known_after(0.5, tuned__probability=None, **empty)), ("copy-question", None), ("lora", known_after(0.4))
    )
    assert tables["held-out authors"].rows["gan"] == [None] * 4
    assert forgetting_grid(tables["tuned authors"])[1][:3] == ["gan", "-", "0.500"]
    assert list(tables["utility"].rows) == ["gan", "lora"]
    assert list(tables_of(("gan", known_after(0.5, **empty)))) == [
        "utility", "tuned authors", "real authors", "world facts",
    ]  # fmt: skip
    failed = run_row("gan", 0, None, status="failed", forgetting=known_after(0.5))
    assert forgetting_tables([failed, run_row("base", 0, 0.5)]) == []
    assert how_to_read_forgetting([failed]) == []


def test_sources_and_numbers_of_questions_are_said():
    rows = [run_row("gan", seed, 0.5, forgetting=known_after(0.5, source="stand-in", held_out__questions=3 + seed))
            for seed in (0, 1)]  # fmt: skip
    lines = how_to_read_forgetting(rows)
    assert "Held-out authors: stand-in; 3 to 4 questions a run." in lines
    assert "World facts: stand-in; 7 questions a run." in lines
    assert any("arithmetic mean" in line and "geometric mean" in line for line in lines)


def test_the_terminal_and_the_markdown_file_show_them(tmp_path, capsys):
    directory = forgetful(tmp_path)
    (directory / "comparison.json").write_text(
        (directory / "comparison.json").read_text().replace('"method": ', '"directory": "none", "method": ')
    )
    present(directory, read(directory), wide=True)
    printed, written = capsys.readouterr().out, (directory / "comparison.md").read_text()
    assert "Forgetting: world facts\nmethod" in printed and "* 0.902 ±.005" in printed
    assert "## Forgetting: world facts\n\n| method | probability | ROUGE-L recall |" in written
    assert "| gan | **0.902 ±.005** | 0.550 ±.124 |" in written
    for text in (printed, written):
        assert "World facts: a source; 7 questions a run." in text and "Model utility is the harmonic mean" in text
    block = printed[printed.index("Forgetting: utility") :].split("\n\n")[0].splitlines()
    assert len({len(line) for line in block[1:]}) == 1 and len(block) == 6


def test_a_bar_in_a_text_does_not_part_a_cell():
    grid = [["method", "x"], ["a|b", "1"]]
    assert markdown_table(grid).splitlines()[2] == "| a\\|b | 1 |"
    assert text_table(grid).splitlines()[2] == "a|b     1"
