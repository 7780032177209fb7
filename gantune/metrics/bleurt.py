"""BLEURT (Sellam et al. 2020; BLEURT-20: Pu et al. 2021): a learned score of a candidate against a reference.

Reads checkpoints in the format of bleurt-pytorch (https://github.com/lucadiliello/bleurt-pytorch), which itself does
not work with transformers 5, and computes what Google's graph computes (google-research/bleurt, bleurt/model.py).
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import BertConfig, BertModel
from transformers.activations import ACT2FN
from transformers.initialization import no_init_weights
from transformers.models.bert.modeling_bert import BertEmbeddings, BertEncoder

from gantune.errors import UserError, first_line
from gantune.hub.push import local_folder
from gantune.metrics.base import InMemoryMetric, check_texts
from gantune.metrics.bleurt_tokenizer import SENTENCEPIECE_FILES, WORDPIECE_FILE, BleurtTokenizer, read_json

_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)


class Bleurt(InMemoryMetric):
    """BLEURT of generated answers. The scores' scale depends on the checkpoint; BLEURT-20's is roughly 0 to 1.

    `Bleurt(checkpoint).compute(predictions=[...], references=[...])` gives `bleurt`, the mean, and `scores`, one
    for each pair.

    Args:
        checkpoint: a folder in bleurt-pytorch's format (`config.json` with `model_type` "bleurt", `model.safetensors`
            or `pytorch_model.bin`, `vocab.txt` or `spm.model`), or a Hub id such as "lucadiliello/BLEURT-20".

    Raises:
        UserError: if the checkpoint is missing, is not BLEURT, or its weights are not exactly those of its config.
    """

    says = "BLEURT, mean over the pairs and the score of each."
    source = """Thibault Sellam, Dipanjan Das and Ankur Parikh. 2020. BLEURT: Learning Robust Metrics for Text
Generation. In ACL, pages 7881-7892. https://aclanthology.org/2020.acl-main.704
Amy Pu, Hyung Won Chung, Ankur Parikh, Sebastian Gehrmann and Thibault Sellam. 2021. Learning Compact Metrics for MT.
In EMNLP, pages 751-762. https://aclanthology.org/2021.emnlp-main.58"""

    def __init__(self, checkpoint: str | Path, device: str | torch.device = "cpu", batch_size: int = 16) -> None:
        super().__init__()
        if batch_size < 1:
            raise UserError(f"batch_size: expected at least 1, got {batch_size}")
        folder = _find_folder(checkpoint)
        config = _read_config(folder)
        self.device = torch.device(device)
        self.batch_size = batch_size
        self.tokenizer = BleurtTokenizer.from_folder(folder, max_length=config["max_position_embeddings"])
        if self.tokenizer.vocab_size > config["vocab_size"]:
            raise UserError(
                f"{folder}: the vocabulary has {self.tokenizer.vocab_size} pieces, "
                f"more than vocab_size {config['vocab_size']} in config.json"
            )
        with no_init_weights():  # the checkpoint fills every parameter; drawing BLEURT-20's first takes 20 s
            self.model = BleurtScorer(config)
        _load_weights(self.model, folder)
        self.model.to(self.device).eval()

    @torch.inference_mode()
    def score_pairs(self, predictions: Sequence[str], references: Sequence[str]) -> list[float]:
        """BLEURT of each generated answer against its true one. Bad input is refused by [`check_texts`]."""
        texts = check_texts(predictions=predictions, references=references)
        pairs = [self.tokenizer.encode_pair(r, p) for p, r in zip(*texts.values(), strict=True)]
        longest_first = sorted(range(len(pairs)), key=lambda row: -len(pairs[row][0]))
        scores = [0.0] * len(pairs)
        for start in range(0, len(pairs), self.batch_size):
            rows = longest_first[start : start + self.batch_size]
            batch = self.model(*_pad([pairs[row] for row in rows], self.device))
            for row, score in zip(rows, batch.tolist(), strict=True):
                scores[row] = score
        return scores

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
        scores = self.score_pairs(predictions, references)
        return {"bleurt": sum(scores) / len(scores), "scores": scores}


