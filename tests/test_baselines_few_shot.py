"""The untuned model with examples: what its prompts are, and what they do to its losses."""

from __future__ import annotations

import logging
import random

import pytest
import torch

from baselines import METHODS, FewShotConfig, few_shot
from gantune.data import Pair, build_template
from gantune.errors import UserError
from tests.tiny_models import EOS_ID, MAX_POSITIONS, TINY_MODELS
from tests.tiny_tokenizer import tiny_tokenizer

PAIRS = [Pair(f"n{i}?", "old" if i % 2 else "new") for i in range(6)]
LIMITS = {"max_prompt_tokens": 26, "max_new_tokens": 5}
LOGGER = "baselines.few_shot"


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
    assert asked(2, seed=4).config.template.examples != asked(2, seed=5).config.template.examples


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
    tokenizer, tuned = tiny_tokenizer(), asked(1, max_prompt_tokens=4)
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
