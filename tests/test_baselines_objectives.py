"""Objectives and generators, each with each: which cells there are, what they train, and self-play's mathematics."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace

import pytest
import torch
from transformers import TrainerCallback

from baselines import METHODS, Diverged, gan, resolve_method
from baselines.self_play import SelfPlayConfig
from gantune.data import Pair, batches, collate
from gantune.embedding_generator import load_stack
from gantune.errors import UserError
from gantune.policy import CausalLMPolicy
from gantune.seqgan import ShuffledReward
from gantune.trainer.arguments import LanguageGANConfig
from gantune.trainer.callbacks import rows_of
from gantune.trainer.config import GameConfig
from gantune.trainer.language_gan import LanguageGAN
from gantune.trainer.policy_trainer import PolicyTrainer
from gantune.trainer.self_play import SelfPlay, preference_loss
from gantune.trainer.self_training import SelfTraining
from gantune.trainer.unpaired import Unpaired
from gantune.tuning import encode_training_pairs
from tests.tiny_models import TINY_MODELS
from tests.tiny_tokenizer import tiny_tokenizer

pytestmark = pytest.mark.filterwarnings(
    "ignore:fan_in_fan_out is set to False", "ignore:Could not find a config file", "ignore:`is_gradient_checkpointing`"
)

PROMPTS = ("prefix", "prompt", "p-tuning")
PAIRS = [Pair(f"who is n{i}?", f"n{i} is {'old' if i % 2 else 'new'}.") for i in range(8)]
LIMITS = {
    "num_train_epochs": 2,
    "per_device_train_batch_size": 4,
    "max_prompt_length": 32,
    "max_completion_length": 12,
    "validation_share": 0.0,
}


def tune(name, **options):
    found, seen, callback = resolve_method(name), [], TrainerCallback()
    callback.on_train_begin = lambda args, state, control, **_: seen.append(state)
    options = {"learning_rate": 1e-2, "warmup_share": 0.5, "discriminator_warmup_steps": 1, "num_generations": 2,
               "adversarial_every": 1} | LIMITS | options  # fmt: skip
    torch.manual_seed(0)
    tuned = found.tune(TINY_MODELS["gpt2"](), tiny_tokenizer(), PAIRS, found.config_class(**options), [callback])
    return tuned, rows_of(seen[0])


def build(trainer, directory, peft_config=None, **settings):
    """A trainer of a tiny model."""
    more = {
        "SelfTraining": {"unpaired": Unpaired([f"who is m{i}?" for i in range(5)], ["m1 is new."]), "share": 0.0,
                         "decoding": "greedy"},
        "SelfPlay": {"scale": settings.pop("scale", 0.1)},
    }.get(trainer.__name__, {})  # fmt: skip
    if trainer is SelfTraining:
        settings |= {"warmup_share": 1.0, "blind_discriminator": True, "unpaired_likelihood_weight": 1.0}
    config = LanguageGANConfig(output_dir=directory, use_cpu=True, save_strategy="no", logging_steps=1,
                               disable_tqdm=True, **LIMITS | settings)  # fmt: skip
    return trainer(
        TINY_MODELS["gpt2"](), config, PAIRS, processing_class=tiny_tokenizer(), peft_config=peft_config, **more
    )


def batch_of(trainer, rows):
    encoded = encode_training_pairs(PAIRS[:rows], trainer.tokenizer, trainer.args)
    return collate(encoded, trainer.pad_token_id)


@pytest.mark.parametrize(
    "name, adapters, phases",
    [
        ("gan-stack", {"embedding_generator", "lora"}, {"likelihood", "discriminator", "adversarial"}),
        ("mle-stack", {"embedding_generator", "lora"}, {"likelihood"}),
        ("gan-constant", {"embedding_generator"}, {"likelihood", "adversarial"}),
        ("gan-shuffled", {"embedding_generator"}, {"likelihood", "discriminator", "adversarial"}),
        ("self-play", {"embedding_generator"}, {"likelihood", "self-play"}),
        ("gan:ia3", {"ia3"}, {"likelihood", "discriminator", "adversarial"}),
        ("self-play:lora", {"lora"}, {"likelihood", "self-play"}),
        ("mle:prefix", {"prefix_tuning"}, {"likelihood"}),
        ("mle:prompt", {"prompt_tuning"}, {"likelihood"}),
        ("mle:p-tuning", {"p_tuning"}, {"likelihood"}),
        ("gan:prompt", {"prompt_tuning"}, {"likelihood", "discriminator", "adversarial"}),
        ("self-play:prompt", {"prompt_tuning"}, {"likelihood", "self-play"}),
    ],
)
def test_a_cell_trains_its_generator_by_its_objective(name, adapters, phases, tmp_path):
    base = TINY_MODELS["gpt2"]()
    hashes = {hashlib.sha256(p.detach().numpy().tobytes()).hexdigest() for p in base.parameters()}
    before = sum(nats for nats, _ in METHODS.get("base").tune(
        base, tiny_tokenizer(), PAIRS, GameConfig(**LIMITS)).losses(PAIRS))  # fmt: skip
    tuned, rows = tune(
        name, **{"learning_rate": 0.1, "num_train_epochs": 4} if name.partition(":")[2] in PROMPTS else {}
    )
    assert {row["phase"] for row in rows} == phases
    assert sum(nats for nats, _ in tuned.losses(PAIRS)) < 0.99 * before
    assert hashes <= {hashlib.sha256(p.detach().numpy().tobytes()).hexdigest() for p in tuned.model.parameters()}
    tuned.save(tmp_path)
    assert {path.parent.name for path in tmp_path.glob("*/adapter_config.json")} == adapters
    torch.manual_seed(1)  # a load that fails leaves fresh weights
    back, ids = load_stack(TINY_MODELS["gpt2"](), tmp_path), torch.tensor([[5, 9, 12, 30]])
    with torch.no_grad():
        torch.testing.assert_close(back.eval()(input_ids=ids).logits, tuned.model(input_ids=ids).logits)


def test_a_method_has_the_name_that_was_typed():
    assert resolve_method("gan") is METHODS.get("gan") and resolve_method("lora").name == "lora"
    assert resolve_method("gan:embedding+lora").name == "gan:embedding+lora"
    assert resolve_method("self-play:lora").config_class is SelfPlayConfig
    assert resolve_method("tests.methods_of_a_user.own").name == "tests.methods_of_a_user.own"


@pytest.mark.parametrize(
    "name, message",
    [
        ("gam:lora", "unknown objective 'gam': expected one of gan, gan-constant, gan-corrupted, "),
        ("lora:lora", "unknown objective 'lora'"),
        ("gan:soft", "unknown generator 'soft'"),
        ("gan:", "unknown generator ''"),
        ("gan:prefix", "gan:prefix: generator 'prefix' is a prefix of keys and values"),
        ("self-play:prefix", "cannot sample answers"),
        ("mle:peft.CPTConfig", "mle:peft.CPTConfig: generator 'peft.CPTConfig': CPT: of prompt learning methods"),
    ],
)
def test_a_cell_that_there_is_not_is_refused_in_one_line(name, message):
    with pytest.raises(UserError) as error:
        found = resolve_method(name)
        found.check(found.config_class())  # as the comparison does before anything runs
    assert message in str(error.value) and "\n" not in str(error.value)


def test_the_generator_of_the_settings_is_checked_before_training():
    with pytest.raises(UserError, match="gan: generator 'prefix' is a prefix of keys and values"):
        tune("gan", generator="prefix")
    with pytest.raises(UserError, match=r"mle: generator 'prompt' has 20 virtual tokens: .* expected at most 14"):
        tune("mle", generator="prompt", max_completion_length=18)


def test_objectives_change_their_settings_and_no_others():
    seen = []

    class Made(Exception):
        pass

    def trainer(config):
        seen.append(config)
        raise Made

    expected = {"gan": {}, "mle": {"warmup_share": 1.0}, "gan-constant": {"reward": "constant"}, "gan-shuffled": {}}
    for name, changes in expected.items():
        found = gan.cell(replace(gan.OBJECTIVE_TABLE[name], trainer=trainer), name, "lora")
        with pytest.raises(Made):
            found.tune(None, None, [], GameConfig(warmup_share=0.25))
        assert seen.pop() == GameConfig(**{"warmup_share": 0.25} | changes, generator="lora")


def test_the_shuffled_reward_is_the_configured_one_shuffled(tmp_path):
    made = gan.with_shuffled_reward(GameConfig(**LIMITS))
    trainer = made(
        TINY_MODELS["gpt2"](), LanguageGANConfig(output_dir=tmp_path, **LIMITS), processing_class=tiny_tokenizer()
    )
    assert isinstance(trainer.reward, ShuffledReward)
    assert type(trainer.reward.reward).__name__ == "TokenReward" and trainer.reward.per_token


def test_preference_loss_by_hand():
    true, played = torch.tensor([1.0, -2.0]), torch.tensor([0.0, 3.0])
    expected = (math.log1p(math.exp(-0.5 * 1.0)) + math.log1p(math.exp(0.5 * 5.0))) / 2
    assert preference_loss(true, played, 0.5).item() == pytest.approx(expected, rel=1e-6)


def test_an_epoch_of_self_play_starts_even_and_its_margin_grows():
    _, rows = tune("self-play", warmup_share=0.0, likelihood_weight=0.0, self_play_scale=1.0, num_train_epochs=1)
    first, second = rows
    assert first["preference"] == pytest.approx(math.log(2), abs=1e-4)  # the policy is its opponent still
    assert first["margin"] == pytest.approx(0, abs=1e-3)
    assert second["margin"] > 0.05 and second["preference"] < first["preference"]
    assert first["likelihood"] == 0 and first["loss"] == first["preference"]


def test_the_gradient_of_self_play_is_the_formulas(tmp_path):
    """At the opponent's own weights: - lambda / 2 grad (log p(y) - log p(y')), by plain scores of the policy."""
    trainer = build(SelfPlay, tmp_path, "lora", scale=0.3, likelihood_weight=0.0)
    game = trainer.play(batch_of(trainer, 3))
    loss = -0.3 / 2 * (trainer.policy.score(game.true).sum(1) - trainer.policy.score(game.played).sum(1)).mean()
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(loss, trainer.parameters)])
    trainer.preference_step(game)
    torch.testing.assert_close(
        torch.cat([p.grad.flatten() for p in trainer.parameters]), expected, rtol=1e-3, atol=1e-5
    )


def test_the_opponent_answers_once_an_epoch(monkeypatch):
    order = []
    for name in ("play", "preference_step"):
        method = getattr(SelfPlay, name)
        monkeypatch.setattr(
            SelfPlay, name, lambda self, given, name=name, method=method: order.append(name) or method(self, given)
        )
    tune("self-play", warmup_share=0.25)
    assert order == ["play", "preference_step"] + 2 * ["play"] + 2 * ["preference_step"]


def test_self_play_that_diverges_puts_the_last_good_weights_back(monkeypatch):
    def broken(true, played, scale):
        return (true - played).mean() * float("nan")

    monkeypatch.setattr("gantune.trainer.self_play.preference_loss", broken)
    with pytest.raises(Diverged, match=r"loss is nan.*the weights are those after epoch 1") as error:
        tune("self-play")
    assert all(math.isfinite(nats) for nats, _ in error.value.tuned.losses(PAIRS))


def test_self_play_holds_out_what_language_gan_holds_out(tmp_path):
    both = [build(trainer, tmp_path, "lora", validation_share=0.25) for trainer in (SelfPlay, LanguageGAN)]
    ours, theirs = ([trainer.train_dataset, trainer.eval_dataset] for trainer in both)
    assert [[row.pair for row in part] for part in ours] == [[row.pair for row in part] for part in theirs]
    assert [len(part) for part in ours] == [6, 2]


# ---- Speed and memory mean in self-play and self-training what they mean in the game


def gradient_of_a_step(trainer, directory, **settings):
    """Gradients and figures of a step of five questions, at weights that every run of this begins with."""
    made = build(trainer, directory, "embedding+lora", per_device_train_batch_size=5, scale=1.0, **settings)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters:
            parameter.add_(0.1 * torch.randn_like(parameter))
    batch = batch_of(made, 5)
    if trainer is SelfPlay:
        game = made.play(batch)
        with torch.no_grad():  # the policy is its opponent no more
            for parameter in made.parameters:
                parameter.add_(0.05 * torch.randn_like(parameter))
        figures = made.preference_step(game)
        assert abs(figures["margin"]) > 0.01
    else:
        figures = made.likelihood_step(batch)
        assert figures["unpaired_likelihood"] > 0 and figures["likelihood"] > 0
    return [parameter.grad.clone() for parameter in made.parameters], figures


@pytest.mark.parametrize(
    "settings",
    [
        {"micro_batch_size": 2},
        {"gradient_checkpointing": True},
        {"micro_batch_size": 3, "gradient_checkpointing": True},
    ],
)
@pytest.mark.parametrize("trainer", [SelfPlay, SelfTraining])
def test_less_memory_leaves_the_gradient_as_it_is(trainer, settings, tmp_path, monkeypatch):
    seen = []
    score = CausalLMPolicy.score
    monkeypatch.setattr(
        CausalLMPolicy,
        "score",
        lambda self, batch, **more: seen.append((len(batch), torch.is_grad_enabled())) or score(self, batch, **more),
    )
    whole, whole_figures = gradient_of_a_step(trainer, tmp_path)
    assert max(rows for rows, _ in seen) == 5
    seen.clear()
    parts, figures = gradient_of_a_step(trainer, tmp_path, **settings)
    assert max(rows for rows, _ in seen) == settings.get("micro_batch_size", 5)
    assert figures == pytest.approx(whole_figures, rel=1e-4)
    for a, b in zip(parts, whole, strict=True):
        assert (a - b).abs().max() <= 1e-5 * b.abs().max() + 1e-9


@pytest.mark.parametrize("trainer", [SelfPlay, SelfTraining])
def test_checkpointed_layers_keep_less(trainer, tmp_path):
    kept = []
    for checkpointing in (False, True):
        storages = {}

        def pack(tensor, storages=storages):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            gradient_of_a_step(trainer, tmp_path, gradient_checkpointing=checkpointing)
        kept.append(sum(storages.values()))
    assert kept[1] < 0.8 * kept[0]


@pytest.mark.parametrize("order", ["random", "group_by_length"])
@pytest.mark.parametrize("trainer", [LanguageGAN, SelfPlay, SelfTraining])
def test_all_take_the_pairs_in_one_order(trainer, order, tmp_path, monkeypatch):
    """In likelihood's steps and in those after."""
    pairs = [Pair(f"who is n{i}{'x' * (5 * i % 7)}?", "new.") for i in range(8)]
    monkeypatch.setitem(globals(), "PAIRS", pairs)
    seen = []
    for owner, name in (
        (PolicyTrainer, "likelihood_step"),
        (LanguageGAN, "generator_step"),
        (SelfPlay, "preference_step"),
    ):
        step = getattr(owner, name)
        monkeypatch.setattr(
            owner,
            name,
            lambda self, of, *more, step=step: seen.append(getattr(of, "true", of).pairs) or step(self, of, *more),
        )
    made = build(trainer, tmp_path, "lora", num_train_epochs=3, warmup_share=0.5, seed=3, train_sampling_strategy=order)
    made.train()
    grouped = order == "group_by_length"
    expected = [of.pairs for epoch in (1, 2, 3) for of in batches(made.train_dataset, 4, 0, 3, epoch, grouped)]
    assert seen == expected and len(expected) == 6


@pytest.mark.parametrize("options, message", [({"self_play_scale": 0.0}, "--self-play-scale 0.0: expected above 0")])
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        SelfPlayConfig(**options)


def test_what_learns_from_unpaired_data_is_compared_with_its_likelihood_of_them():
    rivals = {name: resolve_method(name).rivals for name in ("gan", "gan-stack", "gan:ia3", "mle-stack", "lora")}
    assert rivals["gan-stack"] == ("mle-stack-unpaired", "lora-unpaired")
    assert rivals["gan"] == ("mle-unpaired", "lora-unpaired") and rivals["gan:ia3"][0] == "mle-unpaired:ia3"
    assert rivals["mle-stack"] == rivals["lora"] == ()
    assert resolve_method("mle-stack-unpaired").control == resolve_method("gan-stack").control == "mle-stack"
    assert resolve_method("lora-unpaired").control == "mle:lora" and resolve_method("mle-stack").control is None
