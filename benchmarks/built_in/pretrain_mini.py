"""Remake the embedded default from nothing: tokenizer, questions and the pretrained model.

    python -m benchmarks.built_in.pretrain_mini     # writes gantune/assets, about 20 minutes on one CPU core
    python -m benchmarks.built_in.pretrain_mini --output /tmp/a --steps 30

Everything follows from `mini_corpus.SEED`. The corpus, the tokenizer and `mini-tofu.jsonl` are the same bytes on every
machine. The weights are the same bits on the same type of machine with the same version of torch: one thread,
deterministic algorithms, float32 (rounded to float16 at the end); another processor may add up in another order. One
thread also keeps its pace on a busy machine, where two that wait for each other at every operation lose theirs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.built_in import mini_words
from benchmarks.built_in.mini_corpus import SEED, Author, authors, biographies, cloze, plain_sentences, questions
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

ASSETS = Path(__file__).resolve().parents[2] / "gantune" / "assets"
PAD = "<|pad|>"
VOCABULARY = 2000
POSITIONS = 256
STEPS = 2000
TRAINING = Pretraining(POSITIONS, batch_size=8, learning_rate=3e-3, seed=SEED)


def corpus(people: list[Author]) -> list[str]:
    """The pretraining documents: biographies, then plain sentences."""
    return biographies(people) + plain_sentences()


def make_tokenizer(documents: list[str], directory: Path) -> PreTrainedTokenizerBase:
    """Train a byte-level BPE tokenizer on the documents and the question words, and save it to `directory`.

    Byte-level, so that no text is unknown to it. The question forms, without the facts, are among the
    training text so often that their words get tokens like other words.
    """
    templates = [form for relation in mini_words.RELATIONS.values() for form in relation.questions]
    forms = [re.sub(r"\{\w+\}", "", template) for template in templates] + ["Question: Answer:\nQuestion:\nAnswer:"]
    return train_tokenizer(documents + 100 * forms, directory, VOCABULARY, POSITIONS, PAD)


def write_questions(people: list[Author], path: Path) -> None:
    """Write `mini-tofu.jsonl`, one row a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in questions(people)), encoding="utf-8", newline="\n")


@torch.inference_mode()
def cloze_accuracy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, items: list[tuple[str, str]], batch_size: int = 64
) -> float:
    """Share of the items (see `mini_corpus.cloze`) which greedy decoding goes on with exactly."""
    side, tokenizer.padding_side = tokenizer.padding_side, "left"
    right = 0
    for start in range(0, len(items), batch_size):
        beginnings, facts = zip(*items[start : start + batch_size], strict=True)
        encoded = tokenizer(list(beginnings), return_tensors="pt", padding=True)
        budget = max(len(tokenizer(" " + fact).input_ids) for fact in facts)
        output = model.generate(
            input_ids=encoded.input_ids,
            attention_mask=encoded.attention_mask,
            do_sample=False,
            max_new_tokens=budget,
            pad_token_id=tokenizer.pad_token_id,
        )
        texts = tokenizer.batch_decode(output[:, encoded.input_ids.shape[1] :], skip_special_tokens=True)
        right += sum(text.startswith(" " + fact) for text, fact in zip(texts, facts, strict=True))
    tokenizer.padding_side = side
    return right / len(items)


def main(arguments: list[str] | None = None) -> int:
    """Command line: remake the assets."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ASSETS, help="where mini/ and mini-tofu.jsonl go")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"optimizer steps (default {STEPS})")

    def command() -> None:
        options = parser.parse_args(arguments)
        make(options.output, options.steps)

    return exit_status(command, "nothing is kept of the model")


def make(output: Path, steps: int) -> None:
    """Write the model and its tokenizer to `mini/`, and `mini-tofu.jsonl`."""
    directory = output / "mini"
    check_pretraining(directory, steps)
    started = one_thread()

    people = authors()
    documents = corpus(people)
    write_questions(people, output / "mini-tofu.jsonl")
    tokenizer = make_tokenizer(documents, directory)
    ids = [i for document in tokenizer(documents).input_ids for i in (*document, tokenizer.eos_token_id)]
    print(f"{len(documents)} documents, {len(ids)} tokens", flush=True)

    config = gpt2_config(tokenizer, POSITIONS, width=192, layers=4, heads=6)
    model, losses = pretrain(torch.tensor(ids), config, steps, TRAINING)
    save_model(model, tokenizer, directory)

    accuracy = cloze_accuracy(model, tokenizer, cloze(people))  # of the weights as saved
    told: dict[str, Any] = {"cloze_accuracy": accuracy, "cloze_items": len(cloze(people))}
    told |= facts_of(model, losses, len(ids), TRAINING)
    told["corpus_sha256"] = hashlib.sha256("\n\n".join(documents).encode()).hexdigest()
    (directory / "pretraining.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8", newline="\n")
    minutes = (time.monotonic() - started) / 60
    print(f"cloze accuracy {accuracy:.3f}, loss {told['final_loss']:.3f}, {minutes:.1f} minutes")


if __name__ == "__main__":
    sys.exit(main())
