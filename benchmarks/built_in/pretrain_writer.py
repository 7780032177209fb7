"""The base model for mini-records: it knows how such texts are written, and has never seen a record.

    python -m benchmarks.built_in.pretrain_writer     # 3 minutes; writes gantune/assets/mini-writer

A GPT-2 of 2 blocks, pretrained on the texts of `TEXT_RECORDS` made-up records, none of which is in mini-records: what
is plentiful in practice, texts without records. Tokenizer, layout and bits are as in `pretrain_e2e`.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from benchmarks.built_in.mini_corpus import SEED
from benchmarks.built_in.mini_records import records
from benchmarks.built_in.pretrain_e2e import laid_out, loss_of, token_stream
from benchmarks.built_in.pretrain_mini import ASSETS
from benchmarks.built_in.pretraining import (
    Pretraining,
    check_pretraining,
    facts_of,
    gpt2_config,
    one_thread,
    pretrain,
    save_model,
    train_tokenizer,
)
from gantune.command import OneLineParser, exit_status
from gantune.data import Pair
from gantune.data.question import RecordQuestion
from gantune.diagnostics import write_json

TEXT_RECORDS = 5000
VOCABULARY, POSITIONS = 800, 80
WIDTH, LAYERS, HEADS = 96, 2, 4
STEPS = 1500


def plain_texts(count: int = TEXT_RECORDS) -> list[Pair]:
    """Records and texts that mini-records has none of."""
    shipped = records()
    known = [row["record"] for row in shipped]
    tested = {text for row in shipped for text in row["text"]}
    return [
        Pair(RecordQuestion(row["record"].items()), text)
        for row in records(SEED + 1, count)
        if row["record"] not in known
        for text in row["text"]
        if text not in tested
    ]


def make(directory: Path, steps: int = STEPS) -> None:
    """Write model and tokenizer."""
    check_pretraining(directory, steps)
    started = one_thread()
    pairs = plain_texts()
    layouts = [laid_out(record) for record in dict.fromkeys(pair.question for pair in pairs)]
    tokenizer = train_tokenizer([" " + pair.answer for pair in pairs] + layouts, directory, VOCABULARY, POSITIONS)
    ids = token_stream(pairs, tokenizer)
    training = Pretraining(POSITIONS, batch_size=16, learning_rate=3e-3, seed=SEED)
    config = gpt2_config(tokenizer, POSITIONS, WIDTH, LAYERS, HEADS)
    model, losses = pretrain(torch.tensor(ids), config, steps, training)
    save_model(model, tokenizer, directory)
    held_out = [Pair(RecordQuestion(row["record"].items()), row["text"][0]) for row in records()[:300]]
    told = facts_of(model, losses, len(ids), training)
    told["held_out_loss"] = loss_of(model, token_stream(held_out, tokenizer))
    write_json(directory / "pretraining.json", told)
    minutes = (time.monotonic() - started) / 60
    print(
        f"{told['parameters']:,} parameters, loss {told['final_loss']:.3f}, {told['held_out_loss']:.3f} on "
        f"the texts of mini-records, {minutes:.1f} minutes"
    )


def main(arguments: list[str] | None = None) -> int:
    """Command line: remake the model."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ASSETS / "mini-writer", help="folder of model and tokenizer")
    return exit_status(lambda: make(parser.parse_args(arguments).output), "nothing is kept")


if __name__ == "__main__":
    sys.exit(main())
