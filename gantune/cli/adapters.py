"""Load what was tuned, to be used and not to be trained on."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import TYPE_CHECKING, NamedTuple

from gantune.cli.devices import DTYPES, resolve_device
from gantune.errors import UserError
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


def add_adapter_options(parser: ArgumentParser) -> None:
    """The options of [`load_adapter`]."""
    parser.add_argument("--adapter", required=True, help="folder that gantune train or save_pretrained has written")
    parser.add_argument("--model", help="the base model, if it is not where the adapter says")
    parser.add_argument("--dtype", choices=[*DTYPES], default="float32", help="of the base model")
    parser.add_argument("--device", default="auto", help="'auto' (CUDA where there is one), or as torch names it")


def load_adapter(folder: str, model: str | None = None, dtype: str = "float32", device: str = "auto") -> Adapter:
    """What `gantune train` or [`gantune.LanguageGAN.save_pretrained`] has written, without the discriminator.

    The folder may be `owner/name` on the Hub; the base model is the one that the adapter names if `model` is None.

    Raises:
        UserError: if it is not there, its files are not what was written, or they are not of this base model.
    """
    folder = str(local_folder(folder))
    config = read_game_config(folder)
    import torch  # what follows takes seconds

    from gantune.embedding_generator import load_stack
    from gantune.hub.loading import load_model, load_tokenizer

    device = resolve_device(device)
    with naming_base_model(folder, model) as name:
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
