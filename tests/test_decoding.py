"""Decodings other than greedy, noise beside the headline, and several decodings of one tuned model."""

from __future__ import annotations

import json
from statistics import fmean, stdev

import pytest
import torch
from peft import get_peft_model

from baselines import METHODS, TunedModel
from benchmarks.evaluation import evaluate, noise_figures
from benchmarks.table import notes
from gantune.data import Pair
from gantune.decoding import Decoding, consensus, decode_answers
from gantune.embedding_generator import EmbeddingGeneratorConfig
from gantune.errors import UserError
from gantune.generation import generate_answers
from gantune.metrics import Diversity, Rouge
from gantune.tuning import TuningConfig
from tests.tiny_models import TINY_MODELS
from tests.tiny_tokenizer import tiny_tokenizer

CONFIG = TuningConfig(max_prompt_tokens=48, max_new_tokens=12)
PAIRS = [Pair("who?", "bob is old."), Pair("what is the name of bob?", "bob."), Pair("why not?", "a cook is old.")]
QUESTIONS = [pair.question for pair in PAIRS]


def test_the_consensus_is_the_answer_nearest_to_the_others():
    # F1 of the longest common subsequence: abcd-abc 6/7, abcd-abd 6/7, abc-abd 2/3, xy with all 0
    assert consensus(["x y", "a b c", "a b c d", "a b d"]) == "a b c d"
    assert consensus(["one", "two", "two", "three"]) == "two"
    assert consensus(["alone", "other", "third"]) == "alone", "the first of equals"


def test_names_of_decodings():
    assert Decoding.named("greedy") == Decoding() and str(Decoding()) == "greedy"
    assert Decoding.named("sample", 0.7, 3) == Decoding(1, 0.7, 3)
    assert str(Decoding.named("mbr-8", 0.7)) == "mbr-8 at temperature 0.7"
    assert str(Decoding.named("sample")) == "sample at temperature 1"
    for name in ("mbr-2", "mbr", "mbr-8x", "beam"):
        with pytest.raises(UserError, match="mbr-K with K at least 3"):
            Decoding.named(name)


def test_mbr_is_the_consensus_of_its_samples_and_leaves_the_random_state_alone():
    model, tokenizer = TINY_MODELS["gpt2"](), tiny_tokenizer()
    torch.manual_seed(4)
    samples = [generate_answers(model, tokenizer, QUESTIONS, CONFIG, temperature=0.8) for _ in range(3)]
    state = torch.get_rng_state()
    answers = decode_answers(model, tokenizer, QUESTIONS, CONFIG, Decoding(3, 0.8, seed=4))
    assert answers == [consensus(of_question) for of_question in zip(*samples, strict=True)]
    assert torch.equal(torch.get_rng_state(), state)
    assert decode_answers(model, tokenizer, QUESTIONS, CONFIG, Decoding(1, 0.8, seed=4)) == samples[0]
    greedy = generate_answers(model, tokenizer, QUESTIONS, CONFIG)
    assert decode_answers(model, tokenizer, QUESTIONS, CONFIG, Decoding()) == greedy != answers


@pytest.fixture(scope="module")
def noisy():
    """A tuned model whose answers depend on the noise."""
    torch.manual_seed(0)
    model = get_peft_model(
        TINY_MODELS["llama"](), EmbeddingGeneratorConfig(noise_dim=4, network_options={"noise_scale": 1.0})
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))
    return TunedModel(model, tiny_tokenizer(), CONFIG)


def test_noise_figures_are_those_of_draws_by_hand(noisy):
    answers = noisy.answer(QUESTIONS)
    pairs = [Pair(question, answer) for question, answer in zip(QUESTIONS, answers, strict=True)]
    figures = noise_figures(noisy, pairs, draws=3, seed=7)
    generator, means = torch.Generator().manual_seed(7), []
    for _ in range(3):
        noise = torch.randn(3, 4, generator=generator)
        drawn = generate_answers(noisy.model, noisy.tokenizer, QUESTIONS, CONFIG, noise=noise)
        means.append(fmean(row["rougeL"] for row in Rouge().score_pairs(drawn, answers)))
    assert figures["draws"] == 3 and stdev(means) > 0
    assert figures["rougeL"] == {"mean": pytest.approx(fmean(means)), "sd": pytest.approx(stdev(means))}
    assert noise_figures(noisy, pairs, draws=1, seed=7)["rougeL"] == {"mean": pytest.approx(means[0]), "sd": None}


def test_models_without_noise_have_no_noise_figures():
    untuned = TunedModel(TINY_MODELS["gpt2"](), tiny_tokenizer(), CONFIG)
    assert noise_figures(untuned, PAIRS, draws=2, seed=0) is None
    copy = METHODS.get("copy-question").tune(None, None, PAIRS, CONFIG)
    assert noise_figures(copy, PAIRS, draws=2, seed=0) is None


def test_every_decoding_is_evaluated_and_the_first_is_the_headline(noisy, tmp_path):
    decodings = [Decoding.named("sample", 0.5), Decoding.named("sample", 2.0)]
    found = evaluate(noisy, PAIRS, tmp_path, None, None, "cpu", decodings, noise_draws=2)
    assert list(found.by_decoding) == ["sample at temperature 0.5", "sample at temperature 2"]
    for decoding, metrics in zip(decodings, found.by_decoding.values(), strict=True):
        answers = decode_answers(noisy.model, noisy.tokenizer, QUESTIONS, CONFIG, decoding)
        rows = Rouge().score_pairs(answers, [pair.answer for pair in PAIRS])
        assert metrics["rougeL"] == pytest.approx(fmean(row["rougeL"] for row in rows))
        assert metrics["distinct2"] == Diversity().compute(predictions=answers)["distinct2"]
        assert metrics["nll"] == found.metrics["nll"]
        if decoding is decodings[0]:
            assert found.metrics == metrics
            samples = [json.loads(line)["answer"] for line in (tmp_path / "samples.jsonl").open()]
            assert samples == answers
    assert found.noise["draws"] == 2
    assert evaluate(noisy, PAIRS, tmp_path, None, None, "cpu").by_decoding is None


def row(seed, mean, sd, by_decoding=None):
    noise = {"draws": 5, "rougeL": {"mean": mean, "sd": sd}}
    return {"method": "gan", "seed": seed, "status": "success", "metrics": {"rougeL": 0.42 + seed / 50}, "not_run": {},
            "noise": noise, "metrics_by_decoding": by_decoding}  # fmt: skip


def test_noise_and_decodings_stand_below_the_table():
    lines = notes([row(0, 0.41, 0.004), row(1, 0.43, 0.006)])
    assert "gan: ROUGE-L .430 at zero noise, .420 ±.005 (SD) over 5 noise draws" in lines
    by_decoding = {"sample at temperature 0.5": {"rougeL": 0.42}, "sample at temperature 1": {"rougeL": 0.3}}
    lines = notes([row(0, 0.41, 0.004, by_decoding)])
    assert "gan: ROUGE-L .420 sample at temperature 0.5, .300 sample at temperature 1" in lines
