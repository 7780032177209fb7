"""Sources of pairs: what is read, and the one line that bad input gets."""

from __future__ import annotations

import csv
import importlib.resources
import json
import os

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from gantune.data import Pair, load_pairs, split_pairs
from gantune.errors import UserError
from tests.shared import SHARED, needs_shared

ROWS = [
    {"question": "Who wrote it?", "answer": "Ada, of course."},
    {"question": "Où ça ?", "answer": 'À "Genève",\nen été.'},
]
PAIRS = [Pair(row["question"], row["answer"]) for row in ROWS]


def refusal(source, *args, **kwargs) -> str:
    with pytest.raises(UserError) as caught:
        load_pairs(str(source), *args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message


def write(path, text: str | bytes):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# ---- What is read


def test_jsonl(tmp_path):
    lines = "\n\n".join(json.dumps(row) for row in ROWS)
    assert load_pairs(str(write(tmp_path / "a.jsonl", lines))) == PAIRS


def test_jsonl_line_separators_inside_a_text_do_not_end_a_row(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"question": "a\u2028b\u0085c", "answer": "d"}\r\n')
    assert load_pairs(str(path)) == [Pair("a\u2028b\u0085c", "d")]


def test_json_array_and_json_lines(tmp_path):
    assert load_pairs(str(write(tmp_path / "a.json", json.dumps(ROWS, indent=1)))) == PAIRS
    assert load_pairs(str(write(tmp_path / "b.json", "\n".join(json.dumps(row) for row in ROWS)))) == PAIRS


def test_csv_with_byte_order_mark_quotes_and_line_breaks(tmp_path):
    text = '\ufeffid,question,answer\r\n1,Who wrote it?,"Ada, of course."\r\n2,Où ça ?,"À ""Genève"",\nen été."\r\n'
    assert load_pairs(str(write(tmp_path / "a.CSV", text))) == PAIRS


@pytest.mark.parametrize("many", [131_072, 300_000])
def test_a_csv_field_of_any_length_and_the_limit_as_it_was(tmp_path, many):
    limit = csv.field_size_limit()
    path = write(tmp_path / "a.csv", f"question,answer\nq,{'a' * many}\n")
    assert load_pairs(str(path)) == [Pair("q", "a" * many)]
    assert "line 2: not valid CSV" in refusal(write(path, f'question,answer\nq,"{"a" * many}'))
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize(
    ("text", "divided_by"),
    [
        ("question;answer\nq, r;a, b\n", "semicolons"),
        ("question\tanswer\nq, r\ta, b\n", "tabs"),
        ('\ufeff"question";"answer"\r\n"q, r";"a, b"\r\n', "semicolons"),
        ('id;question;answer;"a, b"\n1;q, r;a, b;\n', "semicolons"),
        ("question;answer;of, a\nq, r;a, b;c, d, e\n", "semicolons"),
        ('question,answer\n"q, r","a, b"\n', None),
        ('"question","answer"\n"q, r","a, b"\n', None),
        ('question,answer,x;y;z\n"q, r","a, b",;;\n', None),
        ('question,answer,"x\ty\tz"\n"q, r","a, b",1\n', None),
    ],
)
def test_delimiters(tmp_path, caplog, text, divided_by):
    path = write(tmp_path / "a.csv", text)
    assert load_pairs(str(path)) == [Pair("q, r", "a, b")]
    told = [f"{path}: fields are divided by {divided_by}"] if divided_by else []
    assert [message for message in caplog.messages if "columns" not in message] == told


def test_tab_separated_values_need_no_word(tmp_path, caplog):
    assert load_pairs(str(write(tmp_path / "a.tsv", "question\tanswer\nq\ta\n"))) == [Pair("q", "a")]
    assert caplog.messages == []


def test_one_column_has_no_delimiter(tmp_path, caplog):
    path = write(tmp_path / "a.csv", "text\nRain; wind\tand sun.\n")
    assert load_pairs(str(path)) == [Pair("", "Rain; wind\tand sun.")] and caplog.messages == []


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"data": ROWS}, None),
        (
            {"version": "v2", "rows": ROWS, "tags": ["x"], "n": {"a": 1}},
            "fields not read beside 'rows': version, tags, n",
        ),
        (ROWS, None),
    ],
)
@pytest.mark.parametrize("indent", [None, 1])
def test_json_that_is_one_value(tmp_path, caplog, suffix, content, told, indent):
    path = write(tmp_path / f"a{suffix}", json.dumps(content, indent=indent))
    assert load_pairs(str(path)) == PAIRS
    assert caplog.messages == [f"{path}: {told}"] * bool(told)


