"""Less memory for the same gradient: rows in parts, halving when memory runs out, activations computed again."""

from __future__ import annotations

import logging
import random

import pytest
import torch

from gantune.errors import UserError
from gantune.policy import CausalLMPolicy, checkpoint_layers
from gantune.policy.micro_batches import MicroBatches
from gantune.seqgan import policy_gradient_loss
from tests.test_language_gan import batch_of, build, gradient_of_a_step, trained
from tests.tiny_models import TINY_MODELS


def test_parts_cover_the_batch_once():
    assert list(MicroBatches(3).of(7)) == [(0, 3), (3, 6), (6, 7)]
    assert list(MicroBatches().of(7)) == [(0, 7)]
    assert MicroBatches(7).whole(7) and not MicroBatches(6).whole(7) and MicroBatches().whole(10**6)


def test_memory_that_runs_out_halves_the_parts_and_repeats_the_same_draws(caplog):
    parts, seen = MicroBatches(), []

    def step():
        seen.append((parts.size, torch.rand(1).item(), random.random()))
        if len(seen) < 3:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return "done"

    with caplog.at_level(logging.WARNING):
        assert parts.run(10, step) == "done"
    assert [size for size, *_ in seen] == [None, 5, 3]
    assert len({draws for _, *draws in map(tuple, seen) for draws in [tuple(draws)]}) == 1
    assert [record.message for record in caplog.records] == [
        "out of memory: going on with 5 rows at a time, the batch stays as it is",
        "out of memory: going on with 3 rows at a time, the batch stays as it is",
    ]


def test_memory_for_not_even_one_row_is_one_clear_line():
    def step():
        raise MemoryError

    with pytest.raises(UserError, match=r"^out of memory with one row at a time \(MemoryError\): set --gradient-check"):
        MicroBatches(1).run(10, step)


def test_other_errors_pass():
    def step():
        raise RuntimeError("expected scalar type Float")

    with pytest.raises(RuntimeError, match="scalar type"):
        MicroBatches(4).run(10, step)


@pytest.mark.parametrize("settings", [{"micro_batch_size": 2}, {"micro_batch_size": 4, "gradient_checkpointing": True}])
def test_the_gradient_of_parts_is_that_of_the_batch(settings):
    whole, whole_figures = gradient_of_a_step()
    parts, figures = gradient_of_a_step(**settings)
    for a, b in zip(parts, whole, strict=True):
        assert (a - b).abs().max() <= 1e-5 * b.abs().max() + 1e-9
    for name in ("loss", "likelihood", "policy_gradient", "reward"):
        assert figures[name] == pytest.approx(whole_figures[name], rel=1e-4, abs=1e-6)


def test_the_gradient_of_a_likelihood_step_in_parts_is_that_of_the_batch():
    gradients = []
    for size in (0, 4):
        gan = build(micro_batch_size=size, generator="lora")
        gan.likelihood_step(batch_of(gan))
        gradients.append([p.grad for p in gan.parameters])
    for a, b in zip(*gradients, strict=True):
        assert (a - b).abs().max() <= 1e-5 * b.abs().max() + 1e-9


def test_a_step_that_runs_out_of_memory_goes_on_in_parts_with_the_same_gradient():
    def only_three_rows_fit(gan):
        score_from = gan.policy.score_from

        def limited(prefill, batch, *rest):
            if len(batch) > 3:
                raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 MiB")
            return score_from(prefill, batch, *rest)

        gan.policy.score_from = limited

    whole, _ = gradient_of_a_step()
    halved, _ = gradient_of_a_step(spoil=only_three_rows_fit)
    for a, b in zip(halved, whole, strict=True):
        assert (a - b).abs().max() <= 1e-5 * b.abs().max() + 1e-9


@pytest.mark.parametrize("reward", ["token", "monte-carlo"])
def test_training_in_parts_goes_through_all_phases(reward):
    history = trained(build(micro_batch_size=2, reward=reward, search_completions=2))
    adversarial = [row for row in history if row["phase"] == "adversarial"]
    assert len(adversarial) == 4
    assert all(row["answer_length"] <= 12 and 0 <= row["ended"] <= 1 for row in adversarial)


@pytest.mark.parametrize(("reward", "rows"), [("consensus", [12]), ("token", [8, 4]), ("monte-carlo", [8, 4])])
def test_only_what_judges_row_by_row_is_asked_in_parts(reward, rows, monkeypatch):
    gan = build(micro_batch_size=4, reward=reward, search_completions=1)
    asked, find = [], type(gan.reward).__call__
    monkeypatch.setattr(
        type(gan.reward), "__call__", lambda self, *given: asked.append(len(given[2])) or find(self, *given)
    )
    assert len(gan.rewards(gan.sample(batch_of(gan)))) == 12 and asked == rows


