"""LanguageGAN: what it changes, what it must not, what can be swapped, what comes back from disk."""

from __future__ import annotations

import hashlib
import json
import random
import tempfile
from functools import partial
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model, inject_adapter_in_model
from torch import nn
from transformers import PrinterCallback, TrainerCallback

from baselines import METHODS
from gantune.data import Pair, RecordQuestion, collate, encode_pairs
from gantune.discriminators import CausalCNN, Discriminator
from gantune.embedding_generator import EmbeddingGeneratorConfig, stack_adapters
from gantune.embedding_generator.generators import build_generator
from gantune.errors import UserError
from gantune.policy.micro_batches import MicroBatches
from gantune.seqgan import policy_gradient_loss
from gantune.trainer.arguments import LanguageGANConfig, PairConfig, own_settings
from gantune.trainer.callbacks import epoch_ends, rows_of
from gantune.trainer.config import GameConfig
from gantune.trainer.language_gan import LanguageGAN
from gantune.trainer.pair_trainer import PairTrainer
from gantune.trainer.self_play import SelfPlay
from tests.tiny_models import TINY_MODELS
from tests.tiny_tokenizer import tiny_tokenizer

PAIRS = [Pair(f"who is {name}?", f"{name} is {what}.") for name in ("ann", "bob", "eve") for what in ("cook", "old")]
SMALL = {
    "num_train_epochs": 4,
    "per_device_train_batch_size": 3,
    "max_prompt_length": 32,
    "max_completion_length": 12,
    "num_generations": 2,
    "warmup_share": 0.5,
    "adversarial_every": 1,
    "discriminator_warmup_steps": 3,
    "validation_share": 0.0,
}


FOLDER = tempfile.TemporaryDirectory()
QUIET = {"output_dir": FOLDER.name, "save_strategy": "no", "logging_steps": 1, "disable_tqdm": True, "use_cpu": True}
"""How tests train: a row of the log a step, nothing on disk, nothing on the screen."""
COMPONENTS = ("discriminator", "reward", "unpaired", "callbacks", "train_dataset", "eval_dataset")


def build(family="gpt2", **settings) -> LanguageGAN:
    """A trainer of a tiny model, by default of `PAIRS`; components that are no names are given as arguments."""
    given = {key: settings.pop(key) for key in COMPONENTS if key in settings and not isinstance(settings[key], str)}
    if "generator" in settings and not isinstance(settings["generator"], str):
        given["peft_config"] = settings.pop("generator")
    given = {"train_dataset": PAIRS, "processing_class": tiny_tokenizer()} | given
    gan = LanguageGAN(TINY_MODELS[family](), LanguageGANConfig(**QUIET | SMALL | settings), **given)
    gan.remove_callback(PrinterCallback)
    return gan


def trained(gan: LanguageGAN) -> list[dict[str, Any]]:
    """Train; the rows of the steps."""
    gan.train()
    return rows_of(gan.state)


def generator_update(gan: LanguageGAN, *of_step: Any) -> dict[str, Any]:
    """A generator step and the step of its optimiser, as transformers takes it."""
    if gan.optimizer is None:
        gan.create_optimizer()
    figures = gan.generator_step(*of_step)
    nn.utils.clip_grad_norm_(gan.parameters, gan.args.max_grad_norm)
    gan.optimizer.step()
    return figures


def batch_of(gan: LanguageGAN):
    args = gan.args
    encoded, _ = encode_pairs(
        PAIRS, gan.tokenizer, "plain", args.max_prompt_length, args.max_completion_length, args.too_long
    )
    return collate(encoded, gan.pad_token_id)


def test_the_discriminators_warm_up_is_logged_as_often_as_the_other_steps():
    """With rows of four steps those of its ten end at steps 4, 8 and 10, and are means over the steps in between."""
    settings = {"discriminator_warmup_steps": 10, "num_train_epochs": 8}  # 16 steps, the game from the ninth on
    each, fours = ([r for r in trained(build(**settings, logging_steps=n)) if "loss" not in r] for n in (1, 4))
    assert [row["discriminator_step"] for row in each] == list(range(1, 11))
    assert [row["discriminator_step"] for row in fours] == [4, 8, 10] and {row["step"] for row in fours} == {8}
    for row, (start, end) in zip(fours, ((0, 4), (4, 8), (8, 10)), strict=True):
        losses = [of_one["discriminator_loss"] for of_one in each[start:end]]
        assert row["discriminator_loss"] == pytest.approx(sum(losses) / len(losses)) and row["phase"] == "discriminator"
    assert sum(row["tokens"] for row in fours) == sum(row["tokens"] for row in each)


def hashes(parameters) -> dict[str, str]:
    return {name: hashlib.sha256(p.detach().numpy().tobytes()).hexdigest() for name, p in parameters}


def frozen(gan):
    return [(n, p) for n, p in gan.model.named_parameters() if not p.requires_grad]


