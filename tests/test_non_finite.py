"""A number that is not finite is named by the tensor where it appeared, and nothing is stepped."""

from __future__ import annotations

from itertools import chain

import pytest
import torch
from torch import nn

from gantune.trainer.arguments import PairConfig
from gantune.trainer.non_finite import first_non_finite, non_finite_output, not_finite
from gantune.trainer.pair_trainer import PairTrainer
from tests.test_language_gan import PAIRS, QUIET, SMALL, build, trained
from tests.tiny_models import TINY_MODELS
from tests.tiny_tokenizer import tiny_tokenizer


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x, scale=1.0):
        return {"logits": (self.second(self.first(x) * scale), None)}


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


def losses(net, x=1.0, scale=1.0):
    yield "loss", net(torch.full((1, 2), x), scale)["logits"][0].sum()


def wrong(net, *args):
    """What is wrong with a loss and the gradients that it leaves."""
    (_, loss), *_ = losses(net, *args)
    loss.backward()
    return not_finite("test loss", loss, net.named_parameters())


def test_the_first_tensor_is_named_and_counted():
    named = [
        ("whole", torch.tensor([1])),
        ("none", None),
        ("fine", torch.ones(2)),
        ("bad", torch.tensor([[1.0, float("inf")], [float("nan"), 2.0]])),
        ("worse", torch.tensor(float("nan"))),
    ]
    assert first_non_finite(named) == "`bad` (2 of 4 are inf)"
    assert first_non_finite(named[:3]) is None


def test_a_parameter_is_named(net):
    with torch.no_grad():
        net.second.weight[0, 1] = float("nan")
    assert "is nan, as is parameter `second.weight` (1 of 4 are nan)" in wrong(net)


def test_a_gradient_is_named_before_clipping_spreads_it(net):
    net.second.weight.register_hook(lambda gradient: torch.tensor([[1.0, float("inf")], [1.0, 1.0]]))
    assert "the gradient of the test loss is inf at `second.weight` (1 of 4 are inf)" in wrong(net)


def test_what_is_finite_is_left_alone(net):
    assert wrong(net) is None


def test_an_output_is_named_by_its_module(net):
    assert wrong(net, 1.0, float("inf")) in {
        f"test loss is {number}: lower the learning rate" for number in ("nan", "inf", "-inf")
    }
    assert non_finite_output(net, losses(net, 1.0, float("inf"))).startswith("`output of second` (2 of 2 are")
    assert non_finite_output(net, losses(net, float("inf"))).startswith("`output of first` (2 of 2 are")
    assert non_finite_output(net, losses(net)) is None
    parts = chain(losses(net), losses(net, float("inf")), losses(net, 1.0, float("inf")))
    assert non_finite_output(net, parts).startswith("`output of first` (2 of 2 are")
    assert not net.first._forward_hooks


def pair_trainer(**settings):
    shared = {name: SMALL[name] for name in ("num_train_epochs", "max_completion_length")}
    args = PairConfig(**QUIET | shared | settings)
    return PairTrainer(TINY_MODELS["gpt2"](), args, PAIRS, processing_class=tiny_tokenizer())


def test_a_trainer_steps_nothing_and_names_the_parameter():
    trainer = pair_trainer()
    name, parameter = trainer.names[3], trainer.parameters[3]
    parameter.register_hook(lambda gradient: torch.full_like(gradient, float("nan")))
    before = [p.detach().clone() for p in trainer.parameters]
    with pytest.raises(FloatingPointError, match=rf"the gradient of the likelihood loss is nan at `{name}` \("):
        trainer.train()
    assert trainer.state.global_step == 0
    assert all(torch.equal(old, new) for old, new in zip(before, trainer.parameters, strict=True))


def test_the_game_names_the_module_too():
    gan = build()
    with torch.no_grad():
        dict(gan.model.named_modules())["base_model.model.transformer.h.1.mlp.c_fc"].weight[0, 0] = float("nan")
    with pytest.raises(FloatingPointError, match=r"likelihood loss is nan.*seen in `output of .*h\.1\.mlp\.c_fc`"):
        gan.train()


@pytest.mark.parametrize("build", [pair_trainer, build])
def test_a_step_is_clipped_as_torch_clips(build):
    """By SGD of rate 1 the weights go down the clipped gradient."""
    one = {"max_steps": 1, "optim": "sgd", "learning_rate": 1.0, "lr_scheduler_type": "constant"}
    trainer = build(max_grad_norm=0.5, **one)
    gradients, clip = [], trainer.accelerator.clip_grad_norm_

    def watched(parameters, *limit):
        gradients.extend(p.grad.clone() for p in trainer.parameters)
        return clip(parameters, *limit)

    trainer.accelerator.clip_grad_norm_ = watched
    before = [p.detach().clone() for p in trainer.parameters]
    row = trained(trainer)[-1]
    norm = nn.utils.get_total_norm(gradients)
    assert row["grad_norm"] == pytest.approx(norm.item(), rel=1e-6) and norm > 0.5
    for old, new, gradient in zip(before, trainer.parameters, gradients, strict=True):
        assert torch.allclose(old - new, gradient * 0.5 / norm, rtol=1e-4, atol=1e-6)


def test_an_output_that_is_a_mapping_is_looked_into():
    class Divides(nn.Module):
        def forward(self, x):
            return {"logits": x / 0}

    model = nn.Sequential(Divides())
    x = torch.ones(1, requires_grad=True)
    found = non_finite_output(model, (("loss", model(x)["logits"].sum()) for _ in range(1)))
    assert found.startswith("`output of 0` (1 of 1 are inf)")
