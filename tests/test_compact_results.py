"""The small form of a comparison, one `answers.parquet` in place of the runs' folders, says what the folders say."""

from __future__ import annotations

import json
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.compare.__main__ import main
from benchmarks.compare.answers import FILE, Answers, stored_answers, write_answers
from benchmarks.compare.stored import join, read
from benchmarks.compare.tuned import Trial, Winner, read_winners, write_winners
from benchmarks.judge.answers import answer_pairs
from benchmarks.report.differences import differences
from benchmarks.report.page import content
from benchmarks.report.presentation import present
from benchmarks.report.read import read_comparison
from gantune.errors import UserError
from tests.test_report import run_row, sample, write_comparison, write_lines

ENVIRONMENT = {"python": "3.11", "versions": {"torch": "2"}, "git": {"commit": "abc", "dirty": False}, "seed": 0}
QUESTIONS = ("one?", 'two\u2028 "quoted"?', "three?")


def comparison(directory, seeds=(0, 1)):
    """base, gan and lora, three questions a seed; base has no NLL, and lora of the last seed failed, its file torn."""
    rows = []
    for seed in seeds:
        for place, method in enumerate(("base", "gan", "lora")):
            row = run_row(method, seed, 0.1 * place, train_seconds=float(place), directory=f"runs/{method}-seed{seed}")
            row["metrics"]["nll"] = None if method == "base" else 0.5
            samples = [
                sample(text, f"{method} {text}", 0.1 * place + 0.07 * i * seed) for i, text in enumerate(QUESTIONS)
            ]
            for i, of_question in enumerate(samples if place else ()):
                of_question["scores"] |= {"nll": 1 / (1 + i + place + seed), "tokens": 3}
            write_lines(directory / row["directory"] / "samples.jsonl", samples)
            (directory / row["directory"] / "environment.json").write_text(json.dumps(ENVIRONMENT))
            rows.append(row)
    rows[-1] |= {"status": "failed", "error": "killed"}
    with open(directory / rows[-1]["directory"] / "samples.jsonl", "a") as file:
        file.write('{"question": "tor')
    data = {"dataset": "pairs.jsonl", "train_size": 5, "test_size": 3}
    return write_comparison(directory, rows, methods=["base", "gan", "lora"], seeds=[*seeds], data=data)


def texts_of(value):
    """All texts in what a page shows."""
    if isinstance(value, dict | list | tuple):
        return [text for part in (value.values() if isinstance(value, dict) else value) for text in texts_of(part)]
    return [value] if isinstance(value, str) else []


def compacted(directory):
    small = directory.parent / f"{directory.name}-small"
    assert main(["--from", str(directory), "--compact", "--output", str(small)]) == 0
    return small


def test_both_forms_say_the_same(tmp_path, capsys):
    whole = comparison(tmp_path / "whole", seeds=(0, 1, 2))
    present(whole, read(whole), wide=True)
    small = compacted(whole)
    names = {"answers.parquet", "comparison.json", "comparison.md", "comparison.png", "comparison.html"}
    assert {path.name for path in small.iterdir()} == names

    a, b = read(whole), read(small)
    assert [{**row, "environment": ENVIRONMENT} for row in a.rows] == b.rows and a.warnings == b.warnings
    (stored_a, stored_b) = (stored_answers(*of) for of in ((whole, a.rows), (small, b.rows)))
    assert len(stored_a) == 9 and list(stored_a) == list(stored_b)
    for run, answers in stored_a.items():
        assert answers.samples == stored_b[run].samples  # equal to the bit, and the kinds of numbers too
        assert json.dumps(answers.samples) == json.dumps(stored_b[run].samples)
    found = differences(whole, a.rows)
    assert {row["metric"] for row in found} == {"rougeL", "nll"} and found == differences(small, b.rows)
    for name in ("comparison.md", "comparison.png"):
        assert (whole / name).read_bytes() == (small / name).read_bytes()
    pages = [content(read_comparison(directory)) for directory in (whole, small)]
    assert {name for name in pages[0] if pages[0][name] != pages[1][name]} <= {"runs", "compact"}
    assert pages[1]["questions"]["0"]["total"] == 3 and dict(pages[1]["facts"])["Commit"] == "abc"
    told = set(texts_of(pages[0]))
    lines = [line for line in (whole / "comparison.md").read_text().splitlines()[1:] if line]
    said = [line for line in lines if not line.startswith(("|", "#"))]
    assert any(line.startswith("- 3 test questions are few") for line in said)
    assert any(line.startswith("- Paired differences: ") for line in said) and said[0].startswith("Against lora, by")
    assert {line.removeprefix("- ") for line in said} <= told
    assert set(said) <= set(capsys.readouterr().out.splitlines())
    pairs = [answer_pairs(directory, rows, "base", 3) for directory, rows in ((whole, a.rows), (small, b.rows))]
    assert pairs[0] == pairs[1] and len(pairs[0]) == 15

    before = {name: (small / name).read_bytes() for name in names}
    assert main(["--from", str(small)]) == 0  # once more, from the small form alone
    assert before == {name: (small / name).read_bytes() for name in names}


