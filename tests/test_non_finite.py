"""A number that is not finite is named by the tensor where it appeared, and nothing is stepped."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gantune.trainer.non_finite import first_non_finite, non_finite_output
from gantune.trainer.updates import update


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


def step(net, *args, optimizer=None):
    optimizer = optimizer or torch.optim.SGD(net.named_parameters(), lr=0.1)
    return update(optimizer, losses(net, *args), 1.0, "test loss")


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
    with pytest.raises(FloatingPointError, match=r"is nan, as is parameter `second.weight` \(1 of 4"):
        step(net)


def test_a_gradient_is_named_before_clipping_spreads_it(net):
    net.second.weight.register_hook(lambda gradient: torch.tensor([[1.0, float("inf")], [1.0, 1.0]]))
    before = [parameter.clone() for parameter in net.parameters()]
    with pytest.raises(FloatingPointError, match=r"is inf at `second.weight` \(1 of 4 are inf\)"):
        step(net)
    assert all(torch.equal(old, new) for old, new in zip(before, net.parameters(), strict=True))


def test_an_output_is_named_by_its_module(net):
    with pytest.raises(FloatingPointError, match=r"^test loss is (nan|inf|-inf): lower the learning rate$"):
        step(net, 1.0, float("inf"))
    assert non_finite_output(net, losses(net, 1.0, float("inf"))).startswith("`output of second` (2 of 2 are")
    assert non_finite_output(net, losses(net, float("inf"))).startswith("`output of first` (2 of 2 are")
    assert non_finite_output(net, losses(net)) is None
    assert not net.first._forward_hooks


def test_unnamed_parameters_are_numbered(net):
    with torch.no_grad():
        net.first.bias[0] = float("inf")
    with pytest.raises(FloatingPointError, match="`parameter 1`"):
        step(net, optimizer=torch.optim.SGD(net.parameters(), lr=0.1))


def test_a_step_is_clipped_as_torch_clips(net):
    other = Net()
    other.load_state_dict(net.state_dict())
    for _, loss in losses(other, 3.0):
        loss.backward()
    expected = nn.utils.clip_grad_norm_(other.parameters(), 1.0)
    torch.optim.SGD(other.parameters(), lr=0.1).step()
    values, norm = step(net, 3.0)
    assert norm == expected.item() > 1 and values.keys() == {"loss"}
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))