def trainable(gan):
    return [(n, p) for n, p in gan.model.named_parameters() if p.requires_grad]


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_training_moves_the_adapter_and_the_discriminator_and_nothing_else(family):
    gan = build(family)
    before, tuned = hashes(frozen(gan)), hashes(trainable(gan))
    judge = hashes(gan.discriminator.named_parameters())
    history = trained(gan)
    assert hashes(frozen(gan)) == before
    assert all(tuned[name] != now for name, now in hashes(trainable(gan)).items())
    assert hashes(gan.discriminator.named_parameters()) != judge
    assert [row["phase"] for row in history] == ["likelihood"] * 4 + ["discriminator"] * 3 + ["adversarial"] * 4
    assert [row["step"] for row in history] == [1, 2, 3, 4, 4, 4, 4, 5, 6, 7, 8], "the discriminator's own are none"
    assert all(0 <= row["ended"] <= 1 and row["answer_length"] <= 12 for row in history[-4:])


def test_every_fifth_step_after_the_warm_up_is_adversarial():
    gan = build(num_train_epochs=6, adversarial_every=5, discriminator_warmup_steps=0)
    assert [row["phase"] for row in trained(gan)] == ["likelihood"] * 6 + ["adversarial"] + ["likelihood"] * 4 + [
        "adversarial"
    ]


def test_likelihood_falls():
    gan = build(warmup_share=1.0, num_train_epochs=30, learning_rate=1e-2)
    history = trained(gan)
    assert history[-1]["loss"] < 0.7 * history[0]["loss"]


def test_the_same_seed_gives_the_same_training_and_another_seed_another():
    first, second, other = (trained(build(seed=seed)) for seed in (0, 0, 1))
    without_time = [[{k: v for k, v in row.items() if k != "seconds"} for row in run] for run in (first, second, other)]
    assert without_time[0] == without_time[1] != without_time[2]


def test_generator_step_follows_the_gradient_of_its_loss():
    """The step in parts of a batch's rows equals one loss over all rows, computed here in one piece."""
    gan = build(advantage="none", reward="sequence")
    batch = batch_of(gan)
    rollout = gan.sample(batch)
    noise = rollout.noise[:: rollout.samples_per_prompt]  # of the anchor, too
    rewards = 2 * gan.discriminator.sequence_logits(rollout).sigmoid() - 1
    log_probs = gan.policy.score(rollout, noise=rollout.noise)
    loss = policy_gradient_loss(log_probs, rewards[:, None].expand_as(log_probs), rollout.answer_mask) / 12
    true = gan.policy.score(batch, noise=noise)
    loss = loss - (true * batch.answer_mask).sum() / batch.answer_mask.sum()
    expected = torch.autograd.grad(loss, gan.parameters)

    figures = gan.generator_step(batch, rollout)
    assert figures["loss"] == pytest.approx(loss.item(), rel=1e-5)
    for parameter, exact in zip(gan.parameters, expected, strict=True):
        assert torch.allclose(parameter.grad, exact, rtol=1e-4, atol=1e-7)
    assert any(exact.abs().max() > 1e-4 for exact in expected)


def gradient_of_a_step(spoil=None, **settings):
    """Gradients and figures of a generator step on answers that depend on nothing but the seed."""
    gan = build(generator="embedding+lora", **settings)
    batch = batch_of(gan)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in gan.parameters:
            parameter.add_(0.1 * torch.randn_like(parameter))
    micro_batches, gan.micro_batches = gan.micro_batches, MicroBatches()
    rollout = gan.sample(batch, for_update=True)
    gan.micro_batches = micro_batches
    if spoil is not None:
        spoil(gan)
    figures = gan.generator_step(batch, rollout)
    assert rollout.prefill is None, "it is not valid after the update"
    return [p.grad.clone() for p in gan.parameters], figures


@pytest.mark.parametrize("gradient_checkpointing", [False, True])
def test_sampling_for_an_update_reads_the_questions_for_its_losses_too(gradient_checkpointing):
    gan = build(gradient_checkpointing=gradient_checkpointing)
    batch = batch_of(gan)
    assert gan.sample(batch).prefill is None
    assert (gan.sample(batch, for_update=True).prefill is None) == gradient_checkpointing


def test_a_step_from_the_prefill_is_the_plain_step():
    """Questions read once, answers scored in one block, anchor included: the same gradient as by full passes."""
    ours, our_figures = gradient_of_a_step()
    plain, plain_figures = gradient_of_a_step(gradient_checkpointing=True)
    for a, b in zip(ours, plain, strict=True):
        assert (a - b).abs().max() <= 1e-5 * b.abs().max() + 1e-9
    for name in ("loss", "likelihood", "policy_gradient", "kl"):
        assert our_figures[name] == pytest.approx(plain_figures[name], rel=1e-4, abs=1e-6)


