"""Remaking the stored results: what is started, what goes on, and that only one clean commit's are kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import reference
from benchmarks.compare.arguments import parse
from benchmarks.reference import PARTS, Part, main
from gantune.diagnostics import write_json

CLEAN = {"git": {"commit": "a" * 40, "dirty": False}}


@pytest.fixture
def started(tmp_path, monkeypatch):
    """In an empty folder; a command writes one file of `state`, and ends with `status`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reference, "git_state", lambda: {"commit": "a" * 40, "dirty": False})

    class Process:
        asked, threads, state, status = [], [], CLEAN, 0

        def __init__(self, command, env=None, **_):
            self.asked.append(command)
            self.threads.append((env or {}).get("OMP_NUM_THREADS"))
            write_json(Path(command[command.index("--output") + 1]) / "comparison.json", {"rows": [self.state]})

        def wait(self):
            return self.status

    Process.asked, Process.threads = [], []
    monkeypatch.setattr(reference.subprocess, "Popen", Process)
    monkeypatch.setattr(reference.subprocess, "run", lambda command, **_: Process(command))
    two = {"pair": reference.comparison(3, "--methods", "lora", seeds=range(5)), "alone": Part(4, "benchmarks.other")}
    monkeypatch.setattr(reference, "PARTS", two)
    return Process


def test_a_comparison_is_made_in_two_halves_and_joined(started):
    assert main(["pair"]) == 0
    first, second, joined = started.asked
    assert first[first.index("--seeds") + 1 : -2] == ["0", "1", "2"] and first[1:3] == ["-m", "benchmarks.compare"]
    assert second[second.index("--seeds") + 1 : -2] == ["3", "4"]
    assert joined[joined.index("--from") + 1 : joined.index("--compact")] == [first[-1], second[-1]]


def test_a_part_that_is_not_joined_has_all_its_processes_in_one_folder(started, monkeypatch):
    monkeypatch.setitem(reference.PARTS, "beside", Part(5, "benchmarks.other", ("--scale", "1"), (("a",), ("b",))))
    assert main(["beside"]) == 0
    one, other = started.asked
    assert (one[3:6], other[3:6]) == (["--scale", "1", "a"], ["--scale", "1", "b"]) and one[-1] == other[-1]


def test_a_part_may_be_one_process_of_one_thread(started, monkeypatch):
    monkeypatch.setitem(reference.PARTS, "single", Part(5, "benchmarks.other", beside=((),)))
    assert main(["single"]) == 0
    assert [command[-1] for command in started.asked] == ["results/remade/single/made"]
    assert started.threads == ["1"]


def test_what_is_remade_is_kept_if_it_is_of_one_clean_commit(started, capsys):
    assert main(["--all"]) == 0 and len(started.asked) == 4
    assert main([]) == 0
    assert "alone    4 min  stored: -; remade: aaaaaaa\n" in capsys.readouterr().out
    write_json(Path("results/remade/alone/part.json"), {"minutes": 7.6, **CLEAN})
    assert main([]) == 0
    assert "alone    4 min  stored: -; remade: aaaaaaa in 8 min\n" in capsys.readouterr().out
    assert main(["alone"]) == 0
    assert json.loads(Path("results/remade/alone/part.json").read_text())["minutes"] == 7.6, "it goes on from there"
    assert main(["--keep"]) == 0
    kept = json.loads(Path("results/reference/pair/comparison.json").read_text())
    assert kept == {"rows": [CLEAN]} and Path("results/reference/alone").is_dir()
    for state in ({"git": {"commit": "b" * 40, "dirty": False}}, {"git": {"commit": "a" * 40, "dirty": True}}):
        started.state = state
        assert main(["alone"]) == 0 and main(["--keep"]) == 2
        assert "expected results of one clean commit, found pair: aaaaaaa; alone:" in capsys.readouterr().err


def test_what_a_kept_part_begins_from_has_its_commit(started, monkeypatch, capsys):
    monkeypatch.setitem(reference.PARTS, "base", Part(1, "benchmarks.other", kept=False))
    assert main(["--all", "--keep"]) == 0 and not Path("results/reference/base").exists()
    write_json(Path("results/remade/base/part.json"), {"minutes": 1, "git": {"commit": "b" * 40, "dirty": False}})
    assert main(["--keep"]) == 2 and "base: aaaaaaa, bbbbbbb" in capsys.readouterr().err


def test_what_a_part_begins_from_is_looked_for_first(started, monkeypatch, capsys):
    shared = f"{reference.SHARED}/none.jsonl"
    monkeypatch.setitem(reference.PARTS, "far", Part(1, "benchmarks.other", ("--dataset", shared)))
    assert main(["far"]) == 2 and not started.asked
    assert f"{shared}: not there, far begins from it" in capsys.readouterr().err


def test_what_is_wrong_is_told_in_one_line(started, monkeypatch, capsys):
    assert main(["other"]) == 2 and "other: expected one of pair, alone" in capsys.readouterr().err
    assert main(["--keep"]) == 2 and "found none" in capsys.readouterr().err
    started.status = 1
    assert main(["alone"]) == 2 and "log-0.txt: ended with status 1, expected 0" in capsys.readouterr().err
    monkeypatch.setattr(reference, "git_state", lambda: {"commit": "a" * 40, "dirty": True})
    assert main(["pair"]) == 2 and "uncommitted changes: expected a clean checkout" in capsys.readouterr().err


def test_every_stored_folder_has_a_part():
    stored = {path.name for path in (Path(__file__).parents[1] / reference.KEPT).iterdir() if path.is_dir()}
    assert stored - {"ablations"} <= {name for name, part in PARTS.items() if part.kept}, "but the notebook's own"


def test_every_comparison_of_the_plan_can_be_read():
    for name, part in PARTS.items():
        if part.module == "benchmarks.compare":
            assert 1 <= len(part.beside) <= 2, name
            for added in part.beside:
                settings = parse([*part.arguments, *added])
                settings.check()
                assert settings.comparison.seeds == [int(seed) for seed in added[1:]], name


def test_a_part_whose_stored_results_have_winners_is_remade_with_them():
    for name, part in PARTS.items():
        file = reference.KEPT / name / "comparison.json"
        if file.is_file() and "winners" in json.loads(file.read_text()):
            assert part.arguments[part.arguments.index("--winners") + 1] == str(file)
