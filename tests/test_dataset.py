"""From the data options of a comparison to the pairs of a seed."""

from __future__ import annotations

import json
import sys
import types

import pytest

from benchmarks.compare.arguments import parse
from benchmarks.compare.dataset import DataArguments, read_split
from gantune.data import RecordQuestion
from gantune.data.question import identity
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


def test_what_settings_are_chosen_on_is_tested_by_no_seed_that_is_reported(tmp_path, places):
    rows = [{"question": f"Who is person {i} of {i * 7}?", "answer": f"Number {i} ({i * 13})."} for i in range(60)]
    file = tmp_path / "people.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for named, of in ((str(file), 8), (places, 3)):
        data = DataArguments(named, train_size=of, test_size=of, decontamination=False)
        reported = {pair.question for seed in (1, 2, 3) for pair in read_split(data, seed).test}
        data.apart_from = [1, 2, 3]
        split = read_split(data, seed=100)
        trained, tested = ({pair.question for pair in pairs} for pairs in (split.train, split.test))
        assert len(trained) == len(tested) == of and not tested & (reported | trained)
        assert (split.references is None) == (named == str(file))
    everything = DataArguments(places, train_size=1, test_size=19, apart_from=[1, 2, 3], decontamination=False)
    with pytest.raises(UserError, match="seeds 1, 2, 3 test all of it, expected fewer seeds or a smaller --test-size"):
        read_split(everything, seed=100)
    few = DataArguments(places, train_size=1, test_size=15, apart_from=[1], decontamination=False)
    assert len(read_split(few, seed=100).test) == 5


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


# ---- Records, and prompts without answers

FOODS = ("Thai food", "French food", "fish", "pasta", "pies", "curry", "soup", "rice", "beans", "tapas")


@pytest.fixture
def places(tmp_path):
    """20 records with 2 texts each, 4 with none; written so that no two are nearly the same."""
    rows = [
        {
            "meaning_representation": f"name[Place {i}], food[{FOODS[i % 10]}]",
            "text": [f"{i * 37} {FOODS[i % 10]} {i}", f"At {i * 91} {i}."] if i < 20 else None,
        }
        for i in range(24)
    ]
    path = tmp_path / "places.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def records(pairs) -> set[str]:
    return {pair.question for pair in pairs}


def test_records_are_divided_by_record_with_all_texts_of_the_tested_ones(places):
    data = DataArguments(places, train_size=8, prompts=["rest"])
    split = read_split(data, seed=1)
    assert data.test_size == len(split.test) == len(split.references) == 12 and len(split.pairs) == 40
    assert len(split.train) == len(records(split.train)) == 8 and not records(split.train) & records(split.test)
    assert all(
        pair.answer == texts[0] and len(texts) == 2 for pair, texts in zip(split.test, split.references, strict=True)
    )
    assert not split.left_out and split.unpaired.answers == ()
    assert split.warnings == ["prompts of seed 1: 4 of rest"]
    assert split.unpaired.questions == [f"name[Place {i}], food[{FOODS[i % 10]}]" for i in range(20, 24)]
    more = read_split(DataArguments(places, train_size=8, test_size=4, prompts=["rest"]), seed=1)
    assert more.train == split.train and more.test == split.test[:4]
    assert not {*more.unpaired.questions} & {*records(more.train), *records(more.test)}
    assert len(more.unpaired.questions) == 12
    assert all(isinstance(question, RecordQuestion) for question in more.unpaired.questions)


def test_prompts_of_a_file_leave_out_the_records_of_the_pairs_and_say_how_many(places, tmp_path):
    split = read_split(DataArguments(places, train_size=8, test_size=4), seed=1)
    first, other = split.test[0].question, split.train[0].question
    turned = RecordQuestion(first.fields[::-1])
    file = tmp_path / "asked.txt"
    file.write_text("\n".join(["name[New], food[fish]", first, turned, other]))
    again = read_split(DataArguments(places, train_size=8, test_size=4, prompts=[str(file), "rest"]), seed=1)
    assert again.unpaired.questions[0] == "name[New], food[fish]" and len(again.unpaired.questions) == 1 + 12
    left_out = "3 left out, they are questions of training or test pairs"
    assert again.warnings == [f"prompts of seed 1: 1 of {file}, 12 of rest; {left_out}"]
    file.write_text(first)
    with pytest.raises(UserError, match=r"^--prompts .*asked.txt: no question beside those to train and to test on$"):
        read_split(DataArguments(places, train_size=8, test_size=4, prompts=[str(file)]), seed=1)


