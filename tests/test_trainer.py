"""PairTrainer's own promises: what it takes, says, leaves as it was, and hands on to transformers."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig, PromptEncoderConfig
from safetensors import safe_open
from torch import nn
from transformers import PrinterCallback, TrainerCallback

from gantune.data import Pair
from gantune.errors import UserError
from gantune.trainer.arguments import PairConfig
from gantune.trainer.callbacks import Weights
from gantune.trainer.checkpoints import WEIGHTS_FILE, folders_of
from gantune.trainer.language_gan import LanguageGAN
from gantune.trainer.pair_trainer import PairTrainer
from tests.test_language_gan import PAIRS, QUIET, batch_of, build
from tests.tiny_models import TINY_MODELS
from tests.tiny_tokenizer import tiny_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")

SHORT = {"max_steps": 2, "per_device_train_batch_size": 3, "max_completion_length": 12, "learning_rate": 1e-2}
LORA = LoraConfig(task_type="CAUSAL_LM", r=2, lora_dropout=0.5)


def trainer(model=None, pairs=PAIRS, held_out=None, peft_config=None, callbacks=(), **settings) -> PairTrainer:
    args, model = PairConfig(**QUIET | SHORT | settings), model or TINY_MODELS["gpt2"]()
    made = PairTrainer(model, args, pairs, held_out, tiny_tokenizer(), peft_config=peft_config, callbacks=callbacks)
    made.remove_callback(PrinterCallback)
    return made


def test_it_says_what_it_trains_and_how_far_it_is(capsys):
    lora = trainer(peft_config=LORA)
    trained = sum(p.numel() for p in lora.model.parameters() if p.requires_grad)
    every = sum(p.numel() for p in lora.model.parameters())
    assert repr(lora) == f"PairTrainer(PeftModelForCausalLM: {trained:,} trainable parameters, " + (
        f"{trained / every:.2%}; 0 steps done)"
    )
    lora.print_trainable_parameters()
    lora.model.print_trainable_parameters()
    ours, pefts = capsys.readouterr().out.splitlines()
    assert ours == pefts
    lora.train()
    assert f"; 2 steps done, last loss {lora.state.log_history[1]['loss']:.3f})" in repr(lora)
    assert repr(build()).startswith("LanguageGAN(")


def test_model_and_tokenizer_may_be_names():
    short = {"max_steps": 1, "per_device_train_batch_size": 2, "max_completion_length": 4}
    by_name = PairTrainer("mini", PairConfig(**QUIET | short), PAIRS, processing_class="mini", peft_config="lora")
    alone = PairTrainer("mini", PairConfig(**QUIET | short), PAIRS, peft_config="lora")
    assert by_name.tokenizer.get_vocab() == alone.tokenizer.get_vocab()
    assert "mini" in repr(alone)
    losses = [each.train().training_loss for each in (by_name, alone)]
    assert losses[0] == losses[1] > 0


@pytest.mark.parametrize("pairs", [3, [], "", [1], [{"question": "who?"}]])
def test_a_data_set_that_is_none_is_one_line(pairs):
    with pytest.raises(UserError) as caught:
        trainer(pairs=pairs).train()
    assert "\n" not in str(caught.value)


def test_nothing_to_train_or_to_evaluate_on_is_one_line():
    frozen = TINY_MODELS["gpt2"]().requires_grad_(False)
    with pytest.raises(UserError, match=r"^nothing to train: all of the model is frozen, expected peft_config$"):
        trainer(frozen).train()
    with pytest.raises(UserError, match=r"^no pair to train on: expected train_dataset$"):
        trainer(pairs=None).train()
    with pytest.raises(UserError, match=r"^nothing to evaluate on: expected eval_dataset, or --validation-share"):
        trainer().evaluate()


def test_sequences_longer_than_the_positions_of_the_model_are_refused():
    """64 of them: for a prompt and its true answer, or in the game the longest answer that may be sampled."""
    refused = r"^a prompt of 22 tokens and an answer of up to 43: the model has 64 positions"
    longest = trainer(pairs=[Pair("who?", "a" * 40)], max_completion_length=60).train_dataset[0]
    assert (len(longest.prompt_ids), len(longest.answer_ids)) == (22, 42)
    with pytest.raises(UserError, match=refused):
        trainer(pairs=[Pair("who?", "a" * 41)], max_completion_length=60)
    build(train_dataset=[Pair("who?", "a")], max_completion_length=42)
    with pytest.raises(UserError, match=refused):
        build(train_dataset=[Pair("who?", "a")], max_completion_length=43)


def test_the_best_weights_on_eval_dataset_are_put_back():
    made = trainer(
        held_out=PAIRS[:2], max_steps=-1, num_train_epochs=4, learning_rate=0.3, lr_scheduler_type="constant"
    )
    made.train()
    losses = [row["eval_loss"] for row in made.state.log_history if "eval_loss" in row]
    assert len(made.train_dataset) == len(PAIRS) and len(made.eval_dataset) == 2
    assert losses and made.evaluate()["eval_loss"] == pytest.approx(min(losses), rel=1e-5)


def test_other_pairs_than_those_held_out_choose_nothing():
    class Look(TrainerCallback):
        """At the training pairs, too, while it trains: their loss is the lower one."""

        def on_epoch_end(self, args, state, control, **_):
            made.evaluate(PAIRS)

    held_out, kept = [Pair("what is zed?", "no fox, but a cat")], []
    for callbacks in ([], [Look()]):
        made = trainer(held_out=held_out, callbacks=callbacks, max_steps=-1, num_train_epochs=4)
        made.train()
        kept.append((made.best.best[0], made.best.measure(), made.evaluate()["eval_loss"]))
    assert kept[0] == kept[1]


def test_held_out_answers_are_scored_in_the_precision_of_training():
    losses = [trainer(held_out=PAIRS, peft_config=LORA, bf16=bf16).evaluate()["eval_loss"] for bf16 in (False, True)]
    assert losses[0] != losses[1] and losses[1] == pytest.approx(losses[0], rel=0.02)


def test_a_second_training_begins_anew(tmp_path):
    """Of an object that was gone on with in the midst of a row of the log, too."""

    class Interrupt(TrainerCallback):
        def on_step_begin(self, args, state, control, **_):
            cut.interrupts.asked |= state.global_step == 0 and not folders_of(tmp_path)

    def second(made):
        tokens = made.limits.tokens
        made.train()
        assert made.limits.tokens == tokens > 0
        logged = [{name: row.get(name) for name in ("step", "loss", "tokens")} for row in made.state.log_history]
        return logged, weights.trajectory.trajectory().epochs.tolist()

    rows, kept = {"max_steps": 4, "logging_steps": 2}, {"save_strategy": "steps", "output_dir": str(tmp_path)}
    weights = Weights(tmp_path / "weights.npz")
    whole = trainer(peft_config=LORA, callbacks=[weights], **rows)
    whole.train()
    expected = second(whole)
    weights = Weights(tmp_path / "weights.npz")
    cut = trainer(peft_config=LORA, callbacks=[weights, Interrupt()], **rows, **kept)
    with pytest.raises(KeyboardInterrupt):
        cut.train()
    cut.train(resume_from_checkpoint=True)
    assert second(cut) == expected


def test_transformers_own_choice_of_the_best_checkpoint_works_too(tmp_path):
    own = {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps",
           "save_steps": 1, "output_dir": str(tmp_path)}  # fmt: skip
    made = trainer(held_out=PAIRS[:2], max_steps=6, learning_rate=0.3, lr_scheduler_type="constant", **own)
    made.train()
    losses = {row["step"]: row["eval_loss"] for row in made.state.log_history if "eval_loss" in row}
    assert set(losses) == {1, 2, 3, 4, 5, 6}
    best = min(losses, key=losses.get)
    assert made.state.best_model_checkpoint == str(tmp_path / f"checkpoint-{best}")
    assert made.evaluate()["eval_loss"] == pytest.approx(losses[best], rel=1e-5)


def with_dropout(share=0.5):
    """A tiny model whose own dropout would be seen."""
    model = TINY_MODELS["gpt2"]()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = share
    return model


def losses_of(made: PairTrainer) -> list[float]:
    """Of one batch, twice, as training computes it."""
    rows = made.train_dataset[:3]
    if isinstance(made, LanguageGAN):
        made.sampler.noise = lambda size: None
        return [made.likelihood_step(batch_of(made))["loss"] for _ in range(2)]
    with torch.no_grad():
        return [made.compute_loss(made.model, made.collate(rows)).item() for _ in range(2)]


def gan_with_dropout(**settings) -> LanguageGAN:
    gan = build(**settings)
    for module in gan.model.get_base_model().modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5
    return gan


@pytest.mark.parametrize(
    "make",
    [
        lambda **more: trainer(with_dropout(), **more),
        lambda **more: trainer(with_dropout(), peft_config=LoraConfig(task_type="CAUSAL_LM", r=2), **more),
        gan_with_dropout,
    ],
    ids=["full", "lora", "gan"],
)
def test_the_base_model_has_dropout_only_if_it_is_asked_for(make):
    first, second = losses_of(make())
    assert first == second
    first, second = losses_of(make(disable_dropout=False))
    assert first != second


def test_an_adapter_keeps_its_dropout():
    made = trainer(peft_config=LORA)
    with torch.no_grad():
        for parameter in made.parameters:
            parameter.add_(0.1)
    first, second = losses_of(made)
    assert first != second
    made.model.eval()
    before = made.evaluate(PAIRS)
    assert made.evaluate(PAIRS) == before, "judged without it"


def settings_of(model) -> list[dict]:
    return [copy.deepcopy(held.to_dict()) for held in (model.config, model.generation_config)]


@pytest.mark.parametrize("peft_config", [None, LORA], ids=["full", "lora"])
def test_the_base_models_settings_are_as_before(peft_config):
    model = TINY_MODELS["gpt2"]()
    model.config.use_cache, model.generation_config.eos_token_id = True, [1, 2]
    before = settings_of(model)
    made = trainer(model, peft_config=peft_config)
    assert settings_of(model) == before
    made.train()
    assert settings_of(model) == before
    assert not made.model.training


P_TUNING = PromptEncoderConfig(task_type="CAUSAL_LM", num_virtual_tokens=3, encoder_hidden_size=8)


@pytest.mark.parametrize("peft_config", [None, LORA, P_TUNING], ids=["full", "lora", "p-tuning"])
def test_every_trained_parameter_is_in_a_checkpoint(tmp_path, peft_config):
    made = trainer(peft_config=peft_config, output_dir=str(tmp_path), save_strategy="steps", save_steps=1)
    made.train()
    trained = {name: p for name, p in made.model.named_parameters() if p.requires_grad}
    assert any("prompt_encoder" in name and "mlp" in name for name in trained) == (peft_config is P_TUNING)
    with safe_open(tmp_path / "checkpoint-2" / WEIGHTS_FILE, "pt") as saved:
        assert set(saved.keys()) == set(trained)
        assert all(torch.equal(saved.get_tensor(name), parameter) for name, parameter in trained.items())


class Told(TrainerCallback):
    """What it was told, and how often it was told it before: saved with a checkpoint."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def on_train_begin(self, args, state, control, **_) -> None:
        self.events.append("begin")

    def on_step_end(self, args, state, control, **_) -> None:
        self.events.append(f"step {state.global_step}")

    def on_epoch_end(self, args, state, control, **_) -> None:
        self.events.append(f"epoch {state.epoch:g}")

    def on_train_end(self, args, state, control, **_) -> None:
        self.events.append("end")

    def state_dict(self) -> dict:
        return {"events": self.events}

    def load_state_dict(self, state: dict) -> None:
        self.events = [*state["events"], "again"]


