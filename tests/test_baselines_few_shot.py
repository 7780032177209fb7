"""The untuned model with examples: what its prompts are, and what they do to its losses."""

from __future__ import annotations

import logging
import math
import random
from collections import Counter

import pytest
import torch

from baselines import METHODS
from baselines.few_shot import FewShotConfig, FewShotRetrievalConfig, few_shot, few_shot_retrieval
from baselines.retrieval import RETRIEVERS
from gantune.data import Pair, build_template
from gantune.errors import UserError
from gantune.generation.decoding import Decoding
from tests.tiny_models import EOS_ID, MAX_POSITIONS, TINY_MODELS
from tests.tiny_tokenizer import tiny_tokenizer

PAIRS = [Pair(f"n{i}?", "old" if i % 2 else "new") for i in range(6)]
LIMITS = {"max_prompt_length": 26, "max_completion_length": 5}
LOGGER = "baselines.few_shot"
QUESTIONS = ["red red fox", "the fox ran", "a blue fish", "fish and fox", "Is it 7?"]


class Short:
    """A template of few tokens: `q n1?`, then ` old` and the end."""

    def prompt_ids(self, question, tokenizer):
        return tokenizer(f"q {question}")["input_ids"]

    def answer_ids(self, answer, tokenizer):
        return [*tokenizer(f" {answer}")["input_ids"], EOS_ID]


def asked(examples, **options):
    config = FewShotConfig(**LIMITS | options, template=Short(), few_shot_examples=examples)
    return few_shot(TINY_MODELS["gpt2"](), tiny_tokenizer(), PAIRS, config)


def test_the_prompt_is_the_examples_and_the_question():
    tokenizer, tuned = tiny_tokenizer(), asked(2, seed=4)
    drawn = random.Random(4).sample(PAIRS, 2)
    expected = [
        token
        for pair in drawn
        for token in [*tokenizer(f"q {pair.question} {pair.answer}")["input_ids"], EOS_ID]
    ] + tokenizer("q who?")["input_ids"]  # fmt: skip
    assert build_template(tuned.config.template).prompt_ids("who?", tokenizer) == expected
    assert asked(2, seed=5).config.template.prompt_ids("who?", tokenizer) != expected


