"""Options from dataclasses, a YAML file and the command line, which wins; and the file of what came of them."""

from __future__ import annotations

import argparse
import ast
import re
import sys
import typing
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, field, fields, make_dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NoReturn

import yaml
from transformers.hf_argparser import HfArgumentParser

from gantune.assets import MODELS
from gantune.command import OneLineParser
from gantune.data import FORMATS, TEMPLATES
from gantune.data.sources import BUILT_IN
from gantune.diagnostics.files import absolute_path, local_path, write_atomically
from gantune.discriminators import DISCRIMINATORS
from gantune.errors import UserError, did_you_mean
from gantune.field_types import other_type
from gantune.registry import GENERATORS, Registry
from gantune.seqgan import ADVANTAGES, OBJECTIVES, REWARDS, TRANSFORMS
from gantune.tuning import refuse_old_name

COMPONENTS: dict[str, Registry] = {
    "generator": GENERATORS,
    "discriminator": DISCRIMINATORS,
    "reward": REWARDS,
    "reward_transform": TRANSFORMS,
    "advantage": ADVANTAGES,
    "objective": OBJECTIVES,
    "template": TEMPLATES,
    "format": FORMATS,
}
"""Options that name a component, on the command line also by a dotted path."""
PLACES = {"model": MODELS, "dataset": BUILT_IN, "prompts": (), "adapter": (), "bleurt": ()}
"""Options that may name a file or folder, and the names that mean something else wherever one is."""
EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")
"""A number that may be a text to YAML, such as `2e-3` and `1E-3`."""
LONGEST_METAVAR = 24
THEIRS = {
    "optim": ("training_args", "OptimizerNames", ""),
    "lr_scheduler_type": ("trainer_utils", "SchedulerType", ""),
    "report_to": ("integrations.integration_utils", "INTEGRATION_TO_CALLBACK", "none, all, or "),
}
"""Options that name something of transformers: its module, its list there, and what else is known."""


