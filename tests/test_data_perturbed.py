"""Reading questions with paraphrased and perturbed answers."""

import json

import pytest

from gantune.data import Pair, load_pairs
from gantune.data.perturbed import PerturbedPair, load_perturbed
from gantune.errors import UserError
from tests.shared import SHARED, needs_shared

ROW = {"question": "q", "answer": "a", "paraphrased_answer": "the a", "perturbed_answer": ["b", " c "]}


def write(tmp_path, *rows, name="rows.jsonl"):
    file = tmp_path / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def without(field):
    return {name: value for name, value in ROW.items() if name != field}


def test_all_fields(tmp_path):
    assert load_perturbed(write(tmp_path, ROW)) == [PerturbedPair(Pair("q", "a"), "the a", ("b", "c"))]


@pytest.mark.parametrize("row", [without("paraphrased_answer"), ROW | {"paraphrased_answer": None}])
def test_without_a_paraphrase_the_answer_stands_for_it(tmp_path, row):
    assert load_perturbed(write(tmp_path, row))[0].paraphrased == "a"


def test_the_extra_answers_are_not_said_to_be_unread(tmp_path, caplog):
    path = write(tmp_path, ROW | {"author": "x"})
    assert load_perturbed(path) and caplog.messages == [f"{path}: columns not read: author"]


def test_columns_of_other_names(tmp_path):
    row = {"q": "one", "a": "two", "perturbed_answer": ["three"]}
    assert load_perturbed(write(tmp_path, row), "q", "a") == [PerturbedPair(Pair("one", "two"), "two", ("three",))]


@pytest.mark.parametrize(
    "row, message",
    [
        (without("perturbed_answer"), "line 2: 'perturbed_answer' is missing, expected a list of at least one text"),
        (ROW | {"perturbed_answer": None}, "line 2: 'perturbed_answer' is missing, expected a list"),
        (ROW | {"perturbed_answer": []}, "line 2: 'perturbed_answer' is empty, expected a list of at least one text"),
        (ROW | {"perturbed_answer": "b"}, "line 2: 'perturbed_answer' is str 'b', expected a list of texts"),
        (ROW | {"perturbed_answer": ["b", ""]}, r"line 2: 'perturbed_answer\[1\]' is empty, expected a text"),
        (ROW | {"perturbed_answer": [3]}, r"line 2: 'perturbed_answer\[0\]' is int 3, expected a text"),
        (ROW | {"paraphrased_answer": " "}, "line 2: 'paraphrased_answer' is empty, expected a text"),
        (without("answer"), "line 2: no 'answer', expected a text"),
    ],
)
def test_bad_rows_are_named(tmp_path, row, message):
    with pytest.raises(UserError, match=f"rows.jsonl, {message}") as raised:
        load_perturbed(write(tmp_path, ROW, row))
    assert "\n" not in str(raised.value)


def test_a_file_without_the_column(tmp_path):
    with pytest.raises(UserError, match=r"no column 'perturbed_answer', existing ones: question, answer$"):
        load_perturbed(write(tmp_path, {"question": "q", "answer": "a"}))


def test_mini_tofu_has_them_for_every_pair():
    rows = load_perturbed("mini-tofu")
    assert [row.pair for row in rows] == load_pairs("mini-tofu")
    for row in rows:
        assert len(set(row.perturbed)) == 5
        assert row.paraphrased not in (row.pair.answer, *row.perturbed)


@needs_shared
@pytest.mark.parametrize(
    "name, rows, wrong", [("real_authors", 100, 3), ("world_facts", 117, 3), ("retain", 400, 5), ("forget10", 400, 5)]
)
def test_tofus_own_files(name, rows, wrong):
    read = load_perturbed(str(SHARED / "data" / "tofu" / f"{name}_perturbed.jsonl"))
    assert len(read) == rows
    assert {len(row.perturbed) for row in read} == {wrong}
    paraphrases = sum(row.paraphrased != row.pair.answer for row in read)
    assert paraphrases == 0 if wrong == 3 else paraphrases > 0.9 * rows
