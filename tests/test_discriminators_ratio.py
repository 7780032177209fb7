"""The likelihood ratio: m and q by the book, what it learns from, and its gradient with dropout."""

from __future__ import annotations

import pytest
import torch

from gantune.discriminators import Blind, LikelihoodRatio, Mediator
from gantune.discriminators.frozen_lm import without_adapters
from gantune.embedding_generator import stack_adapters
from gantune.embedding_generator.generators import build_generator
from gantune.errors import UserError
from gantune.policy import CausalLMPolicy
from gantune.seqgan import build_reward
from gantune.trainer.config import GameConfig
from gantune.trainer.discriminator_side import DiscriminatorSide
from tests.finite_differences import slope
from tests.test_discriminators import random_batch
from tests.test_language_gan import build as build_gan
from tests.test_language_model_judge import drawn
from tests.tiny_models import TINY_MODELS

pytestmark = pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")


def built(generator="lora", made=LikelihoodRatio, **options):
    """A tuned model with drawn weights, a ratio on its base with drawn weights too, and the policy."""
    torch.manual_seed(0)
    tuned = stack_adapters(TINY_MODELS["gpt2"](), build_generator(generator)).eval()
    ratio = made(tuned.get_base_model(), **options).eval()
    drawn(parameter for parameter in tuned.parameters() if parameter.requires_grad)
    drawn(ratio.parameters())
    return tuned, ratio, CausalLMPolicy(tuned, eos_token_id=1, pad_token_id=0)


def by_hand(ratio, tuned, batch):
    """log m: the base's weights with B A added, and softmax at each answer token."""
    model, weights = tuned.get_base_model(), {}
    names = {module: name for name, module in model.named_modules()}
    for layer, own in zip(ratio._layers, ratio.adapter.values(), strict=True):
        weights[f"{names[layer]}.weight"] = layer.weight + (own.scaling * own.lora_B @ own.lora_A).T  # GPT-2's Conv1D
    inputs = {"attention_mask": batch.attention_mask(), "position_ids": batch.position_ids(), "use_cache": False}
    with without_adapters(tuned):
        logits = torch.func.functional_call(model, weights, kwargs=inputs | {"input_ids": batch.input_ids()}).logits
    log_probs = logits[:, batch.prompt_ids.shape[1] - 1 : -1].log_softmax(dim=2)
    return log_probs.gather(2, batch.answer_ids[:, :, None])[:, :, 0] * batch.answer_mask


@pytest.mark.parametrize("generator", ["lora", "embedding+lora"])
def test_its_logits_are_those_of_m_less_those_of_the_policy(generator):
    tuned, ratio, policy = built(generator)
    batch = random_batch()
    rollout = policy.rollout(batch, max_new_tokens=5, samples_per_prompt=2)
    with torch.no_grad():
        found, expected = ratio.prefix_logits(rollout), by_hand(ratio, tuned, rollout) - rollout.log_probs
        assert torch.allclose(found, expected, atol=1e-5) and found.std() > 0.1
        assert torch.allclose(ratio.sequence_logits(rollout), expected.sum(dim=1), atol=1e-5)
        of_true = by_hand(ratio, tuned, batch) - policy.score(batch)  # nobody sampled these
        assert torch.allclose(ratio.prefix_logits(batch), of_true, atol=1e-5)
        reward = build_reward("token", Blind(ratio, [3]), "logit")
        assert reward((), (), rollout).shape == rollout.answer_ids.shape


def test_begun_from_the_generator_it_rewards_nothing():
    tuned, _, policy = built("lora")
    ratio = LikelihoodRatio(tuned.get_base_model()).eval()
    ratio.begin_from(tuned)
    rollout = policy.rollout(random_batch(), max_new_tokens=5)
    assert build_reward("token", ratio, "logit")((), (), rollout).abs().max() < 1e-5


def test_its_gradient_with_dropout_is_the_finite_difference_and_numbers_go_on_as_if_read_once():
    tuned, ratio, _ = built("embedding+lora", dropout=0.4, room=1)
    tuned.double(), ratio.double().train()
    batch, direction = random_batch(3), torch.randn(3, 6, dtype=torch.float64)

    def value():
        torch.manual_seed(5)
        return (ratio.prefix_logits(batch) * direction).sum()

    value()
    after = torch.get_rng_state()
    value().backward()
    assert torch.equal(torch.get_rng_state(), after)
    with torch.no_grad():
        assert value() != (ratio.eval().prefix_logits(batch) * direction).sum()
        ratio.train()
    for parameter in list(ratio.parameters())[:4]:
        along = torch.randn_like(parameter)
        expected = slope(value, parameter, along)
        assert (parameter.grad * along).sum().item() == pytest.approx(expected, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("per_token", [True, False])
@pytest.mark.parametrize("made", [LikelihoodRatio, Mediator])
def test_it_learns_the_likelihood_of_true_answers_and_the_mediator_of_sampled_ones_too(made, per_token):
    tuned, ratio, policy = built("lora", made, dropout=0.0)
    batch = random_batch()
    rollout = policy.rollout(random_batch(seed=1), max_new_tokens=5)

    def nats(part):
        return -(by_hand(ratio, tuned, part).sum() / part.answer_mask.sum())

    kinds = [batch, rollout] if made is Mediator else [batch]
    expected = torch.autograd.grad(sum(map(nats, kinds)) / len(kinds), list(ratio.parameters()))
    side = DiscriminatorSide(ratio, per_token, GameConfig(max_grad_norm=1e9, max_discriminator_accuracy=1.0))
    figures = side.step(batch, rollout)
    for parameter, gradient in zip(ratio.parameters(), expected, strict=True):
        assert torch.allclose(parameter.grad, gradient, rtol=1e-4, atol=1e-6)
    assert {"discriminator_accuracy_real", "discriminator_accuracy_generated"} <= figures.keys()


def test_a_loss_that_compares_is_refused():
    _, ratio, _ = built()
    for judge in (ratio, Blind(ratio, [3])):
        with pytest.raises(UserError, match="bradley-terry: --discriminator ratio learns by likelihood, expected bin"):
            DiscriminatorSide(judge, False, GameConfig(discriminator="ratio", discriminator_loss="bradley-terry"))


@pytest.mark.parametrize("name", ["ratio", "mediator"])
def test_a_game_with_it_trains_it_and_leaves_the_base_as_it_was(name):
    gan = build_gan("gpt2", discriminator=name, generator="lora", reward="token", reward_transform="logit",
                    max_discriminator_accuracy=1.0)  # fmt: skip
    before = {key: value.clone() for key, value in gan.discriminator.state_dict().items()}
    frozen = {key: value.clone() for key, value in gan.model.named_parameters() if not value.requires_grad}
    gan.train()
    assert all(not torch.equal(value, before[key]) for key, value in gan.discriminator.state_dict().items())
    assert all(torch.equal(value, gan.model.get_parameter(key)) for key, value in frozen.items())