def test_a_bfloat16_model_is_tuned_by_a_float32_adapter():
    model, args = TINY_MODELS["gpt2"]().to(torch.bfloat16), LanguageGANConfig(**QUIET | SMALL)
    gan = LanguageGAN(model, args, PAIRS, processing_class=tiny_tokenizer())
    assert {p.dtype for p in gan.parameters} == {torch.float32}
    assert {p.dtype for _, p in frozen(gan)} == {torch.bfloat16}
    batch = batch_of(gan)
    rollout = gan.sample(batch, for_update=True)
    scored = gan.policy.score(rollout, noise=rollout.noise)
    assert scored.dtype == torch.float32
    assert (scored - rollout.log_probs).abs().max() < 0.3, "bfloat16 rounds: log-probs come from scoring, not sampling"
    before = hashes(trainable(gan))
    generator_update(gan, batch, rollout)
    assert hashes(trainable(gan)) != before


def test_policy_gradient_raises_the_rewarded_answers():
    """With a reward for one letter and no anchor, that letter is written more often: the sign is right."""

    def share_of_e(questions, answers, rollout):
        return [answer.count("e") / max(len(answer), 1) for answer in answers]

    gan = build(reward=share_of_e, likelihood_weight=0.0, num_generations=16, learning_rate=3e-2)
    batch = batch_of(gan)
    rewards = [generator_update(gan, batch)["reward"] for _ in range(30)]
    assert sum(rewards[-5:]) > 3 * sum(rewards[:5])


def test_a_constant_reward_with_leave_one_out_does_nothing():
    gan = build(reward="constant", likelihood_weight=0.0)
    figures = gan.generator_step(batch_of(gan))
    assert figures["policy_gradient"] == 0 and figures["reward"] == 1 and figures["reward_std"] == 0


def test_rewards_see_the_question_the_answer_and_the_true_answer():
    seen = {}

    def spy(questions, answers, rollout):
        seen.update(questions=questions, answers=answers, rollout=rollout)
        return torch.zeros(len(answers))

    gan = build(reward=spy)
    gan.generator_step(batch_of(gan))
    assert seen["questions"] == [pair.question for pair in PAIRS for _ in range(2)]
    assert [pair.answer for pair in seen["rollout"].pairs] == [pair.answer for pair in PAIRS for _ in range(2)]
    assert all("<eos>" not in answer and "<pad>" not in answer for answer in seen["answers"])


def test_the_discriminator_is_left_alone_while_it_is_too_good():
    gan = build(max_discriminator_accuracy=0.0)
    before = hashes(gan.discriminator.named_parameters())
    gan.discriminator_step(batch_of(gan))
    assert hashes(gan.discriminator.named_parameters()) == before


def test_the_discriminator_has_a_rate_of_its_own():
    """Adam's first step is as long as the rate, whatever the gradient."""
    gan = build(discriminator_learning_rate=0.02, max_discriminator_accuracy=1.0)
    before = [p.detach().clone() for p in gan.discriminator.parameters()]
    gan.discriminator_step(batch_of(gan))
    moved = [(new - old).abs().max() for new, old in zip(gan.discriminator.parameters(), before, strict=True)]
    assert max(moved).item() == pytest.approx(0.02, rel=1e-3)


def test_the_discriminator_is_shown_true_sampled_earlier_and_mismatched_answers():
    gan = build(reward="sequence")
    batch, shown, judge = batch_of(gan), [], gan.discriminator.sequence_logits
    gan.discriminator.sequence_logits = lambda part: shown.append(part.answer_ids.tolist()) or judge(part)
    true, rollout = batch.answer_ids.tolist(), gan.sampler(batch)
    random.seed(0)
    for samples, starts in ((1, {0}), (2, {0, 1, 2, 3, 4, 5, 6})):
        earlier = gan.sampler(batch, samples)
        gan.adversary.replay.clear()
        gan.adversary.remember(earlier)
        gan.adversary.remember(rollout)
        rows = [earlier.answer_ids[start : start + len(batch)].tolist() for start in range(len(earlier))]
        found = set()
        for _ in range(40):
            shown.clear()
            gan.discriminator_step(batch, rollout)
            real, sampled, replayed, mismatched = shown
            assert real == true and sampled == rollout.answer_ids.tolist()
            assert mismatched == [true[5], true[1], true[3]], "each question has two true answers here"
            found.add(rows.index(replayed))
        assert found == starts, "as many rows as the batch has, from any of them on"


def test_one_rollout_serves_both_networks():
    gan = build()
    batch = batch_of(gan)
    drawn = []
    rollout_of = gan.policy.rollout
    gan.policy.rollout = lambda *args, **kwargs: drawn.append(1) or rollout_of(*args, **kwargs)
    rollout = gan.sample(batch)
    gan.discriminator_step(batch, rollout)
    gan.generator_step(batch, rollout)
    assert len(drawn) == 1


