"""The model and the tokens of one measurement."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedConfig, PreTrainedModel

from gantune.data.batch import Batch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SIZES = {
    "gpt2": {},
    "distilgpt2": {"n_layer": 6},
    "gpt2-medium": {"n_layer": 24, "n_embd": 1024, "n_head": 16},
    # for trying out
    "tiny": {"n_layer": 2, "n_embd": 32, "n_head": 2, "vocab_size": 500, "bos_token_id": 0, "eos_token_id": 0},
    "tinier": {"n_layer": 1, "n_embd": 32, "n_head": 2, "vocab_size": 500, "bos_token_id": 0, "eos_token_id": 0},
}
"""What differs from GPT-2's 12 layers of width 768 and vocabulary of 50,257."""
LLAMAS = {
    # Llama 3.2 1B, its config.json
    "llama-1b": {
        "num_hidden_layers": 16,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    },
    # for trying out
    "tiny-llama": {
        "num_hidden_layers": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 500,
    },
}
"""Shapes of Llama's blocks, with the output head tied to the embedding of tokens."""


@dataclass(frozen=True)
class Workload:
    """What a step works on: questions and answers of these lengths, none of them padded.

    Args:
        size: a name in `SIZES` or `LLAMAS`.
        dtype: of the frozen model, a name in `DTYPES`; adapters and discriminators are float32, as peft makes them.
        batch_size: questions, with one answer each.
        question_tokens: length of each question.
        answer_tokens: length of each answer.
    """

    size: str
    dtype: str
    batch_size: int
    question_tokens: int
    answer_tokens: int

    def __str__(self) -> str:
        return f"{self.size} {self.dtype} B={self.batch_size} T={self.answer_tokens}"

    def config(self) -> PreTrainedConfig:
        """The model's shape. It declares no token that ends an answer."""
        if self.size in LLAMAS:
            return LlamaConfig(**LLAMAS[self.size], tie_word_embeddings=True, bos_token_id=0, eos_token_id=None)
        return GPT2Config(**SIZES[self.size])

    def work(self) -> float:
        """Multiplications of one pass, roughly; the progress bar goes by it."""
        config = self.config()
        width = config.hidden_size
        parameters = 12 * config.num_hidden_layers * width**2 + config.vocab_size * width
        return float(self.batch_size * (self.question_tokens + self.answer_tokens) * parameters)

    def weight_bytes(self) -> int:
        """What decoding reads for each token: every weight but the embeddings that it looks rows up in."""
        with torch.device("meta"):
            model = self._random()  # its head is tied to the embedding of tokens, and is read
        looked_up = getattr(getattr(model, "transformer", None), "wpe", None)  # Llama has no table of positions
        read = sum(parameter.numel() for parameter in model.parameters())
        return (read - (looked_up.weight.numel() if looked_up else 0)) * DTYPES[self.dtype].itemsize

    def model(self, device: str) -> PreTrainedModel:
        """The frozen model with random weights, in `eval()` mode: no contender computes dropout."""
        torch.manual_seed(0)
        with torch.device(device):
            model = self._random()
        return model.to(device, DTYPES[self.dtype]).eval().requires_grad_(False)

    def _random(self) -> PreTrainedModel:
        return (LlamaForCausalLM if self.size in LLAMAS else GPT2LMHeadModel)(self.config())

    def batch(self, device: str) -> Batch:
        """Questions and true answers of random tokens."""
        torch.manual_seed(1)
        vocabulary = self.config().vocab_size
        question = torch.randint(vocabulary, (self.batch_size, self.question_tokens))
        answer = torch.randint(vocabulary, (self.batch_size, self.answer_tokens))
        return Batch(question, torch.ones_like(question), answer, torch.ones_like(answer)).to(device)


def share_weights(model: PreTrainedModel) -> PreTrainedModel:
    """A copy to be adapted by itself, on the very same frozen weights."""
    return copy.deepcopy(model, {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())})


class NoTemplate:
    """Stands for a template: its end is no token of the vocabulary, so that all sampled answers are full."""

    def prompt_ids(self, question: str, tokenizer: NoWords) -> list[int]:
        """Nothing to read."""
        return []

    def answer_ids(self, answer: str, tokenizer: NoWords) -> list[int]:
        """The end alone."""
        return [tokenizer.eos_token_id]


class NoWords:
    """Stands for a tokenizer: random weights write no words."""

    bos_token_id = unk_token_id = None
    eos_token_id = -1
    pad_token_id = 0
    added_tokens_decoder: ClassVar[dict[int, Any]] = {}

    def get_vocab(self) -> dict[str, int]:
        """Nothing."""
        return {}

    def batch_decode(self, rows: Sequence[torch.Tensor], skip_special_tokens: bool = False) -> list[str]:
        """The ids as text."""
        return [" ".join(map(str, row.tolist())) for row in rows]
