"""Several PEFT methods on one model, each saved as an ordinary PEFT folder.

peft lets one method wrap a model that another has wrapped, but both then share one table of configurations, where two
adapters of the same name overwrite each other. Here each adapter is named after its method. The embedding generator is
the outermost, so the returned model understands `noise=` and another method never adapts the generator's own layers.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from peft import PeftConfig, PeftModel, PeftType, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from gantune.diagnostics.files import absolute_path, read_object, umask_followed
from gantune.embedding_generator.virtual_tokens import (
    VIRTUAL_TOKEN_METHODS,
    add_virtual_tokens,
    load_virtual_tokens,
    saved_config,
)
from gantune.errors import UserError, first_line
from gantune.hub.adapter_settings import FOR_USE_ONLY, adapter_files, check_adapter

PROMPT_LEARNING_METHODS = (PeftType.PREFIX_TUNING, *VIRTUAL_TOKEN_METHODS)


def adapter_name(config: PeftConfig) -> str:
    """Name of an adapter in a stack, and of its folder: its PEFT method in lower case, such as "lora"."""
    return str(config.peft_type.value).lower()


def stacking_order(names: Iterable[str]) -> list[str]:
    """Innermost first; the embedding generator is outermost."""
    return sorted(names, key=lambda name: (name == "embedding_generator", name))


@contextmanager
def expected_warnings_silenced() -> Iterator[None]:
    """Silence peft's warnings about what a stack does on purpose: it wraps again, and names adapters after methods."""
    with warnings.catch_warnings():
        for message in (
            "You are trying to modify a model with PEFT for a second time",
            "Already found a `peft_config` attribute",
            "Adapter name '.*' should not be contained in the prefix",
            "Found missing adapter keys",  # which `load_stack` refuses
        ):
            warnings.filterwarnings("ignore", message=message)
        yield


def check_prompt_learning(config: PeftConfig) -> None:
    """A [`UserError`] that names a prompt learning method whose positions or arguments nobody here takes care of."""
    if config.is_prompt_learning and config.peft_type not in PROMPT_LEARNING_METHODS:
        known = ", ".join(method.value for method in PROMPT_LEARNING_METHODS)
        raise UserError(f"{config.peft_type.value}: of prompt learning methods expected one of {known}")


def check_targets(model: nn.Module, config: PeftConfig) -> None:
    """Refuse names of modules that the model does not have: peft passes over those beside which another one fits.

    Raises:
        UserError: naming the first.
    """
    targets = getattr(config, "target_modules", None)
    modules = dict(model.named_modules())
    for target in sorted(targets) if isinstance(targets, (list, set)) else ():
        if not any(f".{name}".endswith(f".{target}") for name in modules):
            linear = {n.rpartition(".")[2] for n, module in modules.items() if isinstance(module, (nn.Linear, Conv1D))}
            raise UserError(
                f"target_modules {target}: the model has no such module, expected some of {', '.join(sorted(linear))}"
            )


def refuse_adapted(model: nn.Module) -> None:
    """Refuse a model that carries an adapter: another one would take its place without a word.

    Raises:
        UserError: naming it.
    """
    if isinstance(model, PeftModel) or any(isinstance(module, BaseTunerLayer) for module in model.modules()):
        names = ", ".join(getattr(model, "peft_config", None) or ["of another's making"])
        raise UserError(
            f"the model carries an adapter already ({names}): load the base model again, or merge_and_unload it first; "
            "to tune several at once expected a generator such as embedding+lora"
        )


def check_stack(model: nn.Module) -> None:
    """A [`UserError`] unless the model has adapters named as by [`stack_adapters`], where [`load_stack`] finds them."""
    if not isinstance(model, PeftModel):
        raise UserError(f"{type(model).__name__} carries no adapter, expected peft_config")
    for name, config in model.peft_config.items():
        if name != (method := adapter_name(config)):
            raise UserError(f"the model's adapter is called {name!r}, expected adapter_name={method!r}, to be saved so")