class OptionHelp(argparse.HelpFormatter):
    """Each option once, as `--its-name N`, with the default that it has."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.option_strings[0] == "-h":
            return super()._format_action_invocation(action)
        return f"{action.option_strings[-1]} {self._format_args(action, '')}".rstrip()

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        if action.nargs in (0, "?"):  # nothing, or yes and no
            return ""
        named = {int: "N", float: "X"}.get(action.type, "TEXT")
        if action.choices:
            named = "|".join(map(str, action.choices))
        metavar = action.metavar or (named if len(named) <= LONGEST_METAVAR else "NAME")
        return f"{metavar} ..." if action.nargs in ("+", "*") else metavar

    def _get_help_string(self, action: argparse.Action) -> str:
        text, default = action.help or "", action.default
        choices = [str(choice) for choice in action.choices or ()]
        if len("|".join(choices)) > LONGEST_METAVAR and choices[0] not in text:
            text += f": {', '.join(choices)}"
        if default is False or default in (None, "", [], argparse.SUPPRESS) or "(default" in text:
            return text
        if default is True:
            return f"{text} (default: yes; --no-{action.dest.replace('_', '-')})"
        written = " ".join(map(str, default)) if isinstance(default, list) else str(default)
        return f"{text} (default: {written.replace('%', '%%')})"


class OptionParser(HfArgumentParser):
    """Options from dataclasses; says what is wrong with the command line as [`OneLineParser`] does.

    Args:
        classes: the dataclasses.
        everyday: names of the options that `--help` shows, in that order; `--help-all` shows all. Empty: all.
        more: of `argparse.ArgumentParser`.
    """

    error = OneLineParser.error

    def __init__(self, classes: Any, everyday: Sequence[str] = (), **more: Any) -> None:
        self.everyday = everyday
        super().__init__(classes, **{"formatter_class": OptionHelp, "usage": "%(prog)s [options]"} | more)
        if everyday:
            self.add_argument("--help-all", action=_HelpAll, help="show all options")
        for action in self._actions:
            if isinstance(action, argparse._StoreFalseAction):
                action.help = argparse.SUPPRESS  # the option that it turns off says so

    def format_help(self) -> str:
        """What `--help` prints."""
        if not self.everyday:
            return super().format_help()
        by_name = {action.dest: action for action in reversed(self._actions)}  # of two, that which is not --no-...
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, self._actions, ())
        formatter.add_text(self.description)
        formatter.start_section("everyday options")
        formatter.add_arguments([by_name[name] for name in self.everyday])
        formatter.end_section()
        shown = sum(action.help != argparse.SUPPRESS for action in self._actions)
        formatter.add_text(f"--help-all shows all {shown} options.")
        return formatter.format_help()

    def unknown(self, argument: str, more: Iterable[str] = ()) -> NoReturn:
        """Refuse what is no option; `more` are names of options that are taken elsewhere."""
        if not argument.startswith("-"):
            self.error(f"unknown argument {argument}")
        known = [name.replace("_", "-") for name in (*(action.dest for action in self._actions), *more)]
        near = did_you_mean(argument.lstrip("-").split("=")[0].replace("_", "-"), known)
        self.error(f"unknown option {argument}{near.replace('mean ', 'mean --')}")


class _HelpAll(argparse.Action):
    """Prints the help of all options."""

    def __init__(self, *names: Any, **more: Any) -> None:
        super().__init__(*names, nargs=0, default=argparse.SUPPRESS, **more)

    def __call__(self, parser: OptionParser, *_: Any) -> NoReturn:
        parser.everyday = ()
        parser.print_help()
        parser.exit()


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which makes plain values only; it also refuses a key that is there twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.MarkedYAMLError(None, None, f"{key!r} is there twice", key_node.start_mark)
            seen |= {key} if isinstance(key, str) else set()
        return super().construct_mapping(node, deep)


def parse(
    classes: Sequence[type],
    arguments: Sequence[str],
    command: str,
    description: str,
    config: str | None = None,
    transformers_too: bool = False,
    everyday: Sequence[str] = (),
) -> tuple[list[Any], dict[str, Any]]:
    """Read the options that are fields of dataclasses, and of `transformers.TrainingArguments` if wanted.

    `config` is the YAML file if `--config` names none; `everyday` is as in [`OptionParser`].

    Returns:
        An object of each class, and all values by option name; those of transformers if they were given.

    Raises:
        UserError: if an option or a key is not known, a value is not of the right kind or out of range, or the file
            names something that would have to be imported.
    """
    parser = OptionParser(classes, everyday, prog=command, description=description, allow_abbrev=False)
    parser.add_argument("--config", metavar="FILE", help="YAML file of options by name; the command line wins")
    first = OneLineParser(add_help=False, allow_abbrev=False)
    first.add_argument("--config", default=config)
    config = first.parse_known_args(arguments)[0].config
    hints, theirs = option_types(classes), TrainingOptions() if transformers_too else None
    from_file = {} if config is None else read_config(config, hints, theirs)
    of_theirs = {name: from_file.pop(name) for name in [*from_file] if name not in hints}
    parser.set_defaults(**from_file)
    try:
        *groups, _, unknown = parser.parse_args_into_dataclasses(
            arguments, return_remaining_strings=True, look_for_args_file=False
        )
    except UserError as error:
        named = re.match(r"--([\w-]+)", str(error))
        name = named[1].replace("-", "_") if named else None
        if name in from_file and not _given(name, arguments):
            raise UserError(f"{config}: {error}") from None
        raise
    if theirs is not None:
        given, unknown = theirs.parse(unknown)
        of_theirs |= given
    if unknown:
        refuse_old_name(unknown[0].lstrip("-").split("=")[0].replace("-", "_"), "--", hints)
        parser.unknown(unknown[0], theirs.types if theirs else ())
    values = {name: value for group in groups for name, value in asdict(group).items()} | of_theirs
    of_file = {name: value for name, value in from_file.items() if not _given(name, arguments)}
    check_names({name: value for name, value in values.items() if name not in of_file})
    try:
        check_names(of_file, typed=False)
    except UserError as error:
        raise UserError(f"{config}: {error}") from None
    return groups, values


class _KnownTypes(dict):
    """Types by name; what has another name, such as an enumeration of transformers, is a text."""

    def __init__(self) -> None:
        super().__init__({kind.__name__: kind for kind in (bool, int, float, dict, list)}, Any=Any, Literal=Literal)

    def __missing__(self, name: str) -> type:
        return str


@cache
def _source(module: str) -> dict[str, Any]:
    """The classes and tables of a module of transformers, by name, as its source has them."""
    file = Path(find_spec("transformers").origin).parent / f"{module.replace('.', '/')}.py"
    nodes = ast.parse(file.read_text(encoding="utf-8")).body
    tables = {ast.unparse(node.targets[0]): node.value for node in nodes if isinstance(node, ast.Assign)}
    return tables | {node.name: node for node in nodes if isinstance(node, ast.ClassDef)}


def _names(module: str, name: str) -> list[str]:
    """The values of an enumeration of transformers, or the keys of a table, also those that were added."""
    if imported := sys.modules.get(f"transformers.{module}"):
        return [*getattr(imported, name)]
    found = _source(module)[name]
    if isinstance(found, ast.ClassDef):
        return [line.value.value for line in found.body if isinstance(line, ast.Assign)]
    return [key.value for key in found.keys]


class TrainingOptions:
    """The options of `transformers.TrainingArguments`, read from its source: importing it takes seconds."""

    def __init__(self) -> None:
        found = _source("training_args")["TrainingArguments"]
        declared = [node for node in found.body if isinstance(node, ast.AnnAssign) and node.target.id[0] != "_"]
        annotated = type("_", (), {"__annotations__": {n.target.id: ast.unparse(n.annotation) for n in declared}})
        self.types = typing.get_type_hints(annotated, {}, _KnownTypes())
        defaults = {node.target.id: _default(node.value) for node in declared}
        options = [(name, kind, field(default=defaults[name])) for name, kind in self.types.items()]
        self._options = make_dataclass("TrainingOptions", options)

    def parse(self, arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
        """The values of those that are given, and what else is there; a [`UserError`] if one is of another kind."""
        parser = OptionParser(self._options, allow_abbrev=False, add_help=False)
        blank = Namespace(**dict.fromkeys(self.types))  # argparse leaves a default out where the namespace has the name
        parsed, unknown = parser.parse_known_args(arguments, blank)
        values = {name: value for name, value in vars(parsed).items() if value is not None}
        for name, value in values.items():
            if expected := other_type(value, self.types[name]):
                raise UserError(f"--{name.replace('_', '-')} {value}: expected {expected}")
        return values, unknown


def _default(value: ast.expr | None) -> Any:
    """The default of a field in a class's source if it is a plain value, else None."""
    said = [option.value for option in getattr(value, "keywords", ()) if option.arg == "default"]
    return said[0].value if said and isinstance(said[0], ast.Constant) else None