class OwnNetwork(nn.Module):
    """A generator network of a user: a learned shift."""

    def __init__(self, embedding_dim, noise_dim):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(embedding_dim))

    def forward(self, embeddings, noise):
        return embeddings + self.shift


class OwnDiscriminator(Discriminator):
    """A discriminator of a user: a logit a token, summed."""

    def __init__(self, vocab_size):
        super().__init__()
        self.scores = nn.Embedding(vocab_size, 1)

    def prefix_logits(self, batch):
        return (self.scores(batch.answer_ids).squeeze(2) * batch.answer_mask).cumsum(1)


class OwnReward:
    """A reward of a user that asks the discriminator."""

    def __init__(self, discriminator, transform):
        self.discriminator = discriminator

    def __call__(self, questions, answers, rollout):
        return self.discriminator.sequence_logits(rollout).detach()


@pytest.mark.parametrize("how", ["class", "dotted path"])
def test_every_component_can_be_swapped(how):
    own = {"generator": OwnNetwork, "discriminator": OwnDiscriminator, "reward": OwnReward}
    if how == "dotted path":
        own = {key: f"{__name__}.{value.__name__}" for key, value in own.items()}
    gan = build(**own)
    assert isinstance(gan.discriminator, OwnDiscriminator) and isinstance(gan.reward, OwnReward)
    assert [p.shape for p in gan.parameters] == [(32,)]
    history = trained(gan)
    assert gan.parameters[0].abs().sum() > 0
    assert len(history) == 11


@pytest.mark.parametrize(
    ("generator", "parts"),
    [
        ("embedding", {"embedding_generator"}),
        ("lora", {"lora"}),
        ("embedding+lora", {"embedding_generator", "lora"}),
        ([EmbeddingGeneratorConfig(noise_dim=3), LoraConfig(task_type="CAUSAL_LM", r=2)],
         {"embedding_generator", "lora"}),
    ],
)  # fmt: skip
def test_what_is_tuned_is_any_peft_method_or_a_stack(generator, parts, tmp_path):
    gan = build(generator=generator)
    before = hashes(frozen(gan))
    gan.train()
    assert hashes(frozen(gan)) == before
    assert {part for part in parts for name, _ in trainable(gan) if part in name} == parts
    gan.save_pretrained(tmp_path)
    assert {path.parent.name for path in tmp_path.glob("*/adapter_model.safetensors")} == parts


@pytest.mark.parametrize("name", ["mlp", "cnn"])
@pytest.mark.parametrize("reward", ["sequence", "token", "constant"])
@pytest.mark.parametrize("advantage", ["none", "moving-average", "leave-one-out", "group-norm"])
def test_every_combination_trains(name, reward, advantage):
    gan = build(discriminator=name, reward=reward, advantage=advantage, num_train_epochs=1, warmup_share=0.0)
    phases = {"adversarial"} if reward == "constant" else {"discriminator", "adversarial"}
    assert {row["phase"] for row in trained(gan)} == phases


def test_the_best_weights_on_validation_are_kept():
    gan = build(validation_share=0.34, num_train_epochs=6, learning_rate=0.1, likelihood_weight=0.0)
    gan.train()
    losses = [row["eval_loss"] for row in gan.state.log_history if "eval_loss" in row]
    assert len(gan.eval_dataset) == 2 and len(set(losses)) == len(losses) == 4
    assert losses[-1] > min(losses), "or it says nothing"
    assert gan.evaluate()["eval_loss"] == pytest.approx(min(losses), rel=1e-6)


def test_without_a_warm_up_the_untrained_weights_are_to_choose_from():
    gan = build(validation_share=0.34, warmup_share=0.0)
    untrained = gan.evaluate()["eval_loss"]
    gan.train()
    losses = [row["eval_loss"] for row in gan.state.log_history if "eval_loss" in row]
    assert len(losses) == 1 + SMALL["num_train_epochs"] and losses[0] == untrained
    assert gan.best.measure() == ("loss", min(losses))


def test_validation_scores_no_more_rows_at_once_than_training():
    gan = build(validation_share=0.67, per_device_train_batch_size=2)
    seen, score = [], gan.policy.score
    gan.policy.score = lambda batch, **options: seen.append(len(batch)) or score(batch, **options)
    gan.evaluate()
    assert len(gan.eval_dataset) == 4 and seen == [2, 2]


def test_saved_and_loaded_it_answers_alike(tmp_path):
    gan = build(generator="embedding+lora")
    gan.train()
    gan.save_pretrained(tmp_path)
    torch.manual_seed(99)
    base = TINY_MODELS["gpt2"](), tiny_tokenizer()
    again = LanguageGAN.from_pretrained(tmp_path, *base, train_dataset=PAIRS[:3], **QUIET)
    batch = batch_of(gan)
    assert torch.equal(gan.policy.score(batch), again.policy.score(batch))
    assert torch.equal(gan.discriminator.prefix_logits(batch), again.discriminator.prefix_logits(batch))
    questions = [pair.question for pair in PAIRS]
    assert gan.generate(questions) == again.generate(questions)
    assert own_settings(again.args) == own_settings(gan.args)
    assert len(trained(again)) == 2 + 3 + 2  # and it can be trained on


