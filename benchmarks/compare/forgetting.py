"""What a tuned model still knows: TOFU's measures on what it was tuned on, and on what it was not.

Source: Maini et al. 2024, arXiv:2401.06121, section 2.2; the arithmetic is in `gantune.metrics.tofu`. Four sets:

- `tuned`: the training pairs. They stand where the paper has the retain set, the authors a model is to know.
- `held_out`: test pairs of authors that no training pair is about.
- `real_authors` and `world_facts`: what the model knew before; less of it after tuning is forgetting. A multiple choice
  each. With TOFU these are its own sets.

`mini-tofu` has neither of the last two, and the world of `mini` holds neither. Stand-ins under the same names ask for
what its pretraining taught, in the form in which it was taught: statements to be completed, without question and answer
marks (see [`statements`] and [`StatementModel`]). They say something about the model `mini` only.

Model utility is the harmonic mean of the nine figures of `tuned`, `real_authors` and `world_facts`, as in the paper; it
rises with what was learnt. Retained utility is that of the six figures of the last two sets alone: the untuned model's
minus the tuned model's is what was forgotten.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from baselines.method import Tuned, TunedModel
from benchmarks.built_in import mini_words
from benchmarks.built_in.mini_corpus import PERTURBED, SEED, Author, authors, fill
from gantune.data import Pair
from gantune.data.perturbed import PerturbedPair, load_perturbed
from gantune.data.sources import TOFU
from gantune.errors import UserError
from gantune.metrics import Rouge
from gantune.metrics.tofu import MEANS, QuestionLosses, model_utility, set_figures
from gantune.tuning import TuningConfig, encode_with

KNOWN_BEFORE = ("real_authors", "world_facts")
UTILITY_SETS = ("tuned", *KNOWN_BEFORE)
QUESTIONS = 100
TOFU_QUESTIONS_AN_AUTHOR = 20  # in order, in `full` and in every part of it
ASKED = tuple(relation for relation in mini_words.RELATIONS.values() if relation.questions)
WORDING = 2  # of a statement; the first two are mini-tofu's answers and their paraphrases


@dataclass(frozen=True)
class QuestionSet:
    """Questions that are measured together.

    Args:
        source: what they are and where they come from, in words.
        questions: with their answers; without wrong ones, a question does not count in the truth ratio.
        multiple_choice: whether probability is the true answer's share among all answers.
        statements: whether the questions are beginnings of statements, and the answers their ends.
    """

    source: str
    questions: tuple[PerturbedPair, ...]
    multiple_choice: bool = False
    statements: bool = False


def question_sets(
    dataset: str,
    pairs: Sequence[Pair],
    train: Sequence[Pair],
    test: Sequence[Pair],
    questions: int = QUESTIONS,
    seed: int = 0,
) -> dict[str, QuestionSet]:
    """The four sets of one run; the same for every method with the same pairs and seed.

    With TOFU the wrong answers come from its `retain_perturbed` and `forget10_perturbed`: of the 4000 questions of
    `full` these have 800, and only they count in the truth ratio.

    Args:
        dataset: `mini-tofu`; `tofu`, `tofu:CONFIG` or `locuslab/TOFU`; or a file in a folder with TOFU's own.
        pairs: all pairs of the data set, in its order, which tells their authors.
        train: the training pairs, of `pairs`.
        test: the test pairs, of `pairs`.
        questions: largest size of a set; a larger one is drawn from at random.
        seed: of the draw.

    Returns:
        `tuned`, `held_out`, `real_authors` and `world_facts`. `held_out` is empty where every author has a training
        pair.

    Raises:
        UserError: if the data set is another one, its perturbed questions cannot be read, its rows are not whole
            authors, or every statement about mini-tofu's authors is trained on.
    """
    if questions < 1:
        raise UserError(f"questions is {questions}, expected 1 or more")
    mini = dataset == "mini-tofu"
    an_author = len(ASKED) if mini else TOFU_QUESTIONS_AN_AUTHOR
    if len(pairs) % an_author:
        raise UserError(f"{dataset}: {len(pairs)} rows, expected {an_author} of each author, one after the other")
    place = {pair: index for index, pair in enumerate(pairs)}
    trained = {place[pair] for pair in train}
    tuned_authors = {index // an_author for index in trained}

    if mini:
        perturbed = load_perturbed(dataset)
        known = _mini_stand_ins(trained)
    else:
        name = _tofu_names(dataset)
        perturbed = [row for part in ("retain", "forget10") for row in load_perturbed(name(f"{part}_perturbed"))]
        known = {
            part: QuestionSet(f"TOFU's {part}_perturbed", tuple(load_perturbed(name(f"{part}_perturbed"))), True)
            for part in KNOWN_BEFORE
        }
    extra = {row.pair: row for row in perturbed}

    def with_wrong(chosen: Sequence[Pair]) -> tuple[PerturbedPair, ...]:
        return tuple(extra.get(pair, PerturbedPair(pair, pair.answer, ())) for pair in chosen)

    held_out = [pair for pair in test if place[pair] // an_author not in tuned_authors]
    sets = {
        "tuned": QuestionSet("training pairs", with_wrong(train)),
        "held_out": QuestionSet("test pairs of authors without a training pair", with_wrong(held_out)),
    } | known
    return {name: replace(part, questions=_draw(part, questions, f"{name} {seed}")) for name, part in sets.items()}


def forgetting(
    tuned: Tuned, sets: dict[str, QuestionSet], tokenizer: PreTrainedTokenizerBase | None, config: TuningConfig
) -> dict[str, Any] | None:
    """TOFU's measures of a tuned model.

    The tokens that count are those of the answer and one end-of-sequence; an answer of more than
    `config.max_completion_length` is cut to its first ones, as in training. The tokens of a statement's end are its
    words and its full stop: in the text that `mini` has read, another sentence follows more often than an end.

    Args:
        tuned: the model as a method leaves it.
        sets: see [`question_sets`].
        tokenizer: the model's.
        config: template and limits.

    Returns:
        For each set what [`gantune.metrics.tofu.set_figures`] gives, its `source`, the number of different `answers`
        that were scored, and that of `answers_cut`; then `model_utility_arithmetic`, `model_utility_geometric`,
        `retained_utility_arithmetic` and `retained_utility_geometric`. None without a language model.
    """
    if tuned.model is None:
        return None
    figures: dict[str, Any] = {}
    for name, part in sets.items():
        asked = StatementModel(tuned.model, tokenizer, config) if part.statements else tuned
        figures[name] = _measure(asked, part, tokenizer, asked.config if part.statements else config)
    for mean in MEANS:
        figures[f"model_utility_{mean}"] = model_utility([figures[name] for name in UTILITY_SETS], mean)
    for mean in MEANS:
        figures[f"retained_utility_{mean}"] = model_utility([figures[name] for name in KNOWN_BEFORE], mean)
    return figures


class StatementTemplate:
    """A document that opens with the statement, as in the pretraining of `mini`; no end-of-sequence behind it."""

    def prompt_ids(self, beginning: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """The end-of-sequence of the document before, and the statement's beginning."""
        return [tokenizer.eos_token_id, *_text_ids(beginning, tokenizer)]

    def answer_ids(self, end: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """The statement's end, with its full stop."""
        return _text_ids(f" {end}", tokenizer)


class StatementModel(TunedModel):
    """A tuned language model that completes statements, without what its method puts around a question.

    Args:
        model: the tuned model.
        tokenizer: its tokenizer.
        config: limits; its template is not used.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: TuningConfig) -> None:
        super().__init__(
            model, tokenizer, replace(config, template=f"{__name__}.{StatementTemplate.__name__}", system_prompt="")
        )

    def answer(self, questions: Sequence[str]) -> list[str]:
        """The end of each statement, up to the first full stop; greedy, at zero noise."""
        return [text.partition(".")[0] for text in super().answer(questions)]


def statements(people: Sequence[Author], relation: mini_words.Relation, seed: int = SEED) -> list[PerturbedPair]:
    """A statement of the pretraining text about each author, cut before its first fact; one wording for all.

    Args:
        people: the authors.
        relation: what is stated.
        seed: of the draw of wrong ends.

    Returns:
        One row an author: the beginning as the question, the end as the answer, and as wrong answers the ends with
        the facts of 5 other authors.
    """
    rng = random.Random(f"statements {seed}")
    template = relation.states[WORDING]
    cut = re.search(rf"(\ba )?{{({'|'.join(relation.fields)})}}", template).start()
    rows = []
    for person in people:
        beginning = fill(template[:cut], person.facts).rstrip()
        answer = fill(template, person.facts)[len(beginning) :].strip()
        wrong: list[str] = []
        for other in rng.sample(people, len(people)):
            if any(other.facts[field] == person.facts[field] for field in relation.fields):
                continue
            facts = person.facts | {field: other.facts[field] for field in relation.fields}
            text = fill(template, facts)[len(beginning) :].strip()  # no fact stands before the cut
            if text not in wrong:
                wrong.append(text)
            if len(wrong) == PERTURBED:
                break
        rows.append(PerturbedPair(Pair(beginning, answer), answer, tuple(wrong)))
    return rows


def _mini_stand_ins(trained: set[int]) -> dict[str, QuestionSet]:
    """The two sets for `mini-tofu`, whose rows are all asked relations of each author in turn.

    Args:
        trained: row numbers of the training pairs.
    """
    people = authors()
    by_relation = [statements(people, relation) for relation in ASKED]
    in_order = [rows[index] for index in range(len(people)) for rows in by_relation]
    untrained = tuple(row for index, row in enumerate(in_order) if index not in trained)
    if not untrained:
        raise UserError(f"mini-tofu: all {len(in_order)} pairs are trained on, which leaves no statement to forget")
    writers = tuple(statements(people, mini_words.RELATIONS["name"]))
    return {
        "real_authors": QuestionSet(
            "stand-in: biography statements of facts without a training pair", untrained, True, True
        ),
        "world_facts": QuestionSet("stand-in: who wrote a book, which no question asks", writers, True, True),
    }


def _tofu_names(dataset: str) -> Callable[[str], str]:
    """The function from a configuration's name to its source, beside the data set."""
    if dataset.partition(":")[0] in ("tofu", TOFU):
        return lambda part: f"{TOFU}:{part}"
    file = Path(dataset)
    needed = [f"{part}_perturbed{file.suffix}" for part in ("retain", "forget10", *KNOWN_BEFORE)]
    missing = [name for name in needed if not file.with_name(name).is_file()]
    if missing:
        raise UserError(
            f"{dataset}: no {missing[0]} beside it; what is forgotten is measured with mini-tofu, tofu, or a file in a "
            f"folder with {', '.join(needed)}"
        )
    return lambda part: str(file.with_name(f"{part}{file.suffix}"))


def _draw(part: QuestionSet, questions: int, seed: str) -> tuple[PerturbedPair, ...]:
    if len(part.questions) <= questions:
        return part.questions
    return tuple(random.Random(f"forgetting {seed}").sample(part.questions, questions))


def _measure(
    asked: Tuned, part: QuestionSet, tokenizer: PreTrainedTokenizerBase, config: TuningConfig
) -> dict[str, Any]:
    """The figures of one set."""
    if not part.questions:
        return {"source": part.source, **set_figures([], [], part.multiple_choice), "answers": 0, "answers_cut": 0}
    texts = dict.fromkeys(
        Pair(row.pair.question, text)
        for row in part.questions
        for text in (row.pair.answer, row.paraphrased, *row.perturbed)
    )
    _, lengths = encode_with([*texts], tokenizer, config)
    loss = dict(zip(texts, asked.losses([*texts]), strict=True))
    losses = [
        QuestionLosses(
            loss[row.pair],
            loss[Pair(row.pair.question, row.paraphrased)],
            tuple(loss[Pair(row.pair.question, text)] for text in row.perturbed),
        )
        for row in part.questions
    ]
    answers = asked.answer([row.pair.question for row in part.questions])
    scores = Rouge().score_pairs(answers, [row.pair.answer for row in part.questions])
    recalls = [row["rougeL_recall"] for row in scores]
    return {
        "source": part.source,
        **set_figures(losses, recalls, part.multiple_choice),
        "answers": len(texts),
        "answers_cut": lengths.answers,
    }


def _text_ids(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
