"""Monte-Carlo search with a real model: its values are exact in the mean, and no prefix is computed twice."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from gantune.data.batch import Batch
from gantune.policy import CausalLMPolicy, DelayedPolicy, MonteCarloSearch, Rollout, sample_tokens
from gantune.seqgan import search_values
from tests.enumeration import END, LENGTH, VOCABULARY, every_answer
from tests.tiny_models import TINY_MODELS, build
from tests.tiny_policies import moved_policy

EOS, PAD = 2, 0


# --------------------------------------------------------------------------------- values against enumeration


class Enumerated:
    """A GPT-2 over 4 tokens, all its answers, the exact log-prob of each, and a random score of each."""

    def __init__(self) -> None:
        shape = {"vocab_size": VOCABULARY, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 8}
        self.policy = CausalLMPolicy(build(GPT2LMHeadModel, GPT2Config, {**shape, "initializer_range": 0.4}), END, 0)
        answers = every_answer()
        prompt = torch.tensor([[1, 3]]).expand(len(answers), -1)
        self.answers = Batch(prompt, torch.ones_like(prompt), answers.answer_ids, answers.answer_mask)
        with torch.no_grad():
            self.log_probs = self.policy.score(self.answers).double()
        self.table = torch.randn(VOCABULARY**LENGTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def score(self, batch: Batch) -> Tensor:
        """The score of each answer; its number in base 4, where what comes after the end counts as 0."""
        ids = torch.zeros(len(batch), LENGTH, dtype=torch.long)
        ids[:, : batch.answer_ids.shape[1]] = batch.answer_ids * batch.answer_mask
        return self.table[ids @ torch.tensor([16, 4, 1])]

    def rollout(self) -> Rollout:
        """Every answer once, as if it had been sampled."""
        return Rollout(
            **vars(self.answers),
            log_probs=self.log_probs.float(),
            noise=None,
            temperature=1.0,
            samples_per_prompt=1,
            max_new_tokens=LENGTH,
        )

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and variance of the score of a completion, `[B, T]`, of the prefix that each token ends."""
        scores = self.score(self.answers)
        ids, mask = self.answers.answer_ids, self.answers.answer_mask
        mean, variance = torch.zeros(mask.shape).double(), torch.zeros(mask.shape).double()
        for row in range(len(ids)):
            for t in range(int(mask[row].sum())):
                same = (ids[:, : t + 1] == ids[row, : t + 1]).all(1) & (mask[:, t] == 1)
                weights = self.log_probs[same, t + 1 :].sum(1).exp()
                assert abs(weights.sum() - 1) < 1e-5, "the answers of a prefix must be all there are"
                mean[row, t] = weights @ scores[same]
                variance[row, t] = weights @ (scores[same] - mean[row, t]) ** 2
        return mean, variance


@pytest.fixture(scope="module")
def enumerated() -> Enumerated:
    return Enumerated()


def test_values_converge_to_the_exact_ones(enumerated):
    exact, variance = enumerated.moments()
    rollout = enumerated.rollout()
    searched = (variance > 0) & rollout.answer_mask.bool()
    assert searched.sum() > 20
    rms = {}
    for completions in (64, 4096):
        torch.manual_seed(0)
        search = MonteCarloSearch(enumerated.policy, completions, max_rows=16384)
        error = search_values(enumerated.score, search, rollout) - exact
        assert error[~searched].abs().max() < 1e-6  # whole answers have their own score, padding none
        assert (error.abs() < 4 * (variance / completions).sqrt() + 1e-6).all()
        rms[completions] = error[searched].square().mean().sqrt().item()
    assert 5 < rms[64] / rms[4096] < 13  # 8, but for chance


