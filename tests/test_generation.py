"""Answers and losses of a model, against a loop that a reader can follow."""

from __future__ import annotations

import pytest
import torch
from peft import get_peft_model

from gantune.data import Pair, build_template
from gantune.embedding_generator import EmbeddingGeneratorConfig, hold_noise, stack_adapters
from gantune.embedding_generator.generators import build_generator
from gantune.errors import UserError
from gantune.generation.generate import generate_answers
from gantune.policy.evaluation import answer_losses
from gantune.tuning import LoraOptions, TuningConfig
from tests.tiny_models import TINY_MODELS
from tests.tiny_tokenizer import tiny_tokenizer

CONFIG = TuningConfig(max_prompt_length=48, max_completion_length=12)
QUESTIONS = ["who?", "what is the name of bob?", "why not?"]


def greedy_by_hand(model, tokenizer, question):
    """One token at a time, the whole sequence each time, without cache and padding."""
    prompt = build_template("plain").prompt_ids(question, tokenizer)
    ids = list(prompt)
    for _ in range(CONFIG.max_completion_length):
        token = model(torch.tensor([ids])).logits[0, -1].argmax().item()
        if token == tokenizer.eos_token_id:
            break
        ids.append(token)
    return tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True).strip()


@pytest.mark.parametrize("family", ["gpt2", "llama", "opt"])
def test_greedy_answers_are_the_most_probable_tokens(family):
    model, tokenizer = TINY_MODELS[family](), tiny_tokenizer()
    expected = [greedy_by_hand(model, tokenizer, question) for question in QUESTIONS]
    assert generate_answers(model, tokenizer, QUESTIONS, CONFIG) == expected
    assert any(expected)


@pytest.mark.parametrize("generator", ["", "lora", "embedding+lora"])
@pytest.mark.parametrize(
    "own",
    [
        {"repetition_penalty": 5.0, "no_repeat_ngram_size": 1, "num_beams": 3, "top_k": 1},
        {"suppress_tokens": [*range(4, 90)]},
        {"guidance_scale": 3.0},
    ],
)
def test_the_models_own_generation_settings_change_nothing(generator, own):
    base, tokenizer = TINY_MODELS["gpt2"](), tiny_tokenizer()
    model = stack_adapters(base, build_generator(generator, LoraOptions())) if generator else base
    expected = generate_answers(model, tokenizer, QUESTIONS, CONFIG)
    base.generation_config.update(**own)
    settings = base.generation_config
    assert generate_answers(model, tokenizer, QUESTIONS, CONFIG) == expected
    assert base.generation_config is model.generation_config is settings, "they are the model's own again"


def test_sampled_answers_differ_and_repeat_with_the_seed():
    model, tokenizer = TINY_MODELS["gpt2"](), tiny_tokenizer()

    def sample(seed):
        torch.manual_seed(seed)
        return generate_answers(model, tokenizer, QUESTIONS, CONFIG, temperature=1.0)

    assert sample(0) == sample(0) != sample(1)


def test_each_question_keeps_its_own_noise_when_batches_are_sorted():
    torch.manual_seed(0)
    model = get_peft_model(TINY_MODELS["llama"](), EmbeddingGeneratorConfig(noise_dim=4))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))
    tokenizer, noise = tiny_tokenizer(), torch.randn(3, 4) * 50
    together = generate_answers(model, tokenizer, QUESTIONS, CONFIG, noise=noise)
    for question, row, answer in zip(QUESTIONS, noise, together, strict=True):
        with hold_noise(model, row):
            assert answer == greedy_by_hand(model, tokenizer, question)
    assert together != generate_answers(model, tokenizer, QUESTIONS, CONFIG)


def test_losses_by_hand():
    model, tokenizer = TINY_MODELS["gpt2"](), tiny_tokenizer()
    pairs = [Pair("who?", "bob."), Pair("what is the name of bob?", "a name longer than the limit")]
    template = build_template("plain")
    for pair, (nats, tokens) in zip(pairs, answer_losses(model, tokenizer, pairs, CONFIG), strict=True):
        prompt = template.prompt_ids(pair.question, tokenizer)
        answer = template.answer_ids(pair.answer, tokenizer)[: CONFIG.max_completion_length]
        log_probs = model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
        expected = -sum(log_probs[len(prompt) + t - 1, token].item() for t, token in enumerate(answer))
        assert tokens == len(answer) and nats == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("temperature", [-1.0, float("inf"), float("nan")])
def test_a_temperature_is_finite(temperature):
    with pytest.raises(UserError, match=rf"temperature is {temperature}, expected 0 or a finite number above it"):
        generate_answers(TINY_MODELS["gpt2"](), tiny_tokenizer(), QUESTIONS, CONFIG, temperature=temperature)
