"""How the small models of these benchmarks are made: a byte-level tokenizer, and a GPT-2 trained on plain texts."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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

from benchmarks.compare.files import check_writable
from gantune.errors import UserError

EOS = "<|endoftext|>"


@dataclass(frozen=True)
class Pretraining:
    """AdamW, warm-up over 5 % of the steps, then a cosine to a twentieth of the rate.

    Args:
        positions: tokens a row.
        batch_size: rows a step.
        learning_rate: at its highest.
        seed: of weights and order.
    """

    positions: int
    batch_size: int
    learning_rate: float
    seed: int

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step as a share of the highest."""
        warm_up = max(1, steps // 20)
        if step < warm_up:
            return (step + 1) / warm_up
        return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))

    def batches(self, token_ids: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
        """Endless batches `[batch_size, positions]` int64 of packed documents, cut and ordered anew each epoch."""
        while True:
            offset = int(torch.randint(self.positions, (1,), generator=generator))
            rows = (len(token_ids) - offset) // self.positions
            blocks = token_ids[offset : offset + rows * self.positions].view(rows, self.positions)
            order = torch.randperm(rows, generator=generator)
            whole = order[: rows - rows % self.batch_size].view(-1, self.batch_size)
            yield from (blocks[index] for index in whole)


def train_tokenizer(
    texts: Sequence[str], directory: Path, vocabulary: int, positions: int, pad: str = EOS
) -> PreTrainedTokenizerBase:
    """Train a byte-level BPE tokenizer, to which no text is unknown, and save it to `directory`.

    Args:
        vocabulary: number of tokens, special ones included.
        positions: longest text of the model.
        pad: the padding token; the end of sequence, which also begins one, if it has none of its own.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(dict.fromkeys([EOS, pad])),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=EOS,
        bos_token=EOS,
        pad_token=pad,
        model_max_length=positions,
        clean_up_tokenization_spaces=False,
    ).save_pretrained(directory)
    return AutoTokenizer.from_pretrained(directory)


def gpt2_config(tokenizer: PreTrainedTokenizerBase, positions: int, width: int, layers: int, heads: int) -> GPT2Config:
    """A GPT-2's shape, without dropout."""
    return GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=positions,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        activation_function="gelu_pytorch_tanh",  # GPT-2's function, in one kernel
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        **special_ids(tokenizer),
    )


def special_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """The special tokens as configurations name them."""
    return {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}


def check_pretraining(directory: Path, steps: int) -> None:
    """Refuse a folder that cannot be written and a number of steps that trains nothing, before anything is made."""
    if steps < 1:
        raise UserError(f"--steps {steps}: expected at least 1")
    check_writable(directory / "pretraining.json")


def pretrain(
    token_ids: Tensor, config: GPT2Config, steps: int, training: Pretraining
) -> tuple[GPT2LMHeadModel, list[float]]:
    """Train a GPT-2 on the token stream.

    The weights are the same bits on the same type of machine with the same version of torch: call it with one thread
    and deterministic algorithms.

    Args:
        token_ids: `[N]` int64, the documents with an end-of-sequence after each.
        config: the model's shape.
        steps: optimizer steps, of `batch_size * positions` tokens each.

    Returns:
        The model, and the mean negative log-likelihood a token in nats, at each step.

    Raises:
        UserError: if there are too few tokens for one batch.
    """
    if len(token_ids) < (needed := training.batch_size * training.positions):
        raise UserError(f"the texts have {len(token_ids)} tokens, expected at least the {needed} of a step")
    torch.manual_seed(training.seed)
    generator = torch.Generator().manual_seed(training.seed)
    model = GPT2LMHeadModel(config).train()
    groups = [
        {"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": 0.05},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=training.learning_rate, betas=(0.9, 0.98), fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: training.rate(step, steps))
    losses: list[float] = []
    batches = islice(training.batches(token_ids, generator), steps)
    progress = tqdm(batches, total=steps, desc="pretraining", mininterval=5)
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


def one_thread() -> float:
    """Make what follows the same on the same machine, and keep its pace on a busy one; the time."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    return time.monotonic()


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, directory: Path) -> None:
    """Write the weights as float16, which anybody may read; `model` is rounded to them."""
    model.generation_config = GenerationConfig(**special_ids(tokenizer))
    model.half().save_pretrained(directory)
    (directory / "model.safetensors").chmod(0o644)
    model.float()


def facts_of(
    model: PreTrainedModel, losses: Sequence[float], corpus_tokens: int, training: Pretraining
) -> dict[str, Any]:
    """How a model was made, for `pretraining.json` beside it."""
    return {
        "final_loss": sum(losses[-50:]) / len(losses[-50:]),
        "loss_every_100_steps": [round(loss, 4) for loss in losses[::100]],
        "steps": len(losses),
        "tokens_a_step": training.batch_size * training.positions,
        "corpus_tokens": corpus_tokens,
        "parameters": model.num_parameters(),
        "torch": version("torch"),
        "transformers": version("transformers"),
        "tokenizers": version("tokenizers"),
    }
