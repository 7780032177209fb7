"""Data formats: what each one's example file holds, how it is found, and the one line that a bad row gets."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import datasets
import pandas
import pytest

from gantune.data import FORMATS, Pair, Turn, as_pairs, load_pairs, open_source
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
ADA = "name[Ada Holt], born[1984], place[Delft], trade[clockmaker], trade[teacher], married[no], height[1.7]"
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
    "records.jsonl": [(ADA, "Ada Holt of Delft builds clocks."), (ADA, "Ada Holt, 41, is a clockmaker.")],
    "e2e.jsonl": [("name[The Mill], eatType[pub]", "The Mill is a pub."), ("name[Zizzi]", "There is Zizzi.")],
    "e2e-nlg.parquet": [("name[The Mill], near[Café Rouge]", "The Mill is near Café Rouge.")],
    "e2e-csv.csv": [("name[The Mill], food[Thai], food[French]", "The Mill serves Thai and French food.")],
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
    optional_columns = ("mark",)

    def pairs(self, record):
        return [Pair("", record.text("SAID").upper() + record.optional_text("mark"))]


class Bare:
    """A format with what the protocol wants and no more."""

    columns = ("label", "SAID")

    def pairs(self, record):
        return [Pair(record.text("label"), record.text("SAID"))]


def test_a_format_of_the_users_own(tmp_path, caplog):
    path = write(tmp_path, {"SAID": "hey", "mark": "!", "id": 1, "label": "0"})
    assert load_pairs(path, format=f"{__name__}.Shouted") == [Pair("", "HEY!")]
    assert load_pairs(path, format=f"{__name__}.Bare") == [Pair("0", "hey")]
    assert caplog.messages == [f"{path}: columns not read: id, label", f"{path}: columns not read: mark, id"]
    with pytest.raises(
        UserError, match="no column 'question', existing ones: SAID, mark, id, label; or those of anoth"
    ):
        load_pairs(path)


# ---- What stands beside question and answer

HEN = {"instruction": "And it?", "input": "A hen.", "output": "It clucks.", "system": "Be brief."}
HEN["history"] = [["Who quacks?", "A duck."], ["Who barks?", "A dog."]]
QUACKS = (Turn(SYSTEM, "Be brief."), Turn(USER, "Who quacks?"))
BARKS = (*QUACKS, Turn(ASSISTANT, "A duck."), Turn(USER, "Who barks?"))
CLUCKS = (*BARKS, Turn(ASSISTANT, "A dog."), Turn(USER, "And it?", "A hen."))


def told(pairs):
    return [(turns_of(pair.question), pair.answer) for pair in pairs]


def test_system_and_history_of_alpaca_rows_are_turns(tmp_path, caplog):
    every = [(QUACKS, "A duck."), (BARKS, "A dog."), (CLUCKS, "It clucks.")]
    path = write(tmp_path, HEN)
    assert told(load_pairs(path)) == every[-1:] and told(load_pairs(path, answers="every")) == every
    frame = pandas.DataFrame([HEN])
    frame.to_parquet(tmp_path / "hen.parquet")
    for source in (datasets.Dataset.from_list([HEN]), frame, pandas.read_parquet(tmp_path / "hen.parquet")):
        assert told(as_pairs(source, answers="every")) == every
    plain = HEN | {"history": [], "system": " ", "input": ""}
    assert load_pairs(write(tmp_path, plain, plain | {"history": None})) == [Pair("And it?", "It clucks.")] * 2
    assert told(load_pairs(write(tmp_path, plain | {"system": "Be kind."}))) == [
        ((Turn(SYSTEM, "Be kind."), Turn(USER, "And it?")), "It clucks.")
    ]
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"history": "Who quacks?"}, "'history' is 'Who quacks?', expected a list of [question, answer]"),
        ({"history": [["Who quacks?"]]}, "'history' is [['Who quacks?']], expected a list of [question, answer]"),
        ({"history": [{"q": 1, "a": 2}]}, "'history' is [{'q': 1, 'a': 2}], expected a list of [question, answer]"),
        ({"history": [["q", "a"], ["q", None]]}, "'history[1][1]' is NoneType None, expected a text"),
        ({"history": [["", "a"]]}, "'history[0][0]' is empty, expected a text"),
        ({"system": 3}, "'system' is int 3, expected a text"),
    ],
)
def test_bad_history(tmp_path, changed, message):
    path = write(tmp_path, HEN, HEN | changed)
    with pytest.raises(UserError) as caught:
        load_pairs(path)
    assert str(caught.value) == f"{path}, line 2: {message}"


CHAT = [{"role": USER, "content": "Who barks?"}, {"role": ASSISTANT, "content": "A dog."}]
OWN = [{"role": SYSTEM, "content": "Be brief."}, *CHAT]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": CHAT},
        {"messages": OWN},
        {"conversations": [{"from": "human", "value": "Who barks?"}, {"from": "gpt", "value": "A dog."}]},
        {"prompt": CHAT[:1], "completion": CHAT[1:]},
        {"prompt": "Who barks?", "completion": "A dog."},
    ],
)
def test_a_system_prompt_in_a_column_of_its_own(tmp_path, row):
    briefly = (Turn(SYSTEM, "Be brief."), Turn(USER, "Who barks?"))
    assert told(load_pairs(write(tmp_path, row | {"system": " Be brief."}))) == [(briefly, "A dog.")]


def test_two_system_prompts_are_refused(tmp_path):
    path = write(tmp_path, {"messages": OWN, "system": "Be long."})
    with pytest.raises(UserError, match=r"line 1: 'system' and 'messages\[0\]' are two system prompts, expected one$"):
        load_pairs(path)


def weighted(*weights):
    """A conversation whose answers have these weights."""
    return [turn for weight in weights for turn in (CHAT[0], CHAT[1] | {"content": f"Of {weight}.", "weight": weight})]


def test_answers_of_weight_0_are_not_learned(tmp_path):
    path = write(tmp_path, {"messages": weighted(1, 0, None, 0)})
    every = load_pairs(path, answers="every")
    assert [pair.answer for pair in every] == ["Of 1.", "Of None."] and load_pairs(path) == every[-1:]
    assert [turn.content for turn in turns_of(every[1].question)] == [
        "Who barks?", "Of 1.", "Who barks?", "Of 0.", "Who barks?",
    ]  # fmt: skip
    for weights, message in (
        ((0, 0), "'messages' has only turns of weight 0 of the assistant, expected at least one"),
        ((1, 0.5), "'messages[3].weight' is 0.5, expected 0 or 1"),
    ):
        with pytest.raises(UserError) as caught:
            load_pairs(write(tmp_path, {"messages": weighted(*weights)}))
        assert str(caught.value) == f"{path}, line 1: {message}"


@pytest.mark.parametrize(
    "row",
    [
        {"messages": CHAT},
        {"conversations": CHAT},
        {"prompt": "Who barks?", "completion": "A dog."},
        {"prompt": CHAT[:1], "completion": CHAT[1:]},
        {"instruction": "Who barks?", "output": "A dog."},
        {"question": "Who barks?", "answer": "A dog."},
        {"INSTRUCTION": "Who barks?", "RESPONSE": "A dog."},
    ],
)
@pytest.mark.parametrize(("true", "false"), [(True, False), (1, 0), ("True", "false"), (None, "0")])
def test_rows_with_a_false_label_are_left_out_and_counted(tmp_path, caplog, row, true, false):
    path = write(tmp_path, row | {"label": false}, row | {"label": true}, row | {"label": false})
    assert load_pairs(path) == [Pair("Who barks?", "A dog.")]
    assert caplog.messages == [f"{path}: 2 of 3 rows left out, their 'label' is false"]
    assert [record.where for record in open_source(path).left_out] == ["line 1", "line 3"]
    with pytest.raises(UserError, match=r"rows.jsonl: 'label' is false in every row, expected true answers"):
        load_pairs(write(tmp_path, row | {"label": false}))


def test_labels_that_are_classes_are_not_read(tmp_path, caplog):
    rows = [{"question": f"q{label}", "answer": "a", "label": label} for label in (0, 1, 2)]
    path = write(tmp_path, *rows)
    assert len(load_pairs(path)) == 3 and caplog.messages == [f"{path}: columns not read: label"]
    caplog.clear()
    path = write(tmp_path, {"text": "t", "label": 0}, {"text": "u", "label": 1})
    assert len(load_pairs(path)) == 2 and caplog.messages == [f"{path}: columns not read: label"]
    caplog.clear()
    path = write(tmp_path, {"question": "q", "label": "1"}, {"question": "q", "label": "0"})
    assert load_pairs(path, answer_column="label") == [Pair("q", "1"), Pair("q", "0")] and caplog.messages == []


def test_columns_and_fields_of_turns_that_nobody_reads_are_named_once(tmp_path, caplog):
    called = CHAT[1] | {"tool_calls": [{"id": 1}], "name": None}
    rows = [
        {"messages": CHAT, "id": 1, "tools": None},
        {"messages": [CHAT[0] | {"name": "ann"}, called], "id": 2, "tools": [], "\x1b[2J": 3, "": 4},
    ]
    path = write(tmp_path, *rows)
    assert load_pairs(path) == [Pair("Who barks?", "A dog.")] * 2
    unread = "id, messages[].name, messages[].tool_calls, tools, \\x1b[2J, ''"
    assert caplog.messages == [f"{path}: columns not read: {unread}"]
    caplog.clear()
    as_pairs(rows, name="train_dataset")
    assert caplog.messages == [f"train_dataset: columns not read: {unread}"]
    caplog.clear()
    assert load_pairs("mini-tofu") and as_pairs([("q", "a")]) and as_pairs([Pair("q", "a")]) and caplog.messages == []


TREE = {"message_id": "b", "parent_id": "a", "text": "A dog.", "role": "assistant", "rank": 0}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (TREE, ": each row is one message of a tree ('parent_id', 'role'), expected a conversation a row"),
        (
            {"prompt": "p", "chosen": "c", "rejected": "r"},
            ": no column 'question', existing ones: prompt, chosen, reje",
        ),
        ({"chosen": CHAT, "rejected": CHAT}, ": no column 'question', existing ones: chosen, rejected; or those of"),
        ({"instruction": "i", "context": "c", "response": "r"}, ": no column 'question', existing ones: instruction, "),
        ({"question": "q", "context": "c", "answers": {"text": ["a"]}}, ": no column 'answer', existing ones: questi"),
        ({"messages": [*CHAT, {"role": "tool", "content": "4"}]}, ", line 1: 'messages[2].role' is 'tool', expected"),
        (
            {"messages": [CHAT[0], {"role": "assistant", "content": None}]},
            ", line 1: no 'messages[1].content', expecte",
        ),
    ],
)
def test_sets_of_other_kinds_are_refused(tmp_path, row, message):
    path = write(tmp_path, row)
    with pytest.raises(UserError) as caught:
        load_pairs(path)
    assert str(caught.value).startswith(f"{path}{message}")


def test_of_sets_of_other_kinds_the_columns_that_are_asked_for_are_read(tmp_path, caplog):
    path = write(tmp_path, TREE)
    assert load_pairs(path, format="text") == [Pair("", "A dog.")]
    assert caplog.messages == [f"{path}: columns not read: message_id, parent_id, role, rank"]
    caplog.clear()
    path = write(tmp_path, {"prompt": "p", "chosen": "c", "rejected": "r"})
    assert load_pairs(path, "prompt", "chosen") == [Pair("p", "c")]
    assert caplog.messages == [f"{path}: columns not read: rejected"]


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