def test_values_of_prefixes_between_the_strides_are_those_of_the_next_one_searched(enumerated):
    exact, variance = enumerated.moments()
    rollout = enumerated.rollout()
    torch.manual_seed(0)
    values = search_values(enumerated.score, MonteCarloSearch(enumerated.policy, 1024, stride=2), rollout)
    for row, length in enumerate(rollout.answer_mask.sum(1).tolist()):
        if length == LENGTH:  # prefix 1 is not searched, and prefix 2 is
            assert values[row, 0] == values[row, 1]
            assert abs(values[row, 1] - exact[row, 1]) < 4 * (variance[row, 1] / 1024).sqrt() + 1e-6
        else:
            assert (values[row, :length] == enumerated.score(enumerated.answers)[row]).all()


# --------------------------------------------------------------------------------- what is completed, and its cost


def tuned(end_bias: float = 2.0) -> CausalLMPolicy:
    return moved_policy(TINY_MODELS["gpt2"](), end_bias)


def questions() -> Batch:
    """Left-padded questions of 4, 6 and 2 tokens."""
    mask = torch.tensor([[0] * (6 - n) + [1] * n for n in (4, 6, 2)])
    ids = torch.randint(3, 97, mask.shape, generator=torch.Generator().manual_seed(3)) * mask
    empty = torch.zeros(3, 0, dtype=torch.long)
    return Batch(ids, mask, empty, empty)


