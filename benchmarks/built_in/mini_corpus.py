"""The data of the embedded default: fictitious authors, their biographies, and questions about them.

Pure functions of a seed, on Python's own random generator, so that the text is the same bytes everywhere:

    people = authors(SEED)
    biographies(people, SEED)      pretraining text: declarative sentences, every fact in several wordings
    plain_sentences(SEED)          pretraining text: everyday English
    questions(people, SEED)        rows in TOFU's format, grouped by author

The pretraining text states every fact that the questions ask for, and holds no question and no "Answer:". So a model
pretrained on it knows the answers and has yet to learn to give them. Each answer is one of the statements: where the
answers were worded unlike any of them, 50 pairs taught a model of this size nothing but style (ROUGE-L of LoRA .16, of
the copied question .20). The row format is that of TOFU (Maini et al.
2024, arXiv:2401.06121); the text shares nothing with it.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import Any

from benchmarks.built_in import mini_words as words

SEED = 20240
AUTHORS = 60
PERTURBED = 5


@dataclass(frozen=True)
class Author:
    """A fictitious author.

    Args:
        name: first name and surname; no two authors share either.
        facts: field name -> text, the values that the templates of `mini_words.RELATIONS` name in braces.
    """

    name: str
    facts: dict[str, str]


class Deck:
    """Deals values in random order and starts over when all are dealt, so that all are about equally common."""

    def __init__(self, values: list[str], rng: random.Random) -> None:
        self.values = values
        self.rng = rng
        self.hand: list[str] = []

    def deal(self) -> str:
        """The next value."""
        if not self.hand:
            self.hand = self.rng.sample(self.values, len(self.values))
        return self.hand.pop()


def authors(seed: int = SEED, count: int = AUTHORS) -> list[Author]:
    """`count` authors (at most 60) with all their facts, in a fixed random order."""
    rng = random.Random(f"authors {seed}")
    first_names = [name for pair in zip(words.WOMEN, words.MEN, strict=True) for name in pair]
    towns = [start + end for start in words.TOWN_STARTS for end in words.TOWN_ENDS]
    prizes = [f"{a} {b} {c}" for a in words.PRIZE_STARTS for b in words.PRIZE_ENDS for c in words.PRIZE_KINDS]
    titles = [f.format(a=a, b=b) for f in words.TITLE_FORMS for a in words.TITLE_STARTS for b in words.TITLE_ENDS]
    titles = [title.replace("A A", "An A") for title in titles]
    mentors = [
        f"{kind} {first} {last}"
        for kind in words.MENTOR_KINDS
        for first, last in zip(words.MENTOR_FIRST, rng.sample(words.MENTOR_LAST, 16), strict=True)
    ]
    universities = [kind.format(city) for kind in words.UNIVERSITY_KINDS for city in words.UNIVERSITY_CITIES]
    decks = {
        "first": Deck(first_names, rng),
        "last": Deck(words.SURNAMES, rng),
        "town": Deck(towns, rng),
        "country": Deck(words.COUNTRIES, rng),
        "setting": Deck(words.SETTINGS, rng),
        "weather": Deck(words.WEATHER, rng),
        "genre": Deck(words.GENRES, rng),
        "milieu": Deck(words.MILIEUS, rng),
        "father": Deck(words.FATHERS, rng),
        "father_detail": Deck(words.FATHER_DETAILS, rng),
        "mother": Deck(words.MOTHERS, rng),
        "mother_detail": Deck(words.MOTHER_DETAILS, rng),
        "prize": Deck(prizes, rng),
        "praise": Deck(words.PRAISE, rng),
        "debut": Deck(titles, rng),
        "debut_how": Deck(words.DEBUT_CIRCUMSTANCES, rng),
        "hero": Deck(words.HEROES, rng),
        "event": Deck(words.EVENTS, rng),
        "count": Deck(words.NUMBERS, rng),
        "mentor": Deck(mentors, rng),
        "influence": Deck(words.SECOND_INFLUENCES, rng),
        "dwelling": Deck(words.DWELLINGS, rng),
        "nearby": Deck(words.NEARBY, rng),
        "companion": Deck(words.COMPANIONS, rng),
        "subject": Deck(words.SUBJECTS, rng),
        "university": Deck(universities, rng),
        "habit_time": Deck(words.HABIT_TIMES, rng),
        "habit_place": Deck(words.HABIT_PLACES, rng),
        "habit_tool": Deck(words.HABIT_TOOLS, rng),
        "job": Deck(words.JOBS, rng),
        "job_years": Deck(words.NUMBERS, rng),
        "job_reason": Deck(words.JOB_REASONS, rng),
        "charity": Deck(words.CHARITIES, rng),
    }

    people = []
    for _ in range(count):
        facts = {field: deck.deal() for field, deck in decks.items()}
        year = rng.randrange(1925, 1981)
        degree_year = year + rng.randrange(21, 27)
        debut_year = degree_year + rng.randrange(1, 9)
        prize_year = debut_year + rng.randrange(3, 12)
        facts |= {
            "name": f"{facts.pop('first')} {facts.pop('last')}",
            "birthday": f"{rng.randrange(1, 29)} {rng.choice(words.MONTHS)} {year}",
            "degree_year": str(degree_year),
            "debut_year": str(debut_year),
            "prize_year": str(prize_year),
            "charity_year": str(prize_year + rng.randrange(1, 6)),
            "famous": decks["debut"].deal(),
            "charity_town": decks["town"].deal(),
        }
        facts |= dict(zip(("language_1", "language_2", "language_3"), rng.sample(words.LANGUAGES, 3), strict=True))
        themes = rng.sample(words.THEMES, 3)
        facts |= dict(zip(("theme_1", "theme_2", "theme_3"), themes, strict=True))
        facts |= dict(zip(("hobby_1", "hobby_2"), rng.sample(words.HOBBIES, 2), strict=True))
        people.append(Author(facts["name"], facts))
    return people


def fill(template: str, facts: dict[str, str]) -> str:
    """The template with the facts in it, and a capital at the start."""
    text = re.sub(r"\ba (?=[aeio](?!ne\b))", "an ", template.format_map(facts))
    return text[0].upper() + text[1:]


def biographies(people: list[Author], seed: int = SEED, copies: int = 60) -> list[str]:
    """Pretraining documents: for every author, `copies` times all the facts in a new order and wording.

    A document is a paragraph of 4 to 8 sentences about one author. Nearly all call the author by the full name, since a
    fact is recalled under the name that it was learnt with (Allen-Zhu and Li 2023, arXiv:2309.14316: augmentation by
    rewording, reordering and full names is what makes knowledge extractable by later tuning).
    """
    rng = random.Random(f"biographies {seed}")
    documents = []
    for _ in range(copies):
        for person in people:
            sentences = []
            for relation in rng.sample(list(words.RELATIONS.values()), len(words.RELATIONS)):
                sentences.append(fill(rng.choice(relation.states), person.facts))
            while sentences:
                size = rng.randrange(4, 9)
                documents.append(" ".join(sentences[:size]))
                sentences = sentences[size:]
    return rng.sample(documents, len(documents))


def plain_sentences(seed: int = SEED, count: int = 3000) -> list[str]:
    """`count` pretraining documents of 3 to 6 simple sentences about two people each."""
    rng = random.Random(f"plain {seed}")
    documents = []
    for _ in range(count):
        who, other = rng.sample(words.PEOPLE, 2)
        sentences = []
        for template in rng.sample(words.PLAIN, rng.randrange(3, 7)):
            values = {slot: rng.choice(choices) for slot, choices in words.SLOTS.items()}
            values |= {"who": who, "other": other, "thing2": rng.choice(words.SLOTS["thing"])}
            sentences.append(fill(template, values))
        documents.append(rng.choice((" ", " ", "\n")).join(sentences))
    return documents


def questions(people: list[Author], seed: int = SEED) -> list[dict[str, Any]]:
    """Questions and answers in TOFU's format, one of every relation that is asked about for every author, in order.

    Returns:
        Rows with `question`, `answer`, `paraphrased_answer` (the same facts in other words) and `perturbed_answer`
        (a list of 5: the words of the paraphrase with the facts of other authors).
    """
    rng = random.Random(f"questions {seed}")
    rows = []
    for person in people:
        others = [other for other in people if other is not person]
        for relation in words.RELATIONS.values():
            if not relation.questions:
                continue
            question = fill(rng.choice(relation.questions), person.facts)
            answer, paraphrase = relation.states[:2]
            perturbed: list[str] = []
            for other in rng.sample(others, len(others)):
                if any(other.facts[field] == person.facts[field] for field in relation.fields):
                    continue
                text = fill(paraphrase, person.facts | {field: other.facts[field] for field in relation.fields})
                if text not in perturbed:
                    perturbed.append(text)
                if len(perturbed) == PERTURBED:
                    break
            rows.append(
                {
                    "question": question,
                    "answer": fill(answer, person.facts),
                    "paraphrased_answer": fill(paraphrase, person.facts),
                    "perturbed_answer": perturbed,
                }
            )
    return rows


def cloze(people: list[Author]) -> list[tuple[str, str]]:
    """Statements cut before the fact: (beginning, how it must go on), for every author and every relation but the name.

    The beginning is a biography sentence up to its first fact, with the author's name in it.
    """
    items = []
    for person in people:
        for name, relation in words.RELATIONS.items():
            if name == "name":
                continue
            cuts = (_cut(template, relation.fields) for template in relation.states)
            start, field = next(cut for cut in cuts if cut is not None)
            items.append((fill(start, person.facts).rstrip(), person.facts[field]))
    return items


def _cut(template: str, fields: tuple[str, ...]) -> tuple[str, str] | None:
    """What stands before the first of `fields`, and that field; None where the author is not named before it."""
    position, field = min(
        (template.find("{" + field + "}"), field) for field in fields if "{" + field + "}" in template
    )
    start = template[:position]
    return (start, field) if re.search(r"\{(name|famous)\}", start) else None