class BleurtScorer(nn.Module):
    """BERT and a linear layer on its pooled `[CLS]`, as `config.json` says; parameters are named as in bleurt-pytorch.

    Any `embedding_size` in the config other than null adds a projection from the embeddings to the encoder, as
    BLEURT-20 has. The activation "gelu" means the tanh approximation, as in the graph the weights were trained in.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        activation = config.get("hidden_act", "gelu")
        bert_config = BertConfig(
            **{name: config[name] for name in _SIZES},
            hidden_act="gelu_pytorch_tanh" if activation in ("gelu", "gelu_new") else activation,
            layer_norm_eps=config.get("layer_norm_eps", 1e-12),
            pad_token_id=config.get("pad_token_id", 0),
        )
        self.bleurt = BertModel(bert_config)
        embedding_size = config.get("embedding_size")
        if embedding_size is not None:
            self.bleurt.embeddings = BertEmbeddings(
                BertConfig(**bert_config.to_dict() | {"hidden_size": embedding_size})
            )
            self.bleurt.encoder = ProjectedEncoder(bert_config, embedding_size)
        self.classifier = nn.Linear(bert_config.hidden_size, 1)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Scores `[B]` float32 of pairs whose ids, types and mask (1 on tokens) are `[B, L]` int64."""
        output = self.bleurt(input_ids=input_ids, token_type_ids=token_type_ids, attention_mask=attention_mask)
        return self.classifier(output.pooler_output).squeeze(-1)


class ProjectedEncoder(BertEncoder):
    """A BERT encoder whose input `[B, L, embedding_size]` is first projected to the hidden size."""

    def __init__(self, config: BertConfig, embedding_size: int) -> None:
        super().__init__(config)
        self.embedding_projection = nn.Linear(embedding_size, config.hidden_size)

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        return super().forward(self.embedding_projection(hidden_states), *args, **kwargs)


def _pad(pairs: Sequence[tuple[list[int], list[int]]], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, types and attention mask, each `[B, L]` int64, zero after each pair's end."""
    rows = [torch.tensor([ids, types, [1] * len(ids)]).T for ids, types in pairs]
    ids, types, mask = pad_sequence(rows, batch_first=True).to(device).unbind(dim=2)
    return ids, types, mask


def _find_folder(checkpoint: str | Path) -> Path:
    """The local folder, or the Hub's snapshot of it."""
    wanted = ("config.json", "tokenizer_config.json", *_WEIGHT_FILES, WORDPIECE_FILE, *SENTENCEPIECE_FILES)
    try:
        folder = local_folder(checkpoint, wanted)
    except UserError as error:
        raise UserError(f"BLEURT checkpoint {error}") from error
    if not folder.is_dir():
        raise UserError(f"BLEURT checkpoint {checkpoint}: no such folder")
    return folder


def _read_config(folder: Path) -> dict[str, Any]:
    """`config.json`, checked to be that of a BLEURT model."""
    file = folder / "config.json"
    if not file.is_file():
        raise UserError(f"{file}: no such file, expected a BLEURT checkpoint in bleurt-pytorch's format")
    config = read_json(file)
    if config.get("model_type") != "bleurt":
        raise UserError(f'{file}: model_type is {json.dumps(config.get("model_type"))}, expected "bleurt"')
    for name in (*_SIZES, *(["embedding_size"] if config.get("embedding_size") is not None else [])):
        if not isinstance(config.get(name), int) or config[name] < 1:
            raise UserError(f"{file}: {name} is {json.dumps(config.get(name))}, expected a whole number above 0")
    if config["hidden_size"] % config["num_attention_heads"]:
        raise UserError(
            f"{file}: hidden_size {config['hidden_size']} is not a multiple of "
            f"num_attention_heads {config['num_attention_heads']}"
        )
    if config.get("hidden_act", "gelu") not in ACT2FN:
        raise UserError(f"{file}: unknown hidden_act {json.dumps(config['hidden_act'])}")
    return config


def _load_weights(model: BleurtScorer, folder: Path) -> None:
    """Fills every parameter from the checkpoint; nothing may be left over on either side."""
    file = next((folder / name for name in _WEIGHT_FILES if (folder / name).is_file()), None)
    if file is None:
        raise UserError(f"{folder}: no weights, expected {' or '.join(_WEIGHT_FILES)}")
    try:
        is_safetensors = file.suffix == ".safetensors"
        weights = load_file(file) if is_safetensors else torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
        raise UserError(f"{file}: cannot be read as weights ({first_line(error)})") from error
    weights.pop("bleurt.embeddings.position_ids", None)  # a buffer that bleurt-pytorch saves: 0, 1, 2, ...

    own = model.state_dict()
    problems = {
        "missing": own.keys() - weights.keys(),
        "unexpected": weights.keys() - own.keys(),
        "of another shape": {name for name in own.keys() & weights.keys() if own[name].shape != weights[name].shape},
    }
    told = [f"{what}: {', '.join(sorted(names)[:3])} ({len(names)})" for what, names in problems.items() if names]
    if told:
        raise UserError(f"{file}: weights do not fit config.json; {'; '.join(told)}")
    model.load_state_dict(weights)
