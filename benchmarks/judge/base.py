"""What a judge is: something that says which of two answers is better, or that neither is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from gantune.assets import MODELS
from gantune.errors import UserError
from gantune.registry import Registry

JUDGES = Registry("judge", {"hf": "benchmarks.judge.language_model.LanguageModelJudge"})
VERDICTS = ("A", "B", "tie")
"""The answer in the first place is better, the one in the second place is, or neither."""


class Duel(NamedTuple):
    """Two answers to one question, in the order in which a judge reads them."""

    question: str
    reference: str
    first: str
    second: str


class Judge(Protocol):
    """Says which answer is better.

    Args:
        argument: what stands behind the colon of `--judge NAME:ARGUMENT`.
        device: as torch names it.
        dtype: of a model's weights, as torch names it.

    Attributes:
        identity: all that its verdicts depend on, in one line; those stored under the same one are not asked for again.
        parameters: how many the judging model has; None if it is no model.
    """

    identity: str
    parameters: int | None

    def __init__(self, argument: str, device: str, dtype: str) -> None: ...

    def verdicts(self, duels: Sequence[Duel]) -> list[str | None]:
        """One of `VERDICTS` for each duel; None for one that it cannot judge, such as one that is too long."""
        ...


def build_judge(spec: str, device: str, dtype: str) -> Judge:
    """The judge that the user typed.

    Args:
        spec: `NAME:ARGUMENT` with a registered name; a model as `--model` takes it, which is `hf:MODEL`; or the dotted
            path of a [`Judge`] of the user's own, with or without `:ARGUMENT`.
        device: as torch names it.
        dtype: of a model's weights.

    Raises:
        UserError: if there is no such judge.
    """
    name, _, argument = spec.partition(":")
    if name in JUDGES.names():
        if not argument:
            raise UserError(f"--judge {spec}: expected {name}:MODEL")
        return JUDGES.get(name)(argument, device, dtype)
    if spec in MODELS or "/" in spec or "." not in name or Path(spec).is_dir():
        return JUDGES.get("hf")(spec, device, dtype)
    return JUDGES.resolve(name)(argument, device, dtype)
