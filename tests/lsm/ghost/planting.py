"""Holes, planted one at a time: what a hook point or a rule of pages looks like if somebody forgets a part of it.

A mutant is a piece of a function's source and what stands there instead. The function's code is exchanged, so everybody
who has imported it gets the hole. A piece that is not there exactly once is an error: a mutant
follows the source.
"""

from __future__ import annotations
import __future__

import contextlib
import importlib
import inspect
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType, FunctionType

__all__ = ["Mutant", "planted"]


@dataclass(frozen=True)
class Mutant:
    """One hole.

    Attributes:
        name: what is wrong, in words.
        where: module and function, ``"a.b:C.f"``.
        old, new: what stands there, and what stands there instead.
        real: it is in a module of policy files, and is looked for where these are.
    """

    name: str
    where: str
    old: str
    new: str
    real: bool = False


@contextlib.contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """The hole is there."""
    module_name, _, path = mutant.where.partition(":")
    found: object = importlib.import_module(module_name)
    for name in path.split("."):
        found = inspect.getattr_static(found, name)
    if isinstance(found, property):
        found = found.fget
    if isinstance(found, staticmethod):
        found = found.__func__
    if not isinstance(found, FunctionType):
        raise TypeError(f"{mutant.where} is no function")
    source = textwrap.dedent(inspect.getsource(found))
    if source.count(mutant.old) != 1:
        raise ValueError(
            f"{mutant.name}: {mutant.old!r} is {source.count(mutant.old)} times in {mutant.where}"
        )
    kept = found.__code__
    found.__code__ = _compiled(source.replace(mutant.old, mutant.new), module_name, found.__name__)
    try:
        yield
    finally:
        found.__code__ = kept


def _compiled(source: str, module: str, name: str) -> CodeType:
    lines = source.splitlines()
    while lines[0].startswith("@"):
        del lines[0]
    flags = __future__.annotations.compiler_flag
    names: dict[str, object] = dict(vars(sys.modules[module]))
    exec(compile("\n".join(lines), f"<mutant of {module}>", "exec", flags=flags), names)
    made = names[name]
    if not isinstance(made, FunctionType):
        raise TypeError(f"{name} is no function")
    return made.__code__
