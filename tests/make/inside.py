"""Leaves that enclave code executes: page tables of the test's choice, and the checks that all of them share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

from swsgx.cpu.enclu.operands import Inside, Paging
from swsgx.cpu.faults import GeneralProtection, PageFault
from swsgx.isa.address import PAGE_SIZE, EpcAddr, Linaddr, page_base
from swsgx.isa.cpuid import CpuModel
from swsgx.isa.flags import PageFaultCode, PageType
from swsgx.native.abi import EpcmState
from tests.make.leaves import Bench
from tests.make.world import BASE, REG_RW, SIZE, TCS

#: Error codes of a user's access that the EPCM forbids.
READ, WRITE = 0x8005, 0x8007


class Redirected:
    """Page tables like others, but for some pages."""

    def __init__(self, paging: Paging, pages: Mapping[Linaddr, EpcAddr | None]) -> None:
        self._paging = paging
        self._pages = pages

    def translate(self, address: Linaddr, *, write: bool) -> EpcAddr | None:
        page = Linaddr(page_base(address))
        if page in self._pages:
            found = self._pages[page]
            return None if found is None else EpcAddr(found + address % PAGE_SIZE)
        return self._paging.translate(address, write=write)


class Room:
    """An initialised enclave with a thread inside: SECINFOs at offset 0, a TCS, two RW pages, and one that waits.

    Attributes:
        info: the page of the SECINFOs.
        tcs: at 0x1000.
        page: an RW page at 0x2000; its address is ``at``.
        other: an RW page at 0x3000.
        new: made by EAUG, at 0x4000; nothing is at 0x5000 and behind.
    """

    at = Linaddr(BASE + 0x2000)
    other_at = Linaddr(BASE + 0x3000)
    new_at = Linaddr(BASE + 0x4000)
    hole = Linaddr(BASE + 0x5000)

    def __init__(self, model: CpuModel | None = None) -> None:
        self.bench = Bench(model)
        bench = self.bench
        self.cpu = bench.cpu
        self.secs = bench.ecreate()
        self.info = bench.eadd(self.secs, 0)
        self.tcs = bench.eadd(self.secs, 0x1000, TCS)
        self.page = bench.eadd(self.secs, 0x2000, REG_RW, b"p" * PAGE_SIZE)
        self.other = bench.eadd(self.secs, 0x3000, REG_RW, b"o" * PAGE_SIZE)
        if not bench.einit(self.secs).ok:
            raise AssertionError("EINIT")
        self.frame = bench.cpu.epc.frame(self.secs)
        self.state = bench.cpu.enclaves[self.frame]
        self.thread = bench.inside(self.secs)
        self.new = bench.eaug(self.secs, 0x4000) if self.cpu.model.sgx2 else self.other

    def secinfo(self, flags: int, *, reserved: bytes = b"") -> Linaddr:
        return self.bench.own_secinfo(flags, reserved=reserved)

    def redirect(self, pages: Mapping[Linaddr, EpcAddr | None]) -> Inside:
        """The thread, with some addresses leading elsewhere."""
        return Inside(self.frame, Redirected(self.thread.paging, pages))

    def enter(self, active: int = 1) -> None:
        """A thread is inside, or has left."""
        self.cpu.page(self.cpu.epc.frame(self.tcs))[0] = active

    @contextlib.contextmanager
    def unmapped(self, operand: str, address: Linaddr, code: PageFaultCode) -> Iterator[None]:
        """The block raises paging's own fault."""
        with self.bench.refuses(PageFault, f"{operand} is mapped", address, int(code)):
            yield


#: Runs a leaf for a thread: SECINFO and the other operands of the test's choice.
Leaf = Callable[[Inside, Linaddr], object]


