"""Pairs as token ids and batches: the tensors that every tuning method sees."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from gantune.data.batch import Batch, Pair
from gantune.data.question import turns_of
from gantune.data.templates import Template, build_template, count_unknown, prompt_fields
from gantune.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TooLong = Literal["drop", "truncate", "error"]
IGNORE_INDEX = -100
"""Label that the cross-entropies of torch and transformers skip."""


class EncodedPair(NamedTuple):
    """One pair as token ids, without padding; for `prompt_fields` see [`Batch`], empty where there are none."""

    prompt_ids: list[int]
    answer_ids: list[int]
    pair: Pair
    prompt_fields: Sequence[int] = ()


class LengthReport(NamedTuple):
    """Rows that were too long or have unknown text; `str` gives a sentence on each, empty if there were none.

    `prompts` and `answers` count the rows with a too long prompt and a too long answer, `too_long` those with either;
    `unknown_questions` and `unknown_answers`, of the rows that stay, those which [`count_unknown`] counts.
    """

    rows: int
    too_long: int
    prompts: int
    answers: int
    max_prompt_tokens: int
    max_answer_tokens: int
    policy: TooLong
    unknown_questions: int = 0
    unknown_answers: int = 0

    def __str__(self) -> str:
        done = "left out" if self.policy == "drop" else "cut"
        long = (
            f"{self.too_long} of {self.rows} rows {done}: {self.prompts} with a prompt of more than "
            f"{self.max_prompt_tokens} tokens, {self.answers} with an answer of more than {self.max_answer_tokens}."
        )
        unknown = (
            f"The tokenizer has no token for a part of {self.unknown_answers} answers and {self.unknown_questions} "
            f"questions of {self.rows} rows."
        )
        return " ".join([long] * bool(self.too_long) + [unknown] * bool(self.unknown_questions + self.unknown_answers))


def encode_pairs(
    pairs: Sequence[Pair],
    tokenizer: PreTrainedTokenizerBase,
    template: str | Template,
    max_prompt_tokens: int,
    max_answer_tokens: int,
    too_long: TooLong,
) -> tuple[list[EncodedPair], LengthReport]:
    """Tokenize pairs and apply the length limits.

    Args:
        tokenizer: has an end-of-sequence token (see `check_tokenizer`).
        max_prompt_tokens: longest prompt; likewise `max_answer_tokens`, the end-of-sequence counted.
        too_long: what to do with a longer row. `drop` leaves it out. `truncate` keeps the prompt's last tokens, so that
            it still leads to an answer but may lose its beginning (a begin-of-sequence, `Question:`), and the answer's
            first tokens, without an end-of-sequence. `error` raises.

    Returns:
        The encoded pairs in order, and the count of those that were too long or have unknown text.

    Raises:
        UserError: if a limit is below 1, `too_long` is unknown, no row fits, or any does not under `error`.
    """
    for name, limit in (("max_prompt_tokens", max_prompt_tokens), ("max_answer_tokens", max_answer_tokens)):
        if limit < 1:
            raise UserError(f"{name} is {limit}, expected 1 or more")
    if too_long not in ("drop", "truncate", "error"):
        raise UserError(f"too_long is {too_long!r}, expected drop, truncate or error")

    template = build_template(template)
    encoded: list[EncodedPair] = []
    rows = prompts = answers = 0
    for number, pair in enumerate(pairs, start=1):
        prompt_ids = template.prompt_ids(pair.question, tokenizer)
        answer_ids = template.answer_ids(pair.answer, tokenizer)
        for ids in (prompt_ids, answer_ids):
            if not (isinstance(ids, list) and ids and isinstance(ids[0], int)):
                raise UserError(f"template {template!r:.60} gave {ids!r:.60}, expected a list of token ids")
        long_prompt, long_answer = len(prompt_ids) > max_prompt_tokens, len(answer_ids) > max_answer_tokens
        if long_prompt or long_answer:
            if too_long == "error":
                raise UserError(
                    f"row {number}: prompt of {len(prompt_ids)} tokens and answer of {len(answer_ids)}, expected at "
                    f"most {max_prompt_tokens} and {max_answer_tokens} (question {pair.question!r:.60})"
                )
            rows, prompts, answers = rows + 1, prompts + long_prompt, answers + long_answer
            if too_long == "drop":
                continue
        fields = prompt_fields(template, pair.question, tokenizer)[-max_prompt_tokens:]
        encoded.append(EncodedPair(prompt_ids[-max_prompt_tokens:], answer_ids[:max_answer_tokens], pair, fields))

    asked = [" ".join(turn.text for turn in turns_of(row.pair.question)) for row in encoded]
    unknown = [count_unknown(texts, tokenizer) for texts in (asked, [row.pair.answer for row in encoded])]
    report = LengthReport(len(pairs), rows, prompts, answers, max_prompt_tokens, max_answer_tokens, too_long, *unknown)
    if pairs and not encoded:
        raise UserError(f"no row is short enough: {report}")
    return encoded, report


def collate(encoded: Sequence[EncodedPair], pad_token_id: int) -> Batch:
    """Pad B encoded pairs, at least one, to one batch: prompts on the left, answers on the right.

    `pad_token_id` may be the end-of-sequence, the masks tell the two apart.
    """
    prompts = _pad([row.prompt_ids for row in encoded], pad_token_id, "left")
    answers = _pad([row.answer_ids for row in encoded], pad_token_id, "right")
    fields = None
    if any(row.prompt_fields for row in encoded):
        fields, _ = _pad([row.prompt_fields or [0] * len(row.prompt_ids) for row in encoded], 0, "left")
    return Batch(*prompts, *answers, tuple(row.pair for row in encoded), fields)


def collate_prompts(prompts: Sequence[Sequence[int]], pad_token_id: int) -> Batch:
    """Pad prompts alone, for sampling answers to them: a batch with T = 0 answer positions and no pairs."""
    prompt_ids, prompt_mask = _pad(prompts, pad_token_id, "left")
    none = prompt_ids.new_empty(len(prompts), 0)
    return Batch(prompt_ids, prompt_mask, none, none)


def _pad(rows: Sequence[Sequence[int]], pad_token_id: int, side: str) -> tuple[Tensor, Tensor]:
    """Ids and mask, each `[B, longest row]` int64."""
    ids = [torch.tensor(row, dtype=torch.int64) for row in rows]
    mask = [torch.ones_like(row) for row in ids]
    return pad_sequence(ids, True, pad_token_id, side), pad_sequence(mask, True, 0, side)


def likelihood_inputs(batch: Batch) -> dict[str, Tensor]:
    """Keyword arguments of a causal language model that give the likelihood loss of the answers.

    `transformers.Trainer` takes the same, so every method trains on identical tensors.

    Returns:
        `input_ids`, `attention_mask`, `position_ids` (tokens counted, padding not) and `labels` (the ids at answer
        positions, -100 at prompt and padding), each `[B, P + T]` int64. The model shifts the labels.
    """
    answers = batch.answer_ids.masked_fill(batch.answer_mask == 0, IGNORE_INDEX)
    return {
        "input_ids": batch.input_ids(),
        "attention_mask": batch.attention_mask(),
        "position_ids": batch.position_ids(),
        "labels": torch.cat([torch.full_like(batch.prompt_ids, IGNORE_INDEX), answers], dim=1),
    }


def epoch_order(n: int, seed: int, epoch: int) -> list[int]:
    """A shuffled `range(n)`, the same for the same seed and epoch on every machine."""
    order = list(range(n))
    random.Random(f"{seed}/{epoch}").shuffle(order)
    return order


def grouped_by_length(
    order: Sequence[int], lengths: Sequence[int], batch_size: int, seed: int, epoch: int
) -> list[int]:
    """`order` rearranged so that rows of one batch are of similar length, and batches come in random order.

    As transformers' LengthGroupedSampler: rows are sorted within chunks of 50 batches, so that which rows meet still
    changes from epoch to epoch in large data. A batch that is not full stays the last one.
    """
    chunk = 50 * batch_size
    rows = [
        row
        for start in range(0, len(order), chunk)
        for row in sorted(order[start : start + chunk], key=lambda row: -lengths[row])
    ]
    full = [rows[start : start + batch_size] for start in range(0, len(rows) - batch_size + 1, batch_size)]
    random.Random(f"{seed}/{epoch}/batches").shuffle(full)
    return [row for batch in full for row in batch] + rows[len(full) * batch_size :]


def epoch_rows(
    encoded: Sequence[EncodedPair], batch_size: int, seed: int, epoch: int, group_by_length: bool = False
) -> list[int]:
    """Row numbers of one epoch: [`epoch_order`], with rows of similar length put together if wanted."""
    order = epoch_order(len(encoded), seed, epoch)
    if not group_by_length:
        return order
    lengths = [len(row.prompt_ids) + len(row.answer_ids) for row in encoded]
    return grouped_by_length(order, lengths, batch_size, seed, epoch)


def batches(
    encoded: Sequence[EncodedPair],
    batch_size: int,
    pad_token_id: int,
    seed: int,
    epoch: int,
    group_by_length: bool = False,
) -> Iterator[Batch]:
    """The batches of one epoch in the order of [`epoch_rows`]; the last one may be smaller."""
    order = epoch_rows(encoded, batch_size, seed, epoch, group_by_length)
    for start in range(0, len(order), batch_size):
        yield collate([encoded[i] for i in order[start : start + batch_size]], pad_token_id)
