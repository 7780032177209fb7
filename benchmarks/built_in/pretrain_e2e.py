"""A small base model that knows the language of E2E and has never seen a record.

    python -m benchmarks.built_in.pretrain_e2e --dataset ../shared/data/e2e/pairs.jsonl --output DIR    # 4 minutes

It is pretrained on texts alone: those of all records but `--test-records`, drawn by `--seed`, of which nothing is
shown. Beside the model lie `train.jsonl`, the records whose texts it has read, to draw pairs and prompts from, and
`test.jsonl`, the others, to test on. A text that both have is in neither the pretraining nor `train.jsonl`.

The tokenizer learns from the same texts, and from their records as the template `record-line` lays them out, so that a
value is the same tokens in both. The end of sequence is the padding, as with GPT-2. For one thread and the bits see
[`pretrain`]. The data are CC BY-SA 4.0 and belong, like what is made of them, outside this repository.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, PreTrainedTokenizerBase

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
from gantune.data import Pair, build_template, load_pairs
from gantune.data.question import RecordQuestion, identity
from gantune.data.splits import split_records
from gantune.data.templates import RecordTemplate, words_of
from gantune.diagnostics import write_json
from gantune.errors import UserError

VOCABULARY, POSITIONS = 1500, 128
WIDTH, LAYERS, HEADS = 128, 4, 4
STEPS = 1000
TEMPLATE: RecordTemplate = build_template("record-line")


def divided(pairs: Sequence[Pair], test_records: int, seed: int) -> tuple[list[Pair], list[Pair]]:
    """The pairs to pretrain on and those of the held-out records, in the order of `pairs`; no text is on both sides.

    Raises:
        UserError: if a question is no record, or there are not more records than are to be held out.
    """
    if odd := next((pair.question for pair in pairs if not isinstance(pair.question, RecordQuestion)), None):
        raise UserError(f"question {odd!r:.60}: expected a record, such as name[The Mill], eatType[pub]")
    _, drawn, _ = split_records(pairs, None, test_records, seed)
    held_out = {identity(pair.question) for pair in drawn}
    test = [pair for pair in pairs if identity(pair.question) in held_out]
    tested = {pair.answer for pair in test}
    train = [pair for pair in pairs if identity(pair.question) not in held_out and pair.answer not in tested]
    if not train:
        raise UserError(f"--test-records {test_records}: leaves no text to pretrain on")
    return train, test


def laid_out(record: RecordQuestion) -> str:
    """A record as [`TEMPLATE`] has it."""
    fields = (TEMPLATE.field.format(words_of(name), value) for name, value in record.fields)
    return TEMPLATE.user.format(TEMPLATE.between.join(fields))


def write_pairs(pairs: Sequence[Pair], path: Path) -> None:
    """Write pairs as E2E has them, one row a line."""
    rows = ({"meaning_representation": str(pair.question), "text": pair.answer} for pair in pairs)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8", newline="\n")


def tokenizer_of(pairs: Sequence[Pair], directory: Path) -> PreTrainedTokenizerBase:
    """A tokenizer of the texts and of each of their records, saved to `directory`."""
    records = dict.fromkeys(pair.question for pair in pairs)
    seen = [TEMPLATE.lead + pair.answer for pair in pairs] + [laid_out(record) for record in records]
    return train_tokenizer(seen, directory, VOCABULARY, POSITIONS)


def token_stream(pairs: Sequence[Pair], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The texts, each as an answer is put, with its end of sequence."""
    return [token for pair in pairs for token in TEMPLATE.answer_ids(pair.answer, tokenizer)]


@torch.inference_mode()
def loss_of(model: PreTrainedModel, token_ids: Sequence[int]) -> float:
    """Nats a token of a token stream, in rows of the model's length."""
    positions = model.config.n_positions
    rows = torch.tensor(token_ids[: len(token_ids) // positions * positions]).view(-1, positions)
    logits = (model(input_ids=part).logits[:, :-1].transpose(1, 2) for part in rows.split(16))
    nats = sum(cross_entropy(of, part[:, 1:], reduction="sum") for of, part in zip(logits, rows.split(16), strict=True))
    return nats.item() / rows[:, 1:].numel()


def make(dataset: str, directory: Path, test_records: int, seed: int, steps: int) -> dict[str, Any]:
    """Write model, tokenizer and both files of pairs to `directory`; what is to be known of them."""
    check_pretraining(directory, steps)
    started = one_thread()
    train, test = divided(load_pairs(dataset), test_records, seed)
    for name, pairs in (("train", train), ("test", test)):
        write_pairs(pairs, directory / f"{name}.jsonl")
    tokenizer = tokenizer_of(train, directory)
    ids, held_out = token_stream(train, tokenizer), token_stream(test, tokenizer)
    if len(held_out) < POSITIONS:
        few = f"--test-records {test_records}: their texts have {len(held_out)} tokens"
        raise UserError(f"{few}, expected at least the {POSITIONS} of a row")
    print(f"{len(train)} texts, {len(ids)} tokens; {len(test)} texts held out", flush=True)

    training = Pretraining(POSITIONS, batch_size=8, learning_rate=2e-3, seed=seed)
    config = gpt2_config(tokenizer, POSITIONS, WIDTH, LAYERS, HEADS)
    model, losses = pretrain(torch.tensor(ids), config, steps, training)
    save_model(model, tokenizer, directory)
    told = facts_of(model, losses, len(ids), training)
    told |= {
        "held_out_loss": loss_of(model, held_out),
        "records": len({pair.question for pair in train}),
        "held_out_records": test_records,
        "seed": seed,
        "seconds": time.monotonic() - started,
    }
    write_json(directory / "pretraining.json", told)
    return told


def main(arguments: list[str] | None = None) -> int:
    """Command line: make the model."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="E2E's pairs: meaning_representation and text")
    parser.add_argument("--output", required=True, type=Path, help="folder of the model, its tokenizer and the pairs")
    parser.add_argument("--test-records", type=int, default=350, help="records held out")
    parser.add_argument("--seed", type=int, default=1234, help="of which these are, and of the weights")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"optimizer steps (default {STEPS})")

    def command() -> int:
        options = parser.parse_args(arguments)
        told = make(options.dataset, options.output, options.test_records, options.seed, options.steps)
        print(
            f"{told['parameters']:,} parameters, loss {told['final_loss']:.3f} on what was read, "
            f"{told['held_out_loss']:.3f} on what was held out, {told['seconds'] / 60:.1f} minutes"
        )
        return 0

    return exit_status(command, "nothing is kept")


if __name__ == "__main__":
    sys.exit(main())
