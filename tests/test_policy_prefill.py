"""Scoring from questions that were read once is the plain way's scoring: the same log-probs and the same gradients."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    MistralConfig,
    MistralForCausalLM,
)

from gantune.data.batch import Batch, Pair
from gantune.embedding_generator import stack_adapters
from gantune.policy import CausalLMPolicy, MonteCarloSearch, Prefill, Rollout
from tests.tiny_models import SHAPE, TINY_MODELS, build
from tests.tiny_policies import ADAPTERS

EOS, PAD, LONGEST, SAMPLES = 2, 0, 9, 3

WINDOW = {**SHAPE, "intermediate_size": 64, "num_key_value_heads": 1, "sliding_window": 4, "head_dim": 16}
MIXED = {**WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
MODELS = {
    **TINY_MODELS,
    "mistral, window 4": lambda: build(MistralForCausalLM, MistralConfig, WINDOW),
    "gemma2, window 4": lambda: build(Gemma2ForCausalLM, Gemma2Config, MIXED),  # its logits are soft-capped
    "gemma3, window 4": lambda: build(Gemma3ForCausalLM, Gemma3TextConfig, MIXED),
}
every_model = pytest.mark.parametrize("name", MODELS)
every_adapter = pytest.mark.parametrize("adapter", ADAPTERS)


def tuned(name: str, adapter: str = "embedding", end_bias: float = 2.5) -> CausalLMPolicy:
    """A policy whose adapter is away from zero, with a plain linear head that likes the end token."""
    model = MODELS[name]()
    old = model.get_output_embeddings()
    head = nn.Linear(old.in_features, old.out_features)
    head.weight.data, head.bias.data = old.weight.data.clone(), torch.zeros(old.out_features)
    head.bias.data[EOS] = end_bias
    model.set_output_embeddings(head)
    torch.manual_seed(1)
    model = stack_adapters(model, deepcopy(ADAPTERS[adapter]))  # peft writes into configurations
    with torch.no_grad():
        for parameter in trained(model):
            parameter.add_(torch.randn_like(parameter) * 0.2)
    policy = CausalLMPolicy(model, eos_token_id=EOS, pad_token_id=PAD)
    assert (policy.head.linear is None) == name.startswith("gemma2")
    return policy


def trained(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def pairs(lengths: tuple[int, ...] = (7, 2, 4), answers: tuple[int, ...] = (3, 5, 1)) -> Batch:
    """Left-padded questions and right-padded true answers of these lengths."""
    generator = torch.Generator().manual_seed(3)
    prompt = torch.tensor([[0] * (max(lengths) - n) + [1] * n for n in lengths])
    answer = torch.tensor([[1] * n + [0] * (max(answers) - n) for n in answers])
    ids = torch.randint(3, 97, (len(lengths), max(lengths) + max(answers)), generator=generator)
    return Batch(
        ids[:, : max(lengths)] * prompt,
        prompt,
        ids[:, max(lengths) :] * answer,
        answer,
        tuple(Pair(f"q{row}", f"a{row}") for row in range(len(lengths))),
    )


def sample(policy: CausalLMPolicy, batch: Batch, **options) -> tuple[Prefill, Rollout]:
    torch.manual_seed(0)
    prefill = policy.prefill(batch, policy.draw_noise(len(batch)))
    options = {"max_new_tokens": LONGEST, "temperature": 0.7, "samples_per_prompt": SAMPLES} | options
    return prefill, policy.rollout(batch, prefill=prefill, **options)


def questions_of(rollout: Rollout) -> Tensor:
    return torch.arange(len(rollout)) // rollout.samples_per_prompt


def count_fed_tokens(policy: CausalLMPolicy) -> list[tuple[int, int]]:
    """A list that every call of the model adds the shape of its tokens to."""
    fed: list[tuple[int, int]] = []
    policy.model.register_forward_pre_hook(
        lambda module, args, kwargs: fed.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    return fed


def compare(policy: CausalLMPolicy, batch: Batch) -> None:
    """Log-probs and gradients of rollouts and true answers, in parts from one prefill, against the plain way."""
    prefill, rollout = sample(policy, batch)
    assert rollout.prefill is prefill
    assert (rollout.noise is None) == (prefill.noise is None)
    if rollout.noise is not None:
        assert torch.equal(rollout.noise, prefill.noise.repeat_interleave(SAMPLES, dim=0))
    generator = torch.Generator().manual_seed(5)
    weights = torch.randn(rollout.answer_ids.shape, generator=generator)
    true_weights = torch.randn(batch.answer_ids.shape, generator=generator)

    plain = policy.score(rollout, noise=rollout.noise, temperature=0.7)
    plain_true = policy.score(batch, noise=prefill.noise)
    expected = torch.autograd.grad(
        (plain * weights).sum() + (plain_true * true_weights).sum(), trained(policy.model), allow_unused=True
    )
    assert (plain - rollout.log_probs).abs().max() < 1e-5

    scored = []
    for start, stop in ((0, 4), (4, len(rollout))):
        part = rollout.rows(start, stop)
        scored.append(policy.score_from(prefill, part, questions_of(rollout)[start:stop], temperature=0.7))
        (scored[-1] * weights[start:stop]).sum().backward()
    scored_true = policy.score_from(prefill, batch, torch.arange(len(batch)))
    (scored_true * true_weights).sum().backward()
    prefill.backward()

    assert (torch.cat(scored) - plain).abs().max() < 1e-5
    assert (scored_true - plain_true).abs().max() < 1e-5
    assert torch.cat(scored)[rollout.answer_mask == 0].eq(0).all() and scored_true[batch.answer_mask == 0].eq(0).all()
    used = 0
    for parameter, exact in zip(trained(policy.model), expected, strict=True):
        if exact is None or not exact.any():  # nothing to scale by
            assert parameter.grad is None or not parameter.grad.any()
            continue
        used += 1
        assert (parameter.grad - exact).abs().max() < 1e-5 * exact.abs().max()
    assert used > 4 or (policy.virtual_tokens and used == 1)  # the virtual tokens are one parameter
    assert all(p.grad is None for p in policy.model.parameters() if not p.requires_grad)


@every_model
@every_adapter
def test_scoring_from_a_prefill_is_plain_scoring(name, adapter):
    policy = tuned(name, adapter)
    compare(policy, pairs())
    policy.model.zero_grad()
    compare(policy, pairs(lengths=(5, 5), answers=(4, 4)))  # without padding attention may take another kernel


def test_rollouts_of_the_test_end_in_the_middle():
    _, rollout = sample(tuned("gpt2"), pairs())
    assert 1 <= rollout.answer_mask.sum(1).min() < rollout.answer_mask.sum(1).max() <= LONGEST


def test_rows_may_be_in_any_order_and_number():
    policy = tuned("llama")
    prefill, rollout = sample(policy, pairs())
    order = torch.tensor([8, 0, 0, 5])
    some = rollout.select(order)
    assert some.prefill is None and rollout.rows(0, 2).prefill is None and rollout.without_state().prefill is None
    scored = policy.score_from(prefill, some, order // SAMPLES, temperature=0.7)
    assert (scored - rollout.log_probs[order]).abs().max() < 1e-5


@pytest.mark.parametrize("name", ["gpt2", "gemma2, window 4"])
def test_answers_of_one_token_are_scored_from_the_question_alone(name):
    policy = tuned(name)
    batch = pairs(answers=(1, 1, 1))
    prefill = policy.prefill(batch, None)
    fed = count_fed_tokens(policy)
    scored = policy.score_from(prefill, batch, torch.arange(3))
    assert fed == []
    assert scored.shape == (3, 1) and (scored - policy.score(batch)).abs().max() < 1e-5


def test_each_question_is_read_once_a_step():
    policy, batch = tuned("gpt2", end_bias=-50.0), pairs()
    fed = count_fed_tokens(policy)
    prefill, rollout = sample(policy, batch)
    assert rollout.answer_ids.shape == (9, LONGEST)
    for start in range(0, len(rollout), len(batch)):
        part = rollout.rows(start, start + len(batch))
        policy.score_from(prefill, part, questions_of(rollout)[start : start + len(batch)]).sum().backward()
    policy.score_from(prefill, batch, torch.arange(3)).sum().backward()
    prefill.backward()
    assert fed == [(3, 7)] + [(9, 1)] * (LONGEST - 1) + [(3, LONGEST - 1)] * 3 + [(3, 4)]


def test_a_rollout_without_a_prefill_reads_each_question_once_too():
    policy = tuned("gpt2", end_bias=-50.0)
    fed = count_fed_tokens(policy)
    rollout = policy.rollout(pairs(), max_new_tokens=4, samples_per_prompt=SAMPLES)
    assert fed == [(3, 7)] + [(9, 1)] * 3
    assert rollout.prefill is None
    assert (policy.score(rollout, noise=rollout.noise) - rollout.log_probs).abs().max() < 1e-5


@pytest.mark.parametrize("name", ["gpt2", "gemma2, window 4"])
@pytest.mark.parametrize("samples", [1, SAMPLES])
def test_decoding_leaves_the_prefill_as_it_was(name, samples):
    policy, batch = tuned(name), pairs()
    prefill = policy.prefill(batch, policy.draw_noise(3))
    tensors = [prefill.last.values, *(tensor for layer in prefill.states for tensor in layer)]
    before = [tensor.detach().clone() for tensor in tensors]
    policy.rollout(batch, max_new_tokens=5, temperature=0.5, samples_per_prompt=samples, prefill=prefill)
    assert all(torch.equal(tensor, old) for tensor, old in zip(tensors, before, strict=True))
    assert not any(tensor.is_inference() for tensor in tensors)


def test_a_rollout_from_a_prefill_is_completed_like_any_other():
    policy = tuned("gpt2", end_bias=0.0)
    _, rollout = sample(policy, pairs(), keep_state=True)
    completed = []
    for state in (rollout, policy.prepare(rollout.without_state())):
        torch.manual_seed(6)
        completed.append([ids for part in MonteCarloSearch(policy, 2)(state) for ids in part.batch.answer_ids.tolist()])
    assert completed[0] == completed[1] and len(completed[0]) > 20


def test_without_gradient_there_is_nothing_to_send_back():
    policy, batch = tuned("gpt2"), pairs()
    with torch.no_grad():
        prefill = policy.prefill(batch, None)
        scored = policy.score_from(prefill, batch, torch.arange(3))
    assert not scored.requires_grad
    assert (scored - policy.score(batch)).abs().max() < 1e-5
    prefill.backward()
    assert all(parameter.grad is None for parameter in policy.model.parameters())


def test_a_second_backward_adds_nothing():
    policy, batch = tuned("gpt2"), pairs()
    prefill = policy.prefill(batch, None)
    policy.score_from(prefill, batch, torch.arange(3)).sum().backward()
    prefill.backward()
    before = [parameter.grad.clone() for parameter in trained(policy.model)]
    prefill.backward()
    assert all(torch.equal(p.grad, old) for p, old in zip(trained(policy.model), before, strict=True))


def test_a_prefill_of_other_questions_is_refused():
    policy = tuned("gpt2")
    prefill = policy.prefill(pairs((7, 2, 4)), None)
    same_lengths = pairs((7, 2, 4))
    same_lengths.prompt_ids[0, 0] += 1
    for other in (pairs((7, 3, 4)), same_lengths):
        with pytest.raises(ValueError, match="other questions"):
            policy.rollout(other, max_new_tokens=2, prefill=prefill)
