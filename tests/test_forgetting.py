"""The question sets of TOFU's measures, and what is measured on them."""

from __future__ import annotations

import json
import math
import re

import pytest
import torch

from baselines.trivial import AnswerRule
from benchmarks.built_in import mini_words
from benchmarks.built_in.mini_corpus import authors, biographies
from benchmarks.compare.forgetting import (
    ASKED,
    QuestionSet,
    StatementModel,
    StatementTemplate,
    forgetting,
    question_sets,
    statements,
)
from gantune.data import Pair, load_pairs, split_pairs
from gantune.data.perturbed import PerturbedPair, load_perturbed
from gantune.errors import UserError
from gantune.hub.loading import load_model, load_tokenizer
from gantune.tuning import TuningConfig
from tests.shared import SHARED, needs_shared
from tests.tiny_tokenizer import tiny_tokenizer

NAME = mini_words.RELATIONS["name"]


@pytest.fixture(scope="module")
def people():
    return authors()


@pytest.fixture(scope="module")
def mini_pairs():
    return load_pairs("mini-tofu")


@pytest.fixture(scope="module")
def mini():
    return load_model("mini"), load_tokenizer("mini")


# Statements


def test_every_statement_is_a_sentence_of_the_pretraining_text(people):
    text = " ".join(biographies(people))
    sentences = set(re.findall(r"[^.]+\.", text.replace(". ", ".")))
    for relation in (*ASKED, NAME):
        rows = statements(people, relation)
        assert len(rows) == len(people)
        for row in rows:
            assert f"{row.pair.question} {row.pair.answer}" in sentences


def test_wrong_ends_are_worded_like_the_right_one(people):
    by_name = {person.name: person for person in people}
    for row in statements(people, NAME):
        assert row.pair.answer[:-1] in by_name
        assert {answer[:-1] for answer in row.perturbed} <= by_name.keys() - {row.pair.answer[:-1]}
    for relation in ASKED:
        for row in statements(people, relation):
            assert row.paraphrased == row.pair.answer
            assert len(set(row.perturbed) - {row.pair.answer}) == 5
            assert all(answer.endswith(".") for answer in row.perturbed)


def test_an_article_goes_with_its_fact(people):
    father = statements(people, mini_words.RELATIONS["father"])
    assert all(row.pair.question.endswith("was that of") for row in father)
    assert all(re.match(r"an? ", answer) for row in father for answer in (row.pair.answer, *row.perturbed))


def test_a_statement_has_the_tokens_of_the_pretraining_text(people, mini):
    tokenizer, template = mini[1], StatementTemplate()
    for row in statements(people, ASKED[0])[:5]:
        ids = template.prompt_ids(row.pair.question, tokenizer) + template.answer_ids(row.pair.answer, tokenizer)
        assert ids == [tokenizer.eos_token_id, *tokenizer(f"{row.pair.question} {row.pair.answer}").input_ids]


# Question sets


