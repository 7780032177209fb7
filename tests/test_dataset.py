"""From the data options of a comparison to the pairs of a seed."""

from __future__ import annotations

import json

import pytest

from benchmarks.dataset import DataArguments, read_split
from gantune.errors import UserError


@pytest.fixture
def file(tmp_path):
    rows = [{"instruction": f"Describe thing {i} of {i * 7}.", "output": f"It is number {i}."} for i in range(12)]
    path = tmp_path / "alpaca.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0], rows[0], rows[0]]))
    return str(path)


def test_any_format_is_read_and_divided(file):
    data = DataArguments(dataset=file, train_size=5, decontamination=False)
    pairs, train, test, left_out = read_split(data, seed=0)
    assert len(pairs) == 15 and len(train) == 5 and data.test_size == len(test) == 10 and not left_out


def test_training_pairs_that_the_test_set_repeats_are_left_out(file):
    for seed in range(3):
        _, train, test, left_out = read_split(DataArguments(dataset=file, train_size=7), seed)
        assert not {pair.question for pair in train} & {pair.question for pair in test}
        assert len(train) + len(left_out) == 7
    assert any(read_split(DataArguments(dataset=file, train_size=7), seed).left_out for seed in range(3))


def test_a_format_that_the_rows_do_not_have_is_one_line(file):
    with pytest.raises(UserError, match=r"alpaca.jsonl"):
        read_split(DataArguments(dataset=file, format="oasst"), seed=0)
    with pytest.raises(UserError, match="need 62 pairs, the data has 15"):
        read_split(DataArguments(dataset=file, train_size=50, test_size=12), seed=0)