ALONE = {"generated_negatives": False, "mismatched_negatives": False}
"""Then only records have negatives."""


@pytest.mark.parametrize("settings", [{"packing": True}, ALONE, ALONE | {"reward": "constant"}])
def test_what_asks_something_of_the_pairs_is_loaded_without_any(settings, tmp_path):
    records = [Pair(RecordQuestion([("name", name), ("food", food)]), name) for name, food in ("ab", "cd")]
    build(train_dataset=records, template="record", **settings).save_pretrained(tmp_path)
    LanguageGAN.from_pretrained(tmp_path, TINY_MODELS["gpt2"](), tiny_tokenizer())


def test_a_reward_that_asks_no_discriminator_needs_no_negatives():
    build(reward="constant", **ALONE)
    with pytest.raises(UserError, match="--generated-negatives false: the discriminator is shown nothing"):
        build(**ALONE)


def test_components_of_a_user_are_named_in_the_files_and_given_again(tmp_path):
    gan = build(discriminator=OwnDiscriminator, reward=OwnReward)
    assert gan.args.discriminator == f"{__name__}.OwnDiscriminator"
    gan.save_pretrained(tmp_path)
    again = LanguageGAN.from_pretrained(
        tmp_path, TINY_MODELS["gpt2"](), tiny_tokenizer(), discriminator=OwnDiscriminator, reward=OwnReward
    )
    assert torch.equal(again.discriminator.scores.weight, gan.discriminator.scores.weight)
    with pytest.raises(UserError, match="not the weights of discriminator"):
        LanguageGAN.from_pretrained(
            tmp_path, TINY_MODELS["gpt2"](), tiny_tokenizer(), discriminator=CausalCNN, reward=OwnReward
        )


def test_it_finds_its_base_model_again(tmp_path):
    base, saved = tmp_path / "base", tmp_path / "saved"
    TINY_MODELS["gpt2"]().save_pretrained(base)
    tiny_tokenizer().save_pretrained(base)
    gan = LanguageGAN(str(base), LanguageGANConfig(**QUIET | SMALL), PAIRS)
    gan.train()
    gan.save_pretrained(saved)
    assert LanguageGAN.from_pretrained(saved).generate(["who is ann?"]) == gan.generate(["who is ann?"])


def test_loading_imports_nothing_that_a_file_names(tmp_path):
    gan = build()
    gan.save_pretrained(tmp_path)
    file = tmp_path / "language_gan.json"
    saved = json.loads(file.read_text())
    for field in ("discriminator", "reward", "reward_transform", "advantage", "template"):
        file.write_text(json.dumps(saved | {field: "os.system"}))
        with pytest.raises(UserError, match=r"unknown .* 'os.system'"):
            LanguageGAN.from_pretrained(tmp_path, TINY_MODELS["gpt2"](), tiny_tokenizer())
    for broken in ("[]", "{", json.dumps(saved | {"colour": "red"})):
        file.write_text(broken)
        with pytest.raises(UserError, match=r"language_gan.json: not the settings"):
            LanguageGAN.from_pretrained(tmp_path, TINY_MODELS["gpt2"](), tiny_tokenizer())
    file.unlink()
    with pytest.raises(UserError, match=r"no language_gan.json, expected a folder that"):
        LanguageGAN.from_pretrained(tmp_path, TINY_MODELS["gpt2"](), tiny_tokenizer())
    with pytest.raises(UserError, match=r"elsewhere: no such folder"):
        LanguageGAN.from_pretrained(tmp_path / "elsewhere", TINY_MODELS["gpt2"](), tiny_tokenizer())


def test_generate_is_greedy_repeatable_and_ordered():
    gan = build()
    gan.train()
    questions = [pair.question for pair in PAIRS] + ["a question of quite another length?"]
    together = gan.generate(questions, batch_size=3)
    assert together == gan.generate(questions, batch_size=1)
    assert together[::-1] == gan.generate(questions[::-1])
    noisy = gan.generate(questions, noise=torch.randn(len(questions), 100) * 30)
    assert len(noisy) == len(questions)


