"""Modules by name: those of this package, and those that others have installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points

from swsgx.lsm.capability import Capability
from swsgx.lsm.module import Module
from swsgx.lsm.no_unmeasured_exec import NoUnmeasuredExec
from swsgx.lsm.selinux import LiveTypeEnforcement

__all__ = ["BUILT_IN", "GROUP", "available", "make"]

#: Entry-point group of third parties; an entry point names what makes a module when it is called without arguments.
GROUP = "swsgx.lsm"

#: Modules that need no policy file.
BUILT_IN: Mapping[str, Callable[[], Module]] = {
    Capability.name: Capability,
    NoUnmeasuredExec.name: NoUnmeasuredExec,
    LiveTypeEnforcement.name: LiveTypeEnforcement,
}


def available() -> tuple[str, ...]:
    """Names that :func:`make` knows."""
    return (*BUILT_IN, *sorted(point.name for point in entry_points(group=GROUP)))


def make(name: str) -> Module:
    """A module by its name; one of this package goes before one of another that is called the same.

    Raises:
        LookupError: nobody has installed one of that name.
        TypeError: what its entry point makes is no module.
    """
    maker = BUILT_IN.get(name)
    if maker is not None:
        return maker()
    for point in entry_points(group=GROUP, name=name):
        module = point.load()()
        if not isinstance(module, Module):
            raise TypeError(f"{point.value} makes no security module: {module!r}")
        return module
    raise LookupError(f"no security module is called {name}: {', '.join(available())}")
