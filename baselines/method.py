"""What a method of the comparison is: one function, one settings class, one name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gantune.data import Pair
from gantune.errors import UserError
from gantune.evaluation import answer_losses
from gantune.generation import generate_answers
from gantune.registry import Registry
from gantune.tuning import TuningConfig

METHODS = Registry("method")
OBJECTIVES = Registry("objective")
"""What a generator can be trained by: functions `(method name, generator) -> Method`; see [`resolve_method`]."""


class Tuned(Protocol):
    """What comes out of a method: something that answers questions.

    `model` is the language model behind it, None if there is none.
    """

    model: PreTrainedModel | None

    def answer(self, questions: Sequence[str]) -> list[str]:
        """One text a question."""
        ...

    def losses(self, pairs: Sequence[Pair]) -> list[tuple[float, int]] | None:
        """(nats, tokens) of each true answer; None without a language model."""
        ...

    def save(self, directory: Path) -> None:
        """Write what was tuned; nothing if nothing was."""
        ...


class TunedModel:
    """A tuned language model: greedy answers and losses, computed alike for every method.

    Args:
        model: the tuned model.
        tokenizer: its tokenizer.
        config: template and limits.
        save: writes what was tuned to a directory; nothing is written if None.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        config: TuningConfig,
        save: Callable[[Path], Any] | None = None,
    ) -> None:
        self.model, self.tokenizer, self.config, self._save = model, tokenizer, config, save

    def answer(self, questions: Sequence[str]) -> list[str]:
        """See [`Tuned.answer`]; greedy, at zero noise."""
        return generate_answers(self.model, self.tokenizer, questions, self.config)

    def losses(self, pairs: Sequence[Pair]) -> list[tuple[float, int]]:
        """See [`Tuned.losses`]; at zero noise."""
        return answer_losses(self.model, self.tokenizer, pairs, self.config)

    def save(self, directory: Path) -> None:
        """See [`Tuned.save`]."""
        if self._save is not None:
            self._save(directory)


class Diverged(FloatingPointError):
    """Training met a number that is not finite, and stopped.

    Args:
        message: what happened.
        tuned: the last good state.
    """

    def __init__(self, message: str, tuned: Tuned) -> None:
        super().__init__(message)
        self.tuned = tuned


class NotAvailable(UserError):
    """A method cannot run on this machine; the message is the reason, in one line."""


@dataclass(frozen=True)
class Method:
    """A registered method.

    Args:
        name: on the command line and in the table.
        tune: `(model, tokenizer, pairs, config, observer) -> Tuned`.
        config_class: its settings, a [`TuningConfig`].
        needs_model: whether `tune` is given a model and a tokenizer (None otherwise).
        control: the method that differs from it in nothing but its adversarial part, if there is one.
    """

    name: str
    tune: Callable[..., Tuned]
    config_class: type[TuningConfig]
    needs_model: bool
    control: str | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Tuned:
        """The same as `tune`."""
        return self.tune(*args, **kwargs)


def method(
    name: str, config_class: type[TuningConfig] = TuningConfig, needs_model: bool = True
) -> Callable[[Callable[..., Tuned]], Method]:
    """Decorator that registers a function `(model, tokenizer, pairs, config, observer) -> Tuned` as a method."""

    def register(tune: Callable[..., Tuned]) -> Method:
        return METHODS.register(name)(Method(name, tune, config_class, needs_model))

    return register


def resolve_method(name: str) -> Method:
    """The method that the user typed.

    Args:
        name: a registered name; a dotted path; or `OBJECTIVE:GENERATOR`, such as `gan:lora` or `mle:embedding+lora`,
            for any cell of the two registries `OBJECTIVES` and `gantune.generators.GENERATORS`.

    Raises:
        UserError: if a name is not known, or the objective cannot train the generator.
    """
    objective, colon, generator = name.partition(":")
    return OBJECTIVES.get(objective)(name, generator) if colon else METHODS.resolve(name)
