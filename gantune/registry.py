"""Turn a registry name or a dotted path into the class or function it names, imported when it is first asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gantune.errors import UserError, did_you_mean, first_line


class Registry:
    """Named components of one kind, such as "discriminator".

    [`get`] knows registered names only, so it is safe for names that a loaded checkpoint brings. [`resolve`] also
    imports dotted paths: use it for what the user typed, never for what a file says. The modules of the `built_in`
    dotted paths are imported by [`get`], so that names are known without torch. `option` is what a user names such a
    component by, if that is not its kind.
    """

    def __init__(self, kind: str, built_in: Mapping[str, str] | None = None, option: str | None = None) -> None:
        self.kind, self.option = kind, option or kind.replace(" ", "_")
        self._built_in = dict(built_in or {})
        self._components: dict[str, Any] = {}
        self._imported: dict[str, Any] = {}  # by dotted path, as the user typed it

    def register(self, name: str) -> Callable[[Any], Any]:
        """Decorator that files a class or function under `name`."""

        def file(component: Any) -> Any:
            self._components[name] = component
            return component

        return file

    def names(self) -> list[str]:
        """Registered names, sorted."""
        return sorted({*self._built_in, *self._components})

    def __contains__(self, name: str) -> bool:
        """Whether [`get`] knows the name."""
        return name in self._imported or name in self._components or name in self._built_in

    def check(self, name: str) -> None:
        """A [`UserError`] with the known names if [`get`] does not know this one; nothing is imported."""
        if isinstance(name, str) and name in self:
            return
        expected = f"one of {', '.join(self.names())}, or a dotted path such as my_package.MyClass"
        if isinstance(name, str) and "." in name:
            option = self.option.replace("_", "-")
            expected = f"--{option} {name} (in Python {self.option}=), as a file never makes gantune import anything"
        near = did_you_mean(str(name), self.names())
        raise UserError(f"unknown {self.kind} {name!r}: expected {expected}{near}")

    def get(self, name: str) -> Any:
        """The component registered as `name`, or that a dotted path has brought in before; else as [`check`]."""
        self.check(name)
        if name in self._built_in and name not in self._components:
            self._components[name] = _imported(self._built_in[name])
        return self._components[name] if name in self._components else self._imported[name]

    def name_of(self, component: Any) -> str:
        """The name that finds `component` again: its registered name, else the dotted path of it or of its class."""
        named = component if hasattr(component, "__qualname__") else type(component)
        path = f"{named.__module__}.{named.__qualname__}"
        for name, registered in {**self._built_in, **self._components}.items():
            if registered is component or registered is type(component) or registered == path:
                return name
        return path

    def resolve(self, spec: str | Any) -> Any:
        """The component that `spec` names: a registered name, a dotted path, or the component itself.

        What a dotted path names is remembered under that path, so that [`get`] finds it from then on.

        Raises:
            UserError: if the name is not known or the dotted path cannot be imported.
        """
        if not isinstance(spec, str):
            return spec
        if "." not in spec or spec in self._components or spec in self._built_in:
            return self.get(spec)
        try:
            component = _imported(spec)
        except (ImportError, AttributeError, OSError, TypeError, ValueError) as error:
            raise UserError(
                f"cannot import {self.kind} {spec!r}: {error} (registered names: {', '.join(self.names())})"
            ) from error
        self._imported[spec] = component
        return component

    def tried(self, component: Any, call: Callable[[], Any], *shapes: tuple[int, ...]) -> Any:
        """What a call of a component, or of the one so named, gives, which is of one of these shapes if there are any.

        What is wrong with it, and what it raises, is a [`UserError`] that names the component.
        """
        name = component if isinstance(component, str) else self.name_of(component)
        try:
            result = call()
        except UserError:
            raise
        except Exception as error:  # a user's own may raise anything
            raise UserError(f"{self.kind} {name}: {type(error).__name__}: {first_line(error)}") from error
        got = tuple(getattr(result, "shape", ()))
        if shapes and got not in shapes:
            wanted = " or ".join(str(list(shape)) for shape in shapes)
            raise UserError(
                f"{self.kind} {name}: gave a {type(result).__name__} of shape {list(got)}, expected {wanted}"
            )
        return result


def _imported(path: str) -> Any:
    module, _, attribute = path.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def lazy(package: str, modules: Mapping[str, Sequence[str]]) -> tuple[Callable[[str], Any], list[str]]:
    """A package's `__getattr__` and `__all__`: the names of its `modules`, each imported when it is first asked for."""
    paths = {name: f"{package}.{module}.{name}" for module, names in modules.items() for name in names}

    def attribute(name: str) -> Any:
        if name not in paths:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return _imported(paths[name])

    return attribute, sorted(paths)


GENERATORS = Registry(
    "generator",
    {
        "embedding": "gantune.embedding_generator.generators.embedding",
        "lora": "gantune.embedding_generator.generators.lora",
        "ia3": "gantune.embedding_generator.generators.ia3",
        "prefix": "gantune.embedding_generator.generators.prefix",
        "prompt": "gantune.embedding_generator.generators.prompt",
        "p-tuning": "gantune.embedding_generator.generators.p_tuning",
    },
)
"""Here and not beside what it names, because `gantune.embedding_generator` registers its method with peft."""
