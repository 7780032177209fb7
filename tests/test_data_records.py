"""Records: how they are read, with several texts or none, and where they stay records."""

from __future__ import annotations

import copy
import json
import pickle
from argparse import Namespace

import datasets
import pandas
import pytest
import torch

from gantune import cli
from gantune.cli.generate import _questions, read_questions
from gantune.cli.train import GameDataOptions
from gantune.data import (
    Batch,
    CleaningConfig,
    Pair,
    Question,
    RecordQuestion,
    Turn,
    as_pairs,
    build_template,
    clean,
    collate,
    encode_pairs,
    load_pairs,
    load_prompts,
    open_source,
)
from gantune.data.decontamination import decontaminate
from gantune.data.question import identity, turns_of, with_system
from gantune.data.record_formats import parse_record
from gantune.errors import UserError
from tests.shared import SHARED, needs_shared
from tests.tiny_tokenizer import tiny_tokenizer

MILL = {"name": "The  Mill", "food": ["Thai", None, "French"], "rating": 4.0, "cheap": True, "near": "", "seats": 12}
FIELDS = (
    ("name", "The Mill"),
    ("food", "Thai"),
    ("food", "French"),
    ("rating", "4"),
    ("cheap", "yes"),
    ("seats", "12"),
)
SAID = ["The Mill serves Thai food.", "The Mill, also French."]


def write(folder, *rows, name="rows.jsonl") -> str:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_written_record_keeps_the_order_of_its_fields_and_the_repeated_ones():
    text = "food[Thai], name[The Mill], near[Café Rouge, upstairs], food[French], eatType[]"
    assert parse_record(text) == (
        ("food", "Thai"), ("name", "The Mill"), ("near", "Café Rouge, upstairs"), ("food", "French"),
    )  # fmt: skip


def test_every_text_of_a_record_is_a_pair_and_a_record_without_one_is_a_prompt(tmp_path):
    zizzi = {"record": {"name": "Zizzi"}}
    rows = [{"record": MILL, "text": SAID}, zizzi, zizzi | {"text": []}, zizzi | {"text": " "}]
    for answers in ("last", "every"):
        pairs = load_pairs(write(tmp_path, *rows), answers=answers)
        assert [pair.answer for pair in pairs] == SAID
        assert all(pair.question.fields == FIELDS for pair in pairs)
    assert pairs[0].question == "name[The Mill], food[Thai], food[French], rating[4], cheap[yes], seats[12]"
    prompts = load_prompts(write(tmp_path, *rows))
    assert [prompt.fields for prompt in prompts] == [FIELDS, (("name", "Zizzi"),)]
    assert load_prompts(write(tmp_path, zizzi)) == ["name[Zizzi]"]
    with pytest.raises(UserError, match=r"rows.jsonl: 'text' is empty in every row, expected some texts"):
        load_pairs(write(tmp_path, zizzi | {"text": None}))


@pytest.mark.parametrize("columns", [("record", "text"), ("meaning_representation", "text"),
                                     ("meaning_representation", "human_reference"), ("mr", "ref")])  # fmt: skip
def test_records_are_found_by_their_columns(tmp_path, columns):
    rows = [dict(zip(columns, ("name[The Mill], eatType[pub]", "It is a pub."), strict=True))]
    pairs = load_pairs(write(tmp_path, *rows))
    for source in (rows, datasets.Dataset.from_list(rows), pandas.DataFrame(rows)):
        assert as_pairs(source) == pairs == [Pair("name[The Mill], eatType[pub]", "It is a pub.")]
        assert as_pairs(source)[0].question.fields == (("name", "The Mill"), ("eatType", "pub"))


