"""A byte-level tokenizer made in memory, for tests that need text and no files."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.tiny_models import VOCAB_SIZE

CHARACTERS = " abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;?!'\n-"


def tiny_tokenizer(eos: bool = True) -> PreTrainedTokenizerFast:
    """One token a character, after `<pad>`, `<bos>`, `<eos>` and `<unk>`: no more ids than the tiny models know."""
    vocabulary = {token: index for index, token in enumerate(["<pad>", "<bos>", "<eos>", "<unk>", *CHARACTERS])}
    assert len(vocabulary) <= VOCAB_SIZE
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    special = {"pad_token": "<pad>", "bos_token": "<bos>", "unk_token": "<unk>"} | (
        {"eos_token": "<eos>"} if eos else {}
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
