"""Rollout and scoring are one policy: their log-probs agree, for every model family."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from peft import PromptTuningConfig, get_peft_model

from gantune.data.batch import Batch, Pair
from gantune.errors import UserError
from gantune.policy import CausalLMPolicy
from tests.tiny_models import TINY_MODELS
from tests.tiny_policies import moved_policy

EOS, PAD = 2, 0
BIAS = torch.zeros(97)
BIAS[EOS] = 3.0
every_family = pytest.mark.parametrize("family", TINY_MODELS)


def tuned(family):
    """A policy of a tiny model of this family."""
    return moved_policy(TINY_MODELS[family]())


def questions(rows: int = 6) -> Batch:
    """Left-padded questions of 2 to 7 tokens."""
    generator = torch.Generator().manual_seed(3)
    mask = torch.zeros(rows, 7, dtype=torch.long)
    for row in range(rows):
        mask[row, 5 - row % 6 :] = 1
    ids = torch.randint(3, 97, (rows, 7), generator=generator) * mask
    empty = torch.zeros(rows, 0, dtype=torch.long)
    return Batch(ids, mask, empty, empty, tuple(Pair(f"q{row}", f"a{row}") for row in range(rows)))


def end_early(policy):
    """Make the end token likely, so that answers end in the middle of the batch."""
    head = policy.model.get_output_embeddings()
    original = head.forward

    def biased(hidden):
        return original(hidden) + BIAS

    head.forward = biased


@every_family
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_rollout_and_scoring_agree(family, temperature):
    policy = tuned(family)
    end_early(policy)
    torch.manual_seed(0)
    rollout = policy.rollout(questions(), max_new_tokens=12, temperature=temperature, samples_per_prompt=3)
    scored = policy.score(rollout, noise=rollout.noise, temperature=rollout.temperature)
    assert (scored - rollout.log_probs).abs().max() < 1e-5
    assert scored.requires_grad and not rollout.log_probs.requires_grad
    lengths = rollout.answer_mask.sum(1)
    assert lengths.min() < lengths.max(), "the test needs answers that end in the middle"
    # and it would notice other noise, another temperature, or unmasked padding
    assert (policy.score(rollout, temperature=temperature) - rollout.log_probs).abs().max() > 1e-3
    assert (policy.score(rollout, noise=rollout.noise, temperature=2.0) - rollout.log_probs).abs().max() > 1e-3


@every_family
def test_scoring_does_not_depend_on_padding(family):
    policy = tuned(family)
    torch.manual_seed(0)
    rollout = policy.rollout(questions(), max_new_tokens=6)
    together = policy.score(rollout, noise=rollout.noise)
    for row in range(len(rollout)):
        start = int((rollout.prompt_mask[row] == 0).sum())
        alone = Batch(
            rollout.prompt_ids[row : row + 1, start:],
            rollout.prompt_mask[row : row + 1, start:],
            rollout.answer_ids[row : row + 1],
            rollout.answer_mask[row : row + 1],
        )
        assert (policy.score(alone, noise=rollout.noise[row : row + 1]) - together[row]).abs().max() < 1e-5


def test_a_rollout_ends_at_the_first_end_of_sequence():
    policy = tuned("gpt2")
    end_early(policy)
    torch.manual_seed(0)
    rollout = policy.rollout(questions(), max_new_tokens=12, samples_per_prompt=4)
    for ids, mask, log_probs in zip(rollout.answer_ids, rollout.answer_mask, rollout.log_probs, strict=True):
        length = int(mask.sum())
        assert mask.tolist() == [1] * length + [0] * (len(mask) - length)
        assert EOS not in ids[: length - 1].tolist()
        if length < len(mask):
            assert ids[length - 1] == EOS
            assert ids[length:].eq(PAD).all() and log_probs[length:].eq(0).all()


def test_samples_of_one_question_are_adjacent_and_share_its_noise():
    policy = tuned("gpt2")
    rollout = policy.rollout(questions(2), max_new_tokens=4, samples_per_prompt=3)
    assert [pair.question for pair in rollout.pairs] == ["q0"] * 3 + ["q1"] * 3
    assert torch.equal(rollout.prompt_ids[0], rollout.prompt_ids[2])
    assert rollout.noise.shape == (6, 8)
    assert torch.equal(rollout.noise, rollout.noise[[0, 3]].repeat_interleave(3, dim=0))
    assert not torch.equal(rollout.noise[0], rollout.noise[3])
    assert rollout.samples_per_prompt == 3


def test_tokens_are_sampled_with_the_probabilities_that_are_reported():
    """Frequencies of the first token over many samples against exp(log-prob), within four standard errors."""
    policy = tuned("gpt2")
    prompt = questions(1)
    noise = torch.zeros(8)
    policy.draw_noise = lambda rows: noise.expand(rows, -1)
    torch.manual_seed(0)
    n = 4000
    rollout = policy.rollout(prompt, max_new_tokens=1, samples_per_prompt=n)
    for token in rollout.answer_ids.flatten().unique():
        chosen = rollout.answer_ids[:, 0] == token
        p = rollout.log_probs[chosen][0, 0].exp().item()
        assert abs(chosen.float().mean().item() - p) < 4 * (p * (1 - p) / n) ** 0.5 + 1e-9


def test_dropout_is_off_whatever_mode_the_caller_left():
    policy = tuned("gpt2")
    assert not policy.model.training


def test_gradients_reach_the_adapter_and_nothing_else():
    policy = tuned("llama")
    rollout = policy.rollout(questions(), max_new_tokens=5)
    policy.score(rollout, noise=rollout.noise).sum().backward()
    for name, parameter in policy.model.named_parameters():
        assert (parameter.grad is not None) == ("embedding_generator" in name), name


def test_padding_of_an_answer_is_worth_nothing():
    policy = tuned("gpt2")
    rollout = policy.rollout(questions(), max_new_tokens=6)
    cut = rollout.answer_mask.clone()
    cut[:, 3:] = 0
    junk = replace(rollout, answer_mask=cut, answer_ids=rollout.answer_ids.where(cut.bool(), torch.tensor(50)))
    kept = policy.score(rollout, noise=rollout.noise)[:, :3]
    assert (policy.score(junk, noise=rollout.noise)[:, :3] - kept).abs().max() < 1e-5
    assert policy.score(junk, noise=rollout.noise)[:, 3:].eq(0).all()


def test_prompt_learning_is_refused():
    """peft puts the virtual tokens before every step's token, cache or not: what is sampled is another policy."""
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    policy = CausalLMPolicy(get_peft_model(TINY_MODELS["gpt2"](), config), eos_token_id=EOS, pad_token_id=PAD)
    with pytest.raises(UserError, match="PROMPT_TUNING"):
        policy.rollout(questions(), max_new_tokens=4)