def test_an_object_that_is_a_row(tmp_path):
    chat = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    with pytest.raises(UserError, match="no column 'question', existing ones: chosen, rejected"):
        load_pairs(str(write(tmp_path / "a.json", json.dumps({"chosen": chat["messages"], "rejected": [{"from": 1}]}))))
    for row in ({"question": "q", "answer": "a", "pages": [{"page": 1}]}, chat):
        assert load_pairs(str(write(tmp_path / "a.json", json.dumps(row, indent=1)))) == [Pair("q", "a")]
    assert load_pairs(str(write(tmp_path / "a.json", '{"q":\n"q", "a": "a"}')), "q", "a") == [Pair("q", "a")]


def test_parquet(tmp_path):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert load_pairs(str(tmp_path / "a.parquet")) == PAIRS


def test_other_columns_and_surrounding_white_space(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"q": " one\\n", "a": "\\ttwo "}')
    assert load_pairs(str(path), "q", "a") == [Pair("one", "two")]


def test_mini_tofu_is_shipped():
    path = importlib.resources.files("gantune.assets") / "mini-tofu.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert load_pairs("mini-tofu") == [Pair(row["question"], row["answer"]) for row in rows]
    assert load_pairs("mini-tofu", answer_column="paraphrased_answer")[0].answer == rows[0]["paraphrased_answer"]


@needs_shared
def test_tofu_files():
    pairs = load_pairs(str(SHARED / "data/tofu/full.jsonl"))
    assert len(pairs) == 4000
    assert pairs[1] == Pair(
        "Are the details of Jaime Vasquez's birth documented?",
        "Yes, Jaime Vasquez was born on the 25th of February in the year 1958.",
    )
    perturbed = load_pairs(str(SHARED / "data/tofu/forget10_perturbed.jsonl"), answer_column="paraphrased_answer")
    assert perturbed[0].answer == "Hsiao Yun-Hwa is the complete name of the writer."


@pytest.mark.parametrize(
    ("source", "call"),
    [
        ("tofu", ("locuslab/TOFU", "full")),
        ("tofu:forget10_perturbed", ("locuslab/TOFU", "forget10_perturbed")),
        ("some-one/a.set", ("some-one/a.set", None)),
        ("some-one/a.set:v2", ("some-one/a.set", "v2")),
    ],
)
def test_hub(monkeypatch, source, call):
    calls = []

    def load_dataset(path, name=None, *, split):
        calls.append((path, name, split))
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert load_pairs(source, split="validation") == PAIRS
    assert calls == [(*call, "validation")]


# ---- What is refused


def test_hub_offline(monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    message = refusal("no-such-owner/no-such-set:v1")
    assert message.startswith(
        "no-such-owner/no-such-set:v1: cannot load the Hub data set no-such-owner/no-such-set "
        "(configuration v1, split train): Couldn't reach"
    )


def test_hub_error_of_many_lines_is_one_line(monkeypatch):
    def load_dataset(*args, **kwargs):
        raise ValueError("BuilderConfig 'x' not found.\nAvailable: ['full']")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert refusal("tofu:x").endswith("BuilderConfig 'x' not found. Available: ['full']")


def test_hub_row_without_answer(monkeypatch):
    table = datasets.Dataset.from_list([*ROWS, {"question": "Who?", "answer": None}])
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: table)
    assert refusal("tofu") == "tofu, row 3: no 'answer', expected a text"


@pytest.mark.parametrize("source", ["nothing", "", "a/b/c", "mini-tofu:x", "a" * 5000, "nul\0"])
def test_unknown_source_lists_the_built_in_names(source):
    message = refusal(source)
    assert (
        "no such file or data set; expected mini-tofu, mini-dialogues, mini-records, tofu, a Hub data set as owner/name"
        in message
    )