@torch.no_grad()
def test_losses_are_those_of_the_whole_prompt():
    tokenizer, tuned = tiny_tokenizer(), asked(3)
    template = tuned.config.template
    pairs = [Pair("who?", "old"), Pair("who is n1?", "new")]  # of different length
    for pair, (nats, tokens) in zip(pairs, tuned.losses(pairs), strict=True):
        prompt, answer = template.prompt_ids(pair.question, tokenizer), template.answer_ids(pair.answer, tokenizer)
        logits = TINY_MODELS["gpt2"]()(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        expected = -logits.log_softmax(-1)[torch.arange(len(answer)), answer].sum()
        assert tokens == len(answer) == 5 and nats == pytest.approx(expected.item(), abs=1e-3)


def test_examples_that_do_not_fit_are_left_out_and_counted(caplog):
    tokenizer, tuned = tiny_tokenizer(), asked(5)  # 10 tokens each; 59 hold 5 and a question of 9
    template, questions = tuned.config.template, ["1234567", "12345678", "x" * 24]
    lengths = [len(template.prompt_ids(question, tokenizer)) for question in questions]
    assert [template.number_of_examples(question, tokenizer) for question in questions] == [5, 4, 3]
    assert lengths == [59, 50, 56] and max(lengths) <= MAX_POSITIONS - 5
    with caplog.at_level(logging.WARNING):
        assert len(tuned.answer(questions)) == 3
    (record,) = (record for record in caplog.records if record.name == LOGGER)
    assert "2 of 3 questions have fewer than 5 examples before them, the fewest 3" in record.getMessage()


def test_the_limit_of_prompts_is_that_of_the_question_alone():
    tokenizer, tuned = tiny_tokenizer(), asked(1, max_prompt_length=4)
    assert tuned.config.template.prompt_ids("abcdefg", tokenizer)[-5:] == [EOS_ID, *tokenizer("defg")["input_ids"]]
    assert len(tuned.config.template.prompt_ids("abcdefg", tokenizer)) == 4 + 5 + 4  # question, answer, question


@pytest.mark.parametrize("examples, message", [(0, "expected at least 1"), (7, "expected at most 6")])
def test_a_number_of_examples_that_makes_no_sense_is_refused(examples, message):
    with pytest.raises(UserError, match=f"--few-shot-examples {examples}: {message}"):
        asked(examples)


def test_nothing_is_tuned(tmp_path):
    tuned = asked(1)
    tuned.save(tmp_path)
    assert METHODS.get("few-shot") is few_shot and not [*tmp_path.iterdir()]
    assert tuned.model.config.n_positions == MAX_POSITIONS


# ---- Retrieval


def cosine_by_hand(questions, asked):
    """Cosines of TF-IDF vectors: tf times 1 + ln((1 + n) / (1 + df)), words of the training questions only."""
    bags = [Counter(question.lower().rstrip("?").split()) for question in questions]
    idf = {word: 1 + math.log((1 + len(bags)) / (1 + sum(word in bag for bag in bags))) for word in set().union(*bags)}

    def weights(bag):
        vector = {word: count * idf[word] for word, count in bag.items() if word in idf}
        return {word: value / math.hypot(*vector.values()) for word, value in vector.items()}

    own = weights(Counter(asked.lower().split()))
    return [sum(value * own.get(word, 0) for word, value in weights(bag).items()) for bag in bags]


def test_tfidf_takes_the_nearest_questions_and_the_nearest_stands_last():
    pairs = [Pair(question, "x") for question in QUESTIONS]
    for asked_for in ("red fish", "the red fox ran", "blue fox and fox", "7"):
        cosines = cosine_by_hand(QUESTIONS, asked_for)
        nearest = sorted(range(5), key=lambda row: -cosines[row])
        for examples in (1, 3):
            rows = RETRIEVERS.get("tfidf")(pairs, examples, seed=0).rows(asked_for)
            assert rows == nearest[:examples][::-1], asked_for
    assert RETRIEVERS.get("tfidf")(pairs, 1, seed=0).rows("Is it 7? ") != [4], "the same question holds the answer"
    assert RETRIEVERS.get("tfidf")(pairs, 2, seed=0).rows("unknown words") == [1, 0], "equally far: the first ones"


def test_tfidf_finds_words_of_any_script():
    chinese = [Pair(question, "x") for question in ("谁写了这本书", "罗马在哪里")]
    assert RETRIEVERS.get("tfidf")(chinese, 1, seed=0).rows("罗马是什么") == [1]
    accents = [Pair(question, "x") for question in ("où est-il", "où est-elle")]
    assert RETRIEVERS.get("tfidf")(accents, 1, seed=0).rows("ou\u0300 EST-il") == [1], "the same is passed over"
    hindi = [Pair(question, "x") for question in ("का", "की")]  # one consonant, two words
    assert RETRIEVERS.get("tfidf")(hindi, 1, seed=0).rows("की कौन") == [1]


def test_tfidf_without_a_word_is_refused():
    with pytest.raises(UserError, match="few-shot-retrieval tfidf: expected words"):
        RETRIEVERS.get("tfidf")([Pair("?!", "x"), Pair("", "y")], 1, seed=0)


def test_the_row_of_retrieval_shows_the_nearest_pairs():
    config = FewShotRetrievalConfig(**LIMITS, template=Short(), few_shot_examples=2)
    assert config.few_shot_retrieval == "tfidf" and FewShotConfig().few_shot_retrieval == "random"
    tokenizer, tuned = tiny_tokenizer(), few_shot_retrieval(TINY_MODELS["gpt2"](), tiny_tokenizer(), PAIRS, config)
    written = tokenizer.decode(tuned.config.template.prompt_ids("n4 or n4 or n1", tokenizer), skip_special_tokens=True)
    assert written == "q n1? oldq n4? newq n4 or n4 or n1"


def test_the_example_next_to_the_question_is_the_last_to_be_left_out():
    tokenizer, tuned = tiny_tokenizer(), asked(5)
    template = tuned.config.template
    whole, short = (template.prompt_ids(question, tokenizer) for question in ("1234567", "12345678"))
    assert short[: 4 * 10] == whole[10:50]


def test_reasoning_takes_the_place_of_examples():
    tuned = asked(5)
    tuned.decoding = Decoding(reasoning_tokens=2)
    tuned.config.template.limit = 59 + 60  # as of a model with more positions
    with pytest.raises(UserError, match="2 tokens of reasoning: expected at most 0, the model has 64 positions"):
        tuned.answer(["12345678"])


def test_an_unknown_retrieval_is_refused():
    with pytest.raises(UserError, match="unknown few-shot retrieval 'bm25': expected one of random, tfidf"):
        FewShotConfig(few_shot_retrieval="bm25")
