"""With capability alone, nothing is different."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from swsgx.isa.address import PAGE_SIZE
from swsgx.linux.access import poke
from swsgx.linux.profile import PROFILES
from swsgx.linux.security import Plain
from swsgx.lsm.capability import Capability
from swsgx.lsm.stack import Stack
from tests.make.judged import LOADER
from tests.make.running import NEW, Running
from tests.make.world import BASE, REG_RWX, World, make_world


def story(world: World) -> list[object]:
    """Much that other modules would not like, and what came of it."""
    file = world.open()
    outcomes = [
        world.map(file, 0, 0x10000, 7),
        world.create(file),
        world.add(file, 0, bytes(4 * PAGE_SIZE), REG_RWX, measured=False)[0],
        world.add(file, 0, bytes(PAGE_SIZE), REG_RWX)[0],
        world.init(file),
        world.map(file, 0, 0x1000, 3),
        world.mm.mprotect(BASE, 0x1000, 5),
        world.mm.mprotect(BASE, 0x1000, 7),
        world.map(file, 0x8000, 0x1000, 7),
        poke(world.mm, BASE, bytes(8)),
        world.mm.mprotect(BASE, 0x20000, 1),
    ]
    return [(outcome.value, outcome.reason) for outcome in outcomes]


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_capability_alone_gives_the_verdicts_and_errnos_of_the_driver(name: str) -> None:
    told = []
    securities: list[Callable[[], Plain | Stack]] = [Plain, lambda: Stack([Capability()])]
    for security in securities:
        world = make_world(PROFILES[name])
        world.driver.security = security()
        world.task.subject = LOADER
        told.append((story(world), world.snapshot()))
    assert told[0] == told[1]


def test_capability_alone_changes_nothing_of_a_running_enclave() -> None:
    told = []
    for security in (Plain(), Stack([])):
        world = make_world()
        world.driver.security = security
        one = Running(world)
        steps = [one.accept(NEW, 9), one.modify(2, 2, 1), one.restrict(4, 1, 1), one.modify(9, 1, 4)]
        told.append((steps, one.state(), world.mm.mprotect(BASE + 0xA000, 0x1000, 7)))
    assert told[0] == told[1]
