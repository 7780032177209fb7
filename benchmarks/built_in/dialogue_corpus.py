"""The example for summaries: 200 made-up dialogues, each with a summary of two sentences.

    python -m benchmarks.built_in.dialogue_corpus     # writes gantune/assets/mini-dialogues.jsonl

A pure function of a seed, on Python's own random generator, so that the file is the same bytes everywhere. People,
things and places are those of the everyday English that the built-in model was pretrained on (`mini_words.PLAIN`), and
the sentences of a summary are worded as there. So the words are known to it; what tuning has to teach is which of the
things said matter, and who "I" is. Two people talk: one asks and the other answers about each of two subjects, between
small talk that no summary mentions. The columns are those of DialogSum (Chen et al. 2021, arXiv:2105.06762); the text
shares nothing with it.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path
from typing import NamedTuple

from benchmarks.built_in import mini_words as words
from benchmarks.built_in.mini_corpus import SEED, Deck, fill
from benchmarks.built_in.pretrain_mini import ASSETS
from benchmarks.compare.files import check_writable
from gantune.command import OneLineParser, exit_status

DIALOGUES = 200
FILE = "mini-dialogues.jsonl"


class Exchange(NamedTuple):
    """One subject of a dialogue. Templates name the speakers as `asker` and `teller`, who is absent as `third`.

    Args:
        asked: ways to bring it up.
        told: ways to answer.
        summary: what was said, in the third person.
    """

    asked: tuple[str, ...]
    told: tuple[str, ...]
    summary: str


EXCHANGES = (
    Exchange(
        ("Where did you go {time}, {teller}?", "What did you do {time}, {teller}?"),
        ("I went to {place}.", "I went to {place}, {asker}, and it was a long way."),
        "{teller} went to {place} {time}.",
    ),
    Exchange(
        ("What did you do at {place}, {teller}?", "I saw you at {place}, {teller}. What did you buy?"),
        ("I bought {thing} and took it home.", "I bought {thing} there, {asker}, and took it home."),
        "{teller} bought {thing} and took it home.",
    ),
    Exchange(
        ("Why did you not come to {place}, {teller}?", "I did not see you at {place}, {teller}. Where were you?"),
        ("{weather}, so I stayed at home.", "I stayed at home, {asker}. {weather}."),
        "{weather}, so {teller} stayed at home.",
    ),
    Exchange(
        ("Why are you {adj}, {teller}?", "I see that you are {adj}, {teller}."),
        ("It is because {animal} has run away.", "I am {adj} because {animal} has run away, {asker}."),
        "{teller} was {adj} because {animal} had run away.",
    ),
    Exchange(
        ("You had {thing}, {teller}. Where is it now?", "I heard that you bought {thing}, {teller}. Can I see it?"),
        (
            "I gave it to the {family} of {third}.",
            "I gave it to the {family} of {third}, {asker}.",
        ),
        "{teller} gave {thing} to the {family} of {third}.",
    ),
    Exchange(
        ("Can you come to {place}, {teller}?", "I want to go to {place} {time}. Can you come too, {teller}?"),
        ("I have to {do} before {third} comes home.", "No, {asker}. I have to {do} before {third} comes home."),
        "{teller} had to {do} before {third} came home.",
    ),
    Exchange(
        ("Would you like to {do} {time}, {teller}?", "I want to {do} {time}. Would you like it too, {teller}?"),
        ("I would like it more than any other thing, {asker}.", "I want it too, {asker}. It is a good thing to do."),
        "{asker} and {teller} wanted to {do} {time}.",
    ),
    Exchange(
        ("What do you like best, {teller}?", "Which of the things at {place} do you like best, {teller}?"),
        ("I like {thing} best.", "{thing} is what I like best, {asker}."),
        "What {teller} liked best was {thing}.",
    ),
)
OPENINGS = (
    "It is good to see you, {other}.",
    "{other}, are you there?",
    "Good morning, {other}.",
    "Tell me more about the story, {other}.",
)
REPLIES = (
    "It is good to see you too, {other}.",
    "I am here, {other}, and I have some time.",
    "It is a long story, {other}.",
    "{weather}, {other}.",
)
CLOSINGS = (
    "Tell me more on Monday, {other}.",
    "That is a long story, {other}.",
    "It was good to see you, {other}.",
    "I have to go home now, {other}.",
)


def dialogues(seed: int = SEED, count: int = DIALOGUES) -> list[dict[str, str]]:
    """Rows with `dialogue` (one line a turn, `Name: ...`) and `summary`.

    Args:
        seed: of all that is drawn.
        count: rows.
    """
    rng = random.Random(f"dialogues {seed}")
    subjects = Deck(list(range(len(EXCHANGES))), rng)
    slots = {slot: Deck(values, rng) for slot, values in words.SLOTS.items()}
    rows = []
    for _ in range(count):
        first, second, third = rng.sample(words.PEOPLE, 3)
        chosen = [subjects.deal(), subjects.deal()]
        while chosen[1] == chosen[0]:
            chosen[1] = subjects.deal()
        turns: list[tuple[str, str]] = []
        summary = []
        for lines, speaker, other in ((OPENINGS, first, second), (REPLIES, second, first)):
            _say(turns, speaker, fill(rng.choice(lines), {"other": other, "weather": slots["weather"].deal()}))
        for index in chosen:
            asker, teller = rng.sample((first, second), 2)
            values = {slot: deck.deal() for slot, deck in slots.items()}
            values |= {"asker": asker, "teller": teller, "third": third}
            exchange = EXCHANGES[index]
            _say(turns, asker, fill(rng.choice(exchange.asked), values))
            _say(turns, teller, fill(rng.choice(exchange.told), values))
            summary.append(fill(exchange.summary, values))
        last = turns[-1][0]
        _say(turns, first if last == second else second, fill(rng.choice(CLOSINGS), {"other": last}))
        dialogue = "\n".join(f"{name}: {text}" for name, text in turns)
        rows.append({"dialogue": dialogue, "summary": " ".join(summary)})
    return rows


def _say(turns: list[tuple[str, str]], name: str, text: str) -> None:
    """A turn, or more of the last one if the same person speaks on."""
    if turns and turns[-1][0] == name:
        text = f"{turns.pop()[1]} {text}"
    turns.append((name, text))


def write(path: Path) -> None:
    """Write the rows as JSON, one a line."""
    check_writable(path)
    path.write_text("".join(json.dumps(row) + "\n" for row in dialogues()), encoding="utf-8", newline="\n")


def main(arguments: list[str] | None = None) -> int:
    """Command line: remake the file."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ASSETS, help=f"directory of {FILE}")
    return exit_status(lambda: write(parser.parse_args(arguments).output / FILE), "the same command begins again")


if __name__ == "__main__":
    sys.exit(main())
