"""Decodings other than greedy, noise beside the headline, and several decodings of one tuned model."""

from __future__ import annotations

import json
from collections import Counter
from statistics import fmean, stdev

import pytest
import torch
from peft import get_peft_model

from baselines import METHODS, TunedModel
from baselines.untuned import ChainOfThoughtConfig
from benchmarks.compare.decoding_cost import cost_lines
from benchmarks.compare.evaluation import evaluate, noise_figures
from benchmarks.report.notes import notes
from gantune.data import Pair
from gantune.embedding_generator import EmbeddingGeneratorConfig
from gantune.errors import UserError
from gantune.generation.decoding import Decoding, consensus, decode_answers, most_frequent, normalised
from gantune.generation.generate import DecodingReport, generate_answers
from gantune.generation.reasoning import CONCLUDE, REASON
from gantune.metrics import Diversity, Rouge
from gantune.tuning import TuningConfig
from tests.tiny_models import EOS_ID, TINY_MODELS
from tests.tiny_tokenizer import tiny_tokenizer

CONFIG = TuningConfig(max_prompt_length=48, max_completion_length=12)
PAIRS = [Pair("who?", "bob is old."), Pair("what is the name of bob?", "bob."), Pair("why not?", "a cook is old.")]
QUESTIONS = [pair.question for pair in PAIRS]


def test_the_consensus_is_the_answer_nearest_to_the_others():
    # F1 of the longest common subsequence: abcd-abc 6/7, abcd-abd 6/7, abc-abd 2/3, xy with all 0
    assert consensus(["x y", "a b c", "a b c d", "a b d"]) == "a b c d"
    assert consensus(["one", "two", "two", "three"]) == "two"
    assert consensus(["alone", "other", "third"]) == "alone", "the first of equals"
    assert consensus(["Париж", "Рим", "Рим", "Рим"]) == "Рим"
    assert consensus(["巴黎城", "罗马", "罗马城"]) == "罗马城"  # F1 with the others 1/3 and 4/5


def test_names_of_decodings():
    assert Decoding.named("greedy") == Decoding() and str(Decoding()) == "greedy"
    assert Decoding.named("sample", 0.7, 3) == Decoding(1, 0.7, 3)
    assert str(Decoding.named("mbr-8", 0.7)) == "mbr-8 at temperature 0.7"
    assert str(Decoding.named("sample")) == "sample at temperature 1"
    for name in ("mbr-2", "mbr", "mbr-8x", "beam"):
        with pytest.raises(UserError, match="mbr-K or vote-K with K at least 3"):
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
        TINY_MODELS["llama"](), EmbeddingGeneratorConfig(noise_dim=4, network_options={"noise_scale": 5.0})
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
    lines = notes([row(0, 0.41, 0.004), row(1, 0.43, 0.006)]).settings
    assert "gan: ROUGE-L .430 at zero noise, .420 ±.005 (SD) over 5 noise draws" in lines
    by_decoding = {"sample at temperature 0.5": {"rougeL": 0.42}, "sample at temperature 1": {"rougeL": 0.3}}
    lines = notes([row(0, 0.41, 0.004, by_decoding)]).settings
    assert "gan: ROUGE-L .420 sample at temperature 0.5, .300 sample at temperature 1" in lines


# ---- Self-consistency


def test_the_vote_takes_the_most_frequent_answer_as_it_was_first_written():
    assert most_frequent(["1958.", "In 1958", "the 1958", "1959"]) == "1958."
    assert most_frequent(["b", "a", "A.", "B!"]) == "b", "of equals the one that came first"
    assert most_frequent(["5", "-5", "-5"]) == "-5" and most_frequent(["35", "3.5", "$3.5."]) == "3.5"
    assert [*map(normalised, ("The  Cook, a cook!", "1,000", "3.5-fold."))] == ["cook cook", "1000", "3.5fold"]


def test_a_vote_in_other_scripts():
    assert most_frequent(["कि", "की", "की"]) == "की", "vowel signs tell words apart"
    assert most_frequent(["Año", "ano", "an\u0303o"]) == "Año", "however the accent is written"
    assert most_frequent(["👍", "👎", "👎"]) == "👎" and normalised("The") == "The", "something is left of each"


def test_vote_is_the_most_frequent_of_the_samples_that_mbr_draws():
    model, tokenizer, report = TINY_MODELS["gpt2"](), tiny_tokenizer(), DecodingReport()
    config = TuningConfig(max_prompt_length=48, max_completion_length=1)  # one character: some samples agree
    vote = Decoding.named("vote-5", 0.4, seed=4)
    assert (vote.choice, vote.samples, str(vote)) == ("vote", 5, "vote-5 at temperature 0.4")
    torch.manual_seed(4)
    samples = [generate_answers(model, tokenizer, QUESTIONS, config, temperature=0.4) for _ in range(5)]
    by_question = [*zip(*samples, strict=True)]
    counts = [Counter(map(normalised, answers)).most_common(1)[0][1] for answers in by_question]
    assert decode_answers(model, tokenizer, QUESTIONS, config, vote, report=report) == [
        *map(most_frequent, by_question)
    ]
    assert report.undecided == counts.count(1) < 3 and report.limit == 15


# ---- Chain of thought


