"""What a training may spend beside its epochs: seconds and tokens."""

from __future__ import annotations

import time
from typing import Any, Protocol

from torch import Tensor
from transformers import PreTrainedModel

from gantune.distributed import ALONE, DataParallel
from gantune.errors import UserError


class Limits(Protocol):
    """The settings that limit a training, see [`gantune.tuning.TuningConfig`]."""

    max_seconds: float
    max_tokens: int


class Budget:
    """Counts what a training spends; a training stops after the step that finds it `spent`.

    Inside its `with` block every token position that enters the model counts, padding included, whatever it is for:
    true answers, sampled ones, completions of a search, validation. A token that is sampled enters once when it is
    sampled, and once more when it is scored.

    Args:
        config: `max_seconds` and `max_tokens`, 0 for no limit.
        model: what is trained.
        parallel: the processes that train together: their tokens are counted together, and all stop at one step. So
            `spent` and `new_tokens` are to be asked by all of them.

    Raises:
        UserError: if a limit is negative.
    """

    def __init__(self, config: Limits, model: PreTrainedModel, parallel: DataParallel = ALONE) -> None:
        for name in ("max_seconds", "max_tokens"):
            if getattr(config, name) < 0:
                raise UserError(f"--{name.replace('_', '-')} {getattr(config, name)}: expected at least 0")
        self.config, self.model, self.parallel = config, model, parallel
        self.started, self.tokens, self._told = time.perf_counter(), 0, 0

    def __enter__(self) -> Budget:
        self._hook = self.model.get_input_embeddings().register_forward_hook(self._count)
        self.started = time.perf_counter()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._hook.remove()

    def _count(self, module: Any, inputs: Any, output: Tensor) -> None:
        self.tokens += output.shape[:-1].numel()

    @property
    def spent(self) -> bool:
        """Whether a limit is reached."""
        seconds, tokens = self.config.max_seconds, self.config.max_tokens
        late = seconds > 0 and time.perf_counter() - self.started >= seconds
        spent = tokens > 0 and sum(self.parallel.collect(self.tokens)) >= tokens
        return self.parallel.any(late or spent)

    def state_dict(self) -> dict[str, float]:
        """What is spent, to be saved."""
        return {"seconds": time.perf_counter() - self.started, "tokens": self.tokens, "told": self._told}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on from what [`state_dict`] gave."""
        self.started = time.perf_counter() - state["seconds"]
        self.tokens, self._told = state["tokens"], state["told"]

    def new_tokens(self) -> int:
        """Tokens of all processes since the last call, for the history row of a step."""
        told, self._told = self._told, self.tokens
        return sum(self.parallel.collect(self.tokens - told))