def test_a_diverging_run_stops_and_keeps_the_last_good_weights():
    """The likelihood-only weights, after the two epochs of the warm-up, not those of the adversarial steps after."""
    calls = []

    def reward(questions, answers, rollout):
        calls.append(1)
        return [float("nan") if len(calls) == 4 else 0.5] * len(answers)

    settings = {"advantage": "none", "discriminator_warmup_steps": 0, "num_train_epochs": 6}
    gan = build(reward=reward, **settings)
    with pytest.raises(
        FloatingPointError,
        match=r"^the reward .*reward' of some answers is not finite.*the weights are those after epoch 4",
    ):
        gan.train()
    seen = {}

    class Watch(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            if epoch_ends(state, control):
                seen[state.epoch] = hashes(trainable(whole))

    whole = build(reward=lambda q, answers, r: [0.5] * len(answers), callbacks=[Watch()], **settings)
    whole.train()
    assert hashes(trainable(gan)) == seen[4] != seen[5]


def test_a_gradient_that_is_not_finite_changes_nothing():
    gan = build()
    before = hashes(trainable(gan))
    gan.parameters[0].register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(FloatingPointError, match=r"the gradient of the likelihood loss is (nan|inf)"):
        gan.train()
    assert hashes(trainable(gan)) == before


@pytest.mark.parametrize("search_policy", ["current", "delayed"])
def test_monte_carlo_rewards_train(search_policy):
    gan = build(
        reward="monte-carlo", search_policy=search_policy, search_completions=2, search_stride=3, num_train_epochs=3
    )
    before = hashes(frozen(gan))
    history = trained(gan)
    assert hashes(frozen(gan)) == before
    assert sum(row["phase"] == "adversarial" for row in history) >= 2
    if search_policy == "delayed":
        assert any(
            not torch.equal(average, p) for average, p in zip(gan.delayed.average, gan.parameters, strict=True)
        ), "the average follows behind"


def test_a_delayed_search_policy_follows_every_step():
    gan, seen = build(reward="monte-carlo", search_policy="delayed", search_decay=0.75, max_steps=3), []
    average = [p.detach().clone() for p in gan.parameters]

    class Watch(TrainerCallback):
        def on_step_end(self, *_, **__):
            seen.append([p.detach().clone() for p in gan.parameters])

    gan.add_callback(Watch())
    gan.train()
    for weights in seen[:-1]:  # the last step has no search after it
        average = [old.lerp(new, 0.25) for old, new in zip(average, weights, strict=True)]
    assert all(torch.equal(a, b) for a, b in zip(gan.delayed.average, average, strict=True))
    assert not all(torch.equal(p, weights) for p, weights in zip(seen[0], seen[1], strict=True))


@pytest.mark.parametrize("is_return", [False, True])
def test_a_reward_need_not_have_numbers_in_the_padding(is_return):
    class Own(OwnReward):
        def __call__(self, questions, answers, rollout):
            masks.append(rollout.answer_mask.bool())
            return torch.where(masks[-1], 1.0, torch.nan)

    masks, reward = [], Own(None, "centred")
    reward.is_return = is_return
    gan = build(reward=reward, advantage="none")
    figures = gan.generator_step(batch_of(gan))
    assert not masks[0].all() and torch.isfinite(torch.tensor(figures["policy_gradient"]))


def test_monte_carlo_values_are_returns_as_they_are():
    """They are not summed again: with advantage none the loss is -Q log pi, computed here from the reward's numbers."""
    gan = build(reward="monte-carlo", advantage="none", likelihood_weight=0.0)
    batch, values = batch_of(gan), []
    search = gan.reward

    class Watched:
        is_return, searches, per_token = True, True, False

        def __call__(self, *arguments):
            values.append(search(*arguments))
            return values[-1]

    gan.reward = Watched()
    rollout = gan.sample(batch, for_update=True)
    log_probs = gan.policy.score(rollout, noise=rollout.noise).detach()
    figures = gan.generator_step(batch, rollout)
    expected = -(log_probs * values[0] * rollout.answer_mask).sum() / (12 * len(rollout))
    assert figures["policy_gradient"] == pytest.approx(expected.item(), rel=1e-5)
    assert rollout.state is None
    assert all(kept.state is None for kept in gan.adversary.replay)


@pytest.mark.parametrize("generator", ["embedding", "lora", "embedding+lora"])
def test_kl_is_that_to_the_untouched_model(generator):
    gan = build(generator=generator)
    batch = batch_of(gan)
    assert gan.generator_step(batch)["kl"] == pytest.approx(0, abs=1e-9), "a fresh adapter changes nothing"
    with torch.no_grad():
        for parameter in gan.parameters:
            parameter.add_(0.1 * torch.randn_like(parameter))
    rollout = gan.sample(batch)
    ids, positions = rollout.input_ids(), rollout.position_ids()
    logits = TINY_MODELS["gpt2"]()(ids, attention_mask=rollout.attention_mask(), position_ids=positions).logits
    first = rollout.prompt_ids.shape[1] - 1
    base = logits[:, first:-1].log_softmax(-1).gather(2, rollout.answer_ids[..., None]).squeeze(2)
    ratio = (base - rollout.log_probs)[::8]  # one answer to every fourth question
    mask = rollout.answer_mask[::8]
    expected = ((ratio.exp() - 1 - ratio) * mask).sum() / mask.sum()
    assert gan.generator_step(batch, rollout)["kl"] == pytest.approx(expected.item(), rel=1e-4)
    assert expected > 0.01


def test_history_holds_the_health_of_each_adversarial_step():
    history = trained(build(validation_share=0.34, num_train_epochs=6))
    row = next(row for row in reversed(history) if row["phase"] == "adversarial")
    for name in ("reward", "reward_std", "no_spread_share", "entropy", "kl", "answer_length", "ended",
                 "distinct_answers", "grad_norm", "discriminator_accuracy", "discriminator_accuracy_real",
                 "discriminator_accuracy_generated", "held_out_discriminator_accuracy_real",
                 "held_out_discriminator_accuracy_generated"):  # fmt: skip
        assert isinstance(row[name], float), name
    assert "grad_norm" in history[0] and "entropy" not in history[0]


@pytest.mark.parametrize("rows", [{}, {"adversarial_every": 5, "logging_steps": 10}], ids=["of a step", "of ten"])
def test_bad_health_is_told_once_in_the_row_that_showed_it(caplog, rows):
    """In a row of ten steps too, of which the last is one of likelihood."""
    gan = build(reward="constant", num_train_epochs=16, warmup_share=0.0, **rows)
    with caplog.at_level("WARNING"):
        history = trained(gan)
    told = [(row["step"], text) for row in history for text in row.get("warnings", ()) if "got one reward" in text]
    assert len(told) == 1
    assert told[0][1] in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"discriminator": "rnn"},
            "unknown discriminator 'rnn': expected one of cnn, cross-reader, frozen-lm, judge, mediator, mlp, ratio, "
            "source",
        ),
        ({"generator": "suffix"}, "unknown generator 'suffix': expected one of embedding,"),
        ({"generator": "embedding+no.such.Thing"}, "cannot import generator 'no.such.Thing'"),
        ({"generator": "os.path.join"}, "generator os.path.join: TypeError: join() missing 1 required"),
        ({"reward": "bleu"}, "unknown reward 'bleu'"),
        ({"advantage": "critic"}, "unknown advantage 'critic'"),
        ({"num_generations": 1}, "--num-generations 1: policy-gradient with advantage 'leave-one-out'"),
        ({"warmup_share": 1.5}, "--warmup-share 1.5: expected between 0 and 1"),
        ({"num_train_epochs": 0}, "--num-train-epochs 0: expected above 0"),
        ({"temperature": 0.0}, "--temperature 0.0: expected above 0"),
    ],
)
def test_bad_settings_are_told_in_one_line(settings, message):
    with pytest.raises(UserError) as caught:
        build(**settings)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("names", "wrong", "expected"),
    [
        ("warmup_share discount real_label search_decay max_discriminator_accuracy", -0.1, "between 0 and 1"),
        ("warmup_share discount real_label search_decay max_discriminator_accuracy", 1.1, "between 0 and 1"),
        ("num_generations discriminator_warmup_rollouts steps_per_generation", 0, "at least 1"),
        ("search_completions search_stride search_rows", 0, "at least 1"),
        ("temperature learning_rate discriminator_learning_rate max_grad_norm", 0.0, "above 0"),
        ("discriminator_warmup_steps replay_rollouts adversarial_every discriminator_steps", -1, "at least 0"),
        ("prompts_per_step", -1, "at least 0"),
        ("adversarial_learning_rate epsilon beta", -0.1, "at least 0"),
        ("adversarial_weight likelihood_weight unpaired_likelihood_weight", -0.1, "at least 0"),
    ],
)
def test_every_number_of_the_game_has_its_range(names, wrong, expected):
    for name in names.split():
        with pytest.raises(UserError, match=f"^--{name.replace('_', '-')} {wrong}: expected {expected}$"):
            GameConfig(**{name: wrong})


