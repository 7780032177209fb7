"""The tuner that puts an embedding generator behind a model's input embedding."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTuner
from torch import Tensor, nn

from gantune.embedding_generator.config import EmbeddingGeneratorConfig
from gantune.embedding_generator.layer import EmbeddingGeneratorLayer, generator_layers, hold_noise
from gantune.errors import UserError


class EmbeddingGeneratorModel(BaseTuner):
    """Adapts the output of a frozen language model's input embedding.

    Example:

        >>> model = get_peft_model(base, EmbeddingGeneratorConfig())
        >>> noise = draw_noise(model, batch_size=len(input_ids))
        >>> logits = model(input_ids, noise=noise).logits
        >>> answers = model.generate(input_ids=input_ids, noise=noise)

    Without `noise=` the noise of an enclosing [`hold_noise`] is used, else the zero vector.

    While an adapter is active, `inputs_embeds` is refused: such input would bypass the adapter. Resize the token
    embeddings before wrapping. peft's `adapter_names=`, an adapter for each row, is refused, and so is noise that
    nothing would use.
    """

    prefix = "embedding_generator_"
    tuner_layer_cls = EmbeddingGeneratorLayer

    def forward(self, *args: Any, noise: Tensor | None = None, **kwargs: Any) -> Any:
        """The wrapped model's forward under `noise`, `[n]` or `[B, n]` with one row a sequence."""
        with self._held(noise, args, kwargs):
            return self.model(*args, **kwargs)

    def generate(self, *args: Any, noise: Tensor | None = None, **kwargs: Any) -> Any:
        """The wrapped model's generate under `noise`, `[n]` or `[B, n]` with one row a prompt."""
        with self._held(noise, args, kwargs):
            return self.model.generate(*args, **kwargs)

    def _held(self, noise: Tensor | None, args: tuple, kwargs: dict[str, Any]) -> AbstractContextManager[None]:
        if noise is None:
            return nullcontext()
        ids = args[0] if args else kwargs.get("input_ids", kwargs.get("inputs"))
        if ids is not None and noise.dim() == 2 and len(noise) != len(ids):
            raise ValueError(f"noise for {len(noise)} sequences, got {len(ids)}: expected one row a sequence")
        return hold_noise(self, noise)

    @contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        # peft calls this before it takes arguments of its own out of a call of forward or generate
        refuse_adapter_names(kwargs)
        yield

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> nn.Module:
        """Refused: transformers resizes plain embedding modules only."""
        raise ValueError("resize the token embeddings of the base model before adding an embedding generator to it")

    def _prepare_adapter_config(self, peft_config: EmbeddingGeneratorConfig, model_config: dict) -> PeftConfig:
        # The full name, in a set: for the bare name peft would save the whole embedding matrix with the adapter.
        if peft_config.target_modules is None:
            if not hasattr(self.model, "get_input_embeddings"):
                raise UserError(
                    f"{type(self.model).__name__} does not say which its input embedding is: "
                    "set target_modules to the full name of its embedding module"
                )
            embedding = self.model.get_input_embeddings()
            peft_config.target_modules = {
                next(name for name, module in self.model.named_modules() if module is embedding)
            }
        return peft_config

    def _create_and_replace(
        self,
        peft_config: EmbeddingGeneratorConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        if isinstance(target, EmbeddingGeneratorLayer):
            target.update_layer(adapter_name, peft_config)
        elif isinstance(target, nn.Embedding):
            layer = EmbeddingGeneratorLayer(target, adapter_name, peft_config)
            if adapter_name not in self.active_adapters:
                layer.requires_grad_(False)
            self._replace_module(parent, target_name, layer, target)
        else:
            raise UserError(
                f"target module {current_key!r} is a {type(target).__name__}: expected a torch.nn.Embedding"
            )

    def _post_injection_hook(self, model: nn.Module, config: PeftConfig, adapter_name: str) -> None:
        # On the model itself and on its transformer without the head, so that calls of either are seen.
        guarded = {model, getattr(model, "base_model", model)}
        self._bypass_guards = [m.register_forward_pre_hook(refuse_bypass, with_kwargs=True) for m in guarded]

    def _unload_and_optionally_merge(self, *args: Any, **kwargs: Any) -> nn.Module:
        model = super()._unload_and_optionally_merge(*args, **kwargs)
        for guard in self._bypass_guards:
            guard.remove()
        return model

    def _check_tied_modules(self, model: nn.Module, peft_config: PeftConfig) -> None:
        """Nothing to check: the embedding's output is adapted, so a head tied to its table is not touched."""

    def _get_tied_target_modules(self, model: nn.Module) -> list[str]:
        """None: see [`_check_tied_modules`]; a merge gives the embedding a table of its own."""
        return []

    @classmethod
    def _remove_adapter_name_from_key(cls, key: str, adapter_name: str) -> str:
        # peft expects the name second to last; the parameters of a whole network lie deeper.
        container = f".{EmbeddingGeneratorLayer.adapter_layer_names[0]}."
        return key.replace(f"{container}{adapter_name}.", container, 1)


def refuse_bypass(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
    """Forward pre-hook: raise where an active adapter, or what is meant for it, would be left out in silence."""
    if len(args) > 1:
        kwargs = {**kwargs, **inspect.signature(module.forward).bind_partial(*args).arguments}
    refuse_adapter_names(kwargs)
    if kwargs.get("noise") is not None:
        raise ValueError("noise= reached the model and not its embedding generator: use hold_noise(model, noise)")
    if kwargs.get("inputs_embeds") is not None and any(layer.adapting_names for layer in generator_layers(module)):
        raise ValueError(
            "inputs_embeds bypasses the active embedding generator: pass input_ids, or disable the adapter"
        )


def refuse_adapter_names(kwargs: dict[str, Any]) -> None:
    """A ValueError if an argument would have the rows of a batch treated differently, which peft does for LoRA."""
    for name in ("adapter_names", "alora_offsets"):
        if kwargs.get(name) is not None:
            raise ValueError(f"{name}= is for LoRA: all rows have the active embedding generator, see set_adapter")
