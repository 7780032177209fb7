"""The tuner layer around an embedding module, and the noise that such layers hold."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer, check_adapters_to_merge
from torch import Tensor, nn

from gantune.embedding_generator.config import EmbeddingGeneratorConfig
from gantune.embedding_generator.network import build_network
from gantune.errors import UserError

MERGE_ROWS = 8192  # rows of the embedding table adapted at a time, which bounds the memory of a merge


class EmbeddingGeneratorLayer(nn.Module, BaseTunerLayer):
    """An embedding module whose output passes through the generator networks of the active adapters, in order.

    `noise` is `[n]`, the same for every sequence, or `[B, n]`, one vector a sequence, or None for the zero vector. Set
    it with [`hold_noise`]. The embedding module is not changed.
    """

    adapter_layer_names = ("embedding_generator_network",)
    other_param_names = ("noise_dims",)

    def __init__(self, base_layer: nn.Embedding, adapter_name: str, config: EmbeddingGeneratorConfig) -> None:
        super().__init__()
        self.base_layer = base_layer
        table = self.get_base_layer()
        self.num_embeddings, self.embedding_dim = table.num_embeddings, table.embedding_dim
        self.in_features, self.out_features = table.num_embeddings, table.embedding_dim  # as peft calls them
        self.embedding_generator_network = nn.ModuleDict()
        self.noise_dims: dict[str, int] = {}
        self.noise: Tensor | None = None
        self.merged_adapters: list[str] = []
        self._unmerged_weight: list[nn.Parameter] = []  # a list, so that the old table is no parameter of this module
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, config)

    @property
    def adapting_names(self) -> list[str]:
        """Names of the adapters that change the output at present, in order."""
        if self.disable_adapters or self.merged:
            return []
        return [name for name in self.active_adapters if name in self.embedding_generator_network]

    def update_layer(self, adapter_name: str, config: EmbeddingGeneratorConfig) -> None:
        """Add a fresh network under `adapter_name`.

        A [`UserError`] as of [`build_network`], or if `modules_to_save` would reach into it: peft goes by how a
        module's full name ends.
        """
        network = build_network(config.network, self.embedding_dim, config.noise_dim, **config.network_options)
        for name, _ in network.named_modules():
            if f".{adapter_name}.{name}".endswith(tuple(config.modules_to_save or ())):
                raise UserError(
                    f"modules_to_save: {name!r} of the generator network is named so too, expected more of "
                    "the module's name, such as model.norm"
                )
        self.embedding_generator_network[adapter_name] = network
        self.noise_dims[adapter_name] = config.noise_dim
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Adapted embeddings; arguments, shape and dtype are those of the embedding module."""
        if self.disable_adapters and self.merged:
            self.unmerge()
        embeddings = self.base_layer(*args, **kwargs)
        for name in self.adapting_names:
            embeddings = self._adapt(name, embeddings)
        return embeddings

    def _adapt(self, adapter_name: str, embeddings: Tensor) -> Tensor:
        network = self.embedding_generator_network[adapter_name]
        dtype = next(network.parameters()).dtype
        noise = self._expanded_noise(adapter_name, embeddings).to(embeddings.device, dtype)
        return network(embeddings.to(dtype), noise).to(embeddings.dtype)

    def _expanded_noise(self, adapter_name: str, embeddings: Tensor) -> Tensor:
        """The noise with one row a sequence if it is per sequence: `[n]` or `[rows of embeddings, n]`."""
        noise, width = self.noise, self.noise_dims[adapter_name]
        if noise is None:
            return embeddings.new_zeros(width)
        if noise.dim() not in (1, 2) or noise.shape[-1] != width:
            raise ValueError(
                f"noise for adapter {adapter_name!r} must have shape [{width}] or [batch, {width}], "
                f"got {list(noise.shape)}"
            )
        if noise.dim() == 1:
            return noise
        rows = embeddings.shape[0]
        if rows % noise.shape[0]:
            raise ValueError(
                f"noise for {noise.shape[0]} sequences does not fit a batch of {rows}: expected one row a sequence, "
                "or a batch that repeats each sequence equally often (beams, num_return_sequences)"
            )
        return noise.repeat_interleave(rows // noise.shape[0], dim=0)

    @torch.no_grad()
    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Write the adapters into the embedding table: exact, because the map is token-wise, for the noise now held.

        The table becomes a new parameter, so a head that shared it keeps the old one. [`unmerge`] puts the old
        parameter back. Without `adapter_names` the active adapters are merged.

        Raises:
            ValueError: if the noise differs between sequences, or by `safe_merge` if a value is not finite.
        """
        adapter_names = check_adapters_to_merge(self, adapter_names)
        adapter_names = [name for name in adapter_names if name in self.embedding_generator_network]
        if not adapter_names:
            return
        if self.noise is not None and self.noise.dim() != 1:
            raise ValueError(
                f"cannot merge under per-sequence noise of shape {list(self.noise.shape)}: one table holds one noise "
                "vector; hold a noise of shape [n], or none"
            )
        base_layer = self.get_base_layer()
        scale = self._get_embed_scale()
        scale = 1 if scale is None else scale.to(base_layer.weight.dtype)  # Gemma's embedding multiplies its output
        chunks = []
        for rows in base_layer.weight.split(MERGE_ROWS):
            embeddings = rows * scale
            for name in adapter_names:
                embeddings = self._adapt(name, embeddings)
                if safe_merge and not embeddings.isfinite().all():
                    raise ValueError(
                        f"NaNs detected in the merged weights. The adapter {name} seems to be broken: "
                        "it gives values that are not finite"
                    )
            chunks.append(embeddings / scale)
        if not self.merged:
            self._unmerged_weight = [base_layer.weight]
        base_layer.weight = nn.Parameter(torch.cat(chunks), requires_grad=base_layer.weight.requires_grad)
        self.merged_adapters.extend(adapter_names)

    def unmerge(self) -> None:
        """Put the original embedding table back, bit for bit."""
        if not self.merged:
            warnings.warn("Already unmerged. Nothing to do.", stacklevel=2)
            return
        base_layer, weight = self.get_base_layer(), self._unmerged_weight.pop()
        weight.data = weight.data.to(base_layer.weight.device)
        base_layer.weight = weight
        self.merged_adapters.clear()


def generator_layers(model: nn.Module) -> list[EmbeddingGeneratorLayer]:
    """The embedding generator layers anywhere inside `model`."""
    return [module for module in model.modules() if isinstance(module, EmbeddingGeneratorLayer)]


@contextmanager
def hold_noise(model: nn.Module, noise: Tensor | None) -> Iterator[None]:
    """Let every embedding generator in `model` use `noise` inside the `with` block, then what it used before.

    It is `[n]`, `[B, n]` for one vector a sequence, or None for zero; a ValueError if there is no generator to use it.
    """
    layers = generator_layers(model)
    if noise is not None and not any(layer.adapting_names for layer in layers):
        reason = "its embedding generator is merged, disabled or not active" if layers else "it has none"
        raise ValueError(f"noise was given, but the model has no embedding generator to use it: {reason}")
    before = [layer.noise for layer in layers]
    for layer in layers:
        layer.noise = noise if noise is None else noise.to(layer.weight.device)
    try:
        yield
    finally:
        for layer, noise_before in zip(layers, before, strict=True):
            layer.noise = noise_before


def noise_dim(model: nn.Module) -> int | None:
    """Noise width of the embedding generators that are in use, or None; a ValueError if active adapters differ."""
    dims = {layer.noise_dims[name] for layer in generator_layers(model) for name in layer.adapting_names}
    if len(dims) > 1:
        raise ValueError(f"active embedding generators differ in noise width: {sorted(dims)}")
    return dims.pop() if dims else None


def draw_noise(model: nn.Module, batch_size: int, generator: torch.Generator | None = None) -> Tensor | None:
    """Standard normal noise, `[B, n]` float32 on the model's device, or None if no embedding generator is in use.

    It is drawn from torch's global generator if none is given.
    """
    width = noise_dim(model)
    if width is None:
        return None
    device = generator_layers(model)[0].weight.device
    draw_device = device if generator is None else generator.device
    return torch.randn(batch_size, width, generator=generator, device=draw_device).to(device)