def stack_adapters(model: PreTrainedModel, configs: Sequence[PeftConfig]) -> PeftModel:
    """Add an adapter for each configuration to the base model, in place; all are trainable and active.

    The order of the configurations, each of another method, does not matter.

    Raises:
        UserError: if there is none, a method occurs twice, prompt learning is to be combined with another method, or
            it is a kind of it that is not known here.
    """
    refuse_adapted(model)
    by_name = {adapter_name(config): config for config in configs}
    if not configs or len(by_name) < len(configs):
        raise UserError(
            "a stack needs one or more adapters, each of another PEFT method; "
            f"got {', '.join(adapter_name(config) for config in configs) or 'none'}"
        )
    if len(configs) > 1 and any(config.is_prompt_learning for config in configs):
        raise UserError("a prompt learning method passes embeddings of its own to the model: it cannot be stacked")
    with expected_warnings_silenced():
        for config in configs:
            check_prompt_learning(config)
            if config.peft_type in VIRTUAL_TOKEN_METHODS:
                return add_virtual_tokens(model, config, adapter_name(config))
        for name in stacking_order(by_name):
            if name == "lora":
                check_targets(model, by_name[name])
            stacked = get_peft_model(model, by_name[name], adapter_name=name)
            model = stacked.get_base_model()
    return stacked


def save_stack(model: PeftModel, directory: str | Path) -> None:
    """Write each adapter of the stack to `directory/<method>`, such as `directory/lora`, as peft does.

    Each names the base model that it is on; a local folder by its absolute path, so that it is found from elsewhere.
    """
    if base := model.get_base_model().name_or_path:
        for config in model.peft_config.values():
            config.base_model_name_or_path = absolute_path(base)
    with umask_followed(directory):
        model.save_pretrained(str(directory))


def load_stack(model: PreTrainedModel, directory: str | Path, is_trainable: bool = False) -> PeftModel:
    """Add to the base model, in place, the adapters that [`save_stack`] wrote, or the one that peft saved by itself.

    Raises:
        UserError: if there is no adapter in `directory`, it cannot be trained on, its settings would import code or
            read other files, or it is not whole or of another model: then both models are named, and both shapes.
    """
    refuse_adapted(model)
    files = adapter_files(directory)
    own = [file for file in files if file.parent == Path(directory)]
    named = {str(read_object(file).get("peft_type", "")).lower(): file.parent for file in own}
    folders = named or {file.parent.name: file.parent for file in files}
    if not folders:
        raise UserError(f"{directory}: no adapter found; expected folders such as lora/ with an adapter_config.json")
    for name in FOR_USE_ONLY:
        if is_trainable and name in folders:
            raise UserError(f"{folders[name]}: peft cannot train on what {name} saves; it can be used as it is")
    for folder in folders.values():
        check_adapter(folder)
    try:
        with expected_warnings_silenced():
            for method in VIRTUAL_TOKEN_METHODS:
                if folder := folders.get(method.value.lower()):
                    return load_virtual_tokens(model, folder, folder.name, is_trainable)
            for name in stacking_order(folders):
                folder, options = str(folders[name]), {"adapter_name": name, "is_trainable": is_trainable}
                config = saved_config(folder)
                stacked = PeftModel.from_pretrained(model, folder, config=config, **options)
                told = stacked.load_adapter(folder, **options)  # once more, for what it tells
                if not config.is_prompt_learning and (odd := [*told.missing_keys, *told.unexpected_keys]):
                    raise ValueError(f"{odd[0]} is in one of them only")
                model = stacked.get_base_model()
        return stacked
    except UserError:
        raise
    except Exception as error:  # many kinds, all of them about the files
        shapes = re.search(r"size mismatch for (\S+): .*?Size\((.*?)\).*?Size\((.*?)\)", str(error), re.DOTALL)
        reason = f"{shapes[1]} is {shapes[2]} in it, expected {shapes[3]}" if shapes else first_line(error)
        made_for = read_object(folders.popitem()[1] / "adapter_config.json").get("base_model_name_or_path")
        raise UserError(
            f"{directory}: the adapter cannot be put on the base model {model.name_or_path or type(model).__name__}, "
            f"it was made for {made_for!r:.200}: {reason}"
        ) from error
