"""EWB, row by row."""

from __future__ import annotations

import numpy as np
import pytest

from swsgx.cpu.encls import eldu as eldu_leaf
from swsgx.cpu.encls import ewb as leaf
from swsgx.cpu.encls.eblock import eblock
from swsgx.cpu.encls.etrack import etrack
from swsgx.cpu.encls.ewb import ewb
from swsgx.cpu.faults import GeneralProtection, LeafResult, PageFault
from swsgx.cpu.pager import rows
from swsgx.isa.address import PAGE_SIZE, EpcAddr, Linaddr
from swsgx.isa.errors import SgxError
from swsgx.isa.flags import PageType, SecinfoFlags
from swsgx.isa.structs import Pcmd
from swsgx.native.abi import EpcmState
from tests.make.leaves import Bench
from tests.make.world import BASE, REG_RW, REG_RX, TCS


class Given:
    """Operands of a good EWB of a REG page; each test spoils one."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.secs, self.page, self.tcs = bench.enclave(initialised=True)
        self.slot = EpcAddr(bench.va_page() + 8)
        self.info: dict[str, object] = {
            "srcpge": bench.place(bytes(PAGE_SIZE)),
            "secinfo": bench.place(bytes(128), 128),
        }

    def run(
        self, *, pageinfo: Linaddr | None = None, page: EpcAddr | None = None, slot: EpcAddr | None = None
    ) -> LeafResult:
        return ewb(
            self.bench.cpu,
            self.bench.memory,
            pageinfo if pageinfo is not None else self.bench.pageinfo(**self.info),
            page if page is not None else self.page,
            slot if slot is not None else self.slot,
        )


@pytest.fixture
def given(bench: Bench) -> Given:
    made = Given(bench)
    bench.tracked(made.secs, made.page)
    return made


def test_rbx_is_32_byte_aligned(bench: Bench, given: Given) -> None:
    with bench.refuses(GeneralProtection, "RBX is a multiple of 32"):
        given.run(pageinfo=Linaddr(bench.pageinfo() + 8))


def test_rcx_is_page_aligned(bench: Bench, given: Given) -> None:
    with bench.refuses(GeneralProtection, "RCX is a multiple of 4096"):
        given.run(page=EpcAddr(given.page + 64))


def test_rcx_is_in_the_epc(bench: Bench, given: Given) -> None:
    with bench.refuses(PageFault, "RCX is in the EPC", bench.outside):
        given.run(page=bench.outside)


def test_rdx_is_8_byte_aligned(bench: Bench, given: Given) -> None:
    with bench.refuses(GeneralProtection, "RDX is a multiple of 8"):
        given.run(slot=EpcAddr(given.slot + 4))


def test_rdx_is_in_the_epc(bench: Bench, given: Given) -> None:
    with bench.refuses(PageFault, "RDX is in the EPC", bench.outside):
        given.run(slot=bench.outside)


def test_a_va_page_s_version_is_in_another_page(bench: Bench, given: Given) -> None:
    va = bench.va_page()
    with bench.refuses(GeneralProtection, "RCX and RDX are in different EPC pages"):
        given.run(page=va, slot=EpcAddr(va + 16))


def test_pageinfo_is_readable(bench: Bench, given: Given) -> None:
    with bench.refuses(PageFault, "PAGEINFO is readable"):
        given.run(pageinfo=bench.unmapped)


def test_linaddr_is_zero(bench: Bench, given: Given) -> None:
    given.info["linaddr"] = BASE
    with bench.refuses(GeneralProtection, "PAGEINFO.LINADDR is 0"):
        given.run()


def test_secs_is_zero(bench: Bench, given: Given) -> None:
    given.info["secs"] = given.secs
    with bench.refuses(GeneralProtection, "PAGEINFO.SECS is 0"):
        given.run()


def test_pcmd_is_128_byte_aligned(bench: Bench, given: Given) -> None:
    given.info["secinfo"] = bench.place(bytes(256), 128) + 64
    with bench.refuses(GeneralProtection, "PAGEINFO.PCMD is a multiple of 128"):
        given.run()


def test_srcpge_is_page_aligned(bench: Bench, given: Given) -> None:
    given.info["srcpge"] = bench.place(bytes(2 * PAGE_SIZE)) + 64
    with bench.refuses(GeneralProtection, "PAGEINFO.SRCPGE is a multiple of 4096"):
        given.run()


def test_a_page_in_use_is_a_gp(bench: Bench, given: Given) -> None:
    with bench.cpu.lock(given.page), bench.refuses(GeneralProtection, "RCX is not in use"):
        given.run()


def test_a_slot_in_use_is_a_gp(bench: Bench, given: Given) -> None:
    va = EpcAddr(given.slot - 8)
    with bench.cpu.lock(va), bench.refuses(GeneralProtection, "RDX is not in use"):
        given.run()


def test_rcx_is_valid(bench: Bench, given: Given) -> None:
    free = bench.page()
    with bench.refuses(PageFault, "EPCM(RCX).VALID is 1", free):
        given.run(page=free)


def test_rdx_is_in_a_va_page(bench: Bench, given: Given) -> None:
    for slot in (bench.page(), given.tcs):
        with bench.refuses(PageFault, "EPCM(RDX) is a valid VA page", slot):
            given.run(slot=slot)


def test_the_page_is_blocked(bench: Bench, given: Given) -> None:
    before = bench.snapshot()
    bench.returns(given.run(page=given.tcs), SgxError.PAGE_NOT_BLOCKED, "the page is blocked")
    assert bench.snapshot() == before


def test_the_page_is_tracked(bench: Bench) -> None:
    given = Given(bench)
    bench.activate(given.tcs)
    assert eblock(bench.cpu, given.page).ok
    bench.returns(given.run(), SgxError.NOT_TRACKED, "whoever was inside has left")
    assert etrack(bench.cpu, given.secs).ok
    before = bench.snapshot()
    bench.returns(given.run(), SgxError.NOT_TRACKED, "whoever was inside has left")
    assert bench.snapshot() == before
    bench.activate(given.tcs, inside=False)
    assert given.run().ok


def test_a_secs_with_children_stays(bench: Bench, given: Given) -> None:
    before = bench.snapshot()
    bench.returns(given.run(page=given.secs), SgxError.CHILD_PRESENT, "no page of the enclave")
    assert bench.snapshot() == before


@pytest.mark.parametrize("operand", ["srcpge", "secinfo"])
def test_where_it_is_written_is_writable(bench: Bench, given: Given, operand: str) -> None:
    given.info[operand] = bench.unmapped
    with bench.refuses(PageFault, "is writable"):
        given.run()


# What it does.


def test_the_page_goes_encrypted(bench: Bench, given: Given) -> None:
    state = bench.cpu.enclaves[bench.cpu.epc.frame(given.secs)]
    frame, contents = bench.cpu.epc.frame(given.page), bytes(state.store.page(0))
    written = bench.evict(given.page, given.slot)
    assert not bench.cpu.epcm.valid(frame)
    assert not any(state.store.page(0)), "the contents are gone"
    assert not state.store.frame_map[0]
    assert state.children == 1
    assert written.linaddr == BASE
    assert bench.memory.read(written.page, PAGE_SIZE) != contents
    version = bench.cpu.page(bench.cpu.epc.frame(given.slot))[8:16]
    assert any(version)


@pytest.mark.parametrize(
    "flags",
    [REG_RX, REG_RW | int(SecinfoFlags.PENDING), REG_RW | int(SecinfoFlags.MODIFIED | SecinfoFlags.PR)],
)
def test_pcmd_tells_type_permissions_state_and_owner(bench: Bench, flags: int) -> None:
    given = Given(bench)
    state = EpcmState.VALID | EpcmState((flags & 0x38) >> 1)
    entry = bench.cpu.epcm[bench.cpu.epc.frame(given.page)]
    entry.state, entry.perm = int(state), flags & 7
    bench.tracked(given.secs, given.page)
    pcmd = Pcmd(bench.memory.read(bench.evict(given.page, given.slot).pcmd, 128))
    assert pcmd.secinfo.flags == flags
    assert pcmd.enclaveid == bench.cpu.enclaves[bench.cpu.epc.frame(given.secs)].eid
    assert pcmd.first_nonzero_reserved() is None
    assert any(pcmd.mac)


def test_a_tcs_goes_and_is_no_thread_any_more(bench: Bench) -> None:
    given = Given(bench)
    bench.tracked(given.secs, given.tcs)
    pcmd = Pcmd(bench.memory.read(bench.evict(given.tcs, given.slot).pcmd, 128))
    assert pcmd.secinfo.flags == TCS
    assert not bench.cpu.enclaves[bench.cpu.epc.frame(given.secs)].tcs


def test_a_va_page_goes_without_an_owner(bench: Bench, given: Given) -> None:
    va = bench.va_page()
    pcmd = Pcmd(bench.memory.read(bench.evict(va, given.slot).pcmd, 128))
    assert (pcmd.secinfo.flags, pcmd.enclaveid) == (PageType.VA << 8, 0)
    assert not bench.cpu.epcm.valid(bench.cpu.epc.frame(va))


def test_a_secs_without_children_goes(bench: Bench) -> None:
    secs, slot = bench.ecreate(), bench.va_page()
    frame = bench.cpu.epc.frame(secs)
    eid = bench.cpu.enclaves[frame].eid
    pcmd = Pcmd(bench.memory.read(bench.evict(secs, slot).pcmd, 128))
    assert (pcmd.secinfo.flags, pcmd.enclaveid) == (0, eid)
    assert not bench.cpu.epcm.valid(frame)
    assert frame not in bench.cpu.enclaves
    bench.cpu.forget_written_out(eid)
    assert not bench.cpu.written_out


def test_an_occupied_slot_informs_and_is_overwritten(bench: Bench) -> None:
    given = Given(bench)
    bench.tracked(given.secs, given.page, given.tcs)
    bench.evict(given.tcs, given.slot)
    result = given.run()
    bench.returns(result, SgxError.VA_SLOT_OCCUPIED, "slot was empty", informs=True)
    assert not bench.cpu.epcm.valid(bench.cpu.epc.frame(given.page))


def test_no_version_is_used_twice(bench: Bench) -> None:
    given = Given(bench)
    bench.tracked(given.secs, given.page, given.tcs)
    va = bench.cpu.page(bench.cpu.epc.frame(given.slot))
    for number, page in enumerate((given.page, given.tcs, bench.va_page())):
        bench.evict(page, EpcAddr(given.slot + 8 * number))
    versions = [bytes(va[at : at + 8]) for at in (8, 16, 24)]
    assert len(set(versions)) == 3


# Many.


class Many:
    """An enclave of pages with contents, and slots for them."""

    COUNT = 9

    def __init__(self, bench: Bench) -> None:
        self.cpu = bench.cpu
        self.secs = bench.ecreate()
        kinds = [REG_RW, REG_RX, TCS] * 3
        self.pages = [
            bench.eadd(self.secs, n * PAGE_SIZE, flags, None if flags == TCS else bytes([n + 1]) * PAGE_SIZE)
            for n, flags in enumerate(kinds)
        ]
        self.frames = np.array([bench.cpu.epc.frame(page) for page in self.pages], np.uint32)
        self.state = bench.cpu.enclaves[bench.cpu.epc.frame(self.secs)]
        va = bench.va_page()
        self.slots = (va + 8 * np.arange(self.COUNT)).astype(np.uint64)
        self.sealed, self.pcmds = rows(self.COUNT), np.zeros((self.COUNT, 128), np.uint8)

    def ewb(self) -> tuple[int, LeafResult]:
        return leaf.run(self.cpu, self.secs, self.frames, self.slots, self.sealed, self.pcmds)


def test_a_run_writes_pages_that_can_be_loaded(bench: Bench) -> None:
    many = Many(bench)
    before = bytes(many.state.store.contents.view)
    bench.tracked(many.secs, *many.pages)
    done, result = many.ewb()
    assert (done, result.ok) == (many.COUNT, True)
    assert not many.state.children
    assert not many.state.tcs
    assert not any(many.state.store.contents.view)
    assert [Pcmd(row.tobytes()).secinfo.flags for row in many.pcmds] == [REG_RW, REG_RX, TCS] * 3
    frames = many.cpu.epc.allocate_run(many.COUNT)
    addresses = (BASE + PAGE_SIZE * np.arange(many.COUNT)).astype(np.uint64)
    done, result = eldu_leaf.run(many.cpu, many.secs, frames, many.slots, addresses, many.sealed, many.pcmds)
    assert (done, result.ok) == (many.COUNT, True)
    assert bytes(many.state.store.contents.view) == before


def test_a_run_forgets_a_tcs_that_was_trimmed(bench: Bench) -> None:
    many = Many(bench)
    bench.change(many.pages[2], pt=PageType.TRIM)
    bench.tracked(many.secs, *many.pages)
    assert many.ewb()[0] == many.COUNT
    assert not many.state.tcs


def test_a_run_stops_at_the_first_page_that_is_refused(bench: Bench) -> None:
    many = Many(bench)
    bench.tracked(many.secs, *many.pages[:5])
    done, result = many.ewb()
    assert done == 5
    bench_reason = result.reason
    assert result.code is SgxError.PAGE_NOT_BLOCKED
    assert bench_reason is not None
    assert many.state.children == 4


def test_a_run_tells_pages_by_their_epochs(bench: Bench) -> None:
    many = Many(bench)
    bench.tracked(many.secs, *many.pages[:4])
    for page in many.pages[4:]:
        assert eblock(bench.cpu, page).ok
    done, result = many.ewb()
    assert (done, result.code) == (4, SgxError.NOT_TRACKED)


def test_a_run_faults_at_a_page_that_is_not_valid(bench: Bench) -> None:
    many = Many(bench)
    bench.tracked(many.secs, *many.pages)
    many.frames[3] = bench.cpu.epc.frame(bench.page())
    with pytest.raises(PageFault, match="VALID"):
        many.ewb()
    assert many.state.children == many.COUNT - 3


def test_a_run_overwrites_a_slot_that_two_pages_share(bench: Bench) -> None:
    many = Many(bench)
    bench.tracked(many.secs, *many.pages)
    many.slots[1] = many.slots[0]
    done, result = many.ewb()
    assert (done, result.ok) == (many.COUNT, True)
    assert not many.state.children


def test_a_second_page_at_one_address_goes_by_itself(bench: Bench) -> None:
    many = Many(bench)
    twin = bench.eadd(many.secs, 0, REG_RW, b"\xee" * PAGE_SIZE)
    many.frames[1] = bench.cpu.epc.frame(twin)
    bench.tracked(many.secs, *many.pages, twin)
    done, result = many.ewb()
    assert (done, result.ok) == (many.COUNT, True)
    assert many.state.children == 1
    assert many.state.store.frame_map[1], "the page that was not named stays"
