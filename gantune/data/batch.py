"""The tensors that pass between data, policy, discriminator and trainer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gantune.data.question import Pair, RecordQuestion


def position_ids(attention_mask: Tensor) -> Tensor:
    """Positions that count tokens and not padding, `[B, L]`; left padding gets 0, which the mask hides."""
    return (attention_mask.cumsum(dim=1) - 1).clamp(min=0)


def repeated(tensor: Tensor | None, times: int) -> Tensor | None:
    """Each row `times` times side by side; None of None."""
    return None if tensor is None else tensor.repeat_interleave(times, dim=0)


@dataclass
class Batch:
    """Questions and answers as token ids, one row a sequence.

    Prompts are padded on the left and answers on the right, so that `cat([prompt_ids, answer_ids], 1)` has no gap
    between the two. B rows, P prompt positions, T answer positions.

    Args:
        prompt_ids: `[B, P]` int64.
        prompt_mask: `[B, P]` int64, 1 on tokens and 0 on padding.
        answer_ids: `[B, T]` int64.
        answer_mask: `[B, T]` int64, 1 up to and including the first end-of-sequence, 0 after.
        pairs: the text of each row, where there is one (of a rollout: its question and the *true* answer).
        prompt_fields: `[B, P]` int64, the number of the record's field that a prompt token belongs to, from 1 in the
            order of the fields, and 0 for none; None where no question is a record.
    """

    prompt_ids: Tensor
    prompt_mask: Tensor
    answer_ids: Tensor
    answer_mask: Tensor
    pairs: tuple[Pair, ...] | None = None
    prompt_fields: Tensor | None = None

    def __len__(self) -> int:
        return self.answer_ids.shape[0]

    @property
    def device(self) -> torch.device:
        return self.answer_ids.device

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with every tensor on `device`."""
        return replace(self, **{name: value.to(device) for name, value in self._tensors().items()})

    def rows(self, start: int, stop: int) -> Batch:
        """The rows from `start` up to, not including, `stop`."""
        part = {name: value[start:stop] for name, value in self._tensors().items()}
        return replace(self, **part, pairs=self.pairs and self.pairs[start:stop])

    def select(self, rows: Tensor) -> Batch:
        """The rows with these numbers, `[R]`, in their order."""
        part = {name: value[rows] for name, value in self._tensors().items()}
        return replace(self, **part, pairs=self.pairs and tuple(self.pairs[row] for row in rows.tolist()))

    def _tensors(self) -> dict[str, Tensor]:
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    def answer_share(self, whole: Batch) -> float:
        """Share of the answer tokens of `whole` that are in this part of it."""
        return (self.answer_mask.sum() / whole.answer_mask.sum()).item()

    def state_dict(self) -> dict[str, Any]:
        """All fields as tensors and plain values, to be saved."""
        pairs = self.pairs and [(_plain(question), str(answer)) for question, answer in self.pairs]
        return vars(self) | {"pairs": pairs}

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> Batch:
        """What [`state_dict`] gave."""
        pairs = state["pairs"] and tuple(Pair(_question(asked), answer) for asked, answer in state["pairs"])
        return cls(**state | {"pairs": pairs})

    def input_ids(self) -> Tensor:
        """Prompt and answer ids side by side, `[B, P + T]`."""
        return torch.cat([self.prompt_ids, self.answer_ids], dim=1)

    def position_ids(self) -> Tensor:
        """See [`position_ids`], `[B, P + T]`."""
        return position_ids(self.attention_mask())

    def attention_mask(self) -> Tensor:
        """Prompt and answer masks side by side, `[B, P + T]`."""
        return torch.cat([self.prompt_mask, self.answer_mask], dim=1)


def _plain(question: str) -> str | list[tuple[str, str]]:
    """A question as a text, a record as its fields."""
    return list(question.fields) if isinstance(question, RecordQuestion) else str(question)


def _question(plain: str | list[tuple[str, str]]) -> str:
    return plain if isinstance(plain, str) else RecordQuestion(plain)
