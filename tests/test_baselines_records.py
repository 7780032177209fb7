"""Methods on records: reranking, the controls of the reward, and the upper bound by true slot errors."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from transformers import TrainerCallback

from baselines import NotAvailable, gan, resolve_method
from baselines.reranking import RerankingConfig
from baselines.slot_reward import SlotReward
from benchmarks.compare.arguments import parse
from benchmarks.compare.decoding_cost import cost_lines, decoding_cost
from gantune.data import Pair, collate
from gantune.data.question import RecordQuestion
from gantune.errors import UserError
from gantune.generation.decoding import Decoding, sample_answers
from gantune.trainer.callbacks import rows_of
from gantune.trainer.config import GameConfig
from gantune.trainer.language_gan import LanguageGAN
from gantune.tuning import encode_with
from tests.tiny_models import TINY_MODELS
from tests.tiny_tokenizer import tiny_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False", "ignore:`is_gradient_checkpointing`")

FOODS = ("French", "Indian", "Italian", "Chinese")
RECORDS = [RecordQuestion([("name", f"n{i}"), ("food", FOODS[i % 4])]) for i in range(8)]
PAIRS = [Pair(record, f"n{i} is {FOODS[i % 4]}.") for i, record in enumerate(RECORDS)]
SETTINGS = {
    "num_train_epochs": 2,
    "per_device_train_batch_size": 4,
    "template": "record-line",
    "max_prompt_length": 32,
    "max_completion_length": 12,
    "learning_rate": 1e-2,
    "warmup_share": 0.5,
    "discriminator_warmup_steps": 2,
    "num_generations": 2,
    "adversarial_every": 1,
}


def tune(name, pairs=PAIRS, **options):
    method, seen, callback = resolve_method(name), [], TrainerCallback()
    callback.on_train_begin = lambda args, state, control, **_: seen.append(state)
    torch.manual_seed(0)
    config = method.config_class(**SETTINGS | options)
    tuned = method.tune(TINY_MODELS["gpt2"](), tiny_tokenizer(), pairs, config, [callback])
    return tuned, rows_of(seen[0])


def weights(tuned):
    return {name: value.clone() for name, value in tuned.model.state_dict().items() if "lora" in name}


# ---- Reranking


@pytest.fixture(scope="module")
def reranked():
    return tune("rerank:lora", rerank_samples=4)


def test_reranking_trains_the_generator_as_its_control_does_and_then_the_judge(reranked):
    tuned, rows = reranked
    assert [row["phase"] for row in rows] == ["likelihood"] * 4 + ["discriminator"] * 2
    control, _ = tune("mle:lora")
    torch.testing.assert_close(weights(tuned), weights(control), rtol=0, atol=0)
    assert tuned.losses(PAIRS) == control.losses(PAIRS)
    assert resolve_method("rerank:lora").control == "mle:lora"


def test_what_the_judge_is_worth_where_it_chooses_is_told():
    _, rows = tune("rerank:lora", validation_share=0.25, reward="sequence")
    assert rows[-1]["phase"] == "discriminator" and 0 <= rows[-1]["chosen_by_discriminator"] <= 1


def test_the_answer_is_the_sample_that_the_judge_scores_highest(reranked):
    tuned, _ = reranked
    for decoding, temperature in ((Decoding(seed=5), 0.7), (Decoding(1, 1.0, 5), 1.0)):
        tuned.decoding = decoding
        answers = tuned.answer(RECORDS)
        samples = sample_answers(tuned.model, tuned.tokenizer, RECORDS, tuned.config, Decoding(4, temperature, 5))
        read = 0
        for record, several, answer in zip(RECORDS, samples, answers, strict=True):
            rows, _ = encode_with([Pair(record, sample) for sample in several], tuned.tokenizer, tuned.config)
            with torch.no_grad():
                logits = tuned.trainer.discriminator.sequence_logits(collate(rows, 0))
            assert answer == several[logits.argmax()]
            read += sum(len(row.prompt_ids) + len(row.answer_ids) for row in rows)
        assert tuned.report.judged_tokens == read
        assert any(answer != several[0] for several, answer in zip(samples, answers, strict=True))


def test_the_cost_of_reranking_is_told(reranked):
    tuned, _ = reranked
    tuned.decoding = Decoding()
    tuned.answer(RECORDS)
    cost = decoding_cost(Decoding(), tuned.report, len(RECORDS))
    assert (cost["samples"], cost["limit"], cost["undecided"]) == (4, 4 * 12, None)
    assert cost["judged_tokens"] == tuned.report.judged_tokens / len(RECORDS) > cost["prompt_tokens"]
    lines = cost_lines([{"method": "rerank:lora", "status": "success", "decoding_cost": cost}])
    assert lines[0].startswith("Decoding cost a question, tokens decoded (and read): 4 samples, at most 48 tokens")
    assert lines[1] == f"rerank:lora: its discriminator reads {cost['judged_tokens']:.0f} more tokens a question"


def test_an_empty_answer_can_be_chosen_or_not(reranked):
    tuned, _ = reranked
    best, _ = tuned.trainer.choose(RECORDS[:2], [["", ""], ["n1 is Indian.", "n1 is Indian."]])
    assert best == ["", "n1 is Indian."]


def test_reranking_without_a_judge_is_refused():
    for options in ({"reward": "constant"}, {"discriminator_warmup_steps": 0}):
        with pytest.raises(UserError, match="reranking chooses by a discriminator"):
            tune("rerank", **options)
    with pytest.raises(UserError, match="--rerank-samples 0: expected at least 1"):
        RerankingConfig(rerank_samples=0)
    assert RerankingConfig().rerank_samples == 8


# ---- Controls


@pytest.mark.parametrize(
    "name, changes",
    [
        ("gan-frozen-judge", {"discriminator_steps": 0}),
        ("gan-plain", {"corrupted_negatives": False, "mismatched_negatives": False}),
        ("gan-corrupted", {"generated_negatives": False}),
        ("mle", {"warmup_share": 1.0}),
        ("mle-early-stopped", {"warmup_share": 1.0, "validation_share": 0.1, "early_stopping_patience": 10**6}),
        ("rerank", {"warmup_share": 1.0}),
        ("self-training-greedy", {"warmup_share": 1.0, "self_training_decoding": "greedy", "blind_discriminator": True,
                                  "unpaired_likelihood_weight": 1.0}),
    ],
)  # fmt: skip
def test_a_control_differs_in_what_it_says(name, changes, monkeypatch):
    used = []
    monkeypatch.setattr(
        gan, "train_language_gan", lambda made, model, tokenizer, pairs, config, **_: used.append(config)
    )
    for cell in (name, f"{name}:lora"):
        method = resolve_method(cell)
        given = method.config_class(**SETTINGS)
        method.tune(TINY_MODELS["gpt2"](), tiny_tokenizer(), PAIRS, given)
        generator = {"generator": "lora"} if cell != name else {}
        assert used.pop() == dataclasses.replace(given, **changes, **generator)


@pytest.mark.parametrize("name", ["mle", "mle-stack", "mle:lora", "mle-unpaired", "self-training", "rerank"])
def test_the_control_of_a_game_with_a_rate_of_its_own_keeps_both_rates(name, monkeypatch):
    used = []
    monkeypatch.setattr(
        gan, "train_language_gan", lambda made, model, tokenizer, pairs, config, **_: used.append(config)
    )
    method = resolve_method(name)
    given = method.config_class(**SETTINGS, adversarial_learning_rate=4e-3)
    method.tune(TINY_MODELS["gpt2"](), tiny_tokenizer(), PAIRS, given)
    assert (used[0].adversarial_every, used[0].warmup_share, used[0].adversarial_learning_rate) == (0, 0.5, 4e-3)


def test_the_game_is_compared_with_every_other_way_to_train_its_generator():
    siblings = resolve_method("gan:lora").siblings
    assert {
        "gan-plain:lora",
        "gan-oracle:lora",
        "gan-shuffled:lora",
        "rerank:lora",
        "self-training-greedy:lora",
    } <= set(siblings)
    assert "mle-stack" in resolve_method("gan-stack").siblings and "gan-plain" in resolve_method("gan").siblings
    assert not resolve_method("gan-plain:lora").siblings and not resolve_method("lora").siblings


# ---- True slot errors as the reward


def test_the_reward_is_minus_the_true_slot_errors():
    reward = SlotReward(RECORDS, "e2e")
    answers = ["n0 serves French food.", "n1 serves French food by the river.", "", "a pub"]
    assert reward(RECORDS[:4], answers, None) == [0.0, -2.0, -2.0, -3.0]
    assert SlotReward(RECORDS, "exact")(RECORDS[:2], answers[:2], None) == [0.0, -1.0]


def test_the_oracle_plays_the_game_without_a_discriminator(monkeypatch):
    rewards, step = [], LanguageGAN.generator_step
    monkeypatch.setattr(LanguageGAN, "generator_step", lambda self, *of: rewards.append(self.reward) or step(self, *of))
    _, rows = tune("gan-oracle:lora", slots="exact")
    assert {row["phase"] for row in rows} == {"likelihood", "adversarial"}
    assert all(isinstance(reward, SlotReward) and not reward.matcher.fields for reward in rewards) and rewards
    assert [row["reward"] for row in rows if row["phase"] == "adversarial"] == pytest.approx([-2, -2], abs=1)
    with pytest.raises(NotAvailable, match="expected records as questions"):
        tune("gan-oracle", [Pair("who?", "n1.")])


def test_the_oracle_counts_by_the_patterns_of_the_comparison():
    settings = parse(["--methods", "gan-oracle", "--slots", "exact"])
    assert settings.method_config("gan-oracle", seed=3).slots == "exact"
    assert not hasattr(settings.method_config("gan", seed=3), "slots")
    assert isinstance(settings.method_config("gan", seed=3), GameConfig)
