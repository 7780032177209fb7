"""Training as people know it: schedules and warm-up, early stopping on held-out pairs, optimisers by name."""

from __future__ import annotations

import math

import pytest
import torch
from gantune.trainer.optimizers import OPTIMIZERS, adamw, why_not
from gantune.trainer.schedules import SCHEDULES, learning_rate_schedule, warmup_steps
from torch import nn

from baselines import METHODS, NotAvailable, likelihood_training
from baselines.lora import LoraTuningConfig, tune_lora
from gantune.data import Pair
from gantune.errors import UserError
from gantune.policy.evaluation import answer_losses
from gantune.trainer.language_gan import LanguageGAN
from gantune.tuning import TuningConfig, encode_training_pairs, hold_out
from tests.killed_baselines import Remembering
from tests.tiny_models import TINY_MODELS
from tests.tiny_tokenizer import tiny_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False", "ignore:`is_gradient_checkpointing`")

PAIRS = [Pair(f"who is n{i}?", f"n{i} is {'old' if i % 2 else 'a cook'}.") for i in range(10)]
LIMITS = {
    "num_train_epochs": 6,
    "per_device_train_batch_size": 4,
    "max_prompt_length": 40,
    "max_completion_length": 16,
    "lora_learning_rate": 1e-2,
}


