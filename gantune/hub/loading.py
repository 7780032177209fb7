"""Load a frozen causal language model and its tokenizer, or say in one line why not."""

from __future__ import annotations

import logging
import pickle
from importlib import resources
from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES

from gantune.assets import MODELS
from gantune.data import check_tokenizer
from gantune.diagnostics.files import absolute_path, local_path, read_object
from gantune.errors import UserError, first_line
from gantune.hub.sharding import Sharding, check_sharding, divide_blocks

logger = logging.getLogger(__name__)

WEIGHT_PATTERNS = ("*.safetensors", "pytorch_model*.bin")
TOKENIZER_PATTERNS = ("tokenizer*", "vocab*", "*.model", "*.tiktoken", "tekken.json")


def model_path(name: str) -> str:
    """Where the model `name` is: the folder of a built-in one, a local folder's absolute path, or a Hub id.

    Raises:
        UserError: if `name` is a local folder that holds no model, or looks like a path and is not there.
    """
    if name in MODELS:
        return str(resources.files("gantune.assets") / name)
    folder = local_path(name)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UserError(f"{name}: no config.json, expected a Hugging Face model folder")
        if not any(path for pattern in WEIGHT_PATTERNS for path in folder.glob(pattern)):
            raise UserError(f"{name}: no weights, expected model.safetensors (or pytorch_model.bin)")
        if not isinstance(read_object(folder / "config.json").get("model_type"), str):
            raise UserError(f"{folder / 'config.json'}: no 'model_type', expected the settings of a language model")
        for index in folder.glob("*.index.json"):
            _check_shards(index)
    elif folder.exists() or name.startswith((".", "/")) or name.count("/") > 1:
        raise UserError(f"{name}: no such model folder (built-in models: {', '.join(MODELS)})")
    return absolute_path(name)


def _check_shards(index: Path) -> None:
    """Every file that the index of a divided checkpoint names lies beside it."""
    shards = read_object(index).get("weight_map")
    if not isinstance(shards, dict):
        raise UserError(f"{index}: no 'weight_map', expected the files of the weights by name")
    for shard in set(map(str, shards.values())):
        if Path(shard).name != shard or not (index.parent / shard).is_file():
            raise UserError(f"{index}: names the file {shard!r:.80}, which is not in the folder")


def load_tokenizer(name: str, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer of a built-in model, a local folder or a Hub id.

    A [`UserError`] if it cannot be loaded, has no end-of-sequence token, or tokens that the model has no embedding for.
    """
    path = model_path(name)
    if Path(path).is_dir() and not any(file for pattern in TOKENIZER_PATTERNS for file in Path(path).glob(pattern)):
        raise UserError(f"{name}: no tokenizer, expected tokenizer.json and tokenizer_config.json")
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
    except Exception as error:  # many kinds, all of them about the files
        raise UserError(f"{name}: cannot load the tokenizer: {first_line(error)}") from error
    check_tokenizer(tokenizer, name)
    if (rows := getattr(config.get_text_config(decoder=True), "vocab_size", None)) is not None:
        check_vocabulary(tokenizer, rows, name)
    return tokenizer


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, rows: int, name: str) -> None:
    """A [`UserError`] that names the first token of the tokenizer whose id is none of the embedding's `rows`.

    Added special tokens that text never becomes may lie beyond it, as Gemma 3's image token does; those that begin, end
    and pad a text may not. `name` is what the user called the model.
    """
    used = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id}
    silent = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special} - used
    beyond = sorted((token, text) for text, token in tokenizer.get_vocab().items() if token >= rows)
    for token, text in beyond:
        if token not in silent:
            raise UserError(
                f"{name}: the tokenizer has token {text!r} with id {token}, the model's embedding ends at {rows - 1}: "
                "expected the model's own tokenizer, or resized embeddings"
            )


def _check_architecture(config: PreTrainedConfig, name: str, trust_remote_code: bool) -> None:
    """Refuse what would not load, and what would load and is no language model that writes from left to right."""
    kind = config.model_type
    if getattr(config, "is_encoder_decoder", False):
        raise UserError(f"{name}: {kind} is an encoder-decoder model, expected a causal language model such as GPT-2")
    if kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", True):
        raise UserError(f"{name}: {kind} is an encoder, which sees what follows; expected a causal language model")
    if getattr(config, "attn_type", None) == "bi":
        raise UserError(f"{name}: {kind} sees what follows; expected a causal language model")
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not trust_remote_code and not hasattr(config, "auto_map"):
        raise UserError(f"{name}: a model of type {kind} is no causal language model")


def model_without_weights(name: str, trust_remote_code: bool = False) -> PreTrainedModel:
    """The causal language model of a name as [`load_model`] takes it, on the meta device: its layers and no numbers.

    Raises:
        UserError: if its settings cannot be read, or are those of no causal language model.
    """
    try:
        config = AutoConfig.from_pretrained(model_path(name), trust_remote_code=trust_remote_code)
        _check_architecture(config, name, trust_remote_code)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    except UserError:
        raise
    except Exception as error:  # many kinds, all of them about the files
        raise UserError(f"{name}: cannot load a causal language model: {first_line(error)}") from error


def load_model(
    name: str,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    trust_remote_code: bool = False,
    sharding: Sharding = "none",
) -> PreTrainedModel:
    """The causal language model of a built-in name, a local folder or a Hub id: frozen, in `eval()` mode.

    Weights that are stored quantised stay so, which needs the package that they were made with. With `sharding` they
    are divided over the processes that were launched together; else the model goes to `device`. `trust_remote_code`
    runs code that comes with it.

    Raises:
        UserError: if it cannot be loaded, is no causal language model, or some weights are missing from its files
            (they would be random) or of another shape.
    """
    path = model_path(name)
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
        _check_architecture(config, name, trust_remote_code)
        check_sharding(sharding, config, name)
        quantised = getattr(config, "quantization_config", None) is not None
        model, report = AutoModelForCausalLM.from_pretrained(
            path,
            config=config,
            dtype=dtype,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **({"device_map": {"": device}} if quantised else {}),
            **({"tp_plan": "auto"} if sharding == "tensor" else {}),
        )
    except UserError:
        raise
    except pickle.UnpicklingError as error:  # without the advice to load it all the same
        raise UserError(f"{name}: its weights are not plain tensors: not loaded, they may run code") from error
    except Exception as error:  # many kinds, all of them about the files
        raise UserError(f"{name}: cannot load a causal language model: {first_line(error)}") from error
    if report["mismatched_keys"]:
        key, stored, wanted = min(report["mismatched_keys"])
        raise UserError(f"{name}: {key} has shape {tuple(stored)} in the files, and {tuple(wanted)} by config.json")
    if report["missing_keys"]:
        raise UserError(f"{name}: weights missing from the files: {', '.join(sorted(report['missing_keys'])[:3])}")
    if report["unexpected_keys"]:
        keys = sorted(report["unexpected_keys"])
        shown = f"{', '.join(keys[:3])}{' and others' if len(keys) > 3 else ''}"
        logger.warning("%s: weights that the model has no place for: %s", name, shown)
    model = model.requires_grad_(False).eval()
    if sharding in ("fsdp", "deepspeed"):
        return divide_blocks(model, sharding, device)
    return model if quantised or sharding == "tensor" else model.to(device)
