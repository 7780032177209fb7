"""The baselines: what they train on, and that they leave the frozen model alone."""

from __future__ import annotations

import hashlib
import math

import pytest
import torch
from transformers import TrainerCallback

from baselines import METHODS
from baselines.lora import LoraTuningConfig, tune_lora
from gantune.data import Pair, batches, encode_pairs
from gantune.trainer.callbacks import rows_of
from gantune.trainer.config import GameConfig
from gantune.trainer.pair_trainer import PairTrainer
from gantune.trainer.policy_trainer import PolicyTrainer
from gantune.tuning import TuningConfig
from tests.tiny_models import TINY_MODELS
from tests.tiny_tokenizer import tiny_tokenizer

PAIRS = [Pair(f"who is n{i}?", f"n{i} is {'old' if i % 2 else 'a cook'}.") for i in range(10)]
LIMITS = {"num_train_epochs": 3, "per_device_train_batch_size": 4, "max_prompt_length": 40, "max_completion_length": 16}


class Spy(TrainerCallback):
    """Keeps what a callback is told."""

    def __init__(self):
        self.epochs, self.state = [], None

    @property
    def steps(self):
        return rows_of(self.state)

    def on_train_begin(self, args, state, control, **_):
        self.state = state

    def on_epoch_end(self, args, state, control, **_):
        self.epochs.append(state.epoch)


def test_lora_learns_and_leaves_the_base_alone():
    model, spy = TINY_MODELS["gpt2"](), Spy()
    base = {name: hashlib.sha256(p.detach().numpy().tobytes()).hexdigest() for name, p in model.named_parameters()}
    config = LoraTuningConfig(**LIMITS, lora_learning_rate=2e-2)
    tuned = tune_lora(model, tiny_tokenizer(), PAIRS, config, [spy]).model
    after = {
        name.removeprefix("base_model.model.").replace(".base_layer", ""): hashlib.sha256(
            p.detach().numpy()
        ).hexdigest()
        for name, p in tuned.named_parameters()
        if "lora" not in name
    }
    assert after == base
    assert spy.state.max_steps == len(spy.steps) == 9 and spy.epochs == [1, 2, 3]
    assert [math.ceil(row["epoch"]) for row in spy.steps] == [1] * 3 + [2] * 3 + [3] * 3
    assert spy.steps[-1]["loss"] < spy.steps[0]["loss"]


@pytest.mark.parametrize("order", ["random", "group_by_length"])
def test_lora_and_language_gan_see_the_same_batches_in_the_same_order(order, monkeypatch):
    seen = []
    for trainer in (PairTrainer, PolicyTrainer):
        collated = trainer.collate
        monkeypatch.setattr(
            trainer, "collate", lambda self, rows, collated=collated: seen.append(rows) or collated(self, rows)
        )
    for name in ("lora", "mle"):
        found = METHODS.get(name)
        config = found.config_class(**LIMITS, seed=5, train_sampling_strategy=order)
        found.tune(TINY_MODELS["gpt2"](), tiny_tokenizer(), PAIRS, config)
    encoded, _ = encode_pairs(PAIRS, tiny_tokenizer(), "plain", 40, 16, "truncate")
    grouped = order == "group_by_length"
    expected = [batch.pairs for epoch in (1, 2, 3) for batch in batches(encoded, 4, 0, 5, epoch, grouped)]
    assert [tuple(row.pair for row in rows) for rows in seen] == expected * 2 and len(expected) == 9


def test_lora_takes_its_first_loss_over_answer_tokens_only():
    model, tokenizer, spy = TINY_MODELS["gpt2"](), tiny_tokenizer(), Spy()
    encoded, _ = encode_pairs(PAIRS, tokenizer, "plain", 40, 16, "truncate")
    batch = next(batches(encoded, 4, tokenizer.pad_token_id, 0, 1))
    log_probs = model(
        batch.input_ids(), attention_mask=batch.attention_mask(), position_ids=batch.position_ids()
    ).logits
    log_probs = log_probs.log_softmax(-1)[:, batch.prompt_ids.shape[1] - 1 : -1]
    chosen = log_probs.gather(2, batch.answer_ids[..., None]).squeeze(2)
    expected = -(chosen * batch.answer_mask).sum() / batch.answer_mask.sum()
    tune_lora(model, tokenizer, PAIRS, LoraTuningConfig(**LIMITS), [spy])
    assert spy.steps[0]["loss"] == pytest.approx(expected.item(), abs=1e-3)


def test_a_lora_run_that_diverges_says_so():
    model = TINY_MODELS["gpt2"]()
    with torch.no_grad():
        model.transformer.ln_f.weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="likelihood loss is nan"):
        tune_lora(model, tiny_tokenizer(), PAIRS, LoraTuningConfig(**LIMITS))


def test_trivial_rows():
    config = TuningConfig(seed=3)
    copy, draw = METHODS.get("copy-question"), METHODS.get("random-answer")
    assert not copy.needs_model and not draw.needs_model
    assert copy.tune(None, None, PAIRS, config).answer(["a?", "b?"]) == ["a?", "b?"]
    answers = draw.tune(None, None, PAIRS, config).answer(["a?"] * 50)
    assert answers == draw.tune(None, None, PAIRS, config).answer(["a?"] * 50)
    assert set(answers) <= {pair.answer for pair in PAIRS} and len(set(answers)) > 3
    assert draw.tune(None, None, PAIRS, config).losses(PAIRS) is None


def test_mle_is_gan_without_its_adversarial_steps():
    spy = Spy()
    config = GameConfig(**LIMITS, warmup_share=0.1, validation_share=0.0)
    METHODS.get("mle").tune(TINY_MODELS["gpt2"](), tiny_tokenizer(), PAIRS, config, [spy])
    assert {row["phase"] for row in spy.steps} == {"likelihood"} and len(spy.steps) == spy.state.max_steps == 9


@pytest.mark.parametrize(
    "settings", [{"micro_batch_size": 2}, {"micro_batch_size": 3}, {"gradient_checkpointing": True}]
)
def test_less_memory_leaves_the_losses_as_they_are(settings):
    runs = []
    for changed in ({}, settings):
        model, spy = TINY_MODELS["gpt2"](), Spy()
        tune_lora(model, tiny_tokenizer(), PAIRS[:8], LoraTuningConfig(**LIMITS, **changed), [spy])
        runs.append([row["loss"] for row in spy.steps])
    assert runs[1][0] == pytest.approx(runs[0][0], rel=1e-6), "the mean over the batch's tokens, not a mean of means"
    assert runs[1] == pytest.approx(runs[0], rel=5e-3) and len(runs[0]) == 6