def test_sets_of_mini_tofu(mini_pairs):
    train, test = split_pairs(mini_pairs, 50, 200, seed=3)
    sets = question_sets("mini-tofu", mini_pairs, train, test, questions=100, seed=3)
    assert {name: len(part.questions) for name, part in sets.items()} | {"held_out": 0} == {
        "tuned": 50, "held_out": 0, "real_authors": 100, "world_facts": 60,
    }  # fmt: skip
    assert [row.pair for row in sets["tuned"].questions] == train
    assert {row.pair: row for row in load_perturbed("mini-tofu")}.items() >= {
        row.pair: row for part in ("tuned", "held_out") for row in sets[part].questions
    }.items()

    index = {pair: row for row, pair in enumerate(mini_pairs)}
    trained_authors = {index[pair] // 19 for pair in train}
    held_out = [row.pair for row in sets["held_out"].questions]
    assert held_out == [pair for pair in test if index[pair] // 19 not in trained_authors] != []


def test_no_statement_is_of_a_trained_fact(mini_pairs, people):
    train = mini_pairs[: 19 * 59 + 1]  # all of 59 authors, and the first question about the last
    part = question_sets("mini-tofu", mini_pairs, train, mini_pairs[-5:])["real_authors"]
    last = [statements(people, relation)[-1] for relation in ASKED]
    assert list(part.questions) == last[1:]


def test_the_draw_depends_on_the_seed_only(mini_pairs):
    train, test = split_pairs(mini_pairs, 50, 200, seed=0)
    sets = question_sets("mini-tofu", mini_pairs, train, test, 10, seed=0)
    assert sets == question_sets("mini-tofu", mini_pairs, train, test, 10, seed=0)
    assert sets["tuned"] != question_sets("mini-tofu", mini_pairs, train, test, 10, seed=1)["tuned"]
    assert all(len(set(part.questions)) == 10 for part in sets.values())


def tofu_folder(tmp_path, left_out=None):
    """Four authors in `full`; the first is in `retain_perturbed`, the last in `forget10_perturbed`."""
    rows = [{"question": f"q{i}", "answer": f"a{i}"} for i in range(80)]
    extra = {"paraphrased_answer": "p", "perturbed_answer": ["w"]}
    files = {
        "full": rows,
        "retain_perturbed": [row | extra for row in rows[:20]],
        "forget10_perturbed": [row | extra for row in rows[60:]],
        "real_authors_perturbed": [{"question": "who?", "answer": "he", "perturbed_answer": ["she", "it"]}],
        "world_facts_perturbed": [{"question": "where?", "answer": "here", "perturbed_answer": ["there"]}],
    }
    for name, content in files.items():
        if name != left_out:
            (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    return str(tmp_path / "full.jsonl")


def test_sets_of_tofu(tmp_path):
    dataset = tofu_folder(tmp_path)
    pairs = load_pairs(dataset)
    sets = question_sets(dataset, pairs, train=[pairs[0], pairs[25]], test=[pairs[19], pairs[40], pairs[79]])
    assert sets["tuned"].questions == (
        PerturbedPair(pairs[0], "p", ("w",)),
        PerturbedPair(pairs[25], "a25", ()),
    )
    assert [row.pair for row in sets["held_out"].questions] == [pairs[40], pairs[79]]
    assert sets["held_out"].questions[1].perturbed == ("w",)
    assert sets["real_authors"].questions == (PerturbedPair(Pair("who?", "he"), "he", ("she", "it")),)
    assert [sets[name].multiple_choice for name in sets] == [False, False, True, True]


@needs_shared
def test_tofus_wrong_answers_find_their_questions():
    dataset = str(SHARED / "data" / "tofu" / "full.jsonl")
    pairs = load_pairs(dataset)
    sets = question_sets(dataset, pairs, train=pairs[:200], test=pairs[3600:], questions=1000)
    assert [len(part.questions) for part in sets.values()] == [200, 400, 100, 117]
    assert all(row.perturbed for part in sets.values() for row in part.questions)


def test_bad_data_is_named(tmp_path, mini_pairs):
    dataset = tofu_folder(tmp_path, left_out="world_facts_perturbed")
    pairs = load_pairs(dataset)
    with pytest.raises(
        UserError, match=r"full.jsonl: no world_facts_perturbed.jsonl beside it; .* mini-tofu, tofu, or"
    ):
        question_sets(dataset, pairs, pairs[:1], pairs[1:])
    with pytest.raises(UserError, match="79 rows, expected 20 of each author"):
        question_sets(dataset, pairs[:79], pairs[:1], pairs[1:])
    with pytest.raises(UserError, match="questions is 0"):
        question_sets("mini-tofu", mini_pairs, mini_pairs[:1], mini_pairs[1:], questions=0)
    with pytest.raises(UserError, match="all 1140 pairs are trained on"):
        question_sets("mini-tofu", mini_pairs, mini_pairs, [])


# Measures


class Known:
    """A stand-in for a tuned model: every answer's P^(1/|a|) and every generated text is given."""

    model = torch.nn.Identity()

    def __init__(self, probabilities: dict[str, float], answers: dict[str, str]) -> None:
        self.probabilities, self.answers = probabilities, answers

    def losses(self, pairs):
        return [(-3 * math.log(self.probabilities[f"{pair.question} {pair.answer}"]), 3) for pair in pairs]

    def answer(self, questions):
        return [self.answers[question] for question in questions]


def sets_by_hand():
    known = QuestionSet("x", (PerturbedPair(Pair("who", "he"), "he", ("she", "it")),), multiple_choice=True)
    return {
        "tuned": QuestionSet("y", (PerturbedPair(Pair("what", "a red hat"), "the hat", ("a cat", "a bat")),)),
        "held_out": QuestionSet("z", ()),
        "real_authors": known,
        "world_facts": known,
    }


def test_figures_by_hand():
    tuned = Known(
        {"what a red hat": 0.5, "what the hat": 0.4, "what a cat": 0.2, "what a bat": 0.05}
        | {"who he": 0.6, "who she": 0.3, "who it": 0.3},
        {"what": "red hat there", "who": "he"},
    )
    config = TuningConfig(max_completion_length=6)  # one token a character: 'a red hat' and 'the hat' are cut
    figures = forgetting(tuned, sets_by_hand(), tiny_tokenizer(), config)
    assert figures["tuned"] == pytest.approx(
        {
            "source": "y",
            "questions": 1,
            "probability": 0.5,
            "rougeL_recall": 2 / 3,
            "truth_ratio_questions": 1,
            "truth_ratio_arithmetic": 1 - 0.125 / 0.4,
            "truth_ratio_geometric": 1 - 0.1 / 0.4,
            "answers": 4,
            "answers_cut": 4,  # ' a cat' and its end are 7 tokens, too
        }
    )
    assert figures["held_out"]["questions"] == 0 and figures["held_out"]["probability"] is None
    known = {"probability": 0.5, "rougeL_recall": 1.0, "truth_ratio_arithmetic": 0.5, "truth_ratio_geometric": 0.5}
    for name in ("real_authors", "world_facts"):
        assert {key: figures[name][key] for key in known} == pytest.approx(known)
        assert (figures[name]["answers"], figures[name]["answers_cut"]) == (3, 0)
    # six numbers: .5 1 .5 twice; nine: .5, 2/3 and .6875 or .75 with them
    assert figures["retained_utility_arithmetic"] == pytest.approx(6 / 10)
    assert figures["model_utility_arithmetic"] == pytest.approx(9 / (10 + 2 + 1.5 + 1 / 0.6875))
    assert figures["model_utility_geometric"] == pytest.approx(9 / (10 + 2 + 1.5 + 1 / 0.75))


def test_a_rule_has_no_figures():
    assert forgetting(AnswerRule(str.upper), sets_by_hand(), None, TuningConfig()) is None


def test_statements_are_put_to_the_model_as_it_read_them(mini, people):
    model, tokenizer = mini
    row = statements(people, ASKED[0])[0]
    asked = StatementModel(model, tokenizer, TuningConfig())
    ((nats, tokens),) = asked.losses([row.pair])

    ids = torch.tensor([[tokenizer.eos_token_id, *tokenizer(f"{row.pair.question} {row.pair.answer}").input_ids]])
    end = len(tokenizer(f" {row.pair.answer}").input_ids)
    with torch.inference_mode():
        log_probs = model(ids).logits.log_softmax(-1)[0, -end - 1 : -1]
    expected = -log_probs.gather(-1, ids[0, -end:, None]).sum().item()
    assert (nats, tokens) == (pytest.approx(expected, rel=1e-4), end)


def test_mini_knows_what_it_was_pretrained_on(mini, mini_pairs):
    model, tokenizer = mini
    config = TuningConfig()
    train, test = split_pairs(mini_pairs, 4, 4, seed=0)
    sets = question_sets("mini-tofu", mini_pairs, train, test, questions=6)
    asked = StatementModel(model, tokenizer, config)  # any tuned model will do
    figures = forgetting(asked, sets, tokenizer, config)
    assert figures["real_authors"]["rougeL_recall"] > 0.8
    for name in ("real_authors", "world_facts"):
        assert figures[name]["probability"] > 0.25  # chance is one in six
    assert 0 < figures["retained_utility_arithmetic"] < 1