def test_reasoning_stands_between_the_question_and_the_answer_and_only_the_answer_is_returned():
    model, tokenizer, report = TINY_MODELS["llama"](), tiny_tokenizer(), DecodingReport()
    config = TuningConfig(template="text", max_prompt_length=5, max_completion_length=4)
    encode = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731

    def greedy(ids, tokens):
        written = []
        while len(written) < tokens and (not written or written[-1] != EOS_ID):
            with torch.no_grad():
                written.append(model(torch.tensor([ids + written])).logits[0, -1].argmax().item())
        return written

    decoding, expected, decoded = Decoding(reasoning_tokens=3), [], 0
    for question in ("who?", "why not?"):
        prompt = encode(f"{question}\n")[-5:] + encode(REASON)
        thought = greedy(prompt, 3)
        answer = greedy(prompt + [id for id in thought if id != EOS_ID] + encode(CONCLUDE), 4)
        expected.append(tokenizer.decode(answer, skip_special_tokens=True).strip())
        decoded += len(thought) + len(answer)
    assert decode_answers(model, tokenizer, ["who?", "why not?"], config, decoding, report=report) == expected
    assert (report.new_tokens, report.limit) == (decoded, 2 * (3 + 4))
    assert str(Decoding.named("vote-3", reasoning_tokens=9)).endswith("temperature 1 after up to 9 tokens of reasoning")


def test_reasoning_that_the_model_has_no_positions_for_is_refused():
    with pytest.raises(UserError, match="20 tokens of reasoning: expected at most 3, the model has 64 positions"):
        config = TuningConfig(template="text", max_completion_length=6)
        decode_answers(TINY_MODELS["gpt2"](), tiny_tokenizer(), ["who?"], config, Decoding(reasoning_tokens=20))
    with pytest.raises(UserError, match="--reasoning-tokens -1: expected at least 0"):
        Decoding.named("greedy", reasoning_tokens=-1)
    with pytest.raises(UserError, match="--chain-of-thought-tokens 0: expected at least 1"):
        ChainOfThoughtConfig(chain_of_thought_tokens=0)


def test_the_row_chain_of_thought_reasons_and_its_losses_are_those_of_the_base():
    model, tokenizer = TINY_MODELS["llama"](), tiny_tokenizer()
    config = ChainOfThoughtConfig(
        template="text", max_prompt_length=5, max_completion_length=4, chain_of_thought_tokens=5
    )
    tuned = METHODS.get("chain-of-thought")(model, tokenizer, PAIRS, config)
    for given, used in ((0, 5), (3, 3)):
        tuned.decoding = Decoding(reasoning_tokens=given)
        expected = decode_answers(model, tokenizer, QUESTIONS, config, Decoding(reasoning_tokens=used))
        assert tuned.answer(QUESTIONS) == expected and tuned.report.limit == 3 * (used + 4)
    assert tuned.losses(PAIRS) == TunedModel(model, tokenizer, config).losses(PAIRS)


# ---- What decoding costs


def test_the_cost_of_an_answer_counts_its_tokens_and_its_prompt(tmp_path):
    model, tokenizer = TINY_MODELS["gpt2"](), tiny_tokenizer()
    tuned = TunedModel(model, tokenizer, CONFIG)
    cost = evaluate(tuned, PAIRS, tmp_path, None, None, "cpu").decoding_cost
    template = CONFIG.prompt_template()
    read = [len(template.prompt_ids(question, tokenizer)) for question in QUESTIONS]
    assert max(read) <= 48 and cost["prompt_tokens"] == pytest.approx(fmean(read))
    decoded = []
    for question in QUESTIONS:
        ids = torch.tensor([template.prompt_ids(question, tokenizer)])
        new = model.generate(ids, max_new_tokens=12, do_sample=False, eos_token_id=EOS_ID, pad_token_id=0)
        decoded.append(new.shape[1] - ids.shape[1])
    assert cost["new_tokens"] == pytest.approx(fmean(decoded)) and (cost["samples"], cost["limit"]) == (1, 12)
    sampled = evaluate(tuned, PAIRS, tmp_path, None, None, "cpu", [Decoding(4)]).decoding_cost
    assert (sampled["samples"], sampled["limit"], sampled["undecided"]) == (4, 48, None)
    assert sampled["prompt_tokens"] == pytest.approx(4 * fmean(read))
    rule = METHODS.get("copy-question")(None, None, PAIRS, CONFIG)
    assert evaluate(rule, PAIRS, tmp_path, None, None, "cpu").decoding_cost is None


def cost_of(method, seed=0, samples=1, limit=50, new=20, read=30, undecided=None):
    cost = {"samples": samples, "limit": limit, "new_tokens": new, "prompt_tokens": read, "undecided": undecided}
    return {"method": method, "seed": seed, "status": "success", "decoding_cost": cost | {"questions": 10}}


def test_equal_costs_are_stated_and_unequal_ones_are_told_apart():
    silent = {"method": "copy-question", "seed": 0, "status": "success", "decoding_cost": None}
    rows = [silent, cost_of("base", 0, new=50), cost_of("base", 1, new=40), cost_of("lora", new=9, read=31)]
    assert cost_lines(rows) == [
        "Decoding cost a question, tokens decoded (and read): 1 sample, at most 50 tokens: base 45 (30), lora 9 (31)"
    ]
    unequal = cost_lines([*rows, cost_of("chain-of-thought", limit=114, new=100, read=120)])
    assert unequal[0].endswith("lora 9 (31); 1 sample, at most 114 tokens: chain-of-thought 100 (120)")
    assert unequal[1].startswith("caution: decoding costs differ")
    votes = [cost_of("gan", seed, samples=8, limit=400, undecided=undecided) for seed, undecided in ((0, 3), (1, 4))]
    assert cost_lines(votes)[1] == (
        "gan: no two samples agree on 7 of 20 questions: the vote takes the first sample there"
    )
    assert cost_lines([silent]) == cost_lines([{"method": "lora", "status": "success"}]) == []
