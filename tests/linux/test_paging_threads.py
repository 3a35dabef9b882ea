"""What threads of the driver's see of each other while pages come and go."""

from __future__ import annotations

import threading

import numpy as np

from swsgx.isa.address import PAGE_SIZE
from tests.make.world import SIZE, World, a_secs, make_world


def _world() -> World:
    world = make_world(epc_pages=64)
    world.driver.demand, world.driver.shootdown = True, lambda _encl: True
    return world


def test_who_asks_for_permissions_while_pages_leave_gets_those_of_before_or_behind() -> None:
    world = _world()
    file = world.open()
    assert world.create(file, a_secs(size=SIZE)).ok
    outcome, _ = world.add(file, 0, bytes(8 * PAGE_SIZE), measured=False)
    assert outcome.ok
    assert world.init(file).ok
    encl, found = file.encl, []
    with encl.mutex:
        asking = threading.Thread(target=lambda: found.append(encl.usable(0, 8)))
        asking.start()
        asking.join(0.2)
        assert not found, "it waits for whoever is writing pages out"
        world.driver.reclaimer.reclaim(8)
    asking.join(10)
    assert encl.paging.evicted == 8
    assert np.array_equal(found[0], np.full(8, 3, np.uint8))
    world.cpu.close()