@pytest.mark.parametrize("kind", [list, datasets.Dataset.from_list, pandas.DataFrame])
def test_objects_are_read_from_whatever_a_program_holds(kind, tmp_path):
    rows = [{"record": {"name": "Bo", "trades": ["cook", "poet"], "born": 1990}, "text": ["a", "b"]},
            {"record": {"name": "Al", "trades": [], "born": None}, "text": ["c"]}]  # fmt: skip
    pairs = as_pairs(kind(rows))
    assert pairs == [("name[Bo], trades[cook], trades[poet], born[1990]", "a"),
                     ("name[Bo], trades[cook], trades[poet], born[1990]", "b"), ("name[Al]", "c")]  # fmt: skip
    file = tmp_path / "rows.parquet"
    pandas.DataFrame(rows).to_parquet(file)
    assert load_pairs(str(file)) == pairs


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"record": {"address": {"street": "x"}}}, r"'record.address' is an object, expected a text, a number, true"),
        ({"record": {"food": ["x", ["y"]]}}, r"'record.food\[1\]' is a list, expected a text"),
        ({"record": {"food": None}}, r"'record' has no field with a value"),
        ({"record": {" ": "x"}}, r"'record' has a field without a name"),
        ({"record": "a fine pub"}, r"'record' is 'a fine pub', expected a record as name\[The Mill\], eatType\[pub\]"),
        ({"record": 3}, r"'record' is int 3, expected a text or an object"),
        ({"record": None}, r"no 'record', expected a text"),
        ({"record": {"size": float("nan")}}, r"'record.size' is nan, expected"),
        ({"record": {"name": "x"}, "text": 3}, r"'text' is int 3, expected a text"),
        ({"record": {"name": "x"}, "text": ["y", ""]}, r"'text\[1\]' is empty, expected a text"),
    ],
)
def test_what_is_no_record_is_one_line_with_file_row_and_field(tmp_path, row, told):
    good = {"record": {"name": "Zizzi"}, "text": "Zizzi."}
    with pytest.raises(UserError, match=r"rows.jsonl, line 2: " + told) as error:
        load_pairs(write(tmp_path, good, {"text": "x"} | row))
    assert "\n" not in str(error.value)


@needs_shared
def test_e2e_as_it_is():
    pairs = load_pairs(str(SHARED / "data/e2e/pairs.jsonl"))
    assert len(pairs) == 4299 and all(isinstance(pair.question, RecordQuestion) for pair in pairs)
    rows = [json.loads(line) for line in (SHARED / "data/e2e/pairs.jsonl").open(encoding="utf-8")]
    assert [pair.question for pair in pairs] == [row["meaning_representation"] for row in rows]
    assert len(load_prompts(str(SHARED / "data/e2e/pairs.jsonl"))) == 1484


# ---- Where a record stays one


@pytest.mark.parametrize("template", ["record", "record-line", "plain"])
def test_a_system_prompt_stands_before_the_record_in_every_template(template):
    tokenizer, record = tiny_tokenizer(), RecordQuestion([("name", "the mill"), ("food", "french")])
    told = with_system(record, "be brief")
    assert told.fields == record.fields and told == record and turns_of(told)[0] == Turn("system", "be brief")
    for copied in (copy.copy(told), pickle.loads(pickle.dumps(told))):
        assert copied.fields == told.fields and copied.turns == told.turns and copied.system == "be brief"
    alone, asked = build_template(template), build_template(template, "be brief")
    ids = asked.prompt_ids(record, tokenizer)
    assert ids == alone.prompt_ids(told, tokenizer)
    (row,), _ = encode_pairs([Pair(record, "x")], tokenizer, asked, 1000, 10, "error")
    of_alone = alone.prompt_ids(record, tokenizer)
    if template == "plain":
        assert row.prompt_fields == []
    else:
        assert ids[-len(of_alone) :] == of_alone and len(ids) > len(of_alone)
        (bare,), _ = encode_pairs([Pair(record, "x")], tokenizer, alone, 1000, 10, "error")
        assert row.prompt_fields == [0] * (len(ids) - len(of_alone)) + bare.prompt_fields


def test_a_saved_batch_has_its_records_again():
    record, plain = RecordQuestion([("name", "the mill"), ("food", "french")]), Question([Turn("user", "who", "ann")])
    pairs = [Pair(record, "x"), Pair(plain, "y")]
    encoded, _ = encode_pairs(pairs, tiny_tokenizer(), "record", 100, 10, "error")
    batch = collate(encoded, 0)
    again = Batch.from_state_dict(batch.state_dict())
    assert again.pairs == batch.pairs and again.pairs[0].question.fields == record.fields
    assert torch.equal(again.prompt_fields, batch.prompt_fields)


def test_cleaning_looks_at_every_text_and_at_records_without_one(tmp_path):
    mill = {"record": {"name": "The Mill", "food": "Thai"}}
    foul = {"record": {"name": "Zizzi"}, "text": ["a foul text", "fine"]}
    rows = [mill | {"text": SAID}, mill | {"text": SAID[1:]}, mill | {"text": SAID}, mill, mill, {"record": {}}, foul]
    source = open_source(write(tmp_path, *rows))
    cleaned = clean(source, CleaningConfig(near_duplicates=False, forbidden=("foul",)))
    assert [record.where for record in cleaned.kept] == ["line 1", "line 2", "line 4"]
    assert cleaned.counts == {"format": 1, "keywords": 1, "exact duplicates": 2}
    test = load_pairs(write(tmp_path, mill | {"text": "Other words."}, name="test.jsonl"))
    assert not clean(source, CleaningConfig(near_duplicates=False, forbidden=("foul",)), test).kept


