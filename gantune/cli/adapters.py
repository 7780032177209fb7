"""Load what was tuned, to be used and not to be trained on."""

from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, NamedTuple

from gantune.cli.devices import DTYPES, Dtype, resolve_device
from gantune.errors import UserError
from gantune.field_types import option
from gantune.hub.adapter_settings import naming_base_model
from gantune.hub.push import local_folder
from gantune.trainer.config import GameConfig, read_game_config

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase


class Adapter(NamedTuple):
    """A tuned model, its base model's tokenizer, and how it was tuned: template and limits hold for answers too."""

    model: PeftModel
    tokenizer: PreTrainedTokenizerBase
    config: GameConfig


@dataclass
class AdapterOptions:
    """What was tuned; what is a user's own is imported only if it is named here."""

    adapter: str | None = option(
        None, "folder that gantune train, save_pretrained or a run of gantune compare has written"
    )
    model: str | None = option(None, "the base model, if it is not where the adapter says")
    dtype: Dtype = option("float32", "of the base model")
    device: str = option("auto", "'auto' (CUDA where there is one), or as torch names it")
    generator: str | None = option(None, "what was tuned, if it is one of your own: its dotted path")
    template: str | None = option(None, "how a question is put, if the template is one of your own: its dotted path")


def add_adapter_options(parser: ArgumentParser) -> None:
    """[`AdapterOptions`] for a command without a `--config` file."""
    for each in fields(AdapterOptions):
        kind = {"required": each.name == "adapter", "choices": DTYPES if each.name == "dtype" else None}
        parser.add_argument(f"--{each.name}", default=each.default, help=each.metadata["help"], **kind)


def load_adapter(options: AdapterOptions) -> Adapter:
    """What `gantune train` or [`gantune.LanguageGAN.save_pretrained`] has written, without the discriminator.

    The folder may be `owner/name` on the Hub; the base model is the one that the adapter names if none is given.

    Raises:
        UserError: if it is not there, its files are not what was written, or they are not of this base model.
    """
    folder, dtype, device = str(local_folder(options.adapter)), options.dtype, options.device
    config = read_game_config(folder, options.template)
    import torch  # what follows takes seconds

    from gantune.embedding_generator import load_stack
    from gantune.embedding_generator.generators import build_generator
    from gantune.hub.loading import load_model, load_tokenizer

    if options.generator is not None:  # one of the user's own is known from then on
        build_generator(options.generator)
    device = resolve_device(device)
    with naming_base_model(folder, options.model) as name:
        base, tokenizer = load_model(name, getattr(torch, dtype), device), load_tokenizer(name)
    return Adapter(load_stack(base, folder).eval(), tokenizer, config)


def seeded_noise(model: PeftModel, rows: int, seed: int) -> torch.Tensor:
    """Random noise for `rows` questions, `[rows, noise_dim]`; a [`UserError`] if the adapter takes none."""
    import torch

    from gantune.embedding_generator import draw_noise

    noise = draw_noise(model, rows, torch.Generator().manual_seed(seed))
    if noise is None:
        raise UserError("--noise: the adapter takes no noise, expected zero")
    return noise
