"""The built-in records: remade from their script, of lengths that fit, and what counts as an error in their texts."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest

from benchmarks.built_in.mini_corpus import authors
from benchmarks.built_in.mini_records import FILE, LONGEST, RECORDS, SIZES, SLOTS_FILE, VALUES, records, write
from benchmarks.built_in.pretrain_mini import ASSETS
from gantune.data import RecordQuestion, load_pairs
from gantune.data.templates import build_template
from gantune.hub.loading import load_tokenizer
from gantune.metrics.slots import SHIPPED, SlotErrors, SlotMatcher


@pytest.fixture(scope="module")
def rows():
    return [json.loads(line) for line in (ASSETS / FILE).read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def said(rows):
    """Each text with its record."""
    return [(row["record"], text) for row in rows for text in row["text"]]


@pytest.fixture(scope="module")
def matcher():
    return SlotMatcher("mini-records")


def test_the_files_are_what_the_script_writes(tmp_path):
    write(tmp_path)
    for file in (FILE, SLOTS_FILE):
        assert (tmp_path / file).read_bytes() == (ASSETS / file).read_bytes()
    assert SHIPPED["mini-records"] == SLOTS_FILE


def test_another_seed_gives_other_records_and_fewer_are_the_first_of_them(rows):
    assert records(count=20) == rows[:20]
    assert records(1, count=20) != rows[:20]


def test_no_record_is_there_twice_and_no_text_tells_of_an_author_of_the_pretraining_text(rows, said):
    assert len({tuple(row["record"].items()) for row in rows}) == len(rows) == RECORDS
    surnames = {author.name.split()[1] for author in authors()}
    assert not surnames & {word.strip(".,") for _, text in said for word in text.split()}


def test_fields_and_values_are_about_equally_common(rows):
    assert {len(row["record"]) for row in rows} == set(SIZES)
    for field, values in VALUES.items():
        counts = Counter(row["record"].get(field) for row in rows)
        there = counts.total() - counts.pop(None, 0)
        assert there == len(rows) if field == "name" else 0.3 * len(rows) < there < 0.6 * len(rows)
        assert counts.keys() == {value.value for value in values}
        assert max(counts.values()) <= 2 * min(counts.values())


def test_texts_vary(said):
    """Without the words of the record, hardly two texts are alike, and many values are told in other words."""
    forms = Counter()
    for record, text in said:
        for value in record.values():
            text = text.lower().replace(value.lower(), "")
        forms[text] += 1
    assert len(forms) > 0.95 * len(said)
    verbatim = [value.lower() in text.lower() for record, text in said for value in list(record.values())[1:]]
    assert 0.4 < sum(verbatim) / len(verbatim) < 0.8


def test_values_are_few_tokens_of_the_built_in_model():
    tokenizer = load_tokenizer("mini")
    assert max(len(tokenizer(" " + value.value).input_ids) for values in VALUES.values() for value in values) <= 4


def test_they_are_read_as_records_and_fit_the_built_in_model(said):
    pairs = load_pairs("mini-records")
    assert [(dict(pair.question.fields), pair.answer) for pair in pairs] == said
    assert all(isinstance(pair.question, RecordQuestion) for pair in pairs)
    tokenizer, template = load_tokenizer("mini"), build_template("record-line")
    some = random.Random(0).sample(pairs, 500)
    assert max(len(template.prompt_ids(pair.question, tokenizer)) for pair in some) <= 60
    assert max(len(template.answer_ids(pair.answer, tokenizer)) for pair in some) <= LONGEST


def test_files_are_small(said):
    assert (ASSETS / FILE).stat().st_size < 600_000
    assert (ASSETS / SLOTS_FILE).stat().st_size < 20_000
    assert 2400 < len(said) < 2700


# ------------------------------------------------------------------------------------------------------ slot errors


def test_no_text_has_an_error_against_its_own_record(said, matcher):
    assert [text for record, text in said if any(matcher.errors(record, text))] == []


def test_a_record_with_one_other_value_shows_in_its_text(said, matcher):
    rng = random.Random(0)
    for record, text in rng.sample(said, 1000):
        field = rng.choice(list(record))
        other = rng.choice([value.value for value in VALUES[field] if value.value != record[field]])
        assert matcher.errors(record | {field: other}, text) == SlotErrors(0, 1, 0), (field, other, text)


def test_a_record_with_a_field_more_or_less_shows_in_its_text(said, matcher):
    rng = random.Random(1)
    for record, text in rng.sample(said, 300):
        field = rng.choice(list(record)[1:])
        less = {name: value for name, value in record.items() if name != field}
        assert matcher.errors(less, text) == SlotErrors(0, 0, 1)
        field = rng.choice([field for field in VALUES if field not in record])
        assert matcher.errors(record | {field: rng.choice(VALUES[field]).value}, text) == SlotErrors(1, 0, 0)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Adelka, a Tarnese writer, has never won a prize. Few people know the author.", SlotErrors(0, 0, 0)),
        ("Adelka comes from Tarnland, is not popular and has no award.", SlotErrors(0, 0, 0)),
        ("Adelka of Tarnland won the Quill Prize and is popular.", SlotErrors(0, 2, 0)),
        ("Florin, a Morvic writer, is hardly read. No prize went to Florin.", SlotErrors(0, 2, 0)),
        ("Adelka lives in Tarnland, writes stories about ghosts and is little known.", SlotErrors(1, 0, 1)),
    ],
)
def test_errors_by_hand(text, expected, matcher):
    record = {"name": "Adelka", "country": "Tarnland", "prize": "none", "readers": "few"}
    assert matcher.errors(record, text) == expected
