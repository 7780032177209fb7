"""Questions without answers and answers without questions: what an adversary can learn from, and likelihood cannot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from gantune.data import Batch, EncodedPair, Pair, collate, epoch_order, pad_token_id
from gantune.field_types import text_list
from gantune.tuning import TuningConfig, encode_with


class Unpaired(NamedTuple):
    """Questions that the generator answers, and true answers to others, from which the discriminator learns.

    Without answers, those of the pairs are the true ones.
    """

    questions: Sequence[str] = ()
    answers: Sequence[str] = ()


class UnpairedBatches:
    """Batches of unpaired data by number, so that a training that is gone on with sees what it would have seen.

    A batch has `batch_size` rows, in all processes together; those of one if None.

    Raises:
        UserError: if there is not at least one question.
    """

    def __init__(
        self,
        unpaired: Unpaired,
        tokenizer: PreTrainedTokenizerBase,
        config: TuningConfig,
        batch_size: int | None = None,
    ) -> None:
        questions = text_list(unpaired.questions, "unpaired questions", 1)
        answers = text_list(unpaired.answers, "unpaired answers")
        asked, _ = encode_with([Pair(question, "") for question in questions], tokenizer, config)
        self._questions = [row._replace(answer_ids=[]) for row in asked]
        self._answers, _ = encode_with([Pair("", answer) for answer in answers], tokenizer, config)
        self._batches = batch_size or config.per_device_train_batch_size, config.seed, pad_token_id(tokenizer)

    @property
    def answered(self) -> bool:
        """Whether there are answers too."""
        return bool(self._answers)

    def rows(self) -> list[EncodedPair]:
        """All questions, in their order."""
        return self._questions

    def questions(self, number: int, batch_size: int | None = None) -> Batch:
        """Questions of step `number`: rows with T = 0 answer positions, `batch_size` of them if it is given."""
        usual, seed, pad = self._batches
        return numbered_batch(self._questions, number, batch_size or usual, seed, pad)

    def answers(self, number: int) -> Batch:
        """Answers of step `number`, each to the empty question; there have to be some."""
        return numbered_batch(self._answers, number, *self._batches)

    def tokens(self) -> list[tuple[list[int], list[int]]]:
        """Prompt and answer ids of every row."""
        return [(row.prompt_ids, row.answer_ids) for row in self._questions + self._answers]


def numbered_batch(encoded: Sequence[EncodedPair], number: int, batch_size: int, seed: int, pad_token_id: int) -> Batch:
    """A batch of rows, the next ones after those of the number before; shuffled anew each time all were taken."""
    first, size = number * batch_size, len(encoded)
    passes = range(first // size, (first + batch_size - 1) // size + 1)
    order = [row for epoch in passes for row in epoch_order(size, seed, epoch)]
    start = first % size
    return collate([encoded[row] for row in order[start : start + batch_size]], pad_token_id)