@pytest.mark.parametrize(
    ("pairs", "share", "message"),
    [
        ([], 0.0, "train_dataset: has no rows, expected questions and answers"),
        (PAIRS, 1.0, f"no pair to train on: {len(PAIRS)} given"),
    ],
)
def test_nothing_to_train_on_is_told(pairs, share, message):
    with pytest.raises(UserError, match=message):
        build(validation_share=share, train_dataset=pairs)


def test_instances_are_taken_as_they_are():
    judge = CausalCNN(97, embedding_dim=4, widths=(1,), filters=2)
    assert build(discriminator=judge).discriminator is judge


def test_a_model_that_carries_an_adapter_is_refused(tmp_path):
    gan = build()
    gan.train()
    gan.save_pretrained(tmp_path)
    lora = get_peft_model(TINY_MODELS["llama"](), LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"]))
    adapted = {"embedding_generator": gan.model.get_base_model(), "default": lora}
    quiet, tokenizer = LanguageGANConfig(**QUIET | SMALL), tiny_tokenizer()
    ways = (
        lambda model: LanguageGAN(model, quiet, PAIRS, processing_class=tokenizer),
        lambda model: LanguageGAN.from_pretrained(tmp_path, model, tokenizer),
    )
    for name, model in adapted.items():
        for add in ways:
            with pytest.raises(UserError, match=rf"carries an adapter already \({name}\): load the base model again"):
                add(model)
    plain = gan.model.merge_and_unload()
    assert LanguageGAN(plain, LanguageGANConfig(**QUIET | SMALL), PAIRS, processing_class=tiny_tokenizer()).train()


LORA = {"task_type": "CAUSAL_LM", "target_modules": ["c_attn"], "fan_in_fan_out": True}


def with_transformers(model):
    model.add_adapter(LoraConfig(**LORA), adapter_name="theirs")
    return model


ADAPTED = {
    "default": lambda: get_peft_model(TINY_MODELS["gpt2"](), LoraConfig(**LORA)),
    "theirs": lambda: with_transformers(TINY_MODELS["gpt2"]()),
    "injected": lambda: inject_adapter_in_model(LoraConfig(**LORA), TINY_MODELS["gpt2"](), adapter_name="injected"),
    "prompt_tuning": lambda: stack_adapters(TINY_MODELS["gpt2"](), build_generator("prompt")),
    "lora": lambda: stack_adapters(TINY_MODELS["gpt2"](), build_generator("embedding+lora")).get_base_model(),
}


@pytest.mark.parametrize("name", ADAPTED)
def test_every_trainer_and_method_refuses_a_model_that_carries_an_adapter_and_leaves_it(name):
    model, tokenizer = ADAPTED[name](), tiny_tokenizer()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    args = LanguageGANConfig(**QUIET | SMALL)
    limits = {"num_train_epochs": 1, "max_prompt_length": 32, "max_completion_length": 8}
    ways = {
        "LanguageGAN": lambda: LanguageGAN(model, args, PAIRS, processing_class=tokenizer),
        "SelfPlay": lambda: SelfPlay(model, args, PAIRS, processing_class=tokenizer, peft_config="lora"),
        "PairTrainer": lambda: PairTrainer(
            model, PairConfig(**QUIET), PAIRS, processing_class=tokenizer, peft_config="ia3"
        ),
        "stack_adapters": lambda: stack_adapters(model, build_generator("embedding")),
    }
    for method in ("lora", "lora-matched", "ia3", "bottleneck", "prompt-tuning", "p-tuning", "prefix-tuning", "full",
                   "gan", "mle", "mle-stack", "gan-source", "self-play"):  # fmt: skip
        made = METHODS.get(method)
        ways[method] = partial(made, model, tokenizer, PAIRS, made.config_class(**limits))
    for way, run in ways.items():
        with pytest.raises(UserError, match=rf"carries an adapter already \([a-z_, ]*\b{name}\b.*merge_and_unload it"):
            pytest.fail(f"{way} took it: {run()}")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_model_given_with_its_adapter_has_one_that_is_found_again(tmp_path):
    args, given = LanguageGANConfig(**QUIET | SMALL), {"processing_class": tiny_tokenizer(), "peft_config": False}
    with pytest.raises(UserError, match="GPT2LMHeadModel carries no adapter, expected peft_config"):
        LanguageGAN(TINY_MODELS["gpt2"](), args, PAIRS, **given)
    with pytest.raises(UserError, match="GPT2LMHeadModel carries no adapter, expected peft_config"):
        LanguageGAN(ADAPTED["theirs"](), args, PAIRS, **given)
    with pytest.raises(UserError, match="adapter is called 'default', expected adapter_name='lora'"):
        LanguageGAN(ADAPTED["default"](), args, PAIRS, **given)
    model = get_peft_model(TINY_MODELS["gpt2"](), LoraConfig(**LORA), adapter_name="lora")
    gan = LanguageGAN(model, args, PAIRS, **given)
    gan.train()
    gan.save_pretrained(tmp_path)
    loaded = LanguageGAN.from_pretrained(tmp_path, TINY_MODELS["gpt2"](), tiny_tokenizer())
    batch = batch_of(gan)
    assert torch.equal(loaded.policy.score(batch), gan.policy.score(batch))
    assert not torch.equal(gan.policy.score(batch), build(generator="lora").policy.score(batch))


def test_a_frozen_lm_that_judges_is_loaded_on_the_base_model_alone(tmp_path):
    gan = build(discriminator="frozen-lm", generator="lora")
    gan.train()
    gan.save_pretrained(tmp_path)
    loaded = LanguageGAN.from_pretrained(tmp_path, TINY_MODELS["gpt2"](), tiny_tokenizer())
    (judging,) = loaded.discriminator._language_model
    assert judging is loaded.model.get_base_model()
    batch = batch_of(gan)
    gan.discriminator.eval(), loaded.discriminator.eval()
    assert torch.equal(gan.discriminator.prefix_logits(batch), loaded.discriminator.prefix_logits(batch))
