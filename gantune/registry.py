"""Turn a registry name or a dotted path into the class or function it names, imported when it is first asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gantune.errors import UserError


class Registry:
    """Named components of one kind, such as "discriminator".

    [`get`] knows registered names only, so it is safe for names that a loaded checkpoint brings. [`resolve`] also
    imports dotted paths: use it for what the user typed, never for what a file says. The modules of the `built_in`
    dotted paths are imported by [`get`], so that names are known without torch.
    """

    def __init__(self, kind: str, built_in: Mapping[str, str] | None = None) -> None:
        self.kind = kind
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
        if not isinstance(name, str) or name not in self:
            raise UserError(
                f"unknown {self.kind} {name!r}: expected one of {', '.join(self.names())}, "
                "or a dotted path such as my_package.MyClass"
            )

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
