"""Question-answer pairs, from their source to the batch."""

from gantune.data.batch import Batch, Pair
from gantune.data.encoding import (
    EncodedPair,
    LengthReport,
    batches,
    collate,
    collate_prompts,
    encode_pairs,
    epoch_order,
    grouped_by_length,
    likelihood_inputs,
)
from gantune.data.sources import load_pairs
from gantune.data.splits import split_pairs
from gantune.data.templates import TEMPLATES, Template, build_template, check_tokenizer, pad_token_id

__all__ = [
    "TEMPLATES",
    "Batch",
    "EncodedPair",
    "LengthReport",
    "Pair",
    "Template",
    "batches",
    "build_template",
    "check_tokenizer",
    "collate",
    "collate_prompts",
    "encode_pairs",
    "epoch_order",
    "grouped_by_length",
    "likelihood_inputs",
    "load_pairs",
    "pad_token_id",
    "split_pairs",
]
