"""Fields of settings, and whether they and other arguments are of the types they should be: from JSON, YAML or code."""

from __future__ import annotations

import copy
import numbers
import sys
import types
import typing
from collections.abc import Callable, Collection, Mapping, Set
from dataclasses import field, fields
from typing import Any, Literal

from gantune.errors import UserError

EXPECTED = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text (numbers and words such as yes in quotes)",
    list: "a list",
}
RANGES: dict[str, Callable[[float], bool]] = {
    "at least 0": lambda value: value >= 0,
    "at least 1": lambda value: value >= 1,
    "above 0": lambda value: value > 0,
    "between 0 and 1": lambda value: 0 <= value <= 1,
}
PLAIN = (bool, int, float, str, list, dict, type(None))


def option(default: Any, help: str, **metadata: Any) -> Any:
    """A dataclass field that is an option of the command line; each object has a list or dict of its own."""
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: copy.copy(default), metadata={"help": help, **metadata})
    return field(default=default, metadata={"help": help, **metadata})


def check_types(settings: Any) -> None:
    """A [`UserError`] for a field of a dataclass that holds a plain value of another type; others are not looked at."""
    hints = typing.get_type_hints(type(settings))
    for each in fields(settings):
        value = getattr(settings, each.name)
        if isinstance(value, PLAIN) and (expected := other_type(value, hints[each.name])):
            raise UserError(f"--{each.name.replace('_', '-')} {value!r:.60}: expected {expected}")


def check_range(settings: Any, expected: str, *names: str) -> None:
    """A [`UserError`] for a field of these names that is out of a range, one of [`RANGES`], or not a finite number."""
    for name in names:
        value = getattr(settings, name)
        if wrong := other_type(value, float) or (None if RANGES[expected](value) else expected):
            raise UserError(f"--{name.replace('_', '-')} {value}: expected {wrong}")


def text_list(texts: Any, name: str, least: int = 0) -> list[str]:
    """Several texts as a list: from a list, a tuple or a column (of NumPy, pandas or datasets) of strings.

    Every function of several texts begins with it. Nothing gives nothing, the empty list; one figure or choice of all
    asks for at `least` 1. A [`UserError`] names an argument that is something else, such as one text, whose letters
    would be taken for texts, and the row that is no string.
    """
    one_column = isinstance(texts, Collection) and getattr(texts, "ndim", 1) == 1
    if not one_column or isinstance(texts, str | bytes | Mapping | Set):
        raise UserError(f"{name}: expected a list of strings, got {type(texts).__name__}")
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise UserError(f"{name}, row {row}: expected a string, got {type(text).__name__}")
    if len(texts) < least:
        raise UserError(f"{name}: expected at least one string, got an empty list")
    return list(texts)


def other_type(value: Any, hint: Any) -> str | None:
    """What is expected in place of `value`; None if it is of the type, or the type is none of the plain ones."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        wanted = [other_type(value, kind) for kind in typing.get_args(hint) if kind is not type(None)]
        return None if value is None or None in wanted else wanted[0]
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        return None if value in choices else f"one of {', '.join(map(str, choices))}"
    if hint is float:
        fits = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if fits and not abs(value) <= sys.float_info.max:  # neither is nan
            return "a finite number"
    elif hint is int:
        fits = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    else:
        hint = typing.get_origin(hint) or hint
        fits = hint not in EXPECTED or isinstance(value, hint)
    return None if fits else EXPECTED[hint]