def test_small_and_whole_forms_are_joined_to_either(tmp_path, capsys):
    small = compacted(comparison(tmp_path / "early", seeds=(0,)))
    late = comparison(tmp_path / "late", seeds=(1, 2))
    for compact in (False, True):
        together = join([small, late], tmp_path / f"joined-{compact}", compact)
        answers = stored_answers(tmp_path / f"joined-{compact}", together.rows)
        assert [row["seed"] for row in together.rows] == [0, 0, 0, 1, 1, 1, 2, 2, 2] and len(answers) == 9
        assert (tmp_path / f"joined-{compact}/runs").exists() != compact
        assert answers["gan", 2].samples == stored_answers(late, together.rows)["gan", 2].samples
        assert answers["gan", 0].samples == stored_answers(small, together.rows)["gan", 0].samples


def test_one_run_of_two_processors_is_one_run_and_another_result_is_another(tmp_path):
    def with_nll(nll):
        directory = comparison(tmp_path / str(nll))
        text = (directory / "comparison.json").read_text()
        (directory / "comparison.json").write_text(text.replace('"nll": 0.5', f'"nll": {nll}'))
        return directory

    own = comparison(tmp_path / "own")
    assert len(join((own, with_nll(0.5 + 1e-9)), tmp_path / "joined").rows) == 6
    with pytest.raises(UserError, match="both hold gan, seed 0, with other results"):
        join((own, with_nll(0.5 + 1e-4)), tmp_path / "refused")


def test_the_winners_of_a_sweep_stay_and_can_be_taken_again(tmp_path, capsys):
    whole = comparison(tmp_path / "whole")
    winner = Winner({"lora_rank": 8}, (Trial("lora_rank", 8, 0.5), Trial("lora_rank", 4, None)), 0.5, "NLL", "10 pairs")
    write_winners(whole / "tuning.json", {"lora": winner})
    small = compacted(whole)
    assert read_winners(small / "comparison.json") == read_winners(whole / "tuning.json") == {"lora": winner}
    assert read(compacted(small)).winners == read(small).winners
    (whole / "tuning.json").unlink()
    with pytest.raises(UserError, match=r"expected the tuning\.json"):
        read_winners(whole / "comparison.json")


def test_answers_that_do_not_fit_are_named_with_run_and_line(tmp_path, capsys):
    small = compacted(comparison(tmp_path / "whole"))
    rows = read(small).rows
    answers = stored_answers(small, rows)
    for change, message in (
        ({"question": "other?"}, r"answers.parquet \(lora, seed 0\), line 2: question 'two.*, but 'other"),
        ({"scores": {"rougeL": math.nan}}, r"answers.parquet \(base, seed 0\), line 2: no number in scores.rougeL"),
    ):
        changed = [dict(of_question) for of_question in answers["gan", 0].samples]
        changed[1] |= change
        write_answers(small, answers | {("base", 0): Answers("", changed), ("gan", 0): Answers("", changed)})
        with pytest.raises(UserError, match=message):
            differences(small, rows)


def test_a_file_that_is_no_answers_is_refused_in_one_line(tmp_path):
    rows, file = [run_row("gan", 0, 0.5)], tmp_path / FILE
    file.write_bytes(b"PAR1 and then nothing")
    with pytest.raises(UserError, match=r"answers.parquet: expected the answers of a comparison"):
        stored_answers(tmp_path, rows)
    pq.write_table(pa.table({"method": ["gan"], "seed": [0], "question": ["q?"]}), file)
    with pytest.raises(UserError, match=r"answers.parquet: has no column 'reference'"):
        stored_answers(tmp_path, rows)
    pq.write_table(pa.table({name: [["gan"]] for name in ("method", "seed")}), file)
    with pytest.raises(UserError, match=r"answers\.parquet: "):
        stored_answers(tmp_path, rows)
    for bad in (sample("q?", "lone \ud800", 0.5), {"question": "q?", "scores": {"rougeL": {"a": 1}}}):
        mixed = [sample("q?", "x", 0.5), bad]
        with pytest.raises(UserError, match=r"answers\.parquet: the answers cannot be written"):
            write_answers(tmp_path / "new", {("gan", 0): Answers("", mixed)})
    assert not (tmp_path / "new").exists()


def test_a_link_out_of_the_comparison_is_not_taken_along(tmp_path):
    directory = comparison(tmp_path / "whole")
    (tmp_path / "outside.jsonl").write_text('{"question": "private", "scores": {}}\n')
    file = directory / "runs/gan-seed0/samples.jsonl"
    file.unlink()
    file.symlink_to(tmp_path / "outside.jsonl")
    with pytest.raises(UserError, match="is not inside the comparison's directory"):
        join([directory], tmp_path / "joined", compact=True)


@pytest.mark.parametrize(
    ("of", "changes"),
    [
        ("settings", {"data": None}),
        ("settings", {"fairness": {"decoding_temperature": []}}),
        ("settings", {"command": None}),
        ("settings", {"methods": 3}),
        ("row", {"metrics": {"rougeL": "high"}}),
        ("row", {"train_seconds": float("nan")}),
        ("row", {"not_run": []}),
    ],
)
def test_a_comparison_with_odd_settings_or_figures_is_refused_in_one_line(tmp_path, capsys, of, changes):
    file = comparison(tmp_path / "whole") / "comparison.json"
    content = json.loads(file.read_text())
    (tmp_path / "whole/runs").rename(tmp_path / "elsewhere")
    (content["settings"] if of == "settings" else content["rows"][0]).update(changes)
    file.write_text(json.dumps(content))
    assert main(["--from", str(file.parent)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line == f"error: {file}: is no comparison that this version of gantune wrote"


def test_compact_alone_is_refused(capsys):
    assert main(["--compact"]) == 2
    assert "--compact: expected --from DIR" in capsys.readouterr().err
