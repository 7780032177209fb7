"""Every function that takes several texts takes the same things for them, and refuses the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset

from baselines.few_shot import FewShotConfig, few_shot
from baselines.method import TunedModel
from baselines.trivial import copy_question
from baselines.untuned import ChainOfThoughtConfig, ChainOfThoughtModel
from gantune.data import Pair, Question, Turn
from gantune.errors import UserError
from gantune.generation.decoding import Decoding, consensus, decode_answers, most_frequent
from gantune.generation.generate import encode_questions, generate_answers
from gantune.metrics import Bleurt, Diversity, Rouge, distinct_n, mean_length
from gantune.seqgan import self_consistency
from gantune.trainer.unpaired import Unpaired, UnpairedBatches
from gantune.tuning import TuningConfig
from tests.test_language_gan import build
from tests.test_metrics_bleurt import FIXTURES
from tests.tiny_models import TINY_MODELS
from tests.tiny_tokenizer import tiny_tokenizer

CONFIG = TuningConfig(max_prompt_length=32, max_completion_length=3)
PAIRS = [Pair("who is ann?", "a cook"), Pair("who is bob?", "old")]
TEXTS = ["ann is old", "ann is a cook", "ann is old"]
MODEL, TOKENIZER = TINY_MODELS["gpt2"](), tiny_tokenizer()
GAN = build(max_completion_length=3)

# what takes several questions, answers or texts: once lists come out, and once one figure or choice of all
TO_LISTS: dict[str, Callable[[Any], list]] = {
    "gan.generate": GAN.generate,
    "generate_answers": lambda texts: generate_answers(MODEL, TOKENIZER, texts, CONFIG),
    "decode_answers": lambda texts: decode_answers(MODEL, TOKENIZER, texts, CONFIG, Decoding.named("mbr-3")),
    "encode_questions": lambda texts: encode_questions(texts, TOKENIZER, CONFIG),
    "self_consistency": self_consistency,
    "Rouge.score_pairs": lambda texts: Rouge().score_pairs(texts, texts),
    "Bleurt.score_pairs": lambda texts: Bleurt(FIXTURES / "bert").score_pairs(texts, texts),
    "TunedModel.answer": lambda texts: TunedModel(MODEL, TOKENIZER, CONFIG).answer(texts),
    "few-shot": lambda texts: few_shot(
        MODEL, TOKENIZER, PAIRS, FewShotConfig(few_shot_examples=1, max_prompt_length=20, max_completion_length=3)
    ).answer(texts),
    "chain-of-thought": lambda texts: ChainOfThoughtModel(
        MODEL, TOKENIZER, ChainOfThoughtConfig(chain_of_thought_tokens=2, max_prompt_length=9, max_completion_length=1)
    ).answer(texts),
    "copy-question": lambda texts: copy_question(None, None, PAIRS, CONFIG).answer(texts),
}
OF_ALL: dict[str, Callable[[Any], Any]] = {
    "consensus": consensus,
    "most_frequent": most_frequent,
    "distinct_n": distinct_n,
    "mean_length": mean_length,
    "Rouge.compute": lambda texts: Rouge().compute(predictions=texts, references=texts),
    "Diversity.compute": lambda texts: Diversity().compute(predictions=texts),
    "Bleurt.compute": lambda texts: Bleurt(FIXTURES / "bert").compute(predictions=texts, references=texts),
    "unpaired questions": lambda texts: UnpairedBatches(Unpaired(texts, ["ann"]), TOKENIZER, CONFIG).tokens(),
    "unpaired answers": lambda texts: UnpairedBatches(Unpaired(["who?"], texts), TOKENIZER, CONFIG).tokens(),
}
FUNCTIONS = TO_LISTS | OF_ALL
COLUMNS = {
    "tuple": tuple,
    "numpy": np.array,
    "numpy objects": lambda texts: np.array(texts, dtype=object),
    "pandas": pd.Series,
    "datasets": lambda texts: Dataset.from_dict({"text": texts})["text"],
}
OTHERS = {
    "str": "who?",
    "bytes": b"who?",
    "dict": {"who?": "ann"},
    "set": {"who?"},
    "dict_keys": {"who?": "ann"}.keys(),
    "NoneType": None,
    "generator": (text for text in TEXTS),
    "DataFrame": pd.DataFrame({"text": TEXTS}),
    "ndarray": np.array([TEXTS]),
    "int": 3,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_no_list_of_texts_is_refused_in_one_line(name):
    for kind, other in OTHERS.items():
        if kind == "NoneType" and name.endswith(".compute"):
            continue  # what was added before is scored
        with pytest.raises(UserError, match=rf": expected a list of strings, got {kind}$"):
            FUNCTIONS[name](other)
    with pytest.raises(UserError, match=r", row 1: expected a string( or a list of them)?, got int$"):
        FUNCTIONS[name](["ann", 3, None])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_column_is_as_good_as_a_list(name):
    wanted = FUNCTIONS[name](TEXTS)
    for kind, column in COLUMNS.items():
        assert FUNCTIONS[name](column(TEXTS)) == wanted, kind


@pytest.mark.parametrize("name", TO_LISTS)
def test_nothing_gives_nothing(name):
    assert len(TO_LISTS[name](TEXTS)) == len(TEXTS)
    for column in (list, *COLUMNS.values()):
        assert TO_LISTS[name](column([])) == []


@pytest.mark.parametrize("name", [name for name in OF_ALL if name != "unpaired answers"])  # there may be none
def test_one_result_of_nothing_is_refused(name):
    with pytest.raises(UserError, match=r": expected at least one string, got an empty list$"):
        OF_ALL[name]([])


def test_a_question_in_a_list_keeps_its_turns():
    question = Question([Turn("system", "be brief"), Turn("user", "who?")])
    (ids,) = encode_questions((question,), TOKENIZER, CONFIG)
    assert ids == CONFIG.prompt_template().prompt_ids(question, TOKENIZER)[-32:]