def count_fed_tokens(policy: CausalLMPolicy) -> list[tuple[int, int]]:
    """A list that every call of the model adds the shape of its tokens to."""
    fed: list[tuple[int, int]] = []
    policy.model.register_forward_pre_hook(
        lambda module, args, kwargs: fed.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    return fed


@pytest.mark.parametrize(("stride", "max_rows"), [(1, 256), (1, 7), (3, 5), (4, 1), (50, 8)])
def test_every_prefix_is_completed_as_often_as_asked(stride, max_rows):
    policy, completions = tuned(), 3
    torch.manual_seed(2)
    rollout = policy.rollout(questions(), max_new_tokens=11, samples_per_prompt=2, keep_state=True)
    answer_lengths = rollout.answer_mask.sum(1)
    assert len(answer_lengths.unique()) > 2, "the test needs answers of several lengths"
    seen: dict[tuple[int, int], int] = {}
    for rows, lengths, batch in MonteCarloSearch(policy, completions, stride, max_rows)(rollout):
        assert len(rows) == len(lengths) == len(batch) <= max_rows
        assert torch.equal(batch.prompt_ids, rollout.prompt_ids[rows])
        assert torch.equal(batch.prompt_mask, rollout.prompt_mask[rows])
        for i, (row, length) in enumerate(zip(rows.tolist(), lengths.tolist(), strict=True)):
            seen[row, length] = seen.get((row, length), 0) + 1
            total = int(batch.answer_mask[i].sum())
            ids = batch.answer_ids[i]
            assert torch.equal(ids[:length], rollout.answer_ids[row, :length])
            assert length < total <= rollout.max_new_tokens
            assert batch.answer_mask[i].tolist() == [1] * total + [0] * (len(ids) - total)
            assert EOS not in ids[: total - 1] and (ids[total - 1] == EOS or total == rollout.max_new_tokens)
            assert ids[total:].eq(PAD).all()
    wanted = [(row, n) for row, total in enumerate(answer_lengths.tolist()) for n in range(stride, total, stride)]
    assert seen == dict.fromkeys(wanted, completions)


def test_answers_of_one_token_have_no_prefix_to_complete():
    policy = tuned(end_bias=50.0)
    rollout = policy.rollout(questions(), max_new_tokens=5)
    assert rollout.answer_ids.shape[1] == 1
    assert list(MonteCarloSearch(policy)(rollout)) == []


def test_no_prefix_is_computed_again():
    policy, longest = tuned(end_bias=-50.0), 8
    fed = count_fed_tokens(policy)
    rollout = policy.rollout(questions(), max_new_tokens=longest, keep_state=True)
    assert fed == [(3, 6)] + [(3, 1)] * (longest - 1)
    fed.clear()
    for _ in MonteCarloSearch(policy, completions=2)(rollout):
        pass
    assert {length for _, length in fed} == {1} and len(fed) == longest - 1
    sampled = sum(3 * 2 * (longest - length) for length in range(1, longest))
    assert sum(rows for rows, _ in fed) == sampled, "one token is fed for each that is sampled"


def test_preparing_is_one_pass():
    policy = tuned(end_bias=-50.0)
    rollout = policy.rollout(questions(), max_new_tokens=8)
    fed = count_fed_tokens(policy)
    assert policy.prepare(policy.prepare(rollout)).state is not None
    assert fed == [(3, 6 + 7)]


def test_rows_that_ended_leave_the_batch():
    policy = tuned(end_bias=6.0)
    fed = count_fed_tokens(policy)
    torch.manual_seed(0)
    rollout = policy.rollout(questions(), max_new_tokens=20, samples_per_prompt=8)
    assert fed[0] == (3, 6), "the question is read once for all its samples"
    assert [rows for rows, _ in fed[1:]] == rollout.answer_mask.sum(0).tolist()[1:]
    assert fed[-1][0] < 20


def test_answers_stay_in_their_rows_when_others_leave():
    """The head writes each question's own token, and ends at a rate that mixes the rows that stay."""
    policy = tuned()
    head = policy.model.get_output_embeddings()
    first_tokens = torch.tensor([10, 20, 30])

    fed: list[Tensor] = []
    policy.model.register_forward_pre_hook(
        lambda module, args, kwargs: fed.append(kwargs["input_ids"][:, -1]), with_kwargs=True
    )

    def told(module, args, logits):  # the token that was fed, again, or the end
        only = torch.full_like(logits, -torch.inf)
        only[:, -1].scatter_(1, fed[-1][:, None], 0.0)
        only[..., EOS] = -1.0
        return only

    head.register_forward_hook(told)
    prompt = questions()
    prompt.prompt_ids[:, -1] = first_tokens
    torch.manual_seed(0)
    rollout = policy.rollout(prompt, max_new_tokens=12, samples_per_prompt=20)
    mask = rollout.answer_mask.bool()
    expected = first_tokens.repeat_interleave(20)[:, None].expand_as(rollout.answer_ids)
    assert mask.sum(1).min() == 1 and mask.sum(1).max() > 5
    assert ((rollout.answer_ids == expected) | (rollout.answer_ids == EOS))[mask].all()
    assert rollout.answer_ids[~mask].eq(PAD).all()


# --------------------------------------------------------------------------------- the delayed policy


def trained(policy: CausalLMPolicy) -> list[torch.nn.Parameter]:
    return [p for p in policy.model.parameters() if p.requires_grad]


def all_completions(policy, rollout: Rollout, seed: int = 7) -> list[list[int]]:
    torch.manual_seed(seed)
    return [ids for _, _, batch in MonteCarloSearch(policy, 4)(rollout) for ids in batch.answer_ids.tolist()]


def test_a_delayed_policy_follows_slowly():
    policy = tuned()
    delayed = DelayedPolicy(policy, trained(policy), decay=0.75)
    torch.manual_seed(2)
    rollout = policy.rollout(questions(), max_new_tokens=8, keep_state=True)
    at_first = all_completions(policy, rollout)
    assert all_completions(delayed, rollout) == at_first

    old = [p.detach().clone() for p in trained(policy)]
    with torch.no_grad():
        for parameter in trained(policy):
            parameter.add_(torch.randn_like(parameter))
    new = [p.detach().clone() for p in trained(policy)]
    assert all_completions(delayed, rollout) == at_first, "the average has not moved yet"
    assert all_completions(policy, rollout.without_state()) != at_first

    delayed.update()
    expected = [0.75 * a + 0.25 * b for a, b in zip(old, new, strict=True)]
    for average, value in zip(delayed.average, expected, strict=True):
        torch.testing.assert_close(average, value)
    from_average = all_completions(delayed, rollout)
    for parameter, value in zip(trained(policy), new, strict=True):
        assert torch.equal(parameter, value), "the weights are put back"
    with torch.no_grad():
        for parameter, value in zip(trained(policy), delayed.average, strict=True):
            parameter.copy_(value)
    assert all_completions(policy, rollout.without_state()) == from_average


def test_a_delayed_policy_puts_the_weights_back_after_an_error():
    policy = tuned()
    delayed = DelayedPolicy(policy, trained(policy))
    with torch.no_grad():
        for parameter in trained(policy):
            parameter.add_(1.0)
    before = [p.detach().clone() for p in trained(policy)]
    rollout = policy.rollout(questions(), max_new_tokens=4, keep_state=True)
    with pytest.raises(IndexError):
        delayed.complete(rollout, torch.tensor([99]), torch.tensor([1]))
    for parameter, value in zip(trained(policy), before, strict=True):
        assert torch.equal(parameter, value)


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(ValueError, match="decay"):
        DelayedPolicy(tuned(), [], decay)


@pytest.mark.parametrize("name", ["completions", "stride", "max_rows"])
def test_a_number_below_one_is_refused(name):
    with pytest.raises(ValueError, match=name):
        MonteCarloSearch(tuned(), **{name: 0})


# --------------------------------------------------------------------------------- sampling tokens


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 12, 17])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_tokens_are_drawn_with_their_probabilities(size, dtype):
    torch.manual_seed(size)
    weights = torch.rand(size).to(dtype)
    weights[::3] = 0
    weights[-1 if size % 2 else 0] = 0.5  # the last index in some, none of the rows without any
    n = 40_000
    drawn = sample_tokens(weights.expand(n, -1))
    assert drawn.shape == (n,) and drawn.dtype == torch.int64
    p = weights.double() / weights.double().sum()
    frequencies = drawn.bincount(minlength=size).double() / n
    assert len(frequencies) == size and frequencies[p == 0].eq(0).all()
    # sums of blocks are taken in the given precision
    rounding = 4 * torch.finfo(dtype).eps
    assert ((frequencies - p).abs() <= 4 * (p * (1 - p) / n).sqrt() + rounding * (p > 0)).all()


