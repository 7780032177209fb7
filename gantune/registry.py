"""Turn a registry name or a dotted path into the class or function it names."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from gantune.errors import UserError


class Registry:
    """Named components of one kind, such as the discriminators.

    [`get`] knows registered names only, so it is safe for names that a loaded checkpoint brings. [`resolve`] also
    imports dotted paths: use it for what the user typed, never for what a file says.

    Args:
        kind: what the components are, in the singular, for error messages ("discriminator").
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
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
        return sorted(self._components)

    def __contains__(self, name: str) -> bool:
        """Whether [`get`] knows the name."""
        return name in self._imported or name in self._components

    def get(self, name: str) -> Any:
        """The component registered as `name`, or that a dotted path has brought in before.

        Raises:
            UserError: if there is none; the message lists the known names.
        """
        known = self._imported | self._components
        if not isinstance(name, str) or name not in known:
            raise UserError(
                f"unknown {self.kind} {name!r}: expected one of {', '.join(self.names())}, "
                "or a dotted path such as my_package.MyClass"
            )
        return known[name]

    def name_of(self, component: Any) -> str:
        """The name that finds `component` again: its registered name, else the dotted path of it or of its class."""
        for name, registered in self._components.items():
            if component is registered or type(component) is registered:
                return name
        named = component if hasattr(component, "__qualname__") else type(component)
        return f"{named.__module__}.{named.__qualname__}"

    def resolve(self, spec: str | Any) -> Any:
        """The component that `spec` names: a registered name, a dotted path, or the component itself.

        What a dotted path names is remembered under that path, so that [`get`] finds it from then on.

        Raises:
            UserError: if the name is not known or the dotted path cannot be imported.
        """
        if not isinstance(spec, str):
            return spec
        if spec in self._components or "." not in spec:
            return self.get(spec)
        module_name, _, attribute = spec.rpartition(".")
        try:
            component = getattr(importlib.import_module(module_name), attribute)
        except (ImportError, AttributeError, OSError, TypeError, ValueError) as error:
            raise UserError(
                f"cannot import {self.kind} {spec!r}: {error} (registered names: {', '.join(self.names())})"
            ) from error
        self._imported[spec] = component
        return component