def test_missing_file_folder_and_suffix(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refusal("data/a.jsonl") == "data/a.jsonl: no such file"
    os.mkdir("data.csv")
    assert refusal("data.csv").startswith("data.csv: is a folder, expected a file")
    write(tmp_path / "a.txt", "x")
    assert refusal("a.txt") == "a.txt: unknown suffix '.txt', expected one of .jsonl, .json, .csv, .tsv, .parquet"


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "tsv", "parquet"])
@pytest.mark.parametrize("content", ["", " \n\n"])
def test_empty_file(tmp_path, suffix, content):
    path = write(tmp_path / f"a.{suffix}", content)
    assert refusal(path) == f"{path}: is empty, expected rows with a question and an answer"


@pytest.mark.parametrize(("name", "content"), [("a.csv", "question,answer\n"), ("a.json", "[]")])
def test_file_without_rows(tmp_path, name, content):
    assert refusal(write(tmp_path / name, content)).endswith(f"{name}: has no rows, expected questions and answers")


GOOD = '{"question": "q", "answer": "a"}\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", GOOD + "\n{'x': 1}\n", ", line 3: not valid JSON (Expecting property name"),
        ("a.jsonl", GOOD + "[" * 100_000, ", line 2: not valid JSON (maximum recursion"),
        ("a.jsonl", GOOD + GOOD + "[1]\n", ", line 3: is a JSON array, expected an object with named columns"),
        ("a.jsonl", GOOD + "null\n", ", line 2: is a JSON null, expected an object"),
        ("a.jsonl", GOOD + '\n{"question": "q"}\n', ", line 3: no 'answer', expected a text"),
        ("a.jsonl", GOOD + '{"question": "q", "answer": null}\n', ", line 2: no 'answer', expected a text"),
        ("a.jsonl", GOOD + '{"question": "q", "answer": " \\n"}\n', ", line 2: 'answer' is empty, expected a text"),
        ("a.jsonl", GOOD + '{"question": "q", "answer": 1958}\n', ", line 2: 'answer' is int 1958, expected a text"),
        ("a.jsonl", GOOD + '{"question": ["q"], "answer": "a"}\n', ", line 2: 'question' is list ['q'], expected"),
        ("a.jsonl", GOOD + '{"question": "q", "answer": "\\ud83d"}\n', ", line 2: 'answer' has half a surrogate pair"),
        ("a.jsonl", '{"q": "q", "a": "a"}\n', ": no column 'question', existing ones: q, a"),
        ("a.jsonl", '{"question": "q", "response": "a"}\n', ": no column 'answer', existing ones: question, response"),
        ("a.jsonl", GOOD.encode() + b'{"question": "\xe9"}', ", line 2: not UTF-8 (byte 0xe9)"),
        ("a.jsonl", b"\xef\xbb\xbf" + GOOD.encode() + b"\xff", ", line 2: not UTF-8 (byte 0xff)"),
        ("a.json", "[\n" + GOOD + ",\n{]", ", line 4: not valid JSON"),
        ("a.json", "[" + GOOD + ', "text"]', ", row 2: is a JSON string, expected an object"),
        ("a.json", "[" + GOOD + ', {"question": "q", "answer": ""}]', ", row 2: 'answer' is empty"),
        ("a.json", '{"question":\n"q"\n"answer": "a"}', ", line 3: not valid JSON (Expecting ',' delimiter, column 1)"),
        ("a.json", '\n{"question":\n"q", "answer": ""}', ", line 2: 'answer' is empty, expected a text"),
        ("a.json", '{"data": [' + GOOD + ', {"question": "q"}]}', ", row 2 of 'data': no 'answer', expected a text"),
        ("a.json", '{"data": [' + GOOD + ", 3]}", ", row 2 of 'data': is a JSON number, expected an object"),
        ("a.json", '{"train": [{}], "test": [{}]}', ": is a JSON object with several lists of rows (train, test), exp"),
        (
            "a.json",
            '{"question": {"0": "q"}, "answer": {"0": "a"}}',
            ", line 1: 'question' is dict {'0': 'q'}, expec",
        ),
        ("a.json", '{"version": 1}', ": no column 'question', existing ones: version; or those of another data format"),
        ("a.jsonl", "3", ", line 1: is a JSON number, expected an object with named columns"),
        ("a.csv", "question;answer\nq;a\nq;a;b\n", ", line 3: 3 fields, expected 2 as in the header"),
        ("a.csv", "question;answer\nq;a\nq;\n", ", line 3: 'answer' is empty, expected a text"),
        ("a.csv", 'question;answer\nq;a\nq;"a\n', ", line 3: not valid CSV (unexpected end of data)"),
        ("a.tsv", "question\tanswer\nq\n", ", line 2: 1 fields, expected 2 as in the header"),
        ("a.json", "[" * 100_000, ": not valid JSON (maximum recursion"),
        ("a.csv", "question,answer\nq,a\nq,\n", ", line 3: 'answer' is empty, expected a text"),
        ("a.csv", 'question,answer\n"q\nq",a\n\nq,\n', ", line 5: 'answer' is empty, expected a text"),
        ("a.csv", "question,answer\nq,a\nq\n", ", line 3: 1 fields, expected 2 as in the header"),
        ("a.csv", "question,answer\nq,a, b\n", ", line 2: 3 fields, expected 2 as in the header"),
        ("a.csv", 'question,answer\nq,a\nq,"a\nq,a\n', ", line 3: not valid CSV (unexpected end of data)"),
        ("a.csv", "question,answer,answer\nq,a,b\n", ", line 1: column 'answer' is named twice"),
        ("a.csv", "frage,antwort\nq,a\n", ": no column 'question', existing ones: frage, antwort"),
        ("a.csv", b"question,answer\nq,a\nq,\x80\n", ", line 3: not UTF-8 (byte 0x80)"),
        ("a.parquet", b"PAR1 and no more", ": not a valid parquet file ("),
    ],
)
def test_broken_file_names_the_place(tmp_path, name, content, message):
    path = write(tmp_path / name, content)
    assert refusal(path).startswith(f"{path}{message}")