def test_the_same_record_in_another_order_is_the_same_record():
    one, other = RecordQuestion([("name", "A"), ("food", "B")]), RecordQuestion([("food", "B"), ("name", "A")])
    alike = RecordQuestion([("name", "A"), ("food", "C")])
    assert identity(one) == identity(other) != identity(alike)
    kept, left_out = decontaminate([Pair(other, "x y z"), Pair(alike, "f g h")], [Pair(one, "a b c")])
    assert kept == [Pair(alike, "f g h")] and left_out[0].reason == "the same record is in the test set"


def test_data_show_lays_a_record_out(tmp_path, capsys):
    file = write(tmp_path, {"record": {"name": "The Mill", "priceRange": "high"}, "text": SAID}, {"record": {"a": 1}})
    assert cli.main(["data", "show", file]) == 0
    shown = capsys.readouterr().out
    assert "format: records (found by the columns: record, text)" in shown
    assert "rows: 2, examples: 2, rows without a text: 1" in shown and "template: record," in shown
    assert "\nname: The Mill\nprice range: high\nText:«" in shown


# ---- Questions without answers


@pytest.mark.parametrize(
    ("row", "question"),
    [
        ({"question": "Who?"}, "Who?"),
        ({"instruction": "Translate.", "input": "Hello."}, "Translate.\n\nHello."),
        ({"instruction": "Who?"}, "Who?"),
        ({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]}, "System: s\nUser: u"),
        ({"conversations": [{"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}]}, "u"),
        ({"prompt": "Who?", "completion": None}, "Who?"),
        ({"prompt": [{"role": "user", "content": "u"}]}, "u"),
        ({"INSTRUCTION": "Who?"}, "Who?"),
        ({"dialogue": "A: Hi."}, "Summarize the following conversation.\n\nA: Hi."),
        ({"mr": "name[Zizzi]"}, "name[Zizzi]"),
    ],
)
def test_prompts_of_every_format_need_no_answers(tmp_path, row, question):
    assert load_prompts(write(tmp_path, row, row)) == [question]


def test_prompts_a_line(tmp_path):
    file = tmp_path / "asked.txt"
    file.write_text("Who?\n\n  Where? \nWho?\n")
    assert load_prompts(str(file)) == ["Who?", "Where?"]
    file.write_text("name[Zizzi]\nname[The Mill], food[Thai]\n")
    assert load_prompts(str(file))[1].fields == (("name", "The Mill"), ("food", "Thai"))
    file.write_text("name[Zizzi]\nWho?\n")
    assert not any(isinstance(prompt, RecordQuestion) for prompt in load_prompts(str(file)))


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.txt", "\n", "a.txt: is empty"),
        ("a.txt", b"\xff", "a.txt, line 1: not UTF-8"),
        ("a.jsonl", '{"question": "q"}\n{"question": ""}\n', "a.jsonl, line 2: 'question' is empty"),
        ("a.jsonl", '{"answer": "q"}\n', "a.jsonl: no column 'question', existing ones: answer"),
        ("a.jsonl", '{"text": "q"}\n', "a.jsonl, line 1: format text has no questions"),
        (
            "a.jsonl",
            '{"messages": [{"role": "system", "content": "s"}]}\n',
            "'messages' has no turn of the user",
        ),
        ("a.jsonl", "[]", "a.jsonl: "),
        ("a.md", "x", "a.md: unknown suffix"),
    ],
)
def test_prompts_that_cannot_be_read_are_one_line(tmp_path, name, content, told):
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=told):
        load_prompts(str(file))


def test_what_generate_is_asked_is_a_record_where_it_is_written_as_one(tmp_path):
    asked = tmp_path / "asked.txt"
    asked.write_text("name[Zizzi]\nname[Zizzi]\n")
    rows = write(tmp_path, {"record": {"name": "Zizzi"}}, {"record": {"name": "Zizzi"}})
    for file in (str(asked), rows):
        assert [question.fields for question in read_questions(file, "question")] == [(("name", "Zizzi"),)] * 2
    asked.write_text("Who?\nname[Zizzi]\n")
    assert not any(isinstance(question, RecordQuestion) for question in read_questions(str(asked), "question"))
    asked.write_bytes(b"Who?\n\xff")
    with pytest.raises(UserError, match=r"asked\.txt, line 2: not UTF-8"):
        read_questions(str(asked), "question")
    options = Namespace(question=" name[Zizzi], food[fish] ", file=None)
    assert _questions(options)[0].fields == (("name", "Zizzi"), ("food", "fish"))


def test_prompts_of_the_command_line_that_are_not_there():
    with pytest.raises(UserError, match=r"^nowhere.txt: no such file$"):
        GameDataOptions(prompts="nowhere.txt").check()
