"""What stands for the generator in `LanguageGAN`: one PEFT configuration, or a stack of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import peft
from peft import PeftConfig
from torch import nn

from gantune.embedding_generator import EmbeddingGeneratorConfig
from gantune.errors import UserError
from gantune.registry import GENERATORS
from gantune.tuning import ALL_LINEAR, LoraOptions, TuningConfig

GeneratorSpec = str | PeftConfig | type | Callable[[], PeftConfig] | Sequence["GeneratorSpec"]


embedding = EmbeddingGeneratorConfig
"""The EmbeddingGenerator between the embedding layer and the blocks (DESIGN section 3)."""
ia3 = peft.IA3Config
"""(IA)^3 on the modules that peft chooses for the architecture (arXiv:2205.05638)."""
prefix = partial(peft.PrefixTuningConfig, task_type="CAUSAL_LM", num_virtual_tokens=20)
"""A prefix of 20 keys and values in every layer, trained as it is (arXiv:2101.00190).

A policy with a prefix scores answers and cannot sample any, so likelihood alone can train it."""
prompt = partial(
    peft.PromptTuningConfig, task_type="CAUSAL_LM", num_virtual_tokens=20, prompt_tuning_init="SAMPLE_VOCAB"
)
"""20 virtual tokens before the question, drawn from the vocabulary's embeddings (arXiv:2104.08691)."""
p_tuning = partial(peft.PromptEncoderConfig, task_type="CAUSAL_LM", num_virtual_tokens=20)
"""20 virtual tokens before the question, which a perceptron writes (arXiv:2103.10385)."""


def lora(settings: LoraOptions | None = None) -> peft.LoraConfig:
    """LoRA as the settings say: by default of rank 8 on every linear layer but the output head (arXiv:2106.09685)."""
    settings = settings or LoraOptions()
    targets: str | list[str] | None = settings.lora_target_modules or None
    return peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=ALL_LINEAR if targets == [ALL_LINEAR] else targets,
        use_rslora=settings.use_rslora,
        use_dora=settings.use_dora,
    )


def build_generator(spec: GeneratorSpec, settings: TuningConfig | None = None) -> list[PeftConfig]:
    """The PEFT configurations that `spec` names, from the embedding layer outwards.

    Args:
        spec: a registry name; a dotted path; several of either joined by "+"; a PEFT configuration, or its class; a
            network class, which becomes an EmbeddingGenerator of that network (it is constructed with the
            `embedding_dim` and `noise_dim`); a function that returns a PEFT configuration; or a list of such.
        settings: those of LoRA, where they are [`LoraOptions`]; else it has its defaults.

    Raises:
        UserError: if a name is not known, cannot be imported, or is none of these.
    """
    if isinstance(spec, str):
        return [config for name in spec.split("+") for config in _one(GENERATORS.resolve(name), name, settings)]
    if isinstance(spec, Sequence):
        return [config for part in spec for config in build_generator(part, settings)]
    return _one(spec, getattr(spec, "__qualname__", repr(spec)), settings)


def _one(
    component: PeftConfig | type | Callable[[], PeftConfig], name: str, settings: TuningConfig | None
) -> list[PeftConfig]:
    if component is lora:
        return [lora(settings if isinstance(settings, LoraOptions) else None)]
    if isinstance(component, type) and issubclass(component, nn.Module):
        return [EmbeddingGeneratorConfig(network=component)]
    if isinstance(component, type) and issubclass(component, PeftConfig):
        return [component(task_type="CAUSAL_LM")]
    made = component
    if callable(component) and not isinstance(component, PeftConfig):
        made = GENERATORS.tried(name, component)
    if not isinstance(made, PeftConfig):
        kind = type(made).__name__
        raise UserError(f"generator {name!r}: expected a network class or a PEFT configuration, got {kind}")
    return [made]
