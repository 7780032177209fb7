"""The example for data-to-text: records of made-up authors, and texts that say what is in them.

    python -m benchmarks.built_in.mini_records     # writes gantune/assets/mini-records.jsonl, mini-records-slots.json

A pure function of a seed, on Python's own random generator, so that the files are the same bytes everywhere. Most words
are those that the built-in model was pretrained on (`mini_words`), but it never saw a record, and the people share only
a first name with those that it read about. What tuning has to teach is to say every field, and nothing else. Values are
few and short: in a trial with 37 prizes, 40 titles, 12 values of most other fields and 3 to 6 fields, LoRA on 500 pairs
still had a slot error rate of 1.05 after 200 steps; here, .57 after 250 and .34 after 500 (one seed).

The shape is that of the E2E NLG Challenge (Novikova et al. 2017, arXiv:1706.09254): 3 to 5 of 8 fields, of which most
have few values, several texts to a record, fields in any order, values that are often put in other words ("few people
read the author" for `readers: few`). The text shares nothing with it. A text is 1 to 3 sentences; a sentence has a
subject and its fields as predicates, of which one may go before the subject and one behind it, or it is made around one
field.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from collections.abc import Iterable
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.built_in import mini_words as words
from benchmarks.built_in.mini_corpus import SEED, Deck, fill
from benchmarks.built_in.pretrain_mini import ASSETS
from benchmarks.compare.files import check_writable
from gantune.command import OneLineParser, exit_status
from gantune.hub.loading import load_tokenizer

RECORDS = 1500
FILE, SLOTS_FILE = "mini-records.jsonl", "mini-records-slots.json"
LONGEST = 30
"""Tokens of the longest text, with its end token."""
TRIES = 6
"""Texts that are made for each that is wanted; those above `LONGEST` are left out."""
SIZES = {3: 4, 4: 4, 5: 3}
"""How often a record has so many fields, the name among them."""
TEXTS = {1: 5, 2: 3, 3: 2}
"""How often a record has so many texts."""


class Value(NamedTuple):
    """One value of a field, and what says it.

    Args:
        value: as in the record.
        slots: what templates name in braces; of several wordings one is drawn.
        also: a pattern of what else says it, beyond these wordings.
    """

    value: str
    slots: dict[str, tuple[str, ...]]
    also: str = ""

    @property
    def said(self) -> str:
        """The pattern by which a text is searched for this value."""
        wordings = {wording for several in self.slots.values() for wording in several}
        return "|".join([*map(re.escape, sorted(wordings)), *filter(None, [self.also])]).replace("\\ ", " ")


class Forms(NamedTuple):
    """Ways to say one field; `who` is the person. Each may be empty but `verbs`.

    Args:
        verbs: behind the subject.
        leads: before the subject, with a comma.
        asides: behind the subject, between commas.
        wholes: sentences around this field.
    """

    verbs: tuple[str, ...]
    leads: tuple[str, ...] = ()
    asides: tuple[str, ...] = ()
    wholes: tuple[str, ...] = ()


def _pairs(text: str) -> list[tuple[str, str]]:
    """The two sides of each `a = b` of a comma-separated text."""
    return [(left.strip(), right.strip()) for left, right in (pair.split("=") for pair in words.phrases(text))]


NAMES = [*words.WOMEN[:6], *words.MEN[:6]]
"""First names of authors, which the model tells apart. In trials of one seed with other records, LoRA had .92 of the
names of the plain sentences wrong after 400 steps and .99 of full names after 200; here it has .01 after 500."""
GENRES = _pairs(
    """
    ghost stories = stories about ghosts, spy thrillers = thrillers about spies, love poems = poems about love,
    travel books = books about journeys, stage plays = plays for the theatre, children's fables = fables for the young
    """
)
FATHERS = _pairs(
    """
    train driver = drove trains, cabinet maker = made cabinets, chess teacher = taught chess,
    bank clerk = worked in a bank, bee keeper = kept bees, map maker = drew maps
    """
)
JOBS = _pairs(
    """
    tram conductor = sold tickets, museum guard = guarded a museum, gardener = looked after gardens,
    toy seller = sold toys, bookkeeper = kept the books of a shop, bell ringer = rang church bells
    """
)
PRIZES = ["Quill Prize", "Bridge Prize", "Compass Prize", "Mirror Prize", "Feather Prize"]
TITLES = words.phrases(
    """
    The Crooked Orchard, The Gentle Harbour, The Ashen Garden, The Wandering Meadow, The Salt Clock, The Winter Tunnel
    """
)

VALUES: dict[str, list[Value]] = {
    "name": [Value(name, {"name": (name,)}) for name in NAMES],
    "country": [
        Value(country, {"country": (country,), "native": (native,)})
        for country, native in zip(words.COUNTRIES[:6], words.LANGUAGES[:6], strict=True)
    ],
    "father": [Value(noun, {"father": (noun,), "did": (verb,)}) for noun, verb in FATHERS],
    "job": [Value(noun, {"job": (noun,), "did": (verb,)}) for noun, verb in JOBS],
    "genre": [Value(short, {"genre": (short, long)}) for short, long in GENRES],
    "debut": [Value(title, {"debut": (title,)}) for title in TITLES],
    "prize": [
        *(Value(prize, {"prize": (prize,)}) for prize in PRIZES),
        Value("none", {}, r"no (prize|award|honour)s?|never (\w+ ){1,3}(prize|award|honour)s?"),
    ],
    "readers": [
        Value("many", {}, r"many (people|readers)|(?<!not )popular|(well|widely) (known|read)"),
        Value("few", {}, r"few (people|readers)|not (very )?popular|(hardly|little) (known|read)"),
    ],
}
"""The values of each field."""

FORMS = {
    "country": Forms(
        ("comes from {country}", "was born in {country}", "is a {native} writer", "lives in {country}"),
        ("born in {country}", "a child of {country}"),
        ("a writer from {country}", "a {native} author", "born in {country}"),
        ("{country} is the country of {who}", "the home of {who} is in {country}"),
    ),
    "father": Forms(
        ("is the child of a {father}", "had a father who {did}", "grew up as the child of a {father}"),
        ("the child of a {father}", "with a father who {did}"),
        ("whose father {did}", "whose father was a {father}", "the child of a {father}"),
        ("the father of {who} was a {father}", "the father of {who} {did}"),
    ),
    "job": Forms(
        ("worked as a {job}", "{did} at first", "was a {job} before", "once {did}"),
        ("at first a {job}", "once a {job}"),
        ("once a {job}", "who {did} at first", "who was a {job}"),
        ("the early job of {who} was that of a {job}", "for a living, {who} first {did}"),
    ),
    "genre": Forms(
        ("writes {genre}", "is known for {genre}", "is a writer of {genre}", "is the author of {genre}"),
        ("known for {genre}",),
        ("a writer of {genre}", "who writes {genre}", "known for {genre}"),
        ("the books of {who} are {genre}", "{genre} are the work of {who}"),
    ),
    "debut": Forms(
        ("began with {debut}", "made a debut with {debut}", "wrote {debut} as a first book", "first published {debut}"),
        (),
        ("who began with {debut}", "whose first book was {debut}"),
        ("{debut} was the debut of {who}", "the first book of {who} is {debut}", "{who} first wrote {debut}"),
    ),
    "prize": Forms(
        ("won the {prize}", "received the {prize}", "was given the {prize}", "holds the {prize}"),
        ("honoured with the {prize}",),
        ("who won the {prize}", "winner of the {prize}"),
        ("the {prize} went to {who}", "the {prize} was presented to {who}"),
    ),
    "prize none": Forms(
        ("has won no prize", "never won an award", "was given no honour", "has never been given a prize"),
        (),
        ("who has no award", "who never won a prize"),
        ("no prize went to {who}", "there was no award for {who}"),
    ),
    "readers many": Forms(
        ("has many readers", "is popular", "is read by many people", "is well known"),
        ("well known",),
        ("who is widely read", "a popular author"),
        ("many people read {who}", "many people know the books of {who}"),
    ),
    "readers few": Forms(
        ("has few readers", "is not popular", "is read by few people", "is little known"),
        ("hardly known",),
        ("who is hardly read", "who is not popular"),
        ("few people read {who}", "few people know the books of {who}"),
    ),
}
"""Templates by field, or by field and value where the value is not put in."""


def records(seed: int = SEED, count: int = RECORDS) -> list[dict[str, Any]]:
    """Rows with `record` (the value by field, in one order) and `text` (a list of 1 to 3), no record twice.

    Args:
        seed: of all that is drawn.
        count: rows.
    """
    rng = random.Random(f"records {seed}")
    tokenizer = load_tokenizer("mini")
    decks = {field: Deck(list(range(len(values))), rng) for field, values in VALUES.items()}
    rows: list[dict[str, Any]] = []
    seen: list[dict[str, str]] = []
    while len(rows) < count:
        (size,) = rng.choices(list(SIZES), list(SIZES.values()))
        fields = {"name", *rng.sample(list(VALUES)[1:], size - 1)}
        facts = {field: VALUES[field][decks[field].deal()] for field in VALUES if field in fields}
        record = {field: fact.value for field, fact in facts.items()}
        (several,) = rng.choices(list(TEXTS), list(TEXTS.values()))
        candidates = dict.fromkeys(_text(facts, rng) for _ in range(TRIES * several))
        short = (text for text in candidates if len(tokenizer(" " + text).input_ids) < LONGEST)
        texts = list(islice(short, several))
        if texts and record not in seen:
            seen.append(record)
            rows.append({"record": record, "text": texts})
    return rows


def slot_patterns() -> dict[str, list[dict[str, Any]]]:
    """What `gantune.metrics.slots.SlotMatcher` reads: by field, each value and the pattern that says it."""
    return {
        field: [{"values": [value.value], "said": value.said} for value in values] for field, values in VALUES.items()
    }


def _text(facts: dict[str, Value], rng: random.Random) -> str:
    """All the facts, in 1 to 3 sentences of which the first names the person."""
    name, *fields = facts["name"].value, *list(facts)[1:]
    rng.shuffle(fields)
    count = min(len(fields), rng.choice((1, 2) if len(fields) < 4 else (2, 2, 3)))
    cuts = [0, *sorted(rng.sample(range(1, len(fields)), count - 1)), len(fields)]
    sentences = []
    for start, end in pairwise(cuts):
        who = rng.choice(("the author", "the writer", "the author", "the writer", name)) if start else name
        sentences.append(_sentence(who, {field: facts[field] for field in fields[start:end]}, rng))
    return " ".join(sentences)


def _sentence(who: str, facts: dict[str, Value], rng: random.Random) -> str:
    """One sentence that says these facts, in about their order."""
    rest = list(facts)
    lead = aside = ""
    whole = len(rest) < 3 and rng.random() < 0.35
    if not whole and len(rest) > 1 and rng.random() < 0.35:
        lead = _say(rest, facts, "leads", rng)
    if len(rest) > 1 and (whole or rng.random() < 0.4):
        aside = _say(rest, facts, "asides", rng)
    subject = f"{who}, {aside}," if aside else who
    if whole and len(rest) == 1:
        said = _say(rest, facts, "wholes", rng).replace("{who}", subject)
    else:
        verbs = [_say(rest, facts, "verbs", rng) for _ in list(rest)]
        said = f"{subject} {_listed(verbs)}"
    text = f"{lead}, {said}." if lead else f"{said}."
    return fill(re.sub(r"\ba (?=[AEIO])", "an ", text.replace(",.", ".")), {})


def _say(rest: list[str], facts: dict[str, Value], kind: str, rng: random.Random) -> str:
    """The first field of `rest` that can be said in this way, which leaves `rest`; empty if none can."""
    for field in rest:
        value = facts[field]
        forms: tuple[str, ...] = getattr(FORMS.get(f"{field} {value.value}") or FORMS[field], kind)
        if forms:
            rest.remove(field)
            slots = {slot: rng.choice(several) for slot, several in value.slots.items()}
            return rng.choice(forms).format_map(slots | {"who": "{who}"})
    return ""


def _listed(parts: Iterable[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def write(directory: Path) -> None:
    """Write the rows, one a line, and the patterns."""
    check_writable(directory / FILE)
    rows = "".join(json.dumps(row) + "\n" for row in records())
    (directory / FILE).write_text(rows, encoding="utf-8", newline="\n")
    fields = (f"  {json.dumps(field)}: {_lines(values)}" for field, values in slot_patterns().items())
    (directory / SLOTS_FILE).write_text("{\n" + ",\n".join(fields) + "\n}\n", encoding="utf-8", newline="\n")


def _lines(values: list[dict[str, Any]]) -> str:
    """A JSON array with one value a line."""
    return "[\n" + ",\n".join(f"    {json.dumps(value)}" for value in values) + "\n  ]" if values else "[]"


def main(arguments: list[str] | None = None) -> int:
    """Command line: remake the files."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ASSETS, help=f"directory of {FILE} and {SLOTS_FILE}")
    return exit_status(lambda: write(parser.parse_args(arguments).output), "the same command begins again")


if __name__ == "__main__":
    sys.exit(main())
