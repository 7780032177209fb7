"""The generator network against independent computations."""

import inspect
import math

import pytest
import torch
from torch import nn

from gantune.embedding_generator import NETWORKS, EmbeddingGenerator, EmbeddingGeneratorConfig
from gantune.embedding_generator.network import SmoothEmbeddingGenerator
from gantune.errors import UserError

WIDTH, NOISE = 12, 5


def perturbed(network: nn.Module, scale: float = 0.3) -> nn.Module:
    """The network in float64 with every weight moved, so that no term of the formula is zero."""
    network.double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * scale)
    return network


def formula(network: EmbeddingGenerator, embeddings: torch.Tensor, noise: torch.Tensor, normed: bool) -> torch.Tensor:
    """DESIGN section 3 written with one W1 on the concatenation of embedding and noise."""
    first = nn.Linear(WIDTH + NOISE, network.token_layer.out_features, dtype=torch.float64)
    first.weight.data = torch.cat([network.token_layer.weight, network.noise_layer.weight], dim=1).data
    first.bias.data = network.token_layer.bias.data
    z = embeddings
    if normed:
        mean, variance = z.mean(-1, keepdim=True), z.var(-1, unbiased=False, keepdim=True)
        z = (z - mean) / torch.sqrt(variance + 1e-5) * network.norm.weight + network.norm.bias
    x = (network.noise_scale * noise).expand(*embeddings.shape[:-1], NOISE)
    hidden = first(torch.cat([z, x], dim=-1))
    for layer in [*network.hidden_layers, network.output_layer]:
        hidden = layer(ACTIVATIONS[type(network)](hidden))
    return embeddings + hidden


ACTIVATIONS = {
    EmbeddingGenerator: lambda x: torch.where(x > 0, x, 0.01 * x),
    SmoothEmbeddingGenerator: lambda x: x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
}


@pytest.mark.parametrize("options", [{}, {"norm": "none", "noise_scale": 1.0}, {"hidden_dims": [7]}])
@pytest.mark.parametrize("made", ACTIVATIONS)
def test_equals_the_formula_on_the_concatenation(made, options):
    torch.manual_seed(0)
    network = perturbed(made(WIDTH, NOISE, **options))
    embeddings, noise = torch.randn(3, 4, WIDTH).double(), torch.randn(NOISE).double()
    expected = formula(network, embeddings, noise, normed="norm" not in options)
    torch.testing.assert_close(network(embeddings, noise), expected, rtol=1e-12, atol=1e-12)


def test_the_default_is_the_smooth_network_and_mlp_stays_what_saved_adapters_mean_by_it():
    assert NETWORKS.get(EmbeddingGeneratorConfig().network) is SmoothEmbeddingGenerator
    assert NETWORKS.get("mlp") is EmbeddingGenerator


def test_noise_of_each_sequence_reaches_that_sequence_only():
    torch.manual_seed(0)
    network = perturbed(EmbeddingGenerator(WIDTH, NOISE))
    embeddings, noise = torch.randn(3, 4, WIDTH).double(), torch.randn(3, NOISE).double()
    rows = torch.stack([network(row, vector) for row, vector in zip(embeddings, noise, strict=True)])
    torch.testing.assert_close(network(embeddings, noise), rows, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(rows[0], network(embeddings[0], noise[1]))


@pytest.mark.parametrize("shape", [(WIDTH,), (4, WIDTH), (2, 3, 4, WIDTH)])
def test_any_number_of_leading_dimensions(shape):
    torch.manual_seed(0)
    network = perturbed(EmbeddingGenerator(WIDTH, NOISE))
    embeddings, noise = torch.randn(shape).double(), torch.randn(NOISE).double()
    tokens = torch.stack([network(token, noise) for token in embeddings.reshape(-1, WIDTH)]).reshape(shape)
    torch.testing.assert_close(network(embeddings, noise), tokens, rtol=1e-12, atol=1e-12)


def test_fresh_network_returns_its_input():
    network = EmbeddingGenerator(WIDTH, NOISE)
    embeddings = torch.randn(3, 4, WIDTH)
    assert torch.equal(network(embeddings, torch.randn(3, NOISE)), embeddings)


def test_default_widths():
    network = EmbeddingGenerator(32, 100)
    widths = [network.token_layer.out_features] + [layer.out_features for layer in network.hidden_layers]
    assert widths == [16, 8, 16]
    assert (network.noise_layer.in_features, network.output_layer.out_features) == (100, 32)


def test_first_layer_is_drawn_as_one_linear_of_the_concatenated_width():
    torch.manual_seed(0)
    network, bound = EmbeddingGenerator(300, 100), 1 / math.sqrt(400)
    for parameter in (network.token_layer.weight, network.noise_layer.weight):
        assert parameter.abs().max() <= bound
        # standard deviation of a uniform distribution on +-bound
        assert parameter.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert network.token_layer.bias.abs().max() <= bound
    assert network.noise_layer.bias is None


def test_every_parameter_gets_a_gradient_once_the_output_layer_has_moved():
    torch.manual_seed(0)
    network = perturbed(EmbeddingGenerator(WIDTH, NOISE))
    noise = torch.randn(2, NOISE, dtype=torch.float64, requires_grad=True)
    network(torch.randn(2, 3, WIDTH).double(), noise).pow(2).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())
    assert noise.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("options", "named"),
    [({"norm": "batch"}, "norm"), ({"hidden_dims": []}, "hidden_dims"), ({"hidden_dims": [0]}, "hidden_dims")],
)
def test_bad_options_are_user_errors(options, named):
    with pytest.raises(UserError, match=named):
        EmbeddingGenerator(WIDTH, NOISE, **options)


class Shift(nn.Module):
    """A network of the user's own."""

    def __init__(self, embedding_dim: int, noise_dim: int, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = gain
        self.shift = nn.Linear(noise_dim, embedding_dim, bias=False)
        nn.init.zeros_(self.shift.weight)

    def forward(self, embeddings: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        shift = self.shift(noise)
        return embeddings + self.gain * (shift.unsqueeze(1) if noise.dim() == 2 else shift)


def test_a_class_as_network_is_registered_under_its_path():
    config = EmbeddingGeneratorConfig(network=Shift, network_options={"gain": 2.0})
    assert config.network == f"{Shift.__module__}.Shift"
    assert NETWORKS.get(config.network) is Shift


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"network": "mpl"}, "mpl.*mlp"),
        ({"noise_dim": 0}, "noise_dim"),
        ({"noise_dim": 2.5}, "noise_dim"),
        ({"network_options": {"depth": 3}}, "depth.*hidden_dims"),
        ({"network_options": {"noise_dim": 3}}, "noise_dim"),
        ({"network_options": ["norm"]}, "network_options"),
        ({"network": Shift, "network_options": {"norm": "none"}}, "norm.*gain"),
    ],
)
def test_bad_configurations_are_user_errors(arguments, named):
    with pytest.raises(UserError, match=named):
        EmbeddingGeneratorConfig(**arguments)


def test_every_field_has_a_help_text():
    own = inspect.get_annotations(EmbeddingGeneratorConfig)
    assert set(own) == {"task_type", "network", "noise_dim", "network_options", "target_modules", "modules_to_save"}
    for name in own:
        assert EmbeddingGeneratorConfig.__dataclass_fields__[name].metadata["help"]
