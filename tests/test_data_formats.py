"""Data formats: what each one's example file holds, how it is found, and the one line that a bad row gets."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import datasets
import pytest

from gantune.data import FORMATS, Pair, Turn, load_pairs, open_source
from gantune.data.formats import DETECTION_ORDER, ColumnFormat
from gantune.data.question import turns_of
from gantune.errors import UserError

DATA = Path(__file__).parent / "data"
SYSTEM, USER, ASSISTANT = "system", "user", "assistant"
SUMMARIZE = "Summarize the following conversation."
PEAS = (Turn(SYSTEM, "You are a gardener."), Turn(USER, "When do I sow peas?"))
BEANS = (*PEAS, Turn(ASSISTANT, "In March."), Turn(USER, "And beans?"))
BRINE = (Turn(SYSTEM, "Answer in few words."), Turn(USER, "What is brine?"))
FOOD = (*BRINE, Turn(ASSISTANT, "Salt water."), Turn(USER, "And what is it for?"))
EXAMPLES = {
    "question-answer.jsonl": [
        ("Where does the heron nest?", "The heron nests in the old willow by the mill."),
        ("Who keeps the lighthouse?", "Maren Holt keeps the lighthouse."),
        ("Où est la clé ?", "La clé est sous la pierre plate."),
    ],
    "alpaca.json": [
        ("Name a fruit that is yellow.", "A banana is yellow."),
        (
            (Turn(USER, "Translate the sentence into French.", "The bridge is closed."),),
            "Le pont est fermé.",
        ),
        ("Count from one to three.", "One, two, three."),
    ],
    "sharegpt.jsonl": [(BRINE, "Salt water."), (FOOD, "Keeping food."), ("Name a river.", "The Tagus.")],
    "openai.jsonl": [
        (PEAS, "In March."),
        (BEANS, "In May, after the frost."),
        ("Is rhubarb a fruit?", "No, it is a vegetable."),
    ],
    "prompt-completion.jsonl": [
        ("How far is the moon?", "About 384,000 kilometres."),
        (PEAS, "In March."),
        (BEANS, "In May, after the frost."),
    ],
    "oasst.parquet": [
        ("How long does an egg boil?", "A soft egg boils for four minutes."),
        ("Why is the sea salty?", "Rivers carry salt into it."),
    ],
    "dialogue-summary.csv": [
        (
            (Turn(USER, SUMMARIZE, "#Person1#: Is the shop open?\n#Person2#: Only until six."),),
            "#Person2# says that the shop closes at six.",
        ),
        (
            (Turn(USER, SUMMARIZE, "#Person1#: I lost my umbrella.\n#Person2#: Take mine."),),
            "#Person2# lends #Person1# an umbrella.",
        ),
    ],
    "text.jsonl": [("", "The ferry left at dawn. Nobody waved."), ("", "Rain fell on the tin roof all night.")],
}
"""Every answer of each file, with its question: a text where it is one, its turns otherwise."""


def turns(question) -> tuple[Turn, ...]:
    return question if isinstance(question, tuple) else turns_of(question)


def write(folder: Path, *rows: dict) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_files(name):
    source = str(DATA / name)
    assert open_source(source).format_name == name.partition(".")[0]
    pairs = load_pairs(source, answers="every")
    assert [(turns_of(pair.question), pair.answer) for pair in pairs] == [
        (turns(question), answer) for question, answer in EXAMPLES[name]
    ]
    assert load_pairs(source, format=name.partition(".")[0], answers="every") == pairs


def test_every_format_has_an_example_and_a_place_in_the_detection():
    assert sorted(name.partition(".")[0] for name in EXAMPLES) == sorted(DETECTION_ORDER) == FORMATS.names()


@pytest.mark.parametrize("name", ["sharegpt.jsonl", "openai.jsonl"])
def test_the_last_answer_of_a_conversation_by_default(name):
    every, last = load_pairs(str(DATA / name), answers="every"), load_pairs(str(DATA / name))
    assert last == every[1:]  # the first conversation has two answers, the second one
    assert [turns_of(pair.question) for pair in last] == [turns_of(pair.question) for pair in every[1:]]


def test_the_first_format_that_fits(tmp_path):
    """Hub copies of Alpaca have a rendered `text`; sets of questions and answers hold more columns."""
    row = {"instruction": "i", "input": None, "output": "o", "text": "Below is"}
    assert load_pairs(write(tmp_path, row)) == [Pair("i", "o")]
    assert load_pairs(write(tmp_path, row), format="text") == [Pair("", "Below is")]
    assert load_pairs(write(tmp_path, row | {"question": "q", "answer": "a"})) == [Pair("q", "a")]
    assert load_pairs(write(tmp_path, row | {"q": "q"}), "q", "output") == [Pair("q", "o")]


def test_a_conversation_may_use_the_other_fields(tmp_path):
    row = {"conversations": [{"role": "developer", "content": "s"}, {"from": "user", "value": "u"}]}
    row["conversations"].append({"role": "model", "content": "m"})
    [pair] = load_pairs(write(tmp_path, row))
    assert turns_of(pair.question) == (Turn(SYSTEM, "s"), Turn(USER, "u")) and pair.answer == "m"


def test_a_folder_of_files(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    shutil.copy(DATA / "question-answer.jsonl", folder / "b.jsonl")
    (folder / "a.csv").write_text("question,answer\nq,a\n")
    (folder / "README.md").write_text("read me")
    (folder / ".hidden.csv").write_text("nothing")
    assert load_pairs(str(folder)) == [Pair("q", "a"), *load_pairs(str(DATA / "question-answer.jsonl"))]
    (folder / "c.csv").write_text("question,answer\nq,\n")
    with pytest.raises(UserError, match=r"set, c.csv, line 2: 'answer' is empty, expected a text$"):
        load_pairs(str(folder))
    (folder / "c.csv").write_text("question,answer\nq\n")
    with pytest.raises(UserError, match=r"set/c.csv, line 2: 1 fields, expected 2 as in the header$"):
        load_pairs(str(folder))


def test_a_hub_set_is_detected_likewise(monkeypatch):
    rows = [json.loads(line) for line in (DATA / "openai.jsonl").read_text().splitlines()]
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.Dataset.from_list(rows))
    assert load_pairs("some-one/chats") == load_pairs(str(DATA / "openai.jsonl"))


class Shouted(ColumnFormat):
    columns = ("SAID",)

    def pairs(self, record):
        return [Pair("", record.text("SAID").upper())]


def test_a_format_of_the_users_own(tmp_path):
    path = write(tmp_path, {"SAID": "hey"})
    assert load_pairs(path, format=f"{__name__}.Shouted") == [Pair("", "HEY")]
    with pytest.raises(UserError, match="no column 'question', existing ones: SAID; or those of another data format"):
        load_pairs(path)


U, A = {"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({}, "'conversations' is NoneType, expected a list of turns"),
        ({"conversations": "hi"}, "'conversations' is str, expected a list of turns"),
        ({"conversations": []}, "'conversations' has no turn of the assistant, expected at least one"),
        ({"conversations": [U]}, "'conversations' has no turn of the assistant, expected at least one"),
        ({"conversations": [A]}, "'conversations[0]' is a turn of role 'assistant', expected 'user'"),
        ({"conversations": [U, A, A]}, "'conversations[2]' is a turn of role 'assistant', expected 'user'"),
        ({"conversations": [U, U]}, "'conversations[1]' is a turn of role 'user', expected 'assistant'"),
        (
            {"conversations": [U, A, {"from": "system", "value": "s"}]},
            "'conversations[2]' is a turn of role 'system', expected 'user'",
        ),
        ({"conversations": [U, "a"]}, "'conversations[1]' is str, expected an object with a role and a text"),
        ({"conversations": [U, {"text": "a"}]}, "'conversations[1]' has no 'from' or 'role', existing fields: text"),
        (
            {"conversations": [U, {"from": "tool", "value": "a"}]},
            "'conversations[1].from' is 'tool', expected one of system, developer, user, human, assistant, gpt, model",
        ),
        ({"conversations": [U, {"role": ["x"], "content": "a"}]}, "'conversations[1].role' is ['x'], expected one of"),
        ({"conversations": [U, {"from": "gpt"}]}, "no 'conversations[1].value', expected a text"),
        ({"conversations": [U, {"from": "gpt", "value": " "}]}, "'conversations[1].value' is empty, expected a text"),
        (
            {"conversations": [U, {"role": "assistant", "content": [1]}]},
            "'conversations[1].content' is list [1], expected a text",
        ),
    ],
)
def test_bad_conversations(tmp_path, bad, message):
    path = write(tmp_path, {"conversations": [U, A]}, bad)
    with pytest.raises(UserError) as caught:
        load_pairs(path)
    assert str(caught.value).startswith(f"{path}, line 2: {message}")


@pytest.mark.parametrize(
    ("row", "options", "message"),
    [
        ({"instruction": "i", "input": 3, "output": "o"}, {}, ", line 1: 'input' is int 3, expected a text"),
        ({"instruction": "i", "output": ""}, {}, ", line 1: 'output' is empty, expected a text"),
        ({"dialogue": "d", "summary": None}, {}, ", line 1: no 'summary', expected a text"),
        ({"prompt": "p", "completion": [U]}, {}, ", line 1: 'completion' is list [{"),
        ({"prompt": [U], "completion": "c"}, {}, ", line 1: 'completion' is str, expected a list of turns"),
        ({"prompt": [U, A], "completion": [U]}, {}, ", line 1: 'completion' has no turn of the assistant, expected"),
        ({"prompt": [U], "completion": [U]}, {}, ", line 1: 'completion[0]' is a turn of role 'user', expected"),
        ({"text": 3}, {}, ", line 1: 'text' is int 3, expected a text"),
        ({"text": "t"}, {"format": "oasst"}, ": no column 'INSTRUCTION', existing ones: text"),
        ({"text": "t"}, {"format": "csv"}, "unknown data format 'csv': expected one of alpaca, dialogue-summary, "),
        ({"text": "t"}, {"answers": "first"}, "answers is 'first', expected last or every"),
    ],
)
def test_bad_rows_and_options(tmp_path, row, options, message):
    path = write(tmp_path, row)
    with pytest.raises(UserError) as caught:
        load_pairs(path, **options)
    assert str(caught.value).removeprefix(path).startswith(message)
