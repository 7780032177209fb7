"""Training as people know it: schedules and warm-up, early stopping on held-out pairs, optimisers by name."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import TrainerCallback
from transformers.training_args import OptimizerNames

from baselines import METHODS, NotAvailable
from baselines.lora import LoraTuningConfig, tune_lora
from gantune.data import Pair, RecordQuestion
from gantune.errors import UserError
from gantune.policy.evaluation import answer_losses
from gantune.trainer import arguments, pair_trainer
from gantune.trainer import held_out as held_out_metrics
from gantune.trainer.arguments import LanguageGANConfig, PairConfig, training_arguments
from gantune.trainer.callbacks import epoch_ends
from gantune.trainer.pair_trainer import PairTrainer
from gantune.tuning import SCHEDULES, TuningConfig, encode_training_pairs, hold_out
from tests.test_language_gan import QUIET, trained
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


class Rates(TrainerCallback):
    """The learning rate of each step."""

    def __init__(self):
        self.found = []

    def on_pre_optimizer_step(self, args, state, control, optimizer, **_):
        self.found.append(optimizer.param_groups[0]["lr"])


def rates(name, warmup, steps):
    """The learning rate of each step, at 1e-6 in full, as multiples of that; and what the log says of it."""
    schedule = {"lr_scheduler_type": name, "warmup_steps": warmup, "max_steps": steps, "learning_rate": 1e-6}
    args, seen = PairConfig(**QUIET | schedule | {"per_device_train_batch_size": 1}), Rates()
    trainer = PairTrainer(TINY_MODELS["gpt2"](), args, PAIRS, processing_class=tiny_tokenizer(), callbacks=[seen])
    assert [row["learning_rate"] for row in trained(trainer)] == seen.found
    return [1e6 * rate for rate in seen.found]


@pytest.mark.parametrize(
    "name, warmup, expected",
    [
        ("linear", 0, [1, 0.75, 0.5, 0.25]),
        ("linear", 2, [0, 0.5, 1, 0.5]),
        ("constant", 0, [1, 1, 1, 1]),
        ("constant_with_warmup", 0.5, [0, 0.5, 1, 1]),
        ("cosine", 0, [(1 + math.cos(math.pi * step / 4)) / 2 for step in range(4)]),
        ("cosine", 2, [0, 0.5, 1, 0.5]),
    ],
)
def test_learning_rates_by_hand(name, warmup, expected):
    assert rates(name, warmup, 4) == pytest.approx(expected, abs=1e-9)


def test_every_schedule_runs_and_a_warmup_below_1_is_a_share():
    for name in SCHEDULES:
        warmup = 0 if name == "constant" else 0.25
        assert rates(name, warmup, 8)[:3] == pytest.approx([1, 1, 1] if name == "constant" else [0, 0.5, 1])
    numbers = [PairConfig(**QUIET, warmup_steps=value).get_warmup_steps(30) for value in (0, 0.1, 0.11, 1, 7.0)]
    assert numbers == [0, 3, 4, 1, 7]


def test_a_constant_rate_has_no_warmup():
    with pytest.raises(UserError, match=r"--warmup-steps 0\.5: expected --lr-scheduler-type constant_with_warmup"):
        TuningConfig(lr_scheduler_type="constant", warmup_steps=0.5)


def lora(pairs=PAIRS, callback=None, **options):
    model = TINY_MODELS["gpt2"]()
    torch.manual_seed(0)
    callbacks = [callback] if callback else []
    return tune_lora(model, tiny_tokenizer(), pairs, LoraTuningConfig(**LIMITS | options), callbacks)


def test_the_trainer_follows_the_schedule():
    """The one step of a warm-up's beginning has learning rate 0, so that LoRA's zero half stays zero."""
    options = {"num_train_epochs": 1, "per_device_train_batch_size": 10, "lr_scheduler_type": "constant_with_warmup"}
    for warmup, moved in ((3, False), (0, True)):
        tuned = lora(**options, warmup_steps=warmup).model
        halves = [p for name, p in tuned.named_parameters() if "lora_B" in name]
        assert halves and all(bool(half.abs().max() > 0) == moved for half in halves)


class Snapshots(TrainerCallback):
    """Rows of the log, and copies of the trained weights after each epoch."""

    def __init__(self):
        self.rows, self.weights = [], {}

    def on_log(self, args, state, control, logs, **_):
        self.rows.append(dict(logs))

    def on_step_end(self, args, state, control, model, **_):
        if epoch_ends(state, control):
            self.weights[state.epoch] = [p.detach().clone() for p in model.parameters() if p.requires_grad]

    def losses(self):
        """Of the held-out pairs."""
        return [row["eval_loss"] for row in self.rows if "eval_loss" in row]


def test_early_stopping_keeps_the_best_weights(monkeypatch):
    losses = iter([3.0, 2.0, 2.5, 2.0, 1.0])
    monkeypatch.setattr(pair_trainer, "mean_loss", lambda *_: next(losses))
    seen = Snapshots()
    tuned = lora(callback=seen, early_stopping_patience=2, validation_share=0.2)
    assert [*seen.weights] == [1, 2, 3, 4]  # 2.0 again is no improvement
    kinds = ["eval_loss" in row for row in seen.rows if "eval_loss" in row or "loss" in row]
    assert seen.losses() == [3.0, 2.0, 2.5, 2.0] and kinds == 4 * [False, False, True]
    kept = [p for p in tuned.model.parameters() if p.requires_grad]
    assert all(torch.equal(a, b) for a, b in zip(kept, seen.weights[2], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(kept, seen.weights[4], strict=True))


@pytest.mark.parametrize("metric, best", [("rougeL", 3), ("slot_error_rate", 2)])
def test_the_weights_are_chosen_by_the_metric_that_is_asked_for(metric, best, monkeypatch):
    """Of ROUGE-L the highest value counts, of slot errors the lowest, whatever the loss does."""
    coming, asked = iter([0.5, 0.4, 0.6, 0.6, 0.6]), []
    monkeypatch.setitem(held_out_metrics.OF_ANSWERS, metric, lambda pairs, texts: asked.append(pairs) or next(coming))
    monkeypatch.setattr(pair_trainer, "check_metric", lambda *_: None)
    seen = Snapshots()
    changes = {"early_stopping_patience": 2, "validation_share": 0.2, "metric_for_best_model": metric}
    tuned = lora(callback=seen, **changes)
    assert len(seen.weights) == best + 2 and all(len(pairs) == 2 for pairs in asked)
    kept = [p for p in tuned.model.parameters() if p.requires_grad]
    assert all(torch.equal(a, b) for a, b in zip(kept, seen.weights[best], strict=True))


def test_metrics_of_held_out_answers():
    record = RecordQuestion((("name", "Ann"), ("city", "Rome")))
    pairs = [Pair(record, "Ann lives in Rome."), Pair(record, "Rome is where Ann lives.")]
    said = ["Ann lives in Rome.", "Somebody lives in Rome."]
    assert held_out_metrics.slot_error_rate(pairs, said) == 1 / 4
    assert held_out_metrics.rouge_l(pairs, said) == pytest.approx((1 + 2 * (1 / 4) * (1 / 5) / (1 / 4 + 1 / 5)) / 2)
    with pytest.raises(UserError, match="slot_error_rate: the held-out questions are not all records, expected loss"):
        held_out_metrics.check_metric("slot_error_rate", [*pairs, Pair("Who?", "Ann.")])
    with pytest.raises(UserError, match="not all records"):
        lora(early_stopping_patience=2, validation_share=0.2, metric_for_best_model="slot_error_rate")
    with pytest.raises(UserError, match="--metric-for-best-model"):
        lora(metric_for_best_model="bleu")


def test_the_validation_loss_is_that_of_the_pairs_which_are_not_trained_on(monkeypatch):
    trained = []
    inputs_of = pair_trainer.collate
    monkeypatch.setattr(pair_trainer, "collate", lambda rows, pad: trained.extend(rows) or inputs_of(rows, pad))
    seen = Snapshots()
    tuned = lora(callback=seen, num_train_epochs=2, early_stopping_patience=5, validation_share=0.3)
    encoded = encode_training_pairs(PAIRS, tuned.tokenizer, tuned.config)
    training, held_out = hold_out(encoded, 0.3, seed=0)
    assert len(held_out) == 3 and {row.pair for row in trained} == {row.pair for row in training}
    losses = answer_losses(tuned.model, tuned.tokenizer, [row.pair for row in held_out], tuned.config)
    expected = sum(nats for nats, _ in losses) / sum(tokens for _, tokens in losses)
    found = seen.losses()
    assert len(found) == 2 and min(found) == pytest.approx(expected, rel=1e-5)  # the weights of the lowest were kept


def test_without_early_stopping_all_pairs_are_trained_on_and_nothing_is_validated():
    seen = Snapshots()
    lora(callback=seen, num_train_epochs=1, per_device_train_batch_size=5)
    assert sum("loss" in row for row in seen.rows) == 2 and not seen.losses()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"early_stopping_patience": -1}, "--early-stopping-patience -1: expected at least 0"),
        ({"warmup_steps": -0.1}, "--warmup-steps -0.1: expected at least 0"),
        ({"validation_share": 1.5}, "--validation-share 1.5: expected between 0 and 1"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    for config_class in (TuningConfig, LoraTuningConfig, METHODS.get("gan").config_class, PairConfig):
        with pytest.raises(UserError, match=message):
            config_class(**options)


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"lr_scheduler_type": "wavy"},
            r"^wavy is not a valid SchedulerType, please select one of \['linear', 'cosine'",
        ),
        ({"optim": "steepest"}, r"^steepest is not a valid OptimizerNames, please select one of \['adamw_torch'"),
    ],
)
def test_names_that_transformers_does_not_know_are_refused_in_one_line(options, message):
    for config_class in (TuningConfig, LoraTuningConfig, METHODS.get("gan").config_class):
        with pytest.raises(UserError, match=message) as caught:
            training_arguments(config_class(**options))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"gradient_accumulation_steps": 2},
            r"^--gradient-accumulation-steps 2: expected the pairs of a whole step",
        ),
        ({"fsdp": "full_shard"}, r"^--fsdp: the frozen model is divided when it is loaded.* --sharding fsdp$"),
        ({"deepspeed": "zero3.json"}, r"^--deepspeed: the frozen model is divided .* --sharding deepspeed$"),
        ({"auto_find_batch_size": True}, r"^--auto-find-batch-size: not needed"),
        ({"neftune_noise_alpha": 5.0}, r"^--neftune-noise-alpha: has no effect here, expected it left out$"),
        ({"dataloader_drop_last": True}, r"^--dataloader-drop-last: has no effect here"),
    ],
)
@pytest.mark.parametrize("config_class", [PairConfig, LanguageGANConfig])
def test_what_the_trainers_do_in_another_way_is_refused(config_class, options, message):
    with pytest.raises(UserError, match=message) as caught:
        config_class(**options)
    assert "\n" not in str(caught.value)


def test_label_smoothing_is_of_transformers_own_loss():
    with pytest.raises(UserError, match=r"^--label-smoothing-factor: has no effect here"):
        LanguageGANConfig(label_smoothing_factor=0.1)
    assert PairConfig(label_smoothing_factor=0.1).label_smoothing_factor == 0.1


@pytest.mark.parametrize("share", [0.0, 0.04])
def test_early_stopping_with_nothing_held_out_is_refused(share):
    refused = rf"^--early-stopping-patience 1: --validation-share {share} holds no pair out, expected more$"
    with pytest.raises(UserError, match=refused):
        lora(early_stopping_patience=1, validation_share=share)


def test_early_stopping_takes_pairs_that_are_held_out_by_hand():
    args = PairConfig(**QUIET, early_stopping_patience=1, num_train_epochs=9, learning_rate=3.0)
    made = PairTrainer(TINY_MODELS["gpt2"](), args, PAIRS[2:], PAIRS[:2], tiny_tokenizer(), peft_config="lora")
    made.train()
    assert made.state.epoch < 9


def test_optimisers_of_8_bits_say_why_they_are_not_there(monkeypatch):
    for name in ("adamw_bnb_8bit", "paged_adamw_8bit"):
        needed = f"--optim {name} needs CUDA, the model is to be trained on the CPU"
        with pytest.raises(NotAvailable, match=needed):
            lora(optim=name)
        with pytest.raises(NotAvailable, match=needed):
            found = METHODS.get("self-play")
            found.tune(TINY_MODELS["gpt2"](), tiny_tokenizer(), PAIRS, found.config_class(optim=name))
        monkeypatch.setattr(arguments.TrainingArguments, "__post_init__", lambda self: None)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(arguments, "is_bitsandbytes_available", lambda: False)
        package = f"--optim {name} needs the package bitsandbytes, which is not installed"
        with pytest.raises(NotAvailable, match=package):
            PairConfig(optim=OptimizerNames(name), report_to=[])
        monkeypatch.undo()


def test_adamw_is_torchs_without_decay():
    args = PairConfig(**QUIET, learning_rate=0.25)
    optimizer = PairTrainer(TINY_MODELS["gpt2"](), args, PAIRS, processing_class=tiny_tokenizer()).create_optimizer()
    assert type(optimizer) is torch.optim.AdamW and optimizer.defaults["fused"]
    assert {(group["lr"], group["weight_decay"]) for group in optimizer.param_groups} == {(0.25, 0.0)}


@pytest.mark.parametrize(
    "warmup_share, losses, epochs, best",
    [(1.0, [3.0, 2.0, 2.5, 2.0], 4, 2), (0.5, [2.0, 1.5, 1.6, 1.7], 6, 4), (0.5, [1.0, 1.5, 1.6], 5, 3)],
)
def test_language_gan_stops_early_too(warmup_share, losses, epochs, best, monkeypatch):
    """Likelihood alone is validated from the first epoch on; with an adversarial part that begins after three epochs,
    what likelihood has come to (2.0) is the first to be beaten, and what is kept if nothing beats it (1.0)."""
    coming = iter(losses)
    monkeypatch.setattr(pair_trainer, "mean_loss", lambda *_: next(coming))
    found, seen = METHODS.get("gan"), Snapshots()
    config = found.config_class(
        num_train_epochs=9 if warmup_share == 1 else 6, per_device_train_batch_size=4, max_prompt_length=40,
        max_completion_length=6, warmup_share=warmup_share, early_stopping_patience=2, validation_share=0.2,
        generator="lora", learning_rate=1e-2, discriminator_warmup_steps=1, num_generations=2,
    )  # fmt: skip
    tuned = found.tune(TINY_MODELS["gpt2"](), tiny_tokenizer(), PAIRS, config, [seen])
    assert [*seen.weights] == list(range(1, epochs + 1))
    assert seen.losses() == losses
    kept = [p for p in tuned.model.parameters() if p.requires_grad]
    assert all(torch.equal(a, b) for a, b in zip(kept, seen.weights[best], strict=True))