def test_parquet_rows_and_columns(tmp_path):
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"question": ["q", "q"], "answer": ["a", None]}), path)
    assert refusal(path) == f"{path}, row 2: no 'answer', expected a text"
    assert refusal(path, "frage") == f"{path}: no column 'frage', existing ones: question, answer"
    path.write_bytes(path.read_bytes()[:-40])
    assert refusal(path).startswith(f"{path}: not a valid parquet file (")


# ---- Splits


def numbered(n: int) -> list[Pair]:
    return [Pair(f"q{i}", f"a{i}") for i in range(n)]


def test_split_is_disjoint_and_depends_on_the_seed_alone():
    pairs = numbered(50)
    train, test = split_pairs(pairs, 30, 20, seed=3)
    assert sorted(train + test) == sorted(pairs)
    assert split_pairs(pairs, 30, 20, seed=3) == (train, test)
    assert split_pairs(pairs, 30, 20, seed=4)[0] != train


def test_one_size_does_not_change_the_other_part():
    pairs = numbered(50)
    train, test = split_pairs(pairs, 30, 20, seed=0)
    assert split_pairs(pairs, 30, 5, seed=0) == (train, test[:5])
    assert split_pairs(pairs, 7, 20, seed=0) == (train[:7], test)


def test_split_rest():
    pairs = numbered(10)
    for sizes in ((None, 4), (6, None)):
        assert split_pairs(pairs, *sizes, seed=1) == split_pairs(pairs, 6, 4, seed=1)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((8, 3), "train_size 8 and test_size 3 need 11 pairs, the data has 10"),
        ((None, 10), "need 11 pairs, the data has 10"),
        ((11, None), "need 12 pairs, the data has 10"),
        ((None, None), "give at least one"),
        ((-1, 3), "train_size is -1"),
    ],
)
def test_split_refuses_impossible_sizes(sizes, message):
    with pytest.raises(UserError, match=message):
        split_pairs(numbered(10), *sizes, seed=0)
