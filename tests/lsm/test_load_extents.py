"""Where pages come from: one question for each origin, and an answer that stays true."""

from __future__ import annotations

import errno
from collections.abc import Iterable

from swsgx.isa.address import PAGE_SIZE, TargetAddr
from swsgx.linux.provenance import Extent, Origin, OriginClass
from swsgx.linux.security import Grant
from swsgx.lsm.module import ALLOW, Deny, Event, Init, Load, Map, Obligations
from tests.make.judged import Granting, Told, judged
from tests.make.world import REG_RX

FILE = Origin(kind=OriginClass.FILE, path="/opt/lib.so", device=1, inode=2)
PATCHED = Origin(kind=OriginClass.FILEMOD, path="/opt/lib.so", device=1, inode=2)


class Pages:
    """Every page has the origin that a test gave it, by address."""

    def __init__(self, origins: dict[int, Origin]) -> None:
        self.origins = origins

    def unwritten(self, address: TargetAddr, size: int) -> None:
        """Nothing is known without a look."""

    def extents(self, address: TargetAddr, contents: memoryview, *, code: bool = True) -> Iterable[Extent]:
        for at in range(address, address + len(contents), PAGE_SIZE):
            yield Extent(PAGE_SIZE, self.origins.get(at))


class Runs:
    """Says how far its only origin reaches."""

    def __init__(self, size: int) -> None:
        self.size = size

    def unwritten(self, address: TargetAddr, size: int) -> None:
        """Nothing is known without a look."""

    def extents(self, address: TargetAddr, contents: memoryview, *, code: bool = True) -> Iterable[Extent]:
        yield Extent(self.size, FILE)


def only_files(event: Event) -> object:
    if not isinstance(event, Load):
        return ALLOW
    return ALLOW if event.origin == FILE else Deny("code comes from a file as it is", ("execmod",))


def test_one_mapping_is_judged_extent_by_extent_and_stops_at_the_first_that_is_refused() -> None:
    module = Told(load=only_files)
    made = judged(module)
    world = made.world
    src = world.memory.map(b"".join(bytes([n]) * PAGE_SIZE for n in range(4)))
    origins = {src + n * PAGE_SIZE: PATCHED if n == 2 else FILE for n in range(4)}
    world.task.provenance = Pages(origins)
    file = world.open()
    assert world.create(file).ok
    outcome, back = world.add(file, 0, b"", REG_RX, src=src, length=4 * PAGE_SIZE)
    assert outcome.errno == errno.EACCES
    assert int.from_bytes(bytes(back)[40:48], "little") == 2 * PAGE_SIZE
    decision = made.log.one()
    assert (decision.offset, decision.length, decision.origin) == (0x2000, 0x1000, PATCHED)
    assert decision.permissions == ("execmod",)
    assert file.encl.page_type[:4].tolist() == [2, 2, 0, 0]
    assert world.add(file, 0x3000, b"", REG_RX, src=src + 0x3000, length=PAGE_SIZE)[0].ok
    assert bytes(file.encl.store.page(0x3000)) == b"\3" * PAGE_SIZE
    assert bytes(file.encl.store.contents.view[0x2000:0x3000]) == bytes(PAGE_SIZE)


def test_an_origin_is_stored_once_and_told_with_the_pages() -> None:
    told = Told()
    made = judged(told)
    world = made.world
    src = world.memory.map(bytes(4 * PAGE_SIZE))
    world.task.provenance = Pages({src + n * PAGE_SIZE: (FILE, PATCHED)[n % 2] for n in range(3)})
    file = world.open()
    assert world.create(file).ok
    assert world.add(file, 0, b"", REG_RX, src=src, length=4 * PAGE_SIZE)[0].ok
    assert made.map(file, 0, 4, 5).ok
    event = told.heard[-1]
    assert isinstance(event, Map)
    assert event.pages.extents == (FILE, PATCHED)
    assert [event.pages.origin(n) for n in range(4)] == [FILE, PATCHED, FILE, None]


def test_what_provenance_does_not_reach_is_unknown() -> None:
    told = Told()
    made = judged(told)
    made.world.task.provenance = Runs(PAGE_SIZE)
    file = made.world.open()
    assert made.world.create(file).ok
    assert made.world.add(file, 0, bytes(3 * PAGE_SIZE), REG_RX)[0].ok
    heard = [(e.offset, e.length, e.origin) for e in told.heard if isinstance(e, Load)]
    assert heard == [(0, PAGE_SIZE, FILE), (PAGE_SIZE, 2 * PAGE_SIZE, None)]


def test_obligations_lie_on_the_pages_of_their_extent() -> None:
    def owes(event: Event) -> object:
        assert isinstance(event, Load)
        return ALLOW if event.origin == FILE else Obligations(Grant.EXECANON)

    made = judged(Granting(load=owes))
    made.world.task.provenance = Runs(PAGE_SIZE)
    file = made.world.open()
    assert made.world.create(file).ok
    assert made.world.add(file, 0, bytes(2 * PAGE_SIZE), REG_RX)[0].ok
    assert made.map(file, 0, 1, 5).ok
    decision = made.refused(lambda: made.map(file, 0, 2, 5), "execanon")
    assert (decision.offset, decision.length) == (0x1000, 0x1000)


def test_a_second_page_at_an_occupied_offset_leaves_provenance_alone() -> None:
    made = judged(Told())
    made.world.task.provenance = Runs(PAGE_SIZE)
    file = made.world.open()
    assert made.world.create(file).ok
    assert made.world.add(file, 0, bytes(PAGE_SIZE), REG_RX)[0].ok
    before = made.books()
    made.world.task.provenance = None
    assert made.world.add(file, 0, bytes(PAGE_SIZE), REG_RX)[0].errno == errno.EBUSY
    assert made.books() == before


def test_the_sigstruct_has_an_origin_of_its_own() -> None:
    told = Told()
    made = judged(told)
    made.world.task.provenance = Runs(PAGE_SIZE)
    made.world.initialised()
    event = told.heard[-1]
    assert isinstance(event, Init)
    assert event.origin == FILE


def test_what_nobody_vouches_for_by_a_name_is_anonymous() -> None:
    assert not FILE.anonymous
    assert not PATCHED.anonymous
    assert Origin(kind=OriginClass.FILE, path="/opt/lib.so", deleted=True).anonymous
    for kind in (OriginClass.MEMFD, OriginClass.SHM, OriginClass.ANON, OriginClass.UNKNOWN):
        assert Origin(kind=kind).anonymous
