"""The settings of an adapter that somebody else may have written, looked at before peft acts on them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gantune.assets import MODELS
from gantune.diagnostics.files import read_object
from gantune.errors import UserError

ADAPTER_SETTINGS = "the settings of an adapter"
HARMLESS: dict[str, tuple[Any, ...]] = {
    "megatron_config": (None,),
    "megatron_core": (None, "megatron.core"),
    "tokenizer_kwargs": (None, {}),
    "prompt_tuning_init_state_dict_path": (None,),
    "adapters": (None,),
    "corda_config": (None, {}),
    "lora_ga_config": (None, {}),
}
"""Settings by which peft imports a module that the file names, passes `trust_remote_code` on, or loads other files; and
the values with which it does not."""
FOR_USE_ONLY = ("p_tuning", "prefix_tuning")
"""Adapters that peft saves as what came out of their training, which it cannot go on with."""


def adapter_files(folder: str | Path) -> list[Path]:
    """The settings of the adapters in a folder of a stack, or of the one that peft has saved there itself; none."""
    folder = Path(folder)
    return sorted(folder.glob("*/adapter_config.json")) or [*folder.glob("adapter_config.json")]


def check_adapter(folder: str | Path) -> None:
    """A [`UserError`] that names the setting by which an adapter would import code or read files outside its folder."""
    file = Path(folder) / "adapter_config.json"
    settings = read_object(file, ADAPTER_SETTINGS)
    for name, harmless in HARMLESS.items():
        if settings.get(name) not in harmless:
            raise UserError(
                f"{file}: {name} is {settings[name]!r:.80}, by which peft would import code or read other files; "
                "a file never makes gantune do so"
            )


@contextmanager
def naming_base_model(folder: str | Path, given: str | None = None) -> Iterator[str]:
    """The name of an adapter's base model, to be loaded in the block: `given`, otherwise what the adapter's file says.

    A built-in model may have lain anywhere. A [`UserError`] if there is no adapter, as
    [`gantune.embedding_generator.save_stack`] writes it, or it names none; one of the block gets the file added to it.
    """
    if given:
        yield given
        return
    files = adapter_files(folder)
    if not files:
        raise UserError(f"{folder}: no adapter, expected a folder that gantune train or save_pretrained has written")
    name = read_object(files[0], ADAPTER_SETTINGS).get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise UserError(f"{files[0]}: names no base model, expected --model")
    try:
        yield next((model for model in MODELS if Path(name).parts[-3:] == ("gantune", "assets", model)), name)
    except UserError as error:
        raise UserError(f"{error} (named in {files[0]}; --model gives another)") from error
