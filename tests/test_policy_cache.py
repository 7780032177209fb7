"""The cache that grows in place: decoding with it, completing from it, and what it cannot hold."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    MambaConfig,
    MistralConfig,
    MistralForCausalLM,
)

from gantune.data.batch import Batch
from gantune.embedding_generator import hold_noise
from gantune.errors import UserError
from gantune.policy import CausalLMPolicy, Rollout, decoding
from gantune.policy.cache import GrowingCache, GrowingLayer
from tests.tiny_models import SHAPE, TINY_MODELS, build
from tests.tiny_policies import moved_policy

EOS, PAD, LONGEST = 2, 0, 10
GREEDY = 1e-4  # a temperature at which the likeliest token takes all the probability

WINDOW = {**SHAPE, "intermediate_size": 64, "num_key_value_heads": 1, "sliding_window": 4, "head_dim": 16}
MIXED = {**WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
MODELS = {
    **TINY_MODELS,
    "mistral, window 4": lambda: build(MistralForCausalLM, MistralConfig, WINDOW),
    "gemma2, window 4": lambda: build(Gemma2ForCausalLM, Gemma2Config, MIXED),
    "gemma3, window 4": lambda: build(Gemma3ForCausalLM, Gemma3TextConfig, MIXED),
}
every_model = pytest.mark.parametrize("name", MODELS)


def tuned(name: str, end_bias: float = 0.0) -> CausalLMPolicy:
    """A policy of one of the models; `end_bias` makes the end token likelier."""
    return moved_policy(MODELS[name](), end_bias)


def questions() -> Batch:
    """Left-padded questions of 2, 4 and 7 tokens."""
    generator = torch.Generator().manual_seed(3)
    mask = torch.tensor([[0] * (7 - n) + [1] * n for n in (7, 2, 4)])
    ids = torch.randint(3, 97, mask.shape, generator=generator) * mask
    empty = torch.zeros(3, 0, dtype=torch.long)
    return Batch(ids, mask, empty, empty)


def greedy_rollout(policy: CausalLMPolicy) -> Rollout:
    """Prefixes that are *not* greedy: given tokens, with noise, to be completed at a temperature near zero."""
    generator = torch.Generator().manual_seed(4)
    prompt = questions()
    ids = torch.randint(3, 97, (3, 6), generator=generator)
    return Rollout(
        prompt_ids=prompt.prompt_ids,
        prompt_mask=prompt.prompt_mask,
        answer_ids=ids,
        answer_mask=torch.ones_like(ids),
        log_probs=torch.zeros(ids.shape),
        noise=torch.randn(3, 8, generator=generator),
        temperature=GREEDY,
        samples_per_prompt=1,
        max_new_tokens=LONGEST,
    )


@torch.no_grad()
def continued(policy: CausalLMPolicy, rollout: Rollout, row: int, length: int) -> list[int]:
    """The greedy answer from a prefix on, one full pass a token, without padding, cache or batch."""
    prompt = rollout.prompt_ids[row][rollout.prompt_mask[row].bool()]
    answer = rollout.answer_ids[row, :length].tolist()
    while len(answer) < LONGEST and answer[-1] != EOS:
        with hold_noise(policy.model, rollout.noise[row : row + 1]):
            ids = torch.cat([prompt, torch.tensor(answer)])[None]
            answer.append(int(policy.model(input_ids=ids, use_cache=False).logits[0, -1].argmax()))
    return answer


@every_model
def test_completions_are_those_of_decoding_from_scratch(name):
    ends = []
    for end_bias in (0.0, 6.0, 9.0):
        policy = tuned(name, end_bias)
        rollout = policy.prepare(greedy_rollout(policy))
        rows = torch.tensor([2, 0, 1, 1, 0, 2, 2, 1, 0])
        lengths = torch.tensor([5, 1, 3, 3, 5, 1, 2, 1, 4])
        completed = policy.complete(rollout, rows, lengths)
        assert completed.answer_ids.shape[1] == completed.answer_mask.sum(1).max()
        assert torch.equal(completed.prompt_ids, rollout.prompt_ids[rows])
        for i, (row, length) in enumerate(zip(rows.tolist(), lengths.tolist(), strict=True)):
            expected = continued(policy, rollout, row, length)
            ends.append(len(expected))
            padding = completed.answer_ids.shape[1] - len(expected)
            assert completed.answer_ids[i].tolist() == expected + [PAD] * padding
            assert completed.answer_mask[i].tolist() == [1] * len(expected) + [0] * padding
    assert min(ends) < LONGEST and max(ends) == LONGEST, "the test needs answers that end early, and others that do not"


@every_model
def test_sampled_log_probs_are_those_of_scoring(name):
    policy = tuned(name, 5.0)
    torch.manual_seed(0)
    for keep_state in (False, True):
        rollout = policy.rollout(questions(), max_new_tokens=12, samples_per_prompt=4, keep_state=keep_state)
        assert (policy.score(rollout, noise=rollout.noise) - rollout.log_probs).abs().max() < 1e-5
        assert rollout.answer_mask.sum(1).min() < rollout.answer_mask.sum(1).max()


@pytest.mark.parametrize("keep_state", [False, True])
def test_looking_rarely_for_ends_samples_the_same(monkeypatch, keep_state):
    policy = tuned("gpt2", end_bias=5.0)
    torch.manual_seed(5)
    noise = policy.draw_noise(3)
    monkeypatch.setattr(policy, "draw_noise", lambda rows: noise)
    drawn = []
    for every in (1, 3, 100):
        monkeypatch.setitem(decoding.CHECK_EVERY, "cpu", every)
        torch.manual_seed(0)
        with monkeypatch.context() as patched:  # one number decides a token, whichever rows are decoded along
            patched.setattr(decoding, "sample_tokens", lambda p, uniform: (p.cumsum(dim=1) < 0.3).sum(dim=1))
            drawn.append(policy.rollout(questions(), max_new_tokens=12, keep_state=keep_state))
    first = drawn[0]
    assert 1 < first.answer_mask.sum(dim=1).min() < first.answer_mask.sum(dim=1).max()
    for other in drawn[1:]:
        assert torch.equal(other.answer_ids, first.answer_ids) and torch.equal(other.answer_mask, first.answer_mask)
        assert torch.allclose(other.log_probs, first.log_probs, atol=1e-5)
        if keep_state:
            rows, lengths = torch.arange(3), torch.ones(3, dtype=torch.long)
            assert policy.complete(policy.prepare(other), rows, lengths).answer_ids.shape[0] == 3


@every_model
def test_the_state_of_a_rollout_is_the_state_of_one_pass(name):
    """Completions under the same random numbers are the same, whichever of the two they start from."""
    policy = tuned(name, 2.0)
    torch.manual_seed(0)
    rollout = policy.rollout(questions(), max_new_tokens=LONGEST, samples_per_prompt=2, keep_state=True)
    again = policy.prepare(rollout.without_state())
    assert policy.prepare(rollout) is rollout and again.state is not rollout.state
    length = rollout.answer_ids.shape[1] - 1 + rollout.prompt_ids.shape[1]
    valid = rollout.attention_mask()[:, :length].bool()[:, None, :, None]
    for one, other in zip(rollout.state.layers, again.state.layers, strict=True):
        for a, b in ((one.keys, other.keys), (one.values, other.values)):
            assert a.shape == b.shape and a.shape[2] == length
            assert ((a - b) * valid).abs().max() < 1e-4
    rows = (rollout.answer_mask.sum(1) > 1).nonzero().squeeze(1)
    lengths = torch.ones_like(rows)
    completed = []
    for state in (rollout, again):
        torch.manual_seed(5)
        completed.append(policy.complete(state, rows, lengths).answer_ids)
    assert torch.equal(*completed)


def test_completed_answers_may_enter_a_graph():
    policy = tuned("gpt2")
    rollout = policy.rollout(questions(), max_new_tokens=5, keep_state=True)
    completed = policy.complete(rollout, torch.tensor([0, 1]), torch.tensor([1, 2]))
    assert not any(tensor.is_inference() for tensor in (completed.answer_ids, completed.answer_mask))
    policy.score(completed).sum().backward()


def test_completing_leaves_the_state_as_it_was():
    policy = tuned("llama")
    rollout = policy.prepare(greedy_rollout(policy))
    before = [layer.keys.clone() for layer in rollout.state.layers]
    for _ in range(2):
        policy.complete(rollout, torch.tensor([0, 0, 2]), torch.tensor([1, 5, 3]))
    for layer, keys in zip(rollout.state.layers, before, strict=True):
        assert torch.equal(layer.keys, keys)


def test_completing_needs_a_prepared_rollout():
    policy = tuned("gpt2")
    with pytest.raises(ValueError, match="prepare"):
        policy.complete(greedy_rollout(policy), torch.tensor([0]), torch.tensor([1]))


def states(rows: int, positions: int) -> torch.Tensor:
    """`[rows, 2, positions, 3]`, every number another one."""
    return torch.arange(rows * 2 * positions * 3, dtype=torch.float32).reshape(rows, 2, positions, 3)


def test_a_layer_grows_in_its_buffer():
    layer, all_states = GrowingLayer(capacity=8), states(3, 8)
    for start, stop in ((0, 5), (5, 6), (6, 8)):
        keys, values = layer.update(all_states[:, :, start:stop], -all_states[:, :, start:stop])
        assert torch.equal(keys, all_states[:, :, :stop]) and torch.equal(values, -all_states[:, :, :stop])
        assert layer.get_seq_length() == stop and layer.get_mask_sizes(1) == (stop + 1, 0)
        assert keys.data_ptr() == layer.buffers[0].data_ptr()
    with pytest.raises(ValueError, match="room for 8"):
        layer.update(all_states[:, :, :1], all_states[:, :, :1])


def test_rows_are_copied_up_to_their_length_and_given_up():
    cache, all_states = GrowingCache(layers=[GrowingLayer(6)]), states(4, 5)
    cache.update(all_states, -all_states, 0)
    rows, lengths = torch.tensor([3, 1, 1, 0]), torch.tensor([2, 4, 4, 1])
    copy = cache.select(rows, lengths, capacity=6)
    assert copy.get_seq_length() == 4
    for i, (row, length) in enumerate(zip(rows.tolist(), lengths.tolist(), strict=True)):
        assert torch.equal(copy.layers[0].keys[i, :, 4 - length :], all_states[row, :, :length])
        assert torch.equal(copy.layers[0].values[i, :, 4 - length :], -all_states[row, :, :length])
        assert copy.layers[0].keys[i, :, : 4 - length].eq(0).all()

    keys = copy.layers[0].keys.clone()
    order = copy.keep(torch.tensor([False, True, False, True]), start=1)
    assert sorted(order.tolist()) == [1, 3]
    assert torch.equal(copy.layers[0].keys, keys[order, :, 1:])
    new = states(2, 1)
    assert torch.equal(copy.update(new, new, 0)[0], torch.cat([keys[order, :, 1:], new], dim=2))
    assert torch.equal(cache.layers[0].keys, all_states), "a copy is written without changing its source"


def test_a_model_with_recurrent_layers_is_refused():
    with pytest.raises(UserError, match="model type mamba: layer 0"):
        GrowingCache.for_model(MambaConfig(num_hidden_layers=2), capacity=4)


def test_left_padding_that_no_row_needs_any_more_is_given_up():
    """The widths that the model sees: rows with long prefixes are full first, and take their columns with them."""
    policy = tuned("gpt2", end_bias=-50.0)
    rollout = policy.prepare(greedy_rollout(policy))
    seen = []
    policy.model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(tuple(kwargs["attention_mask"].shape)), with_kwargs=True
    )
    policy.complete(rollout, torch.tensor([0, 0, 1, 1]), torch.tensor([5, 5, 1, 1]))
    assert seen[:5] == [(4, 12 + step) for step in range(5)]
    assert seen[5:] == [(2, 2 + 1 + step) for step in range(5, 9)]  # question 1 has 2 tokens
