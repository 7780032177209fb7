"""The network between the embedding layer and the transformer blocks: tensors in, tensors out."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gantune.errors import UserError
from gantune.registry import Registry

NETWORKS = Registry("generator network", option="generator")


class GeneratorNetwork(Protocol):
    """What a generator network must be: an `nn.Module` with these two methods and at least one parameter.

    The map is token-wise: one token's output depends on that token's embedding and on the noise, on nothing else. With
    fresh weights it returns its input unchanged, so that adding an untrained adapter does not change the model.
    """

    def __init__(self, embedding_dim: int, noise_dim: int, **options: Any) -> None: ...

    def forward(self, embeddings: Tensor, noise: Tensor) -> Tensor:
        """Adapted embeddings, of the shape of `embeddings`.

        They are `[..., d]` with a noise `[n]`, the same for all, or `[B, ..., d]` with `[B, n]`, one vector a sequence.
        """
        ...


def build_network(name: str, embedding_dim: int, noise_dim: int, **options: Any) -> nn.Module:
    """A fresh network, tried once; a [`UserError`] that names it if it is not as [`GeneratorNetwork`] says."""
    made = partial(NETWORKS.get(name), embedding_dim=embedding_dim, noise_dim=noise_dim, **options)
    network = NETWORKS.tried(name, made).eval()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for rows in ((), (2,)):
            shape, like = (*rows, 3, embedding_dim), NETWORKS.tried(name, lambda: next(network.parameters()))
            inputs = like.new_zeros(shape), like.new_zeros(*rows, noise_dim)
            NETWORKS.tried(name, partial(network, *inputs), shape)
    return network.train()


@NETWORKS.register("mlp")
class EmbeddingGenerator(nn.Module):
    """Residual MLP on an embedding and a noise vector.

        z + W4 s(W3 s(W2 s(W1 [norm(z); c x] + b1) + b2) + b3) + b4,    s = LeakyReLU(0.01)

    z is the embedding, x the noise, c the noise scale. W4 and b4 start at zero, so the fresh network returns z. W1 is
    kept as a token half and a noise half: the noise half is then computed once a sequence, not once a token.

    The default normalises z and shrinks the noise, because noise of scale 1 drowns embeddings of scale 0.02 to 0.1.
    `norm="none"` with `noise_scale=1.0` is the form of the source study.

    The hidden layers are d/2, d/4 and d/2 wide if not told; `norm="layer"` is a trainable LayerNorm on z. A
    [`UserError`] if an argument is out of range.
    """

    activation = staticmethod(partial(F.leaky_relu, negative_slope=0.01))

    def __init__(
        self,
        embedding_dim: int,
        noise_dim: int = 100,
        *,
        hidden_dims: list[int] | None = None,
        norm: str = "layer",
        noise_scale: float = 0.1,
    ) -> None:
        super().__init__()
        if hidden_dims is None:
            half, quarter = max(embedding_dim // 2, 1), max(embedding_dim // 4, 1)
            hidden_dims = [half, quarter, half]
        if not hidden_dims or any(not isinstance(width, int) or width < 1 for width in hidden_dims):
            raise UserError(f"hidden_dims must be a list of widths of at least 1, got {hidden_dims!r}")
        if norm not in ("layer", "none"):
            raise UserError(f"norm must be 'layer' or 'none', got {norm!r}")

        self.noise_scale = noise_scale
        self.norm = nn.LayerNorm(embedding_dim) if norm == "layer" else nn.Identity()
        self.token_layer = nn.Linear(embedding_dim, hidden_dims[0])
        self.noise_layer = nn.Linear(noise_dim, hidden_dims[0], bias=False)
        self.hidden_layers = nn.ModuleList(nn.Linear(width, next_width) for width, next_width in pairwise(hidden_dims))
        self.output_layer = nn.Linear(hidden_dims[-1], embedding_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the two halves of W1 as one `nn.Linear` of d + n inputs would; set W4 and b4 to zero."""
        bound = 1 / math.sqrt(self.token_layer.in_features + self.noise_layer.in_features)
        for parameter in (self.token_layer.weight, self.token_layer.bias, self.noise_layer.weight):
            nn.init.uniform_(parameter, -bound, bound)
        nn.init.zeros_(self.output_layer.weight)
        nn.init.zeros_(self.output_layer.bias)

    def forward(self, embeddings: Tensor, noise: Tensor) -> Tensor:
        from_noise = self.noise_layer(self.noise_scale * noise)
        if noise.dim() == 2:
            from_noise = from_noise.unflatten(0, (-1, *[1] * (embeddings.dim() - 2)))
        hidden = self.activation(self.token_layer(self.norm(embeddings)) + from_noise)
        for layer in self.hidden_layers:
            hidden = self.activation(layer(hidden))
        return embeddings + self.output_layer(hidden)


@NETWORKS.register("gelu-mlp")
class SmoothEmbeddingGenerator(EmbeddingGenerator):
    """[`EmbeddingGenerator`] with GELU (Hendrycks and Gimpel 2016, arXiv:1606.08415) as s, in its tanh form.

    It has no kink. On which side of a kink a token falls is a matter of rounding, and in training that grows until the
    same command answers differently on another processor (`results/reference/ablations`, entry 27).
    For the other form oneDNN keeps a kernel a shape, which took 50 MB and more.
    """

    activation = staticmethod(partial(F.gelu, approximate="tanh"))
