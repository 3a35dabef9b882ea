"""Enclaves that run, in the world of the driver's tests: SGX2 ioctls, and a thread inside that executes leaves."""

from __future__ import annotations

from collections.abc import Iterator

from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.flags import PageType, secinfo_flags
from swsgx.isa.layout import Layout
from swsgx.isa.leaves import Enclu
from swsgx.isa.structs import Secinfo
from swsgx.linux import uapi
from swsgx.linux.device import EnclaveFile
from swsgx.linux.inside import Executed, execute
from swsgx.linux.mm import AddressSpace
from swsgx.linux.outcome import Outcome
from swsgx.native.abi import EpcmState
from tests.make.world import BASE, REG_RW, REG_RWX, TCS, World, a_tcs

#: SECINFO.FLAGS of usual requests.
NEW, RESTRICTED, TO_TCS, TO_TRIM = 0x20B, 0x220, 0x110, 0x410

CODES: dict[type[Layout], int] = {
    uapi.EnclaveRestrictPermissions: uapi.SGX_IOC_ENCLAVE_RESTRICT_PERMISSIONS,
    uapi.EnclaveModifyTypes: uapi.SGX_IOC_ENCLAVE_MODIFY_TYPES,
    uapi.EnclaveRemovePages: uapi.SGX_IOC_ENCLAVE_REMOVE_PAGES,
}


class Running:
    """An initialised enclave that is mapped RW: page 0 RWX with SECINFOs, 1 to 5 RW, 6 RX, 7 a TCS; then come holes.

    Args:
        world: in which it is made.
    """

    holes = 8

    def __init__(self, world: World) -> None:
        self.world = world
        self.cpu = world.cpu
        self.file: EnclaveFile = world.open()
        steps = (
            world.create(self.file),
            world.add(self.file, 0, bytes(PAGE_SIZE), REG_RWX)[0],
            world.add(self.file, 0x1000, bytes(a_tcs()) * 5, REG_RW)[0],
            world.add(self.file, 0x6000, bytes(PAGE_SIZE), secinfo_flags(PageType.REG, 5))[0],
            world.add(self.file, 0x7000, bytes(a_tcs()), TCS)[0],
            world.init(self.file),
        )
        self.encl = self.file.encl
        for outcome in steps:
            if outcome.value:
                raise AssertionError(str(outcome.reason))
        self.map(world.mm)

    def map(self, mm: AddressSpace) -> None:
        """All but the RX page, RW."""
        for first, last in ((0, 6), (7, 16)):
            outcome = mm.mmap(BASE + first * PAGE_SIZE, (last - first) * PAGE_SIZE, 3, 0x11, self.file)
            if not outcome.ok:
                raise AssertionError(str(outcome.reason))

    # ioctls.

    def change(
        self, layout: type[Layout], first: int, count: int, /, **values: int
    ) -> tuple[Outcome, dict[str, int]]:
        """One of the three ioctls on pages; the outcome and the fields as they were written back."""
        given = {"offset": first * PAGE_SIZE, "length": count * PAGE_SIZE} | values
        arg = self.world.memory.put(layout.of(**given))
        outcome = self.file.ioctl(self.world.task, CODES[layout], arg)
        back = layout(self.world.memory.read(arg, layout.size_of))
        return outcome, {field.name: int(value) for field, value in back.values()}

    def restrict(self, first: int, count: int, perm: int, /, **values: int) -> tuple[Outcome, dict[str, int]]:
        return self.change(uapi.EnclaveRestrictPermissions, first, count, permissions=perm, **values)

    def modify(self, first: int, count: int, kind: int, /, **values: int) -> tuple[Outcome, dict[str, int]]:
        return self.change(uapi.EnclaveModifyTypes, first, count, page_type=kind, **values)

    def remove(self, first: int, count: int, /, **values: int) -> tuple[Outcome, dict[str, int]]:
        return self.change(uapi.EnclaveRemovePages, first, count, **values)

    # A thread inside.

    def execute(
        self, leaf: Enclu, flags: int, page: int, source: int = 0, mm: AddressSpace | None = None
    ) -> Executed:
        """A leaf with a SECINFO in page 0, which is loaded to be written; pages by index."""
        if not self.encl.store.frame_map[0]:
            outcome = self.encl.load_page(BASE)
            if not outcome.ok:
                raise AssertionError(str(outcome.reason))
        self.encl.store.page(0)[64:128] = bytes(Secinfo.of(flags=flags).buffer)
        chosen = mm if mm is not None else self.world.mm
        return execute(chosen, self.encl, leaf, BASE + 64, BASE + page * PAGE_SIZE, BASE + source * PAGE_SIZE)

    def accept(self, flags: int, page: int, mm: AddressSpace | None = None) -> int | None:
        """EACCEPT: RAX; None after an exception."""
        result = self.execute(Enclu.EACCEPT, flags, page, mm=mm).result
        return result.rax if result is not None else None

    def enter(self, active: int = 1) -> None:
        """A thread is inside, by the TCS at page 7."""
        self.encl.store.page(0x7000)[0] = active

    # Looking.

    def entry(self, page: int) -> tuple[int, int, EpcmState] | None:
        """EPCM: type, permissions, state; None for a hole."""
        frame = int(self.encl.store.frame_map[page])
        if not frame:
            return None
        found = self.cpu.epcm[frame - 1]
        return found.pt, found.perm, EpcmState(found.state)

    def state(self) -> tuple[object, ...]:
        """All that a refused ioctl must leave alone."""
        secs = self.cpu.enclaves[self.encl.secs or 0]
        encl = self.encl
        return (
            self.world.snapshot(),
            (secs.epoch, secs.previous, frozenset(secs.tcs)),
            encl.page_type.tobytes(),
            encl.max_prot.tobytes(),
            encl.page_count,
        )

    def effective(self, page: int, prot: int = 3) -> int:
        return int(self.encl.effective(page, page + 1, prot)[0])


def run(world: World) -> Iterator[Running]:
    """For fixtures."""
    made = Running(world)
    yield made
    world.mm.exit()
