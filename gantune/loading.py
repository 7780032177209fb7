"""Load a frozen causal language model and its tokenizer, or say in one line why not."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from gantune.data import check_tokenizer
from gantune.errors import UserError

BUILT_IN = ("mini",)
WEIGHT_PATTERNS = ("*.safetensors", "pytorch_model*.bin")


def model_path(name: str) -> str:
    """Where the model `name` is: the folder of a built-in one, otherwise `name` itself.

    Raises:
        UserError: if `name` is a local folder that holds no model, or looks like a path and is not there.
    """
    if name in BUILT_IN:
        return str(resources.files("gantune.assets") / name)
    folder = Path(name)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UserError(f"{name}: no config.json, expected a Hugging Face model folder")
        if not any(path for pattern in WEIGHT_PATTERNS for path in folder.glob(pattern)):
            raise UserError(f"{name}: no weights, expected model.safetensors (or pytorch_model.bin)")
    elif folder.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UserError(f"{name}: no such model folder (built-in models: {', '.join(BUILT_IN)})")
    return name


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def load_tokenizer(name: str, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer of a built-in model, a local folder or a Hub id.

    Raises:
        UserError: if it cannot be loaded or has no end-of-sequence token.
    """
    path = model_path(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
    except Exception as error:  # many kinds, all of them about the files
        raise UserError(f"{name}: cannot load the tokenizer: {_first_line(error)}") from error
    check_tokenizer(tokenizer, name)
    return tokenizer


def load_model(
    name: str, dtype: torch.dtype = torch.float32, device: str = "cpu", trust_remote_code: bool = False
) -> PreTrainedModel:
    """The causal language model of a built-in name, a local folder or a Hub id: frozen, in `eval()` mode.

    Raises:
        UserError: if it cannot be loaded, is no causal language model, or some weights are missing from its files
            (they would be random).
    """
    path = model_path(name)
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
        model, report = AutoModelForCausalLM.from_pretrained(
            path, config=config, dtype=dtype, trust_remote_code=trust_remote_code, output_loading_info=True
        )
    except Exception as error:  # many kinds, all of them about the files
        raise UserError(f"{name}: cannot load a causal language model: {_first_line(error)}") from error
    if report["missing_keys"]:
        raise UserError(f"{name}: weights missing from the files: {', '.join(sorted(report['missing_keys'])[:3])}")
    return model.requires_grad_(False).eval().to(device)
