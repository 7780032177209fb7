"""What a method of the comparison is: one function, one settings class, one name. Importing it is quick."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from baselines.matching import Size
from gantune.diagnostics.files import umask_followed
from gantune.errors import NotAvailable, UserError
from gantune.registry import GENERATORS, Registry
from gantune.tuning import TuningConfig

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from gantune.data import Pair
    from gantune.generation.decoding import Decoding

__all__ = ["METHODS", "OBJECTIVES", "Diverged", "Method", "NotAvailable", "Tuned", "TunedModel", "around", "method"]

METHODS = Registry("method", option="methods")
OBJECTIVES = Registry("objective")
"""What a generator can be trained by: functions `(method name, generator) -> Method`; see [`resolve_method`]."""


def around(default: float, steps: int = 2) -> tuple[float, ...]:
    """A grid for a sweep: `steps` values on either side of the default, each twice the one before it.

    Every method's learning rates are `around` its default, so that no method is tried more often than another.
    """
    return tuple(type(default)(default * 2.0**step) for step in range(-steps, steps + 1))


class Tuned:
    """What comes out of a method: something that answers questions.

    `model` is the language model behind it, None if there is none. `decoding` is set before questions are asked; what
    has no language model need not heed it.
    """

    model: PreTrainedModel | None = None
    decoding: Decoding

    def answer(self, questions: Sequence[str], noise: Tensor | None = None) -> list[str]:
        """One text a question; `noise`, `[len(questions), n]`, is given only to a model with embedding generators."""
        raise NotImplementedError

    def losses(self, pairs: Sequence[Pair]) -> list[tuple[float, int]] | None:
        """(nats, tokens) of each true answer; None without a language model."""

    def save(self, directory: Path) -> None:
        """Write what was tuned; nothing if nothing was."""


class TunedModel(Tuned):
    """A tuned language model: answers and losses, computed alike for every method; greedy unless `decoding` is set.

    `config` is template and limits; `save` writes what was tuned to a directory.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        config: TuningConfig,
        save: Callable[[Path], Any] | None = None,
    ) -> None:
        from gantune.generation.decoding import Decoding
        from gantune.generation.generate import DecodingReport

        self.model, self.tokenizer, self.config, self._save = model, tokenizer, config, save
        self.decoding, self.report = Decoding(), DecodingReport()

    def answer(self, questions: Sequence[str], noise: Tensor | None = None) -> list[str]:
        """At zero noise if `noise` is None. What it took is in `report` until the next call."""
        return self.decode(questions, self.config, self.decoding, noise)

    def decode(
        self, questions: Sequence[str], config: TuningConfig, decoding: Decoding, noise: Tensor | None
    ) -> list[str]:
        """[`answer`] under a template, limits and a decoding of its own, for methods that need them."""
        from gantune.generation.decoding import decode_answers

        self.report = type(self.report)()
        return decode_answers(self.model, self.tokenizer, questions, config, decoding, noise=noise, report=self.report)

    def losses(self, pairs: Sequence[Pair]) -> list[tuple[float, int]]:
        from gantune.policy.evaluation import answer_losses

        return answer_losses(self.model, self.tokenizer, pairs, self.config)

    def save(self, directory: Path) -> None:
        if self._save is not None:
            with umask_followed(directory):
                self._save(directory)


class Diverged(FloatingPointError):
    """Training met a number that is not finite, and stopped; `tuned` is the last good state."""

    def __init__(self, message: str, tuned: Tuned) -> None:
        super().__init__(message)
        self.tuned = tuned


@dataclass(frozen=True)
class Method:
    """A registered method.

    Args:
        name: on the command line and in the table.
        tune: `(model, tokenizer, pairs, config, callbacks) -> Tuned`; `callbacks` are transformers', for its training.
        config_class: its settings, a [`TuningConfig`].
        needs_model: whether `tune` is given a model and a tokenizer (None otherwise).
        unpaired: whether `tune` takes `unpaired` (see [`gantune.trainer.Unpaired`]), and what of it it cannot do
            without: nothing ("used"), the questions, or the answers too ("needed").
        resumes: whether `tune` takes `arguments`, further settings of `transformers.TrainingArguments` such as
            `output_dir`, in which it keeps checkpoints and goes on from them.
        control: the method that differs from it in nothing but its adversarial part, if there is one.
        rivals: further methods that it is compared with where they run, such as those that learn from the same data.
        sweeps: settings that `--tune` chooses, in this order, each with its grid: the learning rate, then at most one
            more. A settings class declares them as class data under the same name.
        check: refuses settings that the method cannot be trained with, before anything runs.
        size: what sets its number of parameters, None if nothing does.
    """

    name: str
    tune: Callable[..., Tuned]
    config_class: type[TuningConfig]
    needs_model: bool
    unpaired: Literal["", "used", "questions", "needed"] = ""
    resumes: bool = False
    control: str | None = None
    rivals: Sequence[str] = ()
    sweeps: Mapping[str, Sequence[float]] = field(default_factory=dict)
    size: Size | None = None
    check: Callable[[TuningConfig], Any] = lambda config: None

    def __call__(self, *args: Any, **kwargs: Any) -> Tuned:
        return self.tune(*args, **kwargs)


def method(
    name: str,
    config_class: type[TuningConfig] = TuningConfig,
    needs_model: bool = True,
    size: Size | None = None,
    resumes: bool = False,
) -> Callable[[Callable[..., Tuned]], Method]:
    """Decorator that registers a function `(model, tokenizer, pairs, config, callbacks) -> Tuned` as a method."""

    def register(tune: Callable[..., Tuned]) -> Method:
        sweeps = getattr(config_class, "sweeps", {})
        return METHODS.register(name)(
            Method(name, tune, config_class, needs_model, resumes=resumes, sweeps=sweeps, size=size)
        )

    return register


def resolve_method(name: str) -> Method:
    """The method that the user typed.

    That is a registered name; a dotted path; or `OBJECTIVE:GENERATOR`, such as `gan:lora` or `mle:embedding+lora`, for
    any cell of the two registries `OBJECTIVES` and `gantune.embedding_generator.generators.GENERATORS`.

    Raises:
        UserError: if a name is not known or names no method, or the objective cannot train the generator.
    """
    objective, colon, generator = name.partition(":")
    found = OBJECTIVES.get(objective)(name, generator) if colon else METHODS.resolve(name)
    if not isinstance(found, Method):
        raise UserError(f"method {name}: is a {type(found).__name__}, expected a function under @baselines.method")
    return found


def known_method(name: str) -> Method:
    """[`resolve_method`] for a name that a file brings: nothing is imported that the user has not named before."""
    _, colon, generator = name.partition(":")
    if not colon:
        return METHODS.get(name)
    for part in generator.split("+"):
        GENERATORS.get(part)
    return resolve_method(name)
