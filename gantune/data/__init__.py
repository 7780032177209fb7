"""Question-answer pairs, from their source to the batch. What needs torch is imported on first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gantune.data.cleaning import Cleaned, CleaningConfig, Dropped, clean
from gantune.data.decontamination import Contaminated, decontaminate
from gantune.data.formats import FORMATS, Format
from gantune.data.objects import as_pairs
from gantune.data.question import Pair, Question, Turn, turns_of
from gantune.data.records import Record
from gantune.data.sources import Source, load_pairs, open_source, pairs_of
from gantune.data.splits import split_pairs
from gantune.data.templates import (
    TEMPLATES,
    Template,
    build_template,
    check_tokenizer,
    end_token_id,
    pad_token_id,
)

if TYPE_CHECKING:
    from gantune.data.batch import Batch
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
    from gantune.data.packing import check_packing, mask_dtype, packed_inputs

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


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    modules = (import_module(f"gantune.data.{module}") for module in ("batch", "encoding", "packing"))
    return next(getattr(module, name) for module in modules if hasattr(module, name))