def rates(name, warmup, steps):
    """The learning rate of each step, at 1 in full."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule, found = learning_rate_schedule(optimizer, name, warmup, steps), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize(
    "name, warmup, expected",
    [
        ("linear", 0, [1, 0.75, 0.5, 0.25]),
        ("linear", 2, [0, 0.5, 1, 0.5]),
        ("constant", 0, [1, 1, 1, 1]),
        ("constant", 0.5, [0, 0.5, 1, 1]),
        ("cosine", 0, [(1 + math.cos(math.pi * step / 4)) / 2 for step in range(4)]),
        ("cosine", 2, [0, 0.5, 1, 0.5]),
    ],
)
def test_learning_rates_by_hand(name, warmup, expected):
    assert rates(name, warmup, 4) == pytest.approx(expected, abs=1e-9)


def test_every_schedule_runs_and_a_warmup_below_1_is_a_share():
    for name in SCHEDULES:
        assert rates(name, 0.25, 8)[:3] == pytest.approx([0, 0.5, 1])
    assert [warmup_steps(value, 30) for value in (0, 0.1, 0.11, 1, 7.0)] == [0, 3, 4, 1, 7]


def lora(pairs=PAIRS, observer=None, **options):
    model = TINY_MODELS["gpt2"]()
    torch.manual_seed(0)
    return tune_lora(model, tiny_tokenizer(), pairs, LoraTuningConfig(**LIMITS | options), observer)


def test_the_trainer_follows_the_schedule():
    """The one step of a warm-up's beginning has learning rate 0, so that LoRA's zero half stays zero."""
    options = {"num_train_epochs": 1, "per_device_train_batch_size": 10, "lr_scheduler_type": "constant"}
    for warmup, moved in ((3, False), (0, True)):
        tuned = lora(**options, warmup_steps=warmup).model
        halves = [p for name, p in tuned.named_parameters() if "lora_B" in name]
        assert halves and all(bool(half.abs().max() > 0) == moved for half in halves)


class Snapshots(Remembering):
    """Copies of the trained weights after each epoch."""

    def __init__(self):
        super().__init__()
        self.weights = {}

    def on_epoch(self, epoch, model):
        super().on_epoch(epoch, model)
        self.weights[epoch] = [p.detach().clone() for p in model.parameters() if p.requires_grad]


def test_early_stopping_keeps_the_best_weights(monkeypatch):
    losses = iter([3.0, 2.0, 2.5, 2.0, 1.0])
    monkeypatch.setattr(likelihood_training, "mean_loss", lambda *_: next(losses))
    observer = Snapshots()
    tuned = lora(observer=observer, early_stopping_patience=2, validation_share=0.2)
    assert observer.epochs == [1, 2, 3, 4]  # 2.0 again is no improvement
    assert [row.get("validation_loss") for row in observer.rows] == [None, 3.0, None, 2.0, None, 2.5, None, 2.0]
    kept = [p for p in tuned.model.parameters() if p.requires_grad]
    assert all(torch.equal(a, b) for a, b in zip(kept, observer.weights[2], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(kept, observer.weights[4], strict=True))


def test_the_validation_loss_is_that_of_the_pairs_which_are_not_trained_on(monkeypatch):
    trained = []
    inputs_of = likelihood_training.collate
    monkeypatch.setattr(likelihood_training, "collate", lambda rows, pad: trained.extend(rows) or inputs_of(rows, pad))
    observer = Snapshots()
    tuned = lora(observer=observer, num_train_epochs=2, early_stopping_patience=5, validation_share=0.3)
    encoded = encode_training_pairs(PAIRS, tuned.tokenizer, tuned.config)
    training, held_out = hold_out(encoded, 0.3, seed=0)
    assert len(held_out) == 3 and {row.pair for row in trained} == {row.pair for row in training}
    found = [row["validation_loss"] for row in observer.rows if "validation_loss" in row]
    losses = answer_losses(tuned.model, tuned.tokenizer, [row.pair for row in held_out], tuned.config)
    expected = sum(nats for nats, _ in losses) / sum(tokens for _, tokens in losses)
    assert len(found) == 2 and min(found) == pytest.approx(expected, rel=1e-5)  # the weights of the lowest were kept


def test_without_early_stopping_all_pairs_are_trained_on_and_nothing_is_validated():
    observer = Remembering()
    lora(observer=observer, num_train_epochs=1, batch_size=5)
    assert len(observer.rows) == 2 and all("validation_loss" not in row for row in observer.rows)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"early_stopping_patience": -1}, "--early-stopping-patience -1: expected at least 0"),
        ({"warmup_steps": -0.1}, "--warmup-steps -0.1: expected at least 0"),
        ({"lr_scheduler_type": "wavy"}, "--lr-scheduler-type wavy: expected one of linear, cosine"),
        ({"optimizer": "sgd"}, "--optimizer sgd: expected one of adamw, adamw-8bit, paged-adamw-8bit"),
        ({"validation_share": 1.5}, "--validation-share 1.5: expected between 0 and 1"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    for config_class in (TuningConfig, LoraTuningConfig, METHODS.get("gan").config_class):
        with pytest.raises(UserError, match=message):
            config_class(**options)


def test_early_stopping_with_nothing_held_out_is_refused():
    with pytest.raises(UserError, match=r"--early-stopping-patience: --validation-share 0\.04 holds no pair out"):
        lora(early_stopping_patience=1, validation_share=0.04)


def test_optimisers_of_8_bits_say_why_they_are_not_there(monkeypatch):
    for name in ("adamw-8bit", "paged-adamw-8bit"):
        with pytest.raises(NotAvailable, match=f"--optimizer {name} needs CUDA, the model is on cpu"):
            lora(optimizer=name)
        with pytest.raises(UserError, match=f"--optimizer {name} needs CUDA, the model is on cpu"):
            found = METHODS.get("self-play")
            found.tune(TINY_MODELS["gpt2"](), tiny_tokenizer(), PAIRS, found.config_class(optimizer=name))
        monkeypatch.setattr("importlib.util.find_spec", lambda package: None)
        assert why_not(name, torch.device("cuda")).endswith("needs the package bitsandbytes, which is not installed")
        monkeypatch.undo()
    assert why_not("adamw", torch.device("cpu")) is None
    assert likelihood_training.TRAINER_OPTIMIZERS.keys() == OPTIMIZERS.keys() - {"adamw"}


def test_adamw_is_torchs_without_decay():
    optimizer = adamw([nn.Parameter(torch.zeros(2))], 0.25)
    (group,) = optimizer.param_groups
    assert type(optimizer) is torch.optim.AdamW and (group["lr"], group["weight_decay"]) == (0.25, 0.0)


@pytest.mark.parametrize("warmup_share, epochs", [(1.0, 4), (0.5, 6)])
def test_language_gan_stops_early_too(warmup_share, epochs, monkeypatch):
    """Likelihood alone is validated from the first epoch on; with an adversarial part that begins after three epochs,
    what likelihood has come to (2.0) is the first to be beaten."""
    losses = iter([3.0, 2.0, 2.5, 2.0] if warmup_share == 1 else [2.0, 2.0, 1.5, 1.6, 1.7])
    monkeypatch.setattr(LanguageGAN, "_validation_loss", lambda *_: next(losses))
    found, observer = METHODS.get("gan"), Snapshots()
    config = found.config_class(
        num_train_epochs=9 if warmup_share == 1 else 6, batch_size=4, max_prompt_length=40, max_new_tokens=6,
        warmup_share=warmup_share, early_stopping_patience=2, validation_share=0.2, generator="lora", learning_rate=1e-2,
        discriminator_warmup_steps=1, num_generations=2,
    )  # fmt: skip
    tuned = found.tune(TINY_MODELS["gpt2"](), tiny_tokenizer(), PAIRS, config, observer)
    assert observer.epochs == list(range(1, epochs + 1))
    told = [row["validation_loss"] for row in observer.rows if "validation_loss" in row]
    assert told == ([3.0, 2.0, 2.5, 2.0] if warmup_share == 1 else [2.0, 1.5, 1.6, 1.7])
    kept = [p for p in tuned.model.parameters() if p.requires_grad]
    best = 2 if warmup_share == 1 else 4
    assert all(torch.equal(a, b) for a, b in zip(kept, observer.weights[best], strict=True))