def check_secinfo_operand(room: Room, flags: int, leaf: Leaf) -> None:
    """All rules for RBX, by which every leaf finds its SECINFO."""
    bench, thread = room.bench, room.thread
    secinfo = room.secinfo(flags)
    with bench.refuses(GeneralProtection, "RBX is a multiple of 64"):
        leaf(thread, Linaddr(secinfo + 8))
    for outside in (BASE - 64, BASE + SIZE):
        with bench.refuses(GeneralProtection, "RBX is inside ELRANGE"):
            leaf(thread, Linaddr(outside))
    with room.unmapped("RBX", room.hole, PageFaultCode.U):
        leaf(thread, room.hole)
    nowhere = room.redirect({Linaddr(BASE): None})
    with bench.refuses(PageFault, "RBX is in the EPC", secinfo, READ):
        leaf(nowhere, secinfo)
    free = room.redirect({Linaddr(BASE): bench.page()})
    with bench.refuses(PageFault, "EPCM(RBX).VALID is 1", secinfo, READ):
        leaf(free, secinfo)
    entry = room.cpu.epcm[room.cpu.epc.frame(room.info)]
    entry.perm = 4
    with bench.refuses(PageFault, "EPCM(RBX).R is 1", secinfo, READ):
        leaf(thread, secinfo)
    entry.perm = 3
    for state in (EpcmState.PENDING, EpcmState.MODIFIED, EpcmState.BLOCKED):
        bench.change(room.info, state=state)
        with bench.refuses(PageFault, f"EPCM(RBX).{state.name} is 0", secinfo, READ):
            leaf(thread, secinfo)
    bench.change(room.info, pt=PageType.TRIM, state=EpcmState(0))
    with bench.refuses(PageFault, "EPCM(RBX).PT is PT_REG", secinfo, READ):
        leaf(thread, secinfo)
    bench.change(room.info, pt=PageType.REG)
    stranger = bench.enclave(initialised=True)[1]
    with bench.refuses(PageFault, "EPCM(RBX).ENCLAVESECS is the enclave's", secinfo, READ):
        leaf(room.redirect({Linaddr(BASE): stranger}), secinfo)
    with bench.refuses(PageFault, "EPCM(RBX).ENCLAVEADDRESS is RBX's page", secinfo, READ):
        leaf(room.redirect({Linaddr(BASE): room.other}), secinfo)
    for bit in (6, 7, 16, 63):
        secinfo = room.secinfo(flags | 1 << bit)
        with bench.refuses(GeneralProtection, "SECINFO.FLAGS reserved bits are zero"):
            leaf(thread, secinfo)
    secinfo = room.secinfo(flags, reserved=b"\1")
    with bench.refuses(GeneralProtection, "SECINFO reserved bytes are zero"):
        leaf(thread, secinfo)


def check_page_operand(
    room: Room,
    operand: str,
    address: Linaddr,
    leaf: Callable[[Inside, Linaddr], object],
    *,
    write: bool = False,
) -> None:
    """Alignment, range and paging of another operand; ``address`` is a good one."""
    bench, thread = room.bench, room.thread
    code = PageFaultCode.U | PageFaultCode.W if write else PageFaultCode.U
    with bench.refuses(GeneralProtection, f"{operand} is a multiple of 4096"):
        leaf(thread, Linaddr(address + 64))
    for outside in (BASE - PAGE_SIZE, BASE + SIZE):
        with bench.refuses(GeneralProtection, f"{operand} is inside ELRANGE"):
            leaf(thread, Linaddr(outside))
    with room.unmapped(operand, room.hole, code):
        leaf(thread, room.hole)
    nowhere = room.redirect({address: None})
    with bench.refuses(PageFault, f"{operand} is in the EPC", address, WRITE if write else READ):
        leaf(nowhere, address)


def no_sgx2(leaf: Callable[[Room, Linaddr], object]) -> None:
    """A processor without SGX2 does not know the leaf."""
    room = Room(CpuModel.with_sgx1(epc_size=16 * PAGE_SIZE))
    secinfo = room.secinfo(REG_RW)
    with room.bench.refuses(GeneralProtection, "the processor has SGX2"):
        leaf(room, secinfo)
    room.cpu.close()