@pytest.mark.parametrize("size", [1, 5, 12, 97])
def test_several_tokens_of_one_row_are_those_of_so_many_rows(size):
    generator = torch.Generator().manual_seed(size)
    weights = torch.rand(4, size, generator=generator)
    rows = torch.randint(4, (500,), generator=generator)
    uniform = torch.rand(500, dtype=torch.float64, generator=generator)
    assert torch.equal(sample_tokens(weights, uniform, rows), sample_tokens(weights[rows], uniform))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_a_probability_of_zero_is_never_drawn(dtype):
    """Many rows, each with few indices that have any, at the ends of blocks and of the row; many magnitudes."""
    generator = torch.Generator().manual_seed(0)
    for size in (2, 10, 97, 100, 1000):
        weights = torch.zeros(4000, size, dtype=dtype)
        some = torch.randint(size, (4000, 3), generator=generator)
        weights.scatter_(1, some, 10 ** (-30 * torch.rand(4000, 3, generator=generator)).to(dtype))
        drawn = sample_tokens(weights)
        assert drawn.min() >= 0 and drawn.max() < size
        assert (weights.gather(1, drawn[:, None]) > 0).all()


def test_very_small_probabilities_are_drawn_as_rarely_as_they_should_be():
    size, n = 10_000, 20_000
    weights = torch.full((size,), 1e-3 / (size - 1))
    weights[1234] = 1 - 1e-3
    torch.manual_seed(0)
    rare = (sample_tokens(weights.expand(n, -1)) != 1234).sum().item()
    assert abs(rare - n * 1e-3) < 4 * math.sqrt(n * 1e-3)
    only_small = torch.full((500, 7), 1e-38)
    assert set(sample_tokens(only_small).tolist()) == set(range(7))


@pytest.mark.parametrize("size", [1, 4, 10, 97])
def test_probabilities_that_are_not_finite_give_an_index_in_range(size):
    """A diverged model must reach the trainer's own check, and not an index error on the device."""
    drawn = sample_tokens(torch.full((3, size), torch.nan))
    assert ((drawn >= 0) & (drawn < size)).all()
