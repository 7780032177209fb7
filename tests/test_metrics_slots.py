"""Slot errors: by hand, and against the counts of the published matcher."""

import json

import pytest

from gantune.errors import UserError
from gantune.metrics import SlotErrors, SlotMatcher, parse_meaning_representation
from tests.shared import SHARED, needs_shared

MILL = {"name": "The Mill", "food": "French", "familyFriendly": "no"}


@pytest.mark.parametrize(
    "text, expected",
    [
        ("The Mill serves French food and is not family-friendly.", SlotErrors(0, 0, 0)),
        ("The Mill serves sushi and is not kid friendly.", SlotErrors(0, 1, 0)),
        ("The Mill is child friendly.", SlotErrors(1, 1, 0)),
        ("It serves french and italian food to adults only.", SlotErrors(1, 0, 1)),
        ("the mill, french, not for kids, by the river, less than £20", SlotErrors(0, 0, 2)),
        ("The Millpond serves frenchified food.", SlotErrors(3, 0, 0)),
        ("", SlotErrors(3, 0, 0)),
    ],
)
def test_slots_are_missing_wrong_or_added(text, expected):
    assert SlotMatcher("e2e").errors(MILL, text) == expected


def test_a_high_rating_is_five_out_of_five_and_a_cheap_place_less_than_20_pounds():
    matcher, record = SlotMatcher("e2e"), {"customer rating": "5 out of 5", "priceRange": "cheap"}
    assert matcher.errors(record, "It is highly rated, for less than £20.") == (0, 0, 0)
    assert matcher.errors(record, "It is 3 out of 5, and £20-25.") == (0, 2, 0)


def test_of_several_values_each_is_to_be_said():
    matcher, record = SlotMatcher("e2e"), {"food": ["French", "Indian"]}
    assert matcher.errors(record, "French and Indian food.") == (0, 0, 0)
    assert matcher.errors(record, "French food.") == (1, 0, 0)
    assert matcher.errors(record, "French and Italian food.") == (0, 1, 0)
    assert matcher.errors(record, "Japanese, Italian and English food.") == (0, 2, 1)


def test_without_patterns_the_value_itself_has_to_be_there(tmp_path):
    file = tmp_path / "slots.json"
    file.write_text('{"born": [{"values": ["1903"], "said": "1903|nineteen-three"}]}')
    matcher = SlotMatcher(file)
    record = {"born": "1903", "town": "Aix (en Provence)"}
    assert matcher.errors(record, "Born in nineteen-three in aix (en provence).") == (0, 0, 0)
    assert matcher.errors(record, "Born in 1904 in Aix.") == (2, 0, 0)
    assert matcher.errors({"town": "Nice"}, "Born in Nice in 1903.") == (0, 0, 1)


def test_without_a_file_every_value_has_to_be_there():
    matcher = SlotMatcher()
    assert matcher.errors({"food": "French", "area": ["Nice", "Aix"]}, "A french place in Nice.") == (1, 0, 0)
    assert matcher.errors({"familyFriendly": "no"}, "Adults only.") == (1, 0, 0)


def test_shipped_patterns_are_found_by_the_fields(tmp_path):
    of_e2e = SlotMatcher("e2e").fields.keys()
    assert SlotMatcher.for_records([MILL, {"area": "riverside"}]).fields.keys() == of_e2e
    assert SlotMatcher.for_records([{"born": "1903"}], "e2e").fields.keys() == of_e2e
    for without in ([MILL, {"born": "1903"}], []):
        assert not SlotMatcher.for_records(without).fields
    assert not SlotMatcher.for_records([MILL], "exact").fields
    with pytest.raises(UserError, match=r"none\.json"):
        SlotMatcher.for_records([MILL], str(tmp_path / "none.json"))


def test_figures_are_shares_of_the_fields_and_of_the_texts():
    records = [MILL, {"name": "Zizzi"}]
    figures = SlotMatcher("e2e").figures(records, ["The Mill is a French pub.", "Zizzi"])
    assert figures == {"slot_error_rate": 0.5, "missing": 0.25, "wrong": 0.0, "added": 0.25, "right_texts": 0.5}
    with pytest.raises(UserError, match=r"^records: expected at least one field, got none$"):
        SlotMatcher("e2e").figures([{}], [""])


def test_a_meaning_representation_is_read_or_refused():
    text = "name[The Mill], customer rating[5 out of 5], near[Café Rouge, upstairs], food[Thai], food[French]"
    assert parse_meaning_representation(text) == {
        "name": ["The Mill"],
        "customer rating": ["5 out of 5"],
        "near": ["Café Rouge, upstairs"],
        "food": ["Thai", "French"],
    }
    for broken in ("", "The Mill", "name[The Mill", "name[The Mill] is good"):
        with pytest.raises(UserError, match=r"expected a record as name\[The Mill\], eatType\[pub\]$"):
            parse_meaning_representation(broken)


@pytest.mark.parametrize("content", ['{"food": "French"}', '{"food": [{"values": ["French"]}]}', '{"food": 3}',
                                     '{"food": [{"values": [], "said": "("}]}'])  # fmt: skip
def test_patterns_that_are_none_are_refused_naming_file_and_field(tmp_path, content):
    file = tmp_path / "slots.json"
    file.write_text(content)
    with pytest.raises(UserError, match=rf"^{file}: 'food' is not a list of "):
        SlotMatcher(file)


@needs_shared
def test_e2e_errors_are_those_of_the_published_matcher_in_97_of_100_texts():
    rows = [json.loads(line) for line in (SHARED / "data/e2e/conformance.jsonl").open(encoding="utf-8")]
    matcher, kinds = SlotMatcher("e2e"), SlotErrors._fields
    agree = [
        matcher.errors(parse_meaning_representation(row["meaning_representation"]), row["text"])
        == tuple(row[kind] for kind in kinds)
        for row in rows
    ]
    assert len(rows) == 450 and sum(agree) / len(rows) >= 0.97


@needs_shared
def test_the_texts_that_people_wrote_have_few_errors():
    rows = [json.loads(line) for line in (SHARED / "data/e2e/pairs.jsonl").open(encoding="utf-8")]
    records = [parse_meaning_representation(row["meaning_representation"]) for row in rows]
    figures = SlotMatcher("e2e").figures(records, [row["text"] for row in rows])
    assert figures["slot_error_rate"] < 0.05
