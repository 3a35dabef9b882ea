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


def test_an_epc_whose_pages_another_thread_is_writing_out_is_not_full() -> None:
    world = _world()
    file = world.open()
    assert world.create(file, a_secs(size=SIZE)).ok
    outcome, _ = world.add(file, 0, bytes(8 * PAGE_SIZE), measured=False)
    assert outcome.ok
    reclaimer, epc = world.driver.reclaimer, world.cpu.epc
    begun, go_on = threading.Event(), threading.Event()

    def shootdown(_encl: object) -> bool:
        begun.set()
        return go_on.wait(10)

    world.driver.shootdown = shootdown
    need, found = epc.free_count + 1, []
    writing = threading.Thread(target=reclaimer.reclaim, args=(8,))
    writing.start()
    assert begun.wait(10)
    asking = threading.Thread(target=lambda: found.append(reclaimer.make_room(need, lambda: False)))
    asking.start()
    asking.join(0.2)
    assert not found, "it waits"
    go_on.set()
    writing.join(10)
    asking.join(10)
    assert found == [None]
    refused = reclaimer.make_room(epc.free_count + 9, lambda: False)
    assert refused is not None, "now there is nothing left"
    world.cpu.close()
