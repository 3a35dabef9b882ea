"""Writing a module: what the documentation shows works, and modules are found by name."""

from __future__ import annotations

import inspect
import textwrap

import pytest

from swsgx.linux import security
from swsgx.linux.provenance import Origin, OriginClass
from swsgx.linux.security import EnclaveEvent, Event
from swsgx.lsm import module as module_file
from swsgx.lsm import registry
from swsgx.lsm.capability import Capability
from swsgx.lsm.module import Module
from swsgx.lsm.no_unmeasured_exec import NoUnmeasuredExec
from tests.make.judged import judged
from tests.make.world import REG_RX


def events() -> list[type[Event]]:
    found = [one for _, one in inspect.getmembers(security, inspect.isclass) if issubclass(one, Event)]
    return [one for one in found if one not in (Event, EnclaveEvent)]


def test_every_hook_has_a_method_and_allows_by_default() -> None:
    assert len(events()) == 11
    for event in events():
        method = getattr(Module, event.hook)
        assert inspect.signature(method).parameters["event"].annotation == event.__name__


def test_the_example_of_the_documentation_is_a_module() -> None:
    text = inspect.getdoc(module_file) or ""
    code = textwrap.dedent(text[text.index("    from swsgx") : text.index("It is found by")]).replace(
        "\\", ""
    )
    made: dict[str, type[Module]] = {}
    exec(code, made)
    one = judged(made["OnlyFromOpt"]())
    world = one.world
    file = world.open()
    assert world.create(file).ok
    one.refused(lambda: world.add(file, 0, bytes(4096), REG_RX)[0], "execute")
    for at, path, allowed in ((0x1000, "/opt/lib.so", True), (0x2000, "/tmp/lib.so", False)):
        source = world.memory.map(bytes(4096))
        vma = world.memory.find_vma(source)
        assert vma is not None
        origin = Origin(kind=OriginClass.FILE, path=path)
        world.memory.vmas.remove(vma)
        world.memory.vmas.append(type(vma)(vma.start, vma.end, origin=origin))
        world.memory.vmas.sort(key=lambda one: one.start)
        assert world.add(file, at, b"", REG_RX, src=source, length=4096)[0].ok == allowed


def test_modules_are_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert registry.available()[:2] == ("capability", "no_unmeasured_exec")
    assert isinstance(registry.make("capability"), Capability)
    assert isinstance(registry.make("no_unmeasured_exec"), NoUnmeasuredExec)
    with pytest.raises(LookupError, match="no security module is called nobody"):
        registry.make("nobody")

    class Point:
        name, value = "mine", "mine:Mine"

        def __init__(self, made: object) -> None:
            self.made = made

        def load(self) -> object:
            return lambda: self.made

    mine = Module()
    monkeypatch.setattr(registry, "entry_points", lambda **given: [Point(mine)])
    assert registry.available()[-1] == "mine"
    assert registry.make("mine") is mine
    monkeypatch.setattr(registry, "entry_points", lambda **given: [Point("text")])
    with pytest.raises(TypeError, match="makes no security module"):
        registry.make("mine")
