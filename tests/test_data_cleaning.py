"""Cleaning: similarity against values worked out by hand, each step's count and reason, and both commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gantune import cli
from gantune.data import CleaningConfig, Pair, clean, decontaminate, load_pairs, open_source, split_pairs
from gantune.data.lengths import histogram, length_table
from gantune.data.near_duplicates import NearDuplicates, jaccard, normalised, shingles
from gantune.errors import UserError
from tests.shared import SHARED, needs_shared
from tests.tiny_models import TINY_MODELS
from tests.tiny_tokenizer import tiny_tokenizer

DATA = Path(__file__).parent / "data"
TEN = "one two three four five six seven eight nine ten"  # 8 shingles of three words
LAST_CHANGED = TEN.replace("ten", "eleven")  # 7 of them are shared: 7 / 9
MIDDLE_CHANGED = TEN.replace("five", "zero")  # 5 are shared: 5 / 11


def main(arguments: list[str]) -> int:
    return cli.main(["data", *arguments])


def write(path: Path, *rows: dict) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def qa(question: str, answer: str) -> dict:
    return {"question": question, "answer": answer}


# ---- Near-duplicates


def test_normalised():
    assert normalised("  Who—wrote “It”?\n(1,843)") == "who wrote it 1 843"
    assert normalised("STRASSE ﬁn Ⅳ") == normalised("straße fin iv")
    assert normalised("日本語 abc") == "日 本 語 abc"
    assert normalised("?!") == "?!" and normalised(" ") == ""


def test_forbidden_words_are_whole_words_in_any_script(tmp_path):
    texts = [
        "我是人工智能模型。",
        "我是AI模型。",
        "वह की है",
        "वह क है",
        "un cafe\u0301 noir",
        "un caféier",
        "ai_model",
        "ก่อนกิน",
    ]
    source = open_source(write(tmp_path / "in.jsonl", *(qa(f"question {i}?", text) for i, text in enumerate(texts))))
    config = CleaningConfig(forbidden=("人工智能", "ai", "क", "café", "อน"), near_duplicates=False)
    assert [row.reason for row in clean(source, config).dropped] == [
        *("holds '人工智能'", "holds 'AI'", "holds 'क'", "holds 'café'", "holds 'อน'")
    ]


def test_similarity_is_the_jaccard_index_of_word_triples():
    assert shingles("a b c d") == {"a b c", "b c d"} and shingles("a b") == {"a b"} and shingles("") == {""}
    assert jaccard(shingles(TEN), shingles(LAST_CHANGED)) == 7 / 9
    assert jaccard(shingles(TEN), shingles(MIDDLE_CHANGED)) == 5 / 11


@pytest.mark.parametrize(
    ("text", "threshold", "found"),
    [
        (TEN.title() + "!", 1.0, (1, 1.0)),
        (LAST_CHANGED, 7 / 9, (1, 7 / 9)),
        (LAST_CHANGED, 0.78, None),
        (MIDDLE_CHANGED, 0.45, (1, 5 / 11)),
        (MIDDLE_CHANGED, 0.46, None),
        ("nothing of the kind", 0.01, None),
    ],
)
def test_find(text, threshold, found):
    near = NearDuplicates(threshold)
    assert near.find(text) is None
    assert [near.add(added) for added in ("something else that is here", TEN, "six seven eight nine ten")] == [0, 1, 2]
    assert near.find(text) == found


def test_hardly_any_near_duplicate_is_missed():
    """200 texts of 40 own words each; a copy with the last 5 words changed shares 33 of 43 triples (0.767)."""
    near = NearDuplicates(0.7)
    texts = [[f"w{text}x{word}" for word in range(40)] for text in range(200)]
    for words in texts:
        near.add(" ".join(words))
    found = [near.find(" ".join([*words[:35], *"vwxyz"])) for words in texts]
    assert sum(hit == (number, 33 / 43) for number, hit in enumerate(found)) >= 196
    assert all(hit is None or hit[0] == number for number, hit in enumerate(found))


@pytest.mark.parametrize("threshold", [0, -1, 1.1])
def test_thresholds_out_of_range(threshold):
    with pytest.raises(UserError, match=f"similarity threshold {threshold}: expected above 0 and at most 1"):
        decontaminate([], [], threshold)


# ---- Decontamination


def test_decontaminate():
    test = [Pair("Who wrote it?", "Ada."), Pair("", "Rain fell."), Pair("one two three four", TEN[19:])]
    train = [
        Pair("WHO wrote it", "Somebody else, in another year."),
        Pair("Who read it?", "Ada."),
        Pair("", "rain fell"),
        Pair("", "Rain fell again."),
        Pair("One: two, three... four?!", TEN),
        Pair("one two three", LAST_CHANGED[14:]),
    ]
    kept, dropped = decontaminate(train, test, threshold=0.75)
    assert kept == [train[1], train[3]]
    assert [(row.index, row.pair, row.test_pair, row.reason) for row in dropped] == [
        (0, train[0], test[0], "the same question is in the test set"),
        (2, train[2], test[1], "the same text is in the test set"),
        (4, train[4], test[2], "the same question is in the test set"),
        (5, train[5], test[2], "similarity 0.78 to a pair of the test set"),
    ]
    assert decontaminate(train, []) == (train, [])
    assert decontaminate([], test) == ([], [])


@pytest.mark.parametrize("source", ["mini-tofu", pytest.param("tofu", marks=needs_shared)])
def test_like_questions_about_different_authors_are_kept(source):
    pairs = load_pairs(str(SHARED / "data/tofu/full.jsonl") if source == "tofu" else source)
    for seed in range(3):
        train, test = split_pairs(pairs, 50, 400, seed)
        assert decontaminate(train, test) == (train, [])


# ---- Cleaning

ROWS = [
    qa("Who wrote it?", "Ada wrote the notes on it."),  # line 1, stays
    qa("Who wrote it?", None),
    qa("Why?", "So."),
    qa("Why does it rain so often here?", "I am an AI Model, so I do not know."),
    qa("who wrote it", "Ada wrote the notes on it!"),
    qa("Count to ten for me.", TEN),  # line 6, stays
    qa("Count to ten for me.", LAST_CHANGED),
    qa("What is in the test set?", "This question is in it."),
    qa("Is an AImodel there?", "The word stands inside another one, so this row stays."),  # line 9, stays
]
CONFIG = CleaningConfig(min_answer=4, max_question=40, forbidden=("an ai model", "x+"))


def test_each_step_counts_and_says_why(tmp_path):
    source = open_source(write(tmp_path / "in.jsonl", *ROWS))
    cleaned = clean(source, CONFIG, [Pair("what is in the test set", "Something.")])
    assert [record.where for record in cleaned.kept] == ["line 1", "line 6", "line 9"]
    assert [record.values for record in cleaned.kept] == [ROWS[0], ROWS[5], ROWS[8]]
    assert cleaned.counts == {
        "format": 1,
        "length": 1,
        "keywords": 1,
        "exact duplicates": 1,
        "near duplicates": 1,
        "decontamination": 1,
    }
    assert [(row.record.where, row.step, row.reason) for row in cleaned.dropped] == [
        ("line 2", "format", "no 'answer', expected a text"),
        ("line 3", "length", "answer of 3 characters, expected at least 4"),
        ("line 4", "keywords", "holds 'an AI Model'"),
        ("line 5", "exact duplicates", "the same as line 1"),
        ("line 7", "near duplicates", "similarity 0.86 to line 6"),  # 12 of 14 triples: 5 more words in front
        ("line 8", "decontamination", "the same question is in the test set: 'what is in the test set'"),
    ]


def test_each_step_is_optional(tmp_path):
    source = open_source(write(tmp_path / "in.jsonl", *(row for row in ROWS if row["answer"])))
    off = CleaningConfig(False, exact_duplicates=False, near_duplicates=False, decontamination=False)
    cleaned = clean(source, off, [Pair("what is in the test set", "Something.")])
    assert cleaned.kept == source.records and cleaned.dropped == [] and cleaned.counts == {}
    assert list(clean(source, CleaningConfig()).counts) == ["format", "exact duplicates", "near duplicates"]
    with pytest.raises(UserError, match=r"line 2: no 'answer', expected a text$"):
        clean(open_source(write(tmp_path / "bad.jsonl", *ROWS)), off)


def test_a_conversation_stays_or_goes_as_a_whole():
    source = open_source(str(DATA / "openai.jsonl"))
    cleaned = clean(source, CleaningConfig(max_answer=10))
    assert [row.reason for row in cleaned.dropped] == [
        "answer of 24 characters, expected at most 10",
        "answer of 22 characters, expected at most 10",
    ]
    test = [pair for pair in load_pairs(str(DATA / "openai.jsonl"), answers="every") if pair.answer == "In March."]
    assert [row.record.where for row in clean(source, CleaningConfig(), test).dropped] == ["line 1"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"min_answer": -1}, "min_answer is -1, expected 0 or more"),
        ({"forbidden": (" ",)}, "forbidden: an empty phrase, expected words"),
        ({"similarity": 2.0}, "similarity threshold 2.0: expected above 0 and at most 1"),
    ],
)
def test_bad_settings(config, message):
    with pytest.raises(UserError, match=message):
        clean(open_source(str(DATA / "text.jsonl")), CleaningConfig(**config))


# ---- Lengths


def test_length_table_and_histogram():
    lengths = list(range(1, 101))
    assert length_table({"prompt": lengths}).split() == [
        "tokens", "min", "median", "95", "%", "max", "mean",
        "prompt", "1", "50", "95", "100", "50.5",
    ]  # fmt: skip
    assert [line.split()[:2] for line in histogram(lengths).splitlines()] == [
        [f"{low}-{low + 9}", "10"] for low in range(1, 101, 10)
    ]
    assert histogram([7]).split() == ["7-7", "1", "#" * 40]
    lines = [line.split() for line in histogram([1, 1, 1, 1, 12]).splitlines()]
    assert lines[0] == ["1-2", "4", "#" * 40] and lines[-1] == ["11-12", "1", "#" * 10]
    assert [line[1] for line in lines] == ["4", "0", "0", "0", "0", "1"]


# ---- Commands


def test_show(capsys):
    options = ["--template", "plain", "--answers", "every", "--example", "2", "--system", "Be kind."]
    assert main(["show", str(DATA / "openai.jsonl"), *options]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(
        "format: openai (found by the columns: messages)\nrows: 2, examples: 3\n"
        "template: plain, tokenizer: mini, end token: <|endoftext|> (id 0)\n"
    )
    example = shown.partition("in «»:\n\n")[2].partition("\n\ntokens")[0]
    prompt, _, learned = example.partition("«")
    assert prompt == (
        "You are a gardener.\nQuestion: When do I sow peas?\nAnswer: In March.<|endoftext|>"
        "Question: And beans?\nAnswer:"
    )
    assert learned.replace("»«", "").rstrip("»") == " In May, after the frost.<|endoftext|>"
    assert "prompt tokens, examples" in shown and "answer tokens, examples" in shown


def test_show_raw_text_and_characters_of_several_tokens(tmp_path, capsys):
    assert main(["show", write(tmp_path / "a.jsonl", {"text": "é日"}), "--format", "text"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("format: text (as --format says: text)") and "template: text" in shown
    assert "\n<|endoftext|>«é»«日»«<|endoftext|>»\n" in shown


def test_clean(tmp_path, capsys):
    data = write(tmp_path / "in.jsonl", *ROWS, {"question": "\ud83d", "answer": "half a pair"})
    test = write(tmp_path / "test.jsonl", qa("what is in the test set", "Something."))
    out = tmp_path / "out.jsonl"
    limits = ["--min-answer", "4", "--max-question", "40", "--forbidden", "an ai model", "x+"]
    assert main(["clean", data, str(out), "--test", test, *limits]) == 0
    printed = capsys.readouterr().out
    assert [line.split()[:3] for line in printed.splitlines()] == [
        ["format:", "question-answer", "(found"],
        ["rows", "read", "10"],
        ["format", "-2"],
        ["length", "-1"],
        ["keywords", "-1"],
        ["exact", "duplicates", "-1"],
        ["near", "duplicates", "-1"],
        ["decontamination", "-1"],
        ["rows", "written", "3"],
        ["rows", "left", "out"],
    ]
    assert [json.loads(line) for line in out.read_text().splitlines()] == [ROWS[0], ROWS[5], ROWS[8]]
    report = [json.loads(line) for line in (tmp_path / "out.jsonl.dropped.jsonl").read_text().splitlines()]
    assert report[1] == {
        "where": "line 3",
        "step": "length",
        "reason": "answer of 3 characters, expected at least 4",
        "row": ROWS[2],
    }
    assert [row["where"] for row in report] == [f"line {number}" for number in (2, 3, 4, 5, 7, 8, 10)]


def test_what_is_not_read_is_named_and_false_rows_are_in_the_report(tmp_path, capsys):
    data = write(tmp_path / "in.jsonl", *({"id": 3, "label": label} | qa("q", "a") for label in (True, False)))
    assert main(["clean", data, str(tmp_path / "out.jsonl")]) == 0
    printed = capsys.readouterr()
    assert printed.err.splitlines() == [
        f"warning: {data}: columns not read: id",
        f"warning: {data}: 1 of 2 rows left out, their 'label' is false",
    ]
    assert [line.split() for line in printed.out.splitlines()[1:3]] == [["rows", "read", "2"], ["label", "-1"]]
    assert printed.out.splitlines()[-1].split()[:4] == ["rows", "left", "out", "1"]
    report = json.loads((tmp_path / "out.jsonl.dropped.jsonl").read_text())
    assert (report["where"], report["step"], report["reason"]) == ("line 2", "label", "'label' is false")
    assert main(["show", data]) == 0
    assert capsys.readouterr().err.splitlines() == printed.err.splitlines()


def test_show_counts_unknown_text(tmp_path, capsys):
    TINY_MODELS["gpt2"]().save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    data = write(tmp_path / "in.jsonl", qa("who?", "Zoë"), qa("who?", "ann"))
    assert main(["show", data, "--model", str(tmp_path / "model")]) == 0
    assert "no token for a part of 1 answers and 0 questions of 2 rows." in capsys.readouterr().out


def test_clean_without_a_test_set_says_so(tmp_path, capsys):
    out, report = tmp_path / "out.jsonl", tmp_path / "report.jsonl"
    options = ["--no-near-duplicates", "--no-format-check", "--report", str(report)]
    assert main(["clean", str(DATA / "oasst.parquet"), str(out), *options]) == 0
    assert "decontamination: not done, no test set (--test)" in capsys.readouterr().out
    assert load_pairs(str(out)) == load_pairs(str(DATA / "oasst.parquet")) and report.read_text() == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "nothing.jsonl"], "nothing.jsonl: no such file"),
        (["show", "mini-tofu", "--example", "9999"], "--example 9999: expected 1 to 1140, the number of examples"),
        (["show", "mini-tofu", "--template", "x"], "unknown template 'x'"),
        (["show", "mini-tofu", "--template", "chat"], "template chat: tokenizer "),
        (["show", "mini-tofu", "--format", "alpaca"], "mini-tofu: no column 'instruction', existing ones: question"),
        (["clean", "mini-tofu", "out.csv"], "out.csv: expected a .jsonl file, one JSON object a line"),
        (["clean", "a.jsonl", "./a.jsonl"], "./a.jsonl: would be overwritten while it is read"),
        (["clean", "mini-tofu", "b.jsonl", "--test", "b.jsonl"], "b.jsonl: would be overwritten while it is read"),
        (["clean", "mini-tofu", "b.jsonl", "--similarity", "7"], "similarity threshold 7.0: expected above 0"),
        (["clean", "mini-tofu"], "the following arguments are required: OUT (--help lists the options)"),
        ([], "the following arguments are required: COMMAND (--help lists the options)"),
    ],
)
def test_bad_commands_end_with_one_line_and_status_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"error: {message}") and printed.err.count("\n") == 1
    assert not list(tmp_path.iterdir())
