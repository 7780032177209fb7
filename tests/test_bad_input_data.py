"""Whatever is in a data file, what comes of it is pairs that can be trained on, or one line that says what is wrong."""

from __future__ import annotations

import csv
import io
import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantune.cli import main
from gantune.cli.generate import read_questions
from gantune.data import (
    FORMATS,
    TEMPLATES,
    CleaningConfig,
    Pair,
    Question,
    Turn,
    build_template,
    clean,
    collate,
    decontaminate,
    encode_pairs,
    end_token_id,
    likelihood_inputs,
    load_pairs,
    open_source,
    pad_token_id,
    pairs_of,
)
from gantune.data.near_duplicates import normalised
from gantune.data.perturbed import load_perturbed
from gantune.data.sources import READERS
from gantune.errors import UserError
from gantune.hub.loading import load_tokenizer
from tests.hostile import NESTED, TEXTS, TRIED, cases, check_message, files, refused_at_most, texts, values
from tests.tiny_tokenizer import tiny_tokenizer

TOKENIZERS = {"mini": load_tokenizer("mini"), "characters": tiny_tokenizer()}


@pytest.fixture(autouse=True)
def no_hub(monkeypatch):
    """Names that look like the Hub's are not asked for."""

    def unreachable(*args, **options):
        raise ConnectionError("no network in tests")

    monkeypatch.setattr("datasets.load_dataset", unreachable)


def check_pairs(pairs: list[Pair]) -> None:
    """Every text of every pair can be shown, stored and tokenized."""
    assert pairs
    for question, answer in pairs:
        assert answer.strip() == answer != ""
        (question + answer).encode()


@pytest.mark.parametrize("suffix", READERS)
@cases(250)
@given(data=st.data())
def test_files(suffix, data, tmp_path_factory):
    file = tmp_path_factory.getbasetemp() / f"hostile{suffix}"
    file.write_bytes(data.draw(files(suffix)))
    format = data.draw(st.sampled_from([None, None, None, *FORMATS.names()]))
    with refused_at_most(f"{suffix} files") as told:
        source = open_source(str(file), format=format)
        cleaned = clean(source, CleaningConfig(min_answer=1, forbidden=("drop",)), [Pair("who?", "me")])
        assert len(cleaned.kept) + len(cleaned.dropped) == len(source.records) + len(source.left_out)
        check_pairs(pairs_of(source, "every"))
    assert all(message.startswith(str(file)) for message in told), "the file is named"


clean_texts = texts.map(lambda text: text.encode("utf-8", "replace").decode())
fields = st.fixed_dictionaries({"question": clean_texts, "answer": clean_texts, "note": clean_texts})


@cases(200)
@given(st.lists(fields, max_size=4), st.sampled_from(",;\t"), st.booleans())
def test_delimiters(table, delimiter, quoted):
    """Whatever stands between the delimiters, what was written is read."""
    file = io.StringIO(newline="")
    quoting = csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL
    writer = csv.DictWriter(file, ["question", "answer", "note"], delimiter=delimiter, quoting=quoting)
    writer.writeheader()
    writer.writerows(table)
    with refused_at_most("delimiters") as told:
        assert [row for _, row in READERS[".csv"]("some.csv", file.getvalue().encode())] == table
    assert not told


@pytest.mark.parametrize("way", ["an array", "a field", "a row"])
@cases(60)
@given(st.lists(fields, min_size=1, max_size=3), st.sampled_from([None, 1]), st.booleans())
def test_nested_json(way, table, indent, escaped):
    content = json.dumps(NESTED[way](table), indent=indent, ensure_ascii=escaped).encode()
    with refused_at_most("nested JSON") as told:
        rows = [row for _, row in READERS[".json"]("some.json", content)]
        assert rows == (table[:1] if way == "a row" else table)
    assert not told


@cases(150)
@given(st.lists(st.fixed_dictionaries({"question": texts, "answer": texts, "perturbed_answer": values}), max_size=3))
def test_perturbed_answers(tmp_path_factory, table):
    file = tmp_path_factory.getbasetemp() / "perturbed.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in table))
    with refused_at_most("perturbed answers"):
        check_pairs([row.pair for row in load_perturbed(str(file))])


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".jsonl"])
@cases(80)
@given(data=st.data())
def test_files_of_questions(suffix, data, tmp_path_factory):
    file = tmp_path_factory.getbasetemp() / f"questions{suffix}"
    content = texts.map(lambda text: text.encode("utf-8", "surrogatepass"))
    file.write_bytes(data.draw(content if suffix == ".txt" else files(suffix)))
    with refused_at_most("files of questions"):
        assert all(question.strip() for question in read_questions(str(file), "question"))


names = ["mini-tofu:", "tofu:x", "a/b", "a/b:c", "/", ".", "..", "\0.jsonl", "\ud800.csv"]
options = ["question_column", "answer_column", "format", "answers", "split"]


