"""Token ids of (reference, candidate) pairs, as Google's BLEURT makes them.

Source: google-research/bleurt, bleurt/encoding.py and bleurt/lib/tokenizers.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sentencepiece
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from gantune.errors import UserError

WORDPIECE_FILE = "vocab.txt"
SENTENCEPIECE_FILES = ("spm.model", "sent_piece.model")
MAX_LENGTH = 512


@dataclass(frozen=True)
class BleurtTokenizer:
    """Encodes pairs as `[CLS] reference [SEP] candidate [SEP]`; in a text they are plain characters, as in Google's."""

    encode: Callable[[str], list[int]]  # without special tokens
    cls_id: int
    sep_id: int
    vocab_size: int
    max_length: int  # of a pair, in tokens, special tokens included

    @classmethod
    def from_folder(cls, folder: Path, max_length: int = MAX_LENGTH) -> BleurtTokenizer:
        """Reads `vocab.txt` (WordPiece: BERT-style checkpoints) or `spm.model` (SentencePiece: BLEURT-20).

        `model_max_length` in `tokenizer_config.json` may lower the length.
        """
        config_file = folder / "tokenizer_config.json"
        config = read_json(config_file) if config_file.is_file() else {}
        max_length = min(max_length, MAX_LENGTH, int(config.get("model_max_length") or MAX_LENGTH))

        if (folder / WORDPIECE_FILE).is_file():
            return cls(*_read_wordpiece(folder / WORDPIECE_FILE, config.get("do_lower_case", True)), max_length)
        for name in SENTENCEPIECE_FILES:
            if (folder / name).is_file():
                return cls(*_read_sentencepiece(folder / name), max_length)
        raise UserError(f"{folder}: no vocabulary, expected {WORDPIECE_FILE} or {' or '.join(SENTENCEPIECE_FILES)}")

    def encode_pair(self, reference: str, candidate: str) -> tuple[list[int], list[int]]:
        """Token ids and token types (0 up to the first `[SEP]`, 1 after) of one pair."""
        first, second = self.encode(reference), self.encode(candidate)
        truncate_pair(first, second, self.max_length - 3)
        ids = [self.cls_id, *first, self.sep_id, *second, self.sep_id]
        return ids, [0] * (len(first) + 2) + [1] * (len(second) + 1)


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object in `file`; a [`UserError`] if it holds anything else."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file}: not JSON ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{file}: expected a JSON object, got {type(content).__name__}")
    return content


def truncate_pair(reference_ids: list[int], candidate_ids: list[int], max_length: int) -> None:
    """Cuts tokens off the end of the longer list, the candidate's if both are equal, until they fit; in place."""
    while len(reference_ids) + len(candidate_ids) > max_length:
        (reference_ids if len(reference_ids) > len(candidate_ids) else candidate_ids).pop()


def _read_wordpiece(vocab_file: Path, lower_case: bool) -> tuple[Callable[[str], list[int]], int, int, int]:
    vocab = WordPiece.read_file(str(vocab_file))
    for special in ("[UNK]", "[CLS]", "[SEP]"):
        if special not in vocab:
            raise UserError(f"{vocab_file}: no {special} in the vocabulary")
    tokenizer = Tokenizer(WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=200))
    tokenizer.normalizer = BertNormalizer(lowercase=lower_case)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    return lambda text: tokenizer.encode(text).ids, vocab["[CLS]"], vocab["[SEP]"], len(vocab)


def _read_sentencepiece(model_file: Path) -> tuple[Callable[[str], list[int]], int, int, int]:
    try:
        model = sentencepiece.SentencePieceProcessor(model_file=str(model_file))
    except (OSError, RuntimeError) as error:
        raise UserError(f"{model_file}: not a SentencePiece model ({error})") from error
    for special in ("[CLS]", "[SEP]"):
        if model.PieceToId(special) == model.unk_id():
            raise UserError(f"{model_file}: no {special} in the vocabulary")
    return model.EncodeAsIds, model.PieceToId("[CLS]"), model.PieceToId("[SEP]"), model.GetPieceSize()
