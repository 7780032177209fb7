"""Pairs from what a program holds: every form, and the one line that each other thing gets."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import datasets
import numpy
import pandas
import pytest

import gantune
from gantune.data import Pair, Question, Turn, as_pairs, load_pairs
from gantune.data.question import turns_of
from gantune.errors import UserError

DATA = Path(__file__).parent / "data"
PAIRS = [Pair("Who wrote it?", "Ada."), Pair("Où ça ?", "À Genève.")]
DICTS = [pair._asdict() for pair in PAIRS]
SYSTEM, USER, ASSISTANT = "system", "user", "assistant"
CHAT = [
    {"role": SYSTEM, "content": "Be brief."},
    {"role": USER, "content": "When do I sow peas?"},
    {"role": ASSISTANT, "content": "In March."},
    {"role": USER, "content": "And beans?"},
    {"role": ASSISTANT, "content": "In May."},
]
SHORT = [{"from": "human", "value": "Name a river."}, {"from": "gpt", "value": "The Tagus."}]
PEAS = Question([Turn(SYSTEM, "Be brief."), Turn(USER, "When do I sow peas?")])
BEANS = Question([*PEAS.turns, Turn(ASSISTANT, "In March."), Turn(USER, "And beans?")])


def told(pairs):
    """Pairs with the turns of their questions, which equality of strings does not see."""
    return [(turns_of(pair.question), pair.answer) for pair in pairs]


def refusal(source, **options) -> str:
    with pytest.raises(UserError) as caught:
        as_pairs(source, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        PAIRS,
        tuple(PAIRS),
        [tuple(pair) for pair in PAIRS],
        [[f" {question}", f"{answer}\n"] for question, answer in PAIRS],
        (pair for pair in PAIRS),
        (tuple(pair) for pair in PAIRS),
        DICTS,
        [row | {"id": 3} for row in DICTS],
        datasets.Dataset.from_list(DICTS),
        datasets.Dataset.from_list(DICTS).to_iterable_dataset(),
        datasets.DatasetDict(train=datasets.Dataset.from_list(DICTS), test=datasets.Dataset.from_list(DICTS[:1])),
        pandas.DataFrame(DICTS),
        pandas.DataFrame(DICTS, index=[7, 7]).assign(**{"score": [1.5, None], "at": pandas.Timestamp(0)}),
    ],
)
def test_forms_of_the_same_pairs(source):
    pairs = as_pairs(source)
    assert pairs == PAIRS and all(type(pair) is Pair for pair in pairs)


@pytest.mark.parametrize(
    ("row", "pair"),
    [
        ({"instruction": "i", "input": None, "output": "o"}, Pair("i", "o")),
        ({"INSTRUCTION": "i", "RESPONSE": "o"}, Pair("i", "o")),
        ({"text": "t", "x": 1}, Pair("", "t")),
        ({"prompt": "p", "completion": "c"}, Pair("p", "c")),
        ({"prompt": CHAT[:2], "completion": CHAT[2:3]}, Pair(PEAS, "In March.")),
        ({"messages": CHAT}, Pair(BEANS, "In May.")),
        ({"conversations": SHORT}, Pair("Name a river.", "The Tagus.")),
        (
            {"dialogue": "d", "summary": "s"},
            Pair(Question([Turn(USER, "Summarize the following conversation.", "d")]), "s"),
        ),
    ],
)
def test_dicts_of_every_format_alone_and_in_tables(row, pair):
    for source in ([row], datasets.Dataset.from_list([row]), pandas.DataFrame([row])):
        assert told(as_pairs(source)) == told([pair])


def test_conversations_one_and_several():
    both = [Pair(PEAS, "In March."), Pair(BEANS, "In May.")]
    assert told(as_pairs(CHAT)) == told(as_pairs(tuple(CHAT))) == told(both[1:])
    assert told(as_pairs(CHAT, answers="every")) == told(both)
    assert as_pairs(SHORT) == [Pair("Name a river.", "The Tagus.")]
    assert told(as_pairs([CHAT, tuple(SHORT)])) == told([both[1], Pair("Name a river.", "The Tagus.")])
    assert told(as_pairs([CHAT[:3]])) == told(both[:1])


def test_pairs_are_taken_as_they_are():
    pairs = [Pair(BEANS, "In May."), Pair("", " raw text "), Pair(" q", "a")]
    assert told(as_pairs(pairs)) == told(pairs)
    assert told(as_pairs([tuple(pairs[0])])) == told(as_pairs([pairs[0]._asdict()])) == told(pairs[:1])


def test_columns_format_and_split_of_the_users_choice():
    rows = [{"q": "q", "a": "a", "text": "t"}]
    assert as_pairs(rows, "q", "a") == as_pairs([("q", "a")], "q", "a") == [Pair("q", "a")]
    assert as_pairs(rows) == as_pairs(pandas.DataFrame(rows), format="text") == [Pair("", "t")]
    splits = datasets.DatasetDict(test=datasets.Dataset.from_list(DICTS[1:]))
    assert as_pairs(splits, split="test") == PAIRS[1:]


def test_names_and_paths(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in DICTS))
    assert as_pairs(str(path)) == as_pairs(path) == as_pairs(tmp_path) == PAIRS
    assert as_pairs(path, "answer", "question") == [Pair(answer, question) for question, answer in PAIRS]
    assert as_pairs(DATA / "openai.jsonl", answers="every") == load_pairs(str(DATA / "openai.jsonl"), answers="every")
    assert gantune.as_pairs("mini-tofu") == load_pairs("mini-tofu")
    calls = []
    monkeypatch.setattr(
        datasets, "load_dataset", lambda *a, split: calls.append((*a, split)) or datasets.Dataset.from_list(DICTS)
    )
    assert as_pairs("some-one/a.set", split="test") == PAIRS and calls == [("some-one/a.set", None, "test")]
    assert refusal(tmp_path / "b.csv") == f"{tmp_path / 'b.csv'}: no such file"


def test_a_parquet_file_read_by_pandas_gives_arrays():
    frame = pandas.DataFrame({"messages": [numpy.array(CHAT), numpy.array(CHAT[1:3])]})
    assert told(as_pairs(frame)) == told([Pair(BEANS, "In May."), Pair("When do I sow peas?", "In March.")])


ROW = "a Pair, (question, answer), a dict with named columns, or a conversation as a list of messages"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (5, f"data: is int 5, expected a list whose rows are each {ROW}; a datasets.Dataset, a pandas"),
        (None, "data: is NoneType None, expected a list"),
        (b"mini-tofu", "data: is bytes b'mini-tofu', expected a list"),
        ({"question": "q", "answer": "a"}, "data: is dict {'question': 'q', 'answer': 'a'}, expected a list"),
        ({("q", "a")}, "data: is set {('q', 'a')}, expected a list"),
        ([], "data: has no rows, expected questions and answers"),
        (iter(()), "data: has no rows"),
        (pandas.DataFrame(), "data: has no rows"),
        (datasets.Dataset.from_list([]), "data: has no rows"),
        ([("q", "a"), "text"], f"data, row 2: is str 'text', expected {ROW}"),
        (("q", "a"), "data, row 1: is str 'q', expected a Pair"),
        (Pair("q", "a"), "data, row 1: is str 'q', expected a Pair"),
        ([DICTS[0], 3], "data, row 2: is int 3, expected a Pair"),
        ([DICTS[0], None], "data, row 2: is NoneType None, expected a Pair"),
        ([DICTS[0], ("q", "a")], "data, row 2: is a (question, answer), expected a dict as row 1 is"),
        ([PAIRS[0], ("q", "a")], "data, row 2: is a (question, answer), expected a Pair as row 1 is"),
        ([("q", "a"), CHAT], "data, row 2: is a conversation, expected a (question, answer) as row 1 is"),
        ([CHAT, DICTS[0]], "data, row 2: is a dict, expected a conversation as row 1 is"),
        ([("q", "a"), ("q", "a", "b")], "data, row 2: is a tuple of 3, expected (question, answer)"),
        ([["q"]], "data, row 1: is a list of 1, expected (question, answer)"),
        ([[]], "data, row 1: is a list of 0, expected (question, answer)"),
        ([("q", "a"), ("q", None)], "data, row 2: no 'answer', expected a text"),
        ([("q", "a"), ("", "a")], "data, row 2: 'question' is empty, expected a text"),
        ([("q", 3)], "data, row 1: 'answer' is int 3, expected a text"),
        ([Pair("q", "a"), Pair("q", None)], "data, row 2: no 'answer', expected a text"),
        ([Pair("q", "a"), Pair("", " ")], "data, row 2: 'answer' is empty, expected a text"),
        ([Pair(None, "a")], "data, row 1: no 'question', expected a text"),
        ([Pair("q", "\ud83d")], "data, row 1: 'answer' has half a surrogate pair, expected valid Unicode"),
        ([DICTS[0], {"question": "q"}], "data, row 2: no 'answer', expected a text"),
        ([{}], "data: no column 'question', existing ones: none; or those of another data format: "),
        ([{"a": 1, 2: 3}], "data: no column 'question', existing ones: a, 2; or those of another"),
        (pandas.DataFrame([("q", "a")]), "data: no column 'question', existing ones: 0, 1; or those of another"),
        (pandas.DataFrame([*DICTS, {"question": "q"}]), "data, row 3: no 'answer', expected a text"),
        (datasets.Dataset.from_list([*DICTS, {"question": "q"}]), "data, row 3: no 'answer', expected a text"),
        (datasets.DatasetDict(test=datasets.Dataset.from_list(DICTS)), "data: no split 'train', existing ones: test"),
        (datasets.DatasetDict(), "data: no split 'train', existing ones: none"),
        (CHAT[:2], "data, row 1: 'messages' has no turn of the assistant, expected at least one"),
        ([*CHAT, "text"], "data, row 1: 'messages[5]' is str, expected an object with a role and a text"),
        ([*CHAT, DICTS[0]], "data, row 1: 'messages[5]' has no 'from' or 'role', existing fields: question, answer"),
        ([SHORT, CHAT[2:3]], "data, row 2: 'messages[0]' is a turn of role 'assistant', expected 'user'"),
    ],
)
def test_refusals(source, message):
    assert refusal(source).startswith(message)


def test_the_name_in_messages_and_options():
    assert refusal([()], name="train_dataset") == "train_dataset, row 1: is a tuple of 0, expected (question, answer)"
    assert refusal([("q", "a")], format="alpaca") == "data: no column 'instruction', existing ones: question, answer"
    assert refusal(DICTS, answers="first") == "answers is 'first', expected last or every"


def test_data_is_read_without_torch():
    """What asks for names alone, such as a help text, is not to wait for torch; batches are there once asked for."""
    code = """
import sys
import gantune.data.formats, gantune.data.templates
from gantune import as_pairs
assert as_pairs([("q", "a")]) and as_pairs("mini-tofu") and gantune.data.TEMPLATES.names()
heavy = {"torch", "transformers", "datasets", "pandas"} & set(sys.modules)
assert not heavy, heavy
from gantune.data import *
assert Batch.__module__ == "gantune.data.batch" and packed_inputs and batches
"""
    subprocess.run([sys.executable, "-c", code], check=True)