def check_names(values: Mapping[str, Any], typed: bool = True) -> None:
    """Refuse names, among the values of options, of components that are not registered or that transformers has not.

    Nothing is imported. Dotted paths are let through if they were typed: a file never makes gantune import anything.
    The [`UserError`] says what is expected.
    """
    for name, registry in COMPONENTS.items():
        for part in re.split(r"[+*]", values.get(name) or ""):
            if part and not (typed and "." in part):
                registry.check(part)
    for name, (module, table, others) in THEIRS.items():
        value = values.get(name)
        if value not in (None, *others.split(", ")) and value not in (known := _names(module, table)):
            expected = f"{others}one of {', '.join(sorted(known))}"
            raise UserError(f"--{name.replace('_', '-')} {value}: expected {expected}")


def option_types(classes: Sequence[type]) -> dict[str, Any]:
    """The type of each option, by name."""
    hints = {each: typing.get_type_hints(each) for each in classes}
    return {field.name: hints[each][field.name] for each in classes for field in fields(each)}


def _given(name: str, arguments: Sequence[str]) -> bool:
    return any(argument.split("=")[0].lstrip("-").replace("-", "_") == name for argument in arguments)


def read_config(path: str | Path, hints: Mapping[str, Any], theirs: TrainingOptions | None = None) -> dict[str, Any]:
    """The options in a YAML file: one mapping from their names, with underscores or dashes, to values.

    `hints` has the type of each option, by name; `theirs` are further ones that may be there.

    Raises:
        UserError: naming file and key, if the file cannot be read, a key is not known, or a value is of another kind.
    """
    try:
        content = yaml.load(local_path(path).read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8, expected a YAML file of options") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise UserError(f"{path}{where}: not valid YAML ({problem})") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{path}: is a {type(content).__name__}, expected options as NAME: VALUE, one a line")
    options: dict[str, Any] = {}
    for key, value in content.items():
        name = str(key).replace("-", "_")
        if name not in hints and theirs is not None and name in theirs.types:
            hints = {**theirs.types, **hints}
        if name not in hints:
            refuse_old_name(name, f"{path}: ", hints)
            near = did_you_mean(name, {**hints, **(theirs.types if theirs else {})})
            raise UserError(f"{path}: unknown option {str(key)!r} (--help-all lists the options){near}")
        if name in options:
            raise UserError(f"{path}: {key!r} is there twice, with underscores and with dashes")
        number = type(value) is int or EXPONENT.fullmatch(str(value))
        if number and float in (hints[name], *typing.get_args(hints[name])):
            value = float(str(value))
        if expected := other_type(value, hints[name]):
            raise UserError(f"{path}: {key} is {value!r:.60}, expected {expected}")
        options[name] = value
    return options


def settled(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of options that mean the same from another directory, see [`absolute_path`]."""
    paths = {name: values[name] for name, others in PLACES.items() if values.get(name) not in (None, *others)}
    return {**values, **{name: absolute_path(path) for name, path in paths.items()}}


def write_config(path: str | Path, command: str, values: Mapping[str, Any]) -> None:
    """Write all options, [`settled`], as a file that `--config` reads; a [`UserError`] if it cannot be."""
    header = f"# What {command} was told, defaults included; {command} --config reads it.\n"
    write_atomically(path, header + yaml.safe_dump(settled(values), sort_keys=False, allow_unicode=True))
