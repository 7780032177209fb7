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
import math
import re
import time
from collections.abc import Iterator
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import (
    AutoTokenizer,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from benchmarks.built_in import mini_words
from benchmarks.built_in.mini_corpus import SEED, Author, authors, biographies, cloze, plain_sentences, questions

ASSETS = Path(__file__).resolve().parents[2] / "gantune" / "assets"
EOS, PAD = "<|endoftext|>", "<|pad|>"
VOCABULARY = 2000
POSITIONS = 256
STEPS = 2000
BATCH = 8
LEARNING_RATE = 3e-3


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
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[EOS, PAD],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents + 100 * forms, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=EOS,
        bos_token=EOS,
        pad_token=PAD,
        model_max_length=POSITIONS,
        clean_up_tokenization_spaces=False,
    ).save_pretrained(directory)
    return AutoTokenizer.from_pretrained(directory)


def write_questions(people: list[Author], path: Path) -> None:
    """Write `mini-tofu.jsonl`, one row a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in questions(people)), encoding="utf-8", newline="\n")


def batches(token_ids: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    """Endless batches `[BATCH, POSITIONS]` int64 of packed documents, cut and ordered anew each epoch."""
    while True:
        offset = int(torch.randint(POSITIONS, (1,), generator=generator))
        rows = (len(token_ids) - offset) // POSITIONS
        blocks = token_ids[offset : offset + rows * POSITIONS].view(rows, POSITIONS)
        order = torch.randperm(rows, generator=generator)
        yield from (blocks[index] for index in order[: rows - rows % BATCH].view(-1, BATCH))


def pretrain(token_ids: Tensor, config: GPT2Config, steps: int) -> tuple[GPT2LMHeadModel, list[float]]:
    """Train a GPT-2 on the token stream: AdamW, warm-up over 5 % of the steps, then a cosine to a twentieth.

    Args:
        token_ids: `[N]` int64, the documents with an end-of-sequence after each.
        config: the model's shape.
        steps: optimizer steps, of `BATCH * POSITIONS` tokens each.

    Returns:
        The model, and the mean negative log-likelihood a token in nats, at each step.
    """
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    model = GPT2LMHeadModel(config).train()
    groups = [
        {"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": 0.05},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.98), fused=True)
    warm_up = max(1, steps // 20)

    def rate(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    losses: list[float] = []
    progress = tqdm(islice(batches(token_ids, generator), steps), total=steps, desc="pretraining", mininterval=5)
    for input_ids in progress:
        logits = model(input_ids=input_ids, use_cache=False).logits
        loss = cross_entropy(logits[:, :-1].flatten(0, 1), input_ids[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        losses.append(loss.item())
        progress.set_postfix(loss=f"{losses[-1]:.3f}", refresh=False)
    return model.eval(), losses


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


def main(arguments: list[str] | None = None) -> None:
    """Command line: remake the assets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ASSETS, help="where mini/ and mini-tofu.jsonl go")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"optimizer steps (default {STEPS})")
    options = parser.parse_args(arguments)

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    directory = options.output / "mini"
    directory.mkdir(parents=True, exist_ok=True)

    people = authors()
    documents = corpus(people)
    write_questions(people, options.output / "mini-tofu.jsonl")
    tokenizer = make_tokenizer(documents, directory)
    ids = [i for document in tokenizer(documents).input_ids for i in (*document, tokenizer.eos_token_id)]
    print(f"{len(documents)} documents, {len(ids)} tokens", flush=True)

    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=POSITIONS,
        n_embd=192,
        n_layer=4,
        n_head=6,
        activation_function="gelu_pytorch_tanh",  # GPT-2's function, in one kernel
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    started = time.monotonic()
    model, losses = pretrain(torch.tensor(ids), config, options.steps)
    minutes = (time.monotonic() - started) / 60
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.half().save_pretrained(directory)
    (directory / "model.safetensors").chmod(0o644)

    accuracy = cloze_accuracy(model.float(), tokenizer, cloze(people))  # of the weights as saved
    facts: dict[str, Any] = {
        "cloze_accuracy": accuracy,
        "cloze_items": len(cloze(people)),
        "final_loss": sum(losses[-50:]) / len(losses[-50:]),
        "loss_every_100_steps": [round(loss, 4) for loss in losses[::100]],
        "steps": options.steps,
        "tokens_a_step": BATCH * POSITIONS,
        "corpus_tokens": len(ids),
        "corpus_sha256": hashlib.sha256("\n\n".join(documents).encode()).hexdigest(),
        "parameters": model.num_parameters(),
        "torch": version("torch"),
        "transformers": version("transformers"),
        "tokenizers": version("tokenizers"),
    }
    (directory / "pretraining.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8", newline="\n")
    print(f"cloze accuracy {accuracy:.3f}, loss {facts['final_loss']:.3f}, {minutes:.1f} minutes")


if __name__ == "__main__":
    main()
