"""Division by record: no record on both sides, all texts of a tested one, and sizes that do not change each other."""

from __future__ import annotations

import pytest

from gantune.data import EncodedPair, Pair, RecordQuestion, load_pairs, split_records
from gantune.errors import UserError
from gantune.tuning import hold_out
from tests.shared import SHARED, needs_shared

RECORDS = [RecordQuestion([("name", f"thing {i}"), ("kind", "odd" if i % 2 else "even")]) for i in range(12)]
PAIRS = [Pair(record, f"text {j} of {i}") for j in range(3) for i, record in enumerate(RECORDS) if j <= i % 3]
"""Records with 1, 2 and 3 texts in turn, 24 in all."""


def test_no_record_is_on_both_sides_and_the_tested_ones_have_all_their_texts():
    train, test, references = split_records(PAIRS, 8, 4, seed=3)
    tested = {pair.question for pair in test}
    assert len(train) == 8 and len(tested) == len(test) == len(references) == 4
    assert len({pair.question for pair in train}) == 8 and not tested & {pair.question for pair in train}
    for pair, texts in zip(test, references, strict=True):
        assert texts == [other.answer for other in PAIRS if other.question == pair.question] and pair.answer == texts[0]
    assert split_records(PAIRS, 8, 4, seed=3) == (train, test, references)
    assert split_records(PAIRS, 8, 4, seed=4) != (train, test, references)


def test_further_texts_come_after_one_of_each_record():
    train, test, _ = split_records(PAIRS, None, 4, seed=0)
    assert sorted(train) == sorted(pair for pair in PAIRS if pair.question not in {row.question for row in test})
    assert len({pair.question for pair in train[:8]}) == 8
    counts = [sum(pair.question == other.question for other in train[:n]) for n, pair in enumerate(train)]
    assert counts == sorted(counts)


def test_one_size_does_not_change_the_other_part():
    train, test, references = split_records(PAIRS, 8, 4, seed=0)
    assert split_records(PAIRS, 8, 2, seed=0) == (train, test[:2], references[:2])
    assert split_records(PAIRS, 5, 4, seed=0) == (train[:5], test, references)
    more = split_records(PAIRS, None, 4, seed=0)
    assert more[0][:8] == train and more[1:] == (test, references)


def test_which_text_is_learned_is_drawn():
    drawn = {pair for seed in range(20) for pair in split_records(PAIRS, 8, 4, seed)[0]}
    assert drawn == set(PAIRS)


def test_fields_in_another_order_are_the_same_record_and_a_text_counts_once():
    turned = [Pair(RecordQuestion(pair.question.fields[::-1]), "other words") for pair in PAIRS[:4]]
    train, _, references = split_records([*PAIRS, *PAIRS, *turned], None, 12, seed=0)
    assert not train and sorted(len(texts) for texts in references) == sorted([2, 3, 4, 2, 2, 3, 1, 2, 3, 1, 2, 3])


def test_the_pairs_that_choose_the_checkpoint_are_of_other_records():
    encoded = [EncodedPair([1], [2], pair) for pair in PAIRS]
    for seed in range(5):
        train, held_out = ([row.pair for row in rows] for rows in hold_out(encoded, 0.25, seed))
        assert not {pair.question for pair in train} & {pair.question for pair in held_out}
        assert sorted(train + held_out) == sorted(PAIRS) and 6 <= len(held_out) <= 8
    one_text_each = encoded[:12]
    assert [len(rows) for rows in hold_out(one_text_each, 0.25, 0)] == [9, 3]
    with pytest.raises(UserError, match=r"^no pair to train on: 3 given, 3 of them held out"):
        hold_out([row for row in encoded if row.pair.question == RECORDS[2]], 0.25, 0)


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        ((1, 13), "test_size 13: the data has 12 records"),
        ((30, 4), "train_size 30: beside 4 test records the data has 8 records with"),
        ((-1, 4), "train_size is -1, expected 0 or more"),
        ((1, -4), "test_size is -4, expected 0 or more"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes, told):
    with pytest.raises(UserError, match=told):
        split_records(PAIRS, *sizes, seed=0)


@needs_shared
def test_e2e_by_record():
    pairs = load_pairs(str(SHARED / "data/e2e/pairs.jsonl"))
    train, test, references = split_records(pairs, 500, 300, seed=1)
    assert len({pair.question for pair in train}) == 500 and len({pair.question for pair in test}) == 300
    assert not {pair.question for pair in train} & {pair.question for pair in test}
    assert sum(map(len, references)) > 600