def test_made_up_records_are_of_the_values_at_hand_and_none_of_the_pairs(places, monkeypatch):
    def make_up(records, n, random, but):
        given.append((records, but))
        return [RecordQuestion([("name", f"made {random.random()}"), ("food", "fish")]) for _ in range(n - 1)] + [test]

    given, test = [], read_split(DataArguments(places, train_size=8, test_size=4), seed=1).test[0].question
    monkeypatch.setitem(sys.modules, "gantune.data.corruption", types.SimpleNamespace(make_up=make_up))
    data = DataArguments(places, train_size=8, test_size=4, prompts=["made:5"])
    split = read_split(data, seed=1)
    assert len(split.unpaired.questions) == 4 and "1 left out" in split.warnings[0]
    ((known, but),) = given
    assert {*known} == records(split.train) and {*known} | records(split.test) == {*but}
    assert read_split(data, seed=1).unpaired == split.unpaired != read_split(data, seed=2).unpaired


def test_made_up_records_of_the_real_function(places):
    pytest.importorskip("gantune.data.corruption", reason="records cannot be made up yet")
    split = read_split(DataArguments(places, train_size=8, test_size=4, prompts=["rest", "made:20"]), seed=1)
    asked = [identity(question) for question in split.unpaired.questions]
    assert len(asked) == len({*asked}) > 12
    assert not {*asked} & {identity(pair.question) for pair in [*split.train, *split.test]}


def test_unpaired_questions_and_answers_are_of_different_records(places):
    split = read_split(DataArguments(places, train_size=4, test_size=4, unpaired=6), seed=1)
    record_of = {pair.answer: pair.question for pair in split.pairs}
    told = {record_of[answer] for answer in split.unpaired.answers}
    asked = {*split.unpaired.questions}
    assert len(told) == len(asked) == 6 and not told & asked and not (told | asked) & records(split.train + split.test)


def test_the_rest_of_plain_questions_are_prompts_too(file):
    split = read_split(DataArguments(file, train_size=3, test_size=5, prompts=["rest"], decontamination=False), seed=0)
    known = {pair.question for pair in split.train + split.test}
    assert split.references is None
    assert {*split.unpaired.questions} == {pair.question for pair in split.pairs} - known


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--prompts", "rest", "--unpaired", "3"], "^--prompts and --unpaired: expected one of them"),
        (["--prompts", "made:0"], "^--prompts made:0: expected made:N, N at least 1$"),
        (["--prompts", "made:"], "^--prompts made:: expected made:N, N at least 1$"),
        (["--methods", "lora-unpaired", "--prompts", "rest"],
         "^method lora-unpaired: expected --unpaired N, .* which --prompts do not have$"),
        (["--methods", "self-training"], "^method self-training: expected --prompts or --unpaired N, questions"),
    ],
)  # fmt: skip
def test_prompts_that_cannot_be_meant_are_refused(options, told):
    with pytest.raises(UserError, match=told):
        parse(options)


def test_self_training_needs_prompts_alone(places):
    assert "self-training" in parse(["--methods", "all", "--prompts", "rest"]).comparison.methods
    assert "lora-unpaired" not in parse(["--methods", "all", "--prompts", "rest"]).comparison.methods
    assert "self-training" not in parse(["--methods", "all"]).comparison.methods
    with pytest.raises(UserError, match=r"--prompts made:3: .*people.jsonl has no records"):
        path = places.replace("places", "people")
        with open(path, "w") as people:
            people.writelines(json.dumps({"question": f"q {i}?", "answer": f"a {i}"}) + "\n" for i in range(9))
        read_split(DataArguments(path, train_size=3, test_size=3, prompts=["made:3"]), seed=0)


def test_test_pairs_may_come_from_a_file_of_their_own(tmp_path):
    rows = [{"question": f"question {i}", "answer": f"word{i} other{i}"} for i in range(12)]
    for name, part in (("train", rows[:10]), ("test", rows[8:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    data = DataArguments(dataset=str(tmp_path / "train.jsonl"), test_dataset=str(tmp_path / "test.jsonl"), train_size=8)
    split = read_split(data, seed=0)
    assert data.test_size == len(split.test) == 4 and len(split.train) == 8
    assert {pair.question for pair in split.test} == {row["question"] for row in rows[8:]}
    assert not {pair.question for pair in split.train} & {pair.question for pair in split.test}
    (tmp_path / "test.jsonl").write_text(json.dumps({"record": {"name": "a"}, "text": "b"}) + "\n")
    with pytest.raises(UserError, match="some questions are records and some are not"):
        read_split(data, seed=0)
