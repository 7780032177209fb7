"""Answers printed as they are written; beside the command, because transformers takes seconds to import."""

from __future__ import annotations

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