@cases(150)
@given(texts | st.sampled_from(names), st.dictionaries(st.sampled_from(options), texts, max_size=3))
def test_names_of_sources_columns_and_formats(tmp_path_factory, source, options):
    with refused_at_most("names of sources, columns and formats"):
        load_pairs(source, **options)
    file = tmp_path_factory.getbasetemp() / "good.jsonl"
    file.write_text('{"question": "who?", "answer": "ann"}\n')
    with refused_at_most("names of sources, columns and formats"):
        load_pairs(str(file), **options)


questions = texts | st.builds(
    lambda turns, last: Question([*turns, Turn("user", last)]),
    st.lists(st.builds(Turn, st.sampled_from(["system", "user", "assistant"]), texts, texts), max_size=3),
    texts,
)


def encodable(text: str) -> bool:
    """Not half a surrogate pair, which no loader lets through."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


@pytest.mark.parametrize("tokenizer_name", TOKENIZERS)
@pytest.mark.parametrize("name", [name for name in TEMPLATES.names() if name != "chat"])
@cases(40)
@given(question=questions, answer=texts, system=st.none() | texts)
def test_templates_and_encoding(name, tokenizer_name, question, answer, system):
    tokenizer = TOKENIZERS[tokenizer_name]
    template = build_template(name, system)
    end = end_token_id(template, tokenizer)
    with refused_at_most("questions and answers in templates"):
        encoded, _ = encode_pairs([Pair(question, answer)] * 2, tokenizer, template, 30, 20, "truncate")
        batch = collate(encoded, pad_token_id(tokenizer))
        assert batch.prompt_ids.shape[1] <= 30 and batch.answer_ids.shape[1] <= 20
        assert batch.input_ids().min() >= 0 and batch.input_ids().max() < len(tokenizer)
        assert batch.prompt_mask.sum(1).min() > 0, "a prompt has at least one token"
        assert likelihood_inputs(batch)["labels"].shape == batch.input_ids().shape
        ids = template.answer_ids(answer, tokenizer)
        assert ids[-1] == end and end not in ids[:-1], "an answer ends once, whatever it spells"
        return
    assert not encodable(question + answer + (system or "")), "only broken text is refused"


@cases(60)
@given(
    template=texts
    | st.sampled_from(
        [
            "{{ 1 + 'a' }}",
            "{% for x in range(10**9) %}x{% endfor %}",
            "{{ messages[9] }}",
            "{{ ''.__class__.__mro__[1].__subclasses__() }}",
            "{{ messages | tojson }}",
            "{{ 1 / 0 }}",
            "{{ raise_exception('no\nno') }}",
            "{% include 'x' %}",
            "{{ strftime_now('%Y') }}",
            "{{ strftime_now(1) }}",
            "{{ lipsum.__globals__ }}",
        ]
    )
)
def test_templates_of_a_tokenizer(template):  # fmt: skip
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    with refused_at_most("templates of a tokenizer"):
        encode_pairs([Pair("who?", "ann")], tokenizer, "chat", 30, 20, "truncate")


@cases(100)
@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=4), st.data())
def test_rows_of_the_test_set_are_never_trained_on(table, data):
    pairs = [Pair(question, answer) for question, answer in table]
    leaked = data.draw(st.sampled_from(pairs))
    shouted = Pair(leaked.question.upper() + " !", leaked.answer)
    TRIED["training rows in the test set"] += 1
    kept, dropped = decontaminate([*pairs, leaked, shouted], [leaked])
    assert len(kept) + len(dropped) == len(pairs) + 2
    assert leaked not in kept
    if any(character in string.ascii_letters for character in leaked.question):
        same = normalised(shouted.question) == normalised(leaked.question)
        assert not same or shouted not in kept


@cases(100)
@given(st.lists(texts, min_size=1, max_size=4), st.integers(2, 4))
def test_repeated_rows_are_kept_once(tmp_path_factory, answers, times):
    file = tmp_path_factory.getbasetemp() / "repeated.jsonl"
    file.write_text("".join(json.dumps({"question": "who?", "answer": answer}) + "\n" for answer in answers) * times)
    with refused_at_most("repeated rows"):
        cleaned = clean(open_source(str(file)), CleaningConfig(near_duplicates=False))
        kept = [normalised(record.text("answer")) for record in cleaned.kept]
        assert len(kept) == len(set(kept)) <= len(answers)


@pytest.mark.parametrize("kind", TEXTS)
@cases(6)
@given(data=st.data())
def test_the_command_says_what_is_wrong_and_ends_with_status_2(kind, data, tmp_path_factory, capsys):
    file = tmp_path_factory.getbasetemp() / "command.jsonl"
    table = [{"question": data.draw(TEXTS[kind]), "answer": data.draw(TEXTS[kind] | values)}]
    file.write_text("".join(json.dumps(row) + "\n" for row in table))
    TRIED["commands"] += 1
    capsys.readouterr()
    command = data.draw(
        st.sampled_from([["show", str(file)], ["clean", "--no-format-check", str(file), f"{file}.out.jsonl"]])
    )
    status = main(["data", *command])
    told = capsys.readouterr().err
    try:
        load_pairs(str(file))
    except UserError as error:
        assert status == 2 and told == f"error: {error}\n"
        check_message(str(error))
    else:
        assert status == 0 and not told