def test_a_rollout_of_at_most_so_many_rows_is_the_same_rollout(monkeypatch):
    whole, parts = build(beta=0.1), build(beta=0.1, rollout_rows=5)
    seen, answer, score = [], parts.policy.rollout, parts.reference.score
    monkeypatch.setattr(parts.policy, "rollout", lambda part, **more: seen.append(len(part)) or answer(part, **more))
    monkeypatch.setattr(parts.reference, "score", lambda part: seen.append(len(part)) or score(part))
    rollouts = [gan.sample(batch_of(gan)) for gan in (whole, parts)]
    assert seen == [2, 2, 2], "each question has two answers"
    assert torch.equal(*(rollout.answer_ids for rollout in rollouts))
    assert torch.equal(*(rollout.prompt_ids for rollout in rollouts))
    assert torch.allclose(whole.rewards(rollouts[0]), parts.rewards(rollouts[1]), atol=1e-5)
    loss = [
        gan.generator_step(batch_of(gan), rollout)["loss"]
        for gan, rollout in zip((whole, parts), rollouts, strict=True)
    ]
    assert loss[0] == pytest.approx(loss[1], abs=1e-4)
    assert seen[3:] == [4, 4, 4], "what the reference reads for beta is cut too"


def test_a_cpu_samples_96_answers_at_once_unless_told_otherwise():
    assert build().micro_batches.at_once(48, samples=8) == 12
    assert build(rollout_rows=384).micro_batches.at_once(48, samples=8) == 48


def test_samples_are_scored_with_those_of_like_length_and_no_wider(monkeypatch):
    gan = build(advantage="none", reward="sequence", likelihood_weight=0.0)
    batch, seen, score = batch_of(gan), [], gan.policy.score_from
    rollout = gan.sample(batch)
    lengths = 1 + torch.randperm(12, generator=torch.Generator().manual_seed(0))
    rollout.answer_mask *= torch.arange(12) < lengths[:, None]
    rewards = 2 * gan.discriminator.sequence_logits(rollout).sigmoid() - 1
    log_probs = gan.policy.score(rollout, noise=rollout.noise)
    loss = policy_gradient_loss(log_probs, rewards[:, None].expand_as(log_probs), rollout.answer_mask) / 12
    expected = torch.autograd.grad(loss, gan.parameters)

    monkeypatch.setattr(
        gan.policy, "score_from", lambda prefill, part, *more: seen.append(part) or score(prefill, part, *more)
    )
    gan.generator_step(batch, rollout)
    assert [part.answer_mask.sum(dim=1).tolist() for part in seen] == [[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]]
    assert [part.answer_ids.shape[1] for part in seen] == [6, 12]
    for parameter, exact in zip(gan.parameters, expected, strict=True):
        assert torch.allclose(parameter.grad, exact, rtol=1e-4, atol=1e-7)


def saved_bytes(function):
    """Bytes that a graph keeps for its backward pass, views of one storage counted once; and the function's value."""
    storages = {}

    def pack(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        value = function()
    return sum(storages.values()), value


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_checkpointed_layers_keep_less_and_give_the_same_gradient(family):
    gan = build(family, generator="lora")
    batch, policy = batch_of(gan), gan.policy
    with torch.no_grad():
        for parameter in gan.parameters:
            parameter.add_(0.1 * torch.randn_like(parameter))
    kept, scores = saved_bytes(lambda: policy.score(batch))
    expected = torch.autograd.grad(scores.sum(), gan.parameters)
    checkpoint_layers(gan.model)
    checkpoint_layers(gan.model)
    fewer, again = saved_bytes(lambda: policy.score(batch))
    assert torch.equal(scores, again)
    assert fewer < 0.7 * kept
    for a, b in zip(torch.autograd.grad(again.sum(), gan.parameters), expected, strict=True):
        assert torch.equal(a, b)
    assert policy.rollout(batch, max_new_tokens=4).answer_ids.shape[1] <= 4, "layers with a cache run as before"


def test_a_model_without_layers_made_for_it_is_refused():
    with pytest.raises(UserError, match="--gradient-checkpointing: this model's layers are not made for it"):
        checkpoint_layers(torch.nn.Linear(2, 2))


def test_dropout_stays_off_under_checkpointing():
    model = TINY_MODELS["gpt2"]()
    model.config.resid_pdrop = 0.5
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    policy = CausalLMPolicy(model, 1, 0)
    checkpoint_layers(model)
    batch = batch_of(build())
    assert torch.equal(policy.score(batch), policy.score(batch))
