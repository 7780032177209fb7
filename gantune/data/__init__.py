"""Question-answer pairs, from their source to the batch. Names are imported on first use."""

from gantune.registry import lazy

__getattr__, __all__ = lazy(
    __name__,
    {
        "batch": ["Batch"],
        "cleaning": ["Cleaned", "CleaningConfig", "Dropped", "clean"],
        "corruption": ["Corrupted", "Corruptions", "make_up"],
        "decontamination": ["Contaminated", "decontaminate"],
        "encoding": [
            *("EncodedPair", "LengthReport", "batches", "collate", "collate_prompts", "encode_pairs", "epoch_order"),
            *("epoch_rows", "grouped_by_length", "likelihood_inputs"),
        ],
        "formats": ["FORMATS", "Format"],
        "objects": ["as_pairs"],
        "packing": ["check_packing", "mask_dtype", "packed_inputs"],
        "prompts": ["load_prompts"],
        "question": ["Pair", "Question", "RecordQuestion", "Turn", "turns_of"],
        "records": ["Record"],
        "sources": ["Source", "load_pairs", "open_source", "pairs_of"],
        "splits": ["split_pairs", "split_records"],
        "templates": ["TEMPLATES", "Template", "build_template", "check_tokenizer", "end_token_id", "pad_token_id"],
    },
)
