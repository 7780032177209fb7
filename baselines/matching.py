"""Methods brought to one number of trained parameters: that of the default embedding generator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Size:
    """What sets a method's number of parameters, which has to grow by the same number with each 1 more.

    Args:
        option: the setting.
        adapt: `(model, config)` to the model with its adapter; called on the meta device.
        resize: `(config, size)` to the settings with another size; `option` alone is changed if None.
        most: `(model, config)` to the largest size that the model allows, None if there is none.
    """

    option: str
    adapt: Callable[[PreTrainedModel, Any], nn.Module]
    resize: Callable[[Any, int], Any] | None = None
    most: Callable[[PreTrainedModel, Any], int | None] = lambda model, config: None

    def resized(self, config: Any, size: int) -> Any:
        """The settings at another size."""
        return self.resize(config, size) if self.resize else replace(config, **{self.option: size})


def trainable_parameters(model: nn.Module) -> int:
    """How many numbers training changes."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def embedding_generator_parameters(model: PreTrainedModel) -> int:
    """How many parameters the default embedding generator has on `model`."""
    import torch

    from gantune.embedding_generator import NETWORKS, EmbeddingGeneratorConfig

    generator = EmbeddingGeneratorConfig()
    with torch.device("meta"):
        network = NETWORKS.get(generator.network)(
            embedding_dim=model.get_input_embeddings().embedding_dim, noise_dim=generator.noise_dim
        )
    return trainable_parameters(network)


def matched_size(size: Size, model: PreTrainedModel, config: Any) -> int:
    """The size with nearest to as many parameters as the default embedding generator, at least 1.

    Everything is counted on the meta device, so `model` is only read.
    """

    import torch

    def count(value: int) -> int:
        with torch.device("meta"):
            return trainable_parameters(size.adapt(type(model)(model.config), size.resized(config, value)))

    of_one = count(1)
    nearest = 1 + round((embedding_generator_parameters(model) - of_one) / (count(2) - of_one))
    most = size.most(model, config)
    return max(1, nearest if most is None else min(nearest, most))
