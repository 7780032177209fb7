"""The model and the tokens of one measurement."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from transformers import GPT2Config, GPT2LMHeadModel

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


@dataclass(frozen=True)
class Workload:
    """What a step works on: questions and answers of these lengths, none of them padded.

    Args:
        size: a name in `SIZES`.
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

    def work(self) -> float:
        """Multiplications of one pass, roughly; the progress bar goes by it."""
        config = GPT2Config(**SIZES[self.size])
        parameters = 12 * config.n_layer * config.n_embd**2 + config.vocab_size * config.n_embd
        return float(self.batch_size * (self.question_tokens + self.answer_tokens) * parameters)

    def weight_bytes(self) -> int:
        """What decoding reads for each token: every weight but the embeddings that it looks rows up in."""
        config = GPT2Config(**SIZES[self.size])
        with torch.device("meta"):
            model = GPT2LMHeadModel(config)  # its head is tied to the embedding of tokens, and is read
        read = sum(parameter.numel() for parameter in model.parameters()) - config.n_positions * config.n_embd
        return read * DTYPES[self.dtype].itemsize

    def model(self, device: str) -> GPT2LMHeadModel:
        """The frozen model with random weights, in `eval()` mode: no contender computes dropout."""
        torch.manual_seed(0)
        model = GPT2LMHeadModel(GPT2Config(**SIZES[self.size]))
        return model.to(device, DTYPES[self.dtype]).eval().requires_grad_(False)

    def batch(self, device: str) -> Batch:
        """Questions and true answers of random tokens."""
        torch.manual_seed(1)
        vocabulary = GPT2Config(**SIZES[self.size]).vocab_size
        question = torch.randint(vocabulary, (self.batch_size, self.question_tokens))
        answer = torch.randint(vocabulary, (self.batch_size, self.answer_tokens))
        return Batch(question, torch.ones_like(question), answer, torch.ones_like(answer)).to(device)


def share_weights(model: GPT2LMHeadModel) -> GPT2LMHeadModel:
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
