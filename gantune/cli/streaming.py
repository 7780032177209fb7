"""Answers printed as they are written."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, TextStreamer


class AnswerStreamer(TextStreamer):
    """Prints an answer as it is written, without the prompt and blanks before its first word."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._begun = False

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """See `TextStreamer.on_finalized_text`."""
        if not self._begun:
            text = text.lstrip()
        self._begun = self._begun or bool(text)
        super().on_finalized_text(text, stream_end)


class Streaming:
    """A model whose `generate` streams, and which is otherwise the model itself.

    Args:
        model: what answers.
        streamer: takes each token.
    """

    def __init__(self, model: Any, streamer: TextStreamer) -> None:
        self._model, self._streamer = model, streamer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def generate(self, **options: Any) -> torch.Tensor:
        """The model's own `generate`, with the streamer."""
        return self._model.generate(**options, streamer=self._streamer)
