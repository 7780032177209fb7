"""Corrupted and made-up records: what can change, that it does change, and what the text still says."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from gantune.data import Corruptions, RecordQuestion, make_up
from gantune.errors import UserError

CAFE = RecordQuestion([("name", "Aroma"), ("food", "French"), ("area", "city")])
PUB = RecordQuestion([("name", "Blue"), ("kind", "pub"), ("food", "English"), ("near", "Aroma")])
INN = RecordQuestion([("name", "Clown"), ("kind", "pub"), ("area", "river"), ("near", "Aroma")])
RECORDS = [CAFE, PUB, INN]
ORDER = ["name", "kind", "food", "area", "near"]
VALUES = {
    "name": {"Aroma", "Blue", "Clown"}, "kind": {"pub"}, "food": {"French", "English"}, "area": {"city", "river"},
    "near": {"Aroma"},
}  # fmt: skip
HOBBIES = RecordQuestion([("name", "Ada"), ("hobby", "chess"), ("hobby", "golf")])


def corrupted(record, records=RECORDS, times=600):
    corruptions, random = Corruptions(records), Random(0)
    return [corruptions.corrupted(record, random) for _ in range(times)]


def changes(record, changed):
    """How many fields were swapped or added, and dropped."""
    return changed.said.count(False), len(set(record.fields) - set(changed.record.fields))


@pytest.mark.parametrize("record", RECORDS, ids=str)
def test_it_never_is_the_record_and_says_which_fields_the_text_has(record):
    for changed in corrupted(record):
        assert changed.record != record and set(changed.record.fields) != set(record.fields)
        assert changed.said == tuple(field in record.fields for field in changed.record.fields)
        assert all(value in VALUES[name] for name, value in changed.record.fields)
        assert len(changed.record.fields) >= 2
        names = [name for name, _ in changed.record.fields]
        assert names == sorted(names, key=ORDER.index) and names[0] == "name"


def test_one_field_of_three_times_two_differs_else_two():
    kinds = Counter()
    for changed in corrupted(CAFE, times=3000):
        new, gone = changes(CAFE, changed)
        names = {name for name, _ in changed.record.fields}
        added = len(names - {"name", "food", "area"})
        swapped, dropped = new - added, gone - (new - added)
        kinds[swapped, dropped, added] += 1
    ones = {key: kinds[key] for key in [(1, 0, 0), (0, 1, 0), (0, 0, 1)]}
    assert set(kinds) - set(ones) == {(2, 0, 0), (1, 1, 0), (1, 0, 1), (0, 1, 1), (0, 0, 2)}, "of 3 fields 1 may go"
    assert sum(ones.values()) / 3000 == pytest.approx(2 / 3, abs=0.03)
    for count in ones.values():
        assert count / 3000 == pytest.approx(2 / 9, abs=0.03)


def test_the_same_numbers_give_the_same_record():
    assert corrupted(PUB, times=5) == corrupted(PUB, times=5)


def test_a_value_is_as_likely_as_it_is_among_the_records():
    records = [RecordQuestion([("name", name)]) for name in ["a", "b", "b", "b", "c"]]
    drawn = Counter(changed.record for changed in corrupted(records[0], records, 2000))
    assert set(drawn) == {"name[b]", "name[c]"}
    assert drawn["name[b]"] / 2000 == pytest.approx(3 / 4, abs=0.03)


def test_repeated_fields_are_swapped_for_values_that_none_of_them_has():
    records = [HOBBIES, RecordQuestion([("name", "Bob"), ("hobby", "go"), ("hobby", "chess"), ("age", "9")])]
    seen = Counter()
    for record, said in corrupted(HOBBIES, records):
        seen.update(record.fields)
        assert said == tuple(field in HOBBIES.fields for field in record.fields), "golf is said even if chess became it"
        assert len(set(record.fields)) == len(record.fields)
    assert set(seen) == {*HOBBIES.fields, ("name", "Bob"), ("hobby", "go"), ("age", "9")}


def test_the_first_field_stays_though_another_comes_before_it():
    records = [RecordQuestion([("b", "1"), ("c", "1"), ("d", "1")]), RecordQuestion([("a", "1"), ("b", "1")])]
    found = {changed.record for changed in corrupted(records[0], records)}
    assert {"a[1], b[1], c[1], d[1]", "b[1], d[1]", "a[1], b[1], d[1]"} <= found
    assert all("b[1]" in record for record in found)


def test_a_record_that_no_other_differs_from_is_refused():
    alone = RecordQuestion([("name", "Aroma"), ("food", "French")])
    with pytest.raises(UserError, match=r"record 'name\[Aroma\], food\[French\]': all records are like it"):
        corrupted(alone, [alone, alone])
    with pytest.raises(UserError, match="no record, expected at least one"):
        Corruptions([])


def test_of_one_possible_change_there_are_not_two():
    one = RecordQuestion([("name", "Aroma")])
    records = [one, RecordQuestion([("name", "Blue")])]
    assert {changed for changed in corrupted(one, records)} == {(records[1], (False,))}


def test_made_up_records_have_the_fields_of_some_record_and_any_of_their_values():
    cafes = {(name, food, area) for name in VALUES["name"] for food in VALUES["food"] for area in VALUES["area"]}
    possible = {f"name[{name}], food[{food}], area[{area}]" for name, food, area in cafes}
    possible |= {f"name[{n}], kind[pub], food[{f}], near[Aroma]" for n in VALUES["name"] for f in VALUES["food"]}
    possible |= {f"name[{n}], kind[pub], area[{a}], near[Aroma]" for n in VALUES["name"] for a in VALUES["area"]}
    made = make_up(RECORDS, 1000, Random(0), but=set(RECORDS))
    assert len(made) == len(set(made)) and set(made) == possible - set(RECORDS), "all there are, and no more"
    assert all(isinstance(record, RecordQuestion) for record in made)
    few = make_up(RECORDS, 5, Random(1))
    assert len(set(few)) == 5 and set(few) <= possible
    assert few == make_up(RECORDS, 5, Random(1)) != make_up(RECORDS, 5, Random(2))
    assert make_up(RECORDS, 0, Random(0)) == []


def test_made_up_records_repeat_no_value_of_a_repeated_field():
    twice = RecordQuestion([("hobby", "chess"), ("hobby", "golf"), ("hobby", "golf")])
    made = make_up([HOBBIES, twice], 100, Random(0))
    assert set(made) == {
        "name[Ada], hobby[chess], hobby[golf]", "name[Ada], hobby[golf], hobby[chess]",
        "hobby[chess], hobby[golf]", "hobby[golf], hobby[chess]",
    }  # fmt: skip