def test_callbacks_are_told_and_go_on_with_a_checkpoint(tmp_path):
    saved = {"output_dir": str(tmp_path), "save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    told = Told()
    trainer(callbacks=[told], **saved).train()
    assert told.events == ["begin", "step 1", "step 2", "epoch 1", "step 3", "step 4", "epoch 2", "end"]
    again = Told()
    trainer(callbacks=[again], **saved).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert [event for event in again.events if event.startswith("step")] == ["step 1", "step 2", "step 3", "step 4"]
    assert "again" in again.events


def test_defaults_that_are_not_transformers_own():
    args = PairConfig(use_cpu=True)
    assert (args.seed, args.logging_nan_inf_filter, args.report_to) == (0, False, [])
    assert args.disable_dropout and not args.remove_unused_columns and args.save_total_limit == 2


@pytest.mark.parametrize(
    ("name", "told"),
    [("wandb", "cannot be used here: .*wandb"), ("paper", "expected none, all, or one of .*tensorboard")],
)
def test_a_tracker_that_cannot_be_had_is_refused_in_one_line(name, told, monkeypatch):
    monkeypatch.setattr("transformers.integrations.integration_utils.is_wandb_available", lambda: False)
    for names in (name, [name]):
        with pytest.raises(UserError, match=f"^--report-to {name}: {told}") as caught:
            PairConfig(use_cpu=True, report_to=names)
        assert "\n" not in str(caught.value)
