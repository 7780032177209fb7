"""Question-answer pairs, from their source to the batch."""

from gantune.data.batch import Batch, Pair
from gantune.data.cleaning import Cleaned, CleaningConfig, Dropped, clean
from gantune.data.decontamination import Contaminated, decontaminate
from gantune.data.encoding import (
    EncodedPair,
    LengthReport,
    batches,
    collate,
    collate_prompts,
    encode_pairs,
    epoch_order,
    epoch_rows,
    grouped_by_length,
    likelihood_inputs,
)
from gantune.data.formats import FORMATS, Format
from gantune.data.packing import check_packing, mask_dtype, packed_inputs
from gantune.data.question import Question, Turn, turns_of
from gantune.data.records import Record
from gantune.data.sources import Source, as_pairs, load_pairs, open_source, pairs_of
from gantune.data.splits import split_pairs
from gantune.data.templates import (
    TEMPLATES,
    Template,
    build_template,
    check_tokenizer,
    end_token_id,
    pad_token_id,
)

__all__ = [
    "FORMATS",
    "TEMPLATES",
    "Batch",
    "Cleaned",
    "CleaningConfig",
    "Contaminated",
    "Dropped",
    "EncodedPair",
    "Format",
    "LengthReport",
    "Pair",
    "Question",
    "Record",
    "Source",
    "Template",
    "Turn",
    "as_pairs",
    "batches",
    "build_template",
    "check_packing",
    "check_tokenizer",
    "clean",
    "collate",
    "collate_prompts",
    "decontaminate",
    "encode_pairs",
    "end_token_id",
    "epoch_order",
    "epoch_rows",
    "grouped_by_length",
    "likelihood_inputs",
    "load_pairs",
    "mask_dtype",
    "open_source",
    "packed_inputs",
    "pad_token_id",
    "pairs_of",
    "split_pairs",
    "turns_of",
]
