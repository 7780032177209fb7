"""From the data options of a comparison to the pairs of a seed."""

from __future__ import annotations

import json

import pytest

from benchmarks.compare.dataset import DataArguments, read_split
from gantune.errors import UserError


@pytest.fixture
def file(tmp_path):
    rows = [{"instruction": f"Describe thing {i} of {i * 7}.", "output": f"It is number {i}."} for i in range(12)]
    path = tmp_path / "alpaca.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0], rows[0], rows[0]]))
    return str(path)


def test_any_format_is_read_and_divided(file):
    data = DataArguments(dataset=file, train_size=5, decontamination=False)
    pairs, train, test, left_out, unpaired = read_split(data, seed=0)[:5]
    assert len(pairs) == 15 and len(train) == 5 and data.test_size == len(test) == 10
    assert not left_out and unpaired is None


def test_training_pairs_that_the_test_set_repeats_are_left_out(file):
    for seed in range(3):
        _, train, test, left_out, *_ = read_split(DataArguments(dataset=file, train_size=7), seed)
        assert not {pair.question for pair in train} & {pair.question for pair in test}
        assert len(train) + len(left_out) == 7
    assert any(read_split(DataArguments(dataset=file, train_size=7), seed).left_out for seed in range(3))


def test_a_format_that_the_rows_do_not_have_is_one_line(file):
    with pytest.raises(UserError, match=r"alpaca.jsonl"):
        read_split(DataArguments(dataset=file, format="oasst"), seed=0)
    with pytest.raises(UserError, match="need 62 pairs, the data has 15"):
        read_split(DataArguments(dataset=file, train_size=50, test_size=12), seed=0)


def test_unpaired_questions_and_answers_are_of_other_pairs_than_any_that_are_trained_or_tested(tmp_path):
    rows = [{"question": f"Who is person {i} of {i * 7}?", "answer": f"Number {i} ({i * 13})."} for i in range(40)]
    file = tmp_path / "people.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = DataArguments(dataset=str(file), train_size=5, test_size=10, unpaired=12, decontamination=False)
    pairs, train, test, _, unpaired = read_split(data, seed=3)[:5]
    row_of = {text: i for i, pair in enumerate(pairs) for text in pair}
    asked, told = ({row_of[text] for text in texts} for texts in unpaired)
    assert len(asked) == len(told) == 12
    assert not asked & told and not (asked | told) & {row_of[pair.question] for pair in train + test}
    assert read_split(data, seed=3).unpaired == unpaired != read_split(data, seed=4).unpaired
    with pytest.raises(UserError, match=r"--unpaired 13: .* has 25 pairs beside .* expected at least 26"):
        read_split(DataArguments(str(file), train_size=5, test_size=10, unpaired=13, decontamination=False), seed=3)
