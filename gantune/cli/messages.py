"""What gantune's loggers say, on the terminal: each message once, and beside a progress bar, not through it."""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator

import transformers
from tqdm import tqdm

from gantune.command import is_first


class _OnceEach(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text not in self._said:
            self._said.add(text)
            tqdm.write(f"warning: {text}" if record.levelno >= logging.WARNING else text, file=sys.stderr)


@contextlib.contextmanager
def messages_on_stderr() -> Iterator[None]:
    """Show gantune's messages in the block, and none of the libraries' own; of several processes the first one's."""
    logger, handler = logging.getLogger("gantune"), _OnceEach()
    before = logger.level, logger.propagate
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logger.setLevel(logging.INFO if is_first() else logging.CRITICAL)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            for known in (  # what gantune does on purpose
                "`is_gradient_checkpointing` is deprecated",
                "fan_in_fan_out is set to False but",
                "Input and output embeddings are no longer tied",
            ):
                warnings.filterwarnings("ignore", message=known)
            yield
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = before
