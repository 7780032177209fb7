"""Configuration of the PEFT method EMBEDDING_GENERATOR."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from peft import PeftConfig, PeftType

from gantune.embedding_generator.network import NETWORKS
from gantune.errors import UserError
from gantune.field_types import option


@dataclass
class EmbeddingGeneratorConfig(PeftConfig):
    """Configuration of an [`EmbeddingGeneratorModel`].

    The network is named, never imported from what a file says. To use one of your own, pass its class: it is
    registered under its dotted path. Before loading such an adapter elsewhere, import the class and call
    `NETWORKS.resolve("my_package.MyNetwork")`.

    Raises:
        UserError: if the network is not known, does not take the options, or `noise_dim` is below 1.
    """

    task_type: str | None = option(
        "CAUSAL_LM", "Kind of model that get_peft_model returns; with CAUSAL_LM it takes noise=."
    )
    network: str | type = option("gelu-mlp", "Registered name of the generator network, or its class.")
    noise_dim: int = option(100, "Width of the noise vector, at least 1.")
    network_options: dict[str, Any] = option(
        {},
        "Keyword arguments of the network. Those of 'gelu-mlp' and 'mlp': hidden_dims, norm, noise_scale. "
        'The source study\'s form is network "mlp" with {"norm": "none", "noise_scale": 1.0}.',
    )
    target_modules: list[str] | str | None = option(
        None, "Full name of the embedding module to adapt; the model's input embedding if not given."
    )
    modules_to_save: list[str] | None = option(
        None, "Modules apart from the generator to be trained and saved with it."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PeftType.EMBEDDING_GENERATOR
        if isinstance(self.target_modules, list):
            self.target_modules = set(self.target_modules)
        if not isinstance(self.noise_dim, int) or self.noise_dim < 1:
            raise UserError(f"noise_dim must be a whole number of at least 1, got {self.noise_dim!r}")
        if isinstance(self.network, type):
            network_class = self.network
            self.network = f"{network_class.__module__}.{network_class.__qualname__}"
            NETWORKS.register(self.network)(network_class)
        network_class = NETWORKS.get(self.network)
        signature = inspect.signature(network_class)
        try:
            signature.bind(embedding_dim=1, noise_dim=self.noise_dim, **self.network_options)
        except TypeError as error:
            known = [name for name in signature.parameters if name not in ("embedding_dim", "noise_dim")]
            raise UserError(
                f"network_options of generator network {self.network!r}: {error}; known options: {', '.join(known)}"
            ) from error
