"""True answers under corrupted records: negatives that cost nothing, with a label for each field."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from gantune.data import Batch, Corruptions, Pair, RecordQuestion, collate, pad_token_id
from gantune.data.question import all_records
from gantune.trainer.config import GameConfig
from gantune.tuning import encode_with


class Corruptor:
    """Puts other questions to the answers of a batch: their records, corrupted; see [`Corruptions`].

    What is drawn comes from Python's global random numbers, which a checkpoint has.

    Args:
        questions: the records whose fields and values corrupted ones are made of.
        tokenizer: with the template and the limits of `config` it encodes them.

    Raises:
        UserError: if one of the records cannot be corrupted, since all are like it.
    """

    def __init__(
        self, questions: Sequence[RecordQuestion], tokenizer: PreTrainedTokenizerBase, config: GameConfig
    ) -> None:
        self.corruptions, self.tokenizer, self.config = Corruptions(questions), tokenizer, config
        for question in dict.fromkeys(questions):
            self.corruptions.corrupted(question, random.Random(0))

    def __call__(self, batch: Batch) -> tuple[Batch, Tensor]:
        """The answers of `batch`, each to its record corrupted, and which fields of that they say.

        Returns:
            The batch; and `[B, F]` float32, 1 where the answer says a field, and where a record has none; F is the
            largest number of fields, and 1 where the template does not tell fields apart and all are one.
        """
        drawn = [self.corruptions.corrupted(question, random) for question, _ in batch.pairs]
        pairs = tuple(Pair(record, answer) for (record, _), (_, answer) in zip(drawn, batch.pairs, strict=True))
        encoded, _ = encode_with([Pair(record, "") for record, _ in drawn], self.tokenizer, self.config)
        prompts = collate(encoded, pad_token_id(self.tokenizer)).to(batch.device)
        rows = [torch.tensor(said, dtype=torch.float32, device=batch.device) for _, said in drawn]
        said = pad_sequence(rows, batch_first=True, padding_value=1.0)
        if prompts.prompt_fields is None:
            said = said.amin(dim=1, keepdim=True)
        return replace(prompts, answer_ids=batch.answer_ids, answer_mask=batch.answer_mask, pairs=pairs), said


def build_corruptor(
    questions: Sequence[str], tokenizer: PreTrainedTokenizerBase, config: GameConfig
) -> Corruptor | None:
    """What corrupts the questions of a training; None if one is no record, or `config` does not want it."""
    wanted = config.corrupted_negatives and not config.blind_discriminator
    return Corruptor(questions, tokenizer, config) if wanted and all_records(questions) else None
