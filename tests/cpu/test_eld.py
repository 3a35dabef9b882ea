"""ELDB and ELDU, row by row; all of it for both."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from swsgx.cpu.encls import eldb, eldu
from swsgx.cpu.encls import ewb as ewb_leaf
from swsgx.cpu.encls.eremove import eremove
from swsgx.cpu.faults import GeneralProtection, InternalError, LeafResult, PageFault
from swsgx.cpu.pager import rows
from swsgx.isa.address import PAGE_SIZE, EpcAddr, Linaddr
from swsgx.isa.errors import SgxError
from swsgx.isa.flags import PageType
from swsgx.isa.structs import Pcmd
from swsgx.native.abi import EpcmState
from tests.make.leaves import Bench, Evicted
from tests.make.world import BASE, REG_RW, TCS

CONTENTS = bytes(range(256)) * 16


@pytest.fixture(params=[eldb, eldu], ids=["eldb", "eldu"])
def leaf(request: pytest.FixtureRequest) -> ModuleType:
    """Each of the two."""
    found: ModuleType = request.param
    return found


class Given:
    """An evicted REG page and the operands to load it; each test spoils one."""

    def __init__(self, bench: Bench, leaf: ModuleType) -> None:
        self.bench = bench
        self.leaf = leaf
        self.secs, page, self.tcs = bench.enclave(initialised=True)
        self.slot = EpcAddr(bench.va_page() + 8)
        bench.tracked(self.secs, page)
        self.take(bench.evict(page, self.slot))
        self.page = bench.page()

    def take(self, evicted: Evicted, **changes: object) -> None:
        self.evicted = evicted
        self.info: dict[str, object] = {
            "linaddr": evicted.linaddr,
            "srcpge": evicted.page,
            "secinfo": evicted.pcmd,
            "secs": self.secs,
        } | changes

    def run(
        self, *, pageinfo: Linaddr | None = None, page: EpcAddr | None = None, slot: EpcAddr | None = None
    ) -> LeafResult:
        single = getattr(self.leaf, self.leaf.__name__.rpartition(".")[2])
        result = single(
            self.bench.cpu,
            self.bench.memory,
            pageinfo if pageinfo is not None else self.bench.pageinfo(**self.info),
            page if page is not None else self.page,
            slot if slot is not None else self.slot,
        )
        assert isinstance(result, LeafResult)
        return result

    def flip(self, address: Linaddr, bit: int = 0) -> None:
        """Change one bit of what EWB wrote."""
        old = self.bench.memory.read(address, 1)[0]
        self.bench.memory.write(address, bytes([old ^ 1 << bit]))

    def mismatches(self) -> None:
        """The load is refused for its MAC, and nothing has changed."""
        before = self.bench.snapshot()
        self.bench.returns(self.run(), SgxError.MAC_COMPARE_FAIL, "what EWB wrote with this version")
        assert self.bench.snapshot() == before


@pytest.fixture
def given(bench: Bench, leaf: ModuleType) -> Given:
    return Given(bench, leaf)


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


def test_rcx_and_rdx_are_different_pages(bench: Bench, given: Given) -> None:
    with bench.refuses(GeneralProtection, "RCX and RDX are in different EPC pages"):
        given.run(page=EpcAddr(given.slot - 8))


def test_pageinfo_is_readable(bench: Bench, given: Given) -> None:
    with bench.refuses(PageFault, "PAGEINFO is readable"):
        given.run(pageinfo=bench.unmapped)


def test_pcmd_is_128_byte_aligned(bench: Bench, given: Given) -> None:
    given.info["secinfo"] = given.evicted.pcmd + 64
    with bench.refuses(GeneralProtection, "PAGEINFO.PCMD is a multiple of 128"):
        given.run()


def test_srcpge_is_page_aligned(bench: Bench, given: Given) -> None:
    given.info["srcpge"] = given.evicted.page + 64
    with bench.refuses(GeneralProtection, "PAGEINFO.SRCPGE is a multiple of 4096"):
        given.run()


def test_a_page_in_use_is_a_gp(bench: Bench, given: Given) -> None:
    with bench.cpu.lock(given.page), bench.refuses(GeneralProtection, "RCX is not in use"):
        given.run()


def test_a_slot_in_use_is_a_gp(bench: Bench, given: Given) -> None:
    with bench.cpu.lock(EpcAddr(given.slot - 8)), bench.refuses(GeneralProtection, "RDX is not in use"):
        given.run()


def test_rcx_is_free(bench: Bench, given: Given) -> None:
    with bench.refuses(PageFault, "EPCM(RCX).VALID is 0", given.tcs):
        given.run(page=given.tcs)


def test_rdx_is_in_a_va_page(bench: Bench, given: Given) -> None:
    for slot in (bench.page(), given.tcs):
        with bench.refuses(PageFault, "EPCM(RDX) is a valid VA page", slot):
            given.run(slot=slot)


def test_pcmd_is_readable(bench: Bench, given: Given) -> None:
    given.info["secinfo"] = bench.unmapped
    with bench.refuses(PageFault, "PAGEINFO.PCMD is readable"):
        given.run()


@pytest.mark.parametrize("page_type", [5, 6, 7, 255])
def test_the_page_type_is_one_that_ewb_writes(bench: Bench, given: Given, page_type: int) -> None:
    given.info["secinfo"] = bench.place(page_type.to_bytes(2, "big") + bytes(126), 128)
    bench.memory.write(Linaddr(int(str(given.info["secinfo"]))), (page_type << 8).to_bytes(8, "little"))
    with bench.refuses(GeneralProtection, "PAGE_TYPE is one that EWB writes"):
        given.run()


def test_the_owner_is_page_aligned(bench: Bench, given: Given) -> None:
    given.info["secs"] = given.secs + 64
    with bench.refuses(GeneralProtection, "PAGEINFO.SECS is a multiple of 4096"):
        given.run()


def test_the_owner_is_in_the_epc(bench: Bench, given: Given) -> None:
    given.info["secs"] = bench.outside
    with bench.refuses(PageFault, "PAGEINFO.SECS is in the EPC", bench.outside):
        given.run()


def test_the_owner_is_not_in_use(bench: Bench, given: Given) -> None:
    with bench.cpu.lock(given.secs), bench.refuses(GeneralProtection, "PAGEINFO.SECS is not in use"):
        given.run()


def test_the_owner_is_a_secs(bench: Bench, given: Given) -> None:
    for other in (given.tcs, bench.page()):
        given.info["secs"] = other
        with bench.refuses(PageFault, "PAGEINFO.SECS is a valid SECS page", other):
            given.run()


@pytest.mark.parametrize("page_type", [PageType.SECS, PageType.VA])
def test_a_page_without_an_owner_gets_none(bench: Bench, given: Given, page_type: PageType) -> None:
    given.info["secinfo"] = bench.place((page_type << 8).to_bytes(8, "little") + bytes(120), 128)
    with bench.refuses(GeneralProtection, "PAGEINFO.SECS of a SECS or VA page is 0"):
        given.run()


def test_srcpge_is_readable(bench: Bench, given: Given) -> None:
    given.info["srcpge"] = bench.unmapped
    with bench.refuses(PageFault, "PAGEINFO.SRCPGE is readable"):
        given.run()


# The MAC.


@pytest.mark.parametrize("at", [0, 2048, 4095])
def test_a_bit_of_the_page(given: Given, at: int) -> None:
    given.flip(Linaddr(given.evicted.page + at), 3)
    given.mismatches()


@pytest.mark.parametrize("at", [0, 7, 8, 63, 72, 111, 112, 127])
def test_a_bit_of_the_pcmd(given: Given, at: int) -> None:
    given.flip(Linaddr(given.evicted.pcmd + at), 0 if at != 7 else 7)
    given.mismatches()


def test_pcmd_s_enclaveid_is_not_authenticated(given: Given) -> None:
    given.flip(Linaddr(given.evicted.pcmd + 64))
    assert given.run().ok


def test_another_address(given: Given) -> None:
    given.info["linaddr"] = BASE + 2 * PAGE_SIZE
    given.mismatches()


def test_another_version(bench: Bench, given: Given) -> None:
    bench.cpu.page(bench.cpu.epc.frame(given.slot))[8] ^= 1
    given.mismatches()


def test_an_empty_slot(given: Given) -> None:
    given.slot = EpcAddr(given.slot + 8)
    given.mismatches()


def test_another_owner(bench: Bench, given: Given) -> None:
    given.info["secs"] = bench.ecreate()
    given.mismatches()


def test_an_old_version(bench: Bench, given: Given) -> None:
    old = given.evicted
    assert given.run().ok
    if given.leaf is eldb:
        assert bench.cpu.epcm[bench.cpu.epc.frame(given.page)].state & EpcmState.BLOCKED
        bench.cpu.epcm[bench.cpu.epc.frame(given.page)].state = int(EpcmState.VALID)
    bench.tracked(given.secs, given.page)
    bench.evict(given.page, given.slot)
    given.take(old)
    given.mismatches()


def test_a_page_is_loaded_once(bench: Bench, given: Given) -> None:
    assert given.run().ok
    given.page = bench.page()
    given.mismatches()


# What it does.


def test_the_page_comes_back_as_it_was(bench: Bench, given: Given) -> None:
    state = bench.cpu.enclaves[bench.cpu.epc.frame(given.secs)]
    assert given.run().ok
    frame = bench.cpu.epc.frame(given.page)
    entry = bench.cpu.epcm[frame]
    assert bytes(state.store.page(0)) == CONTENTS
    assert state.store.frame_map[0] == frame + 1
    assert state.children == 2
    assert (entry.enclaveaddress, entry.secs) == (BASE, bench.cpu.epc.frame(given.secs))
    assert (entry.pt, entry.perm) == (PageType.REG, 3)
    blocked = EpcmState.BLOCKED if given.leaf is eldb else EpcmState(0)
    assert entry.state == EpcmState.VALID | blocked
    slot = given.slot % PAGE_SIZE
    assert not any(bench.cpu.page(bench.cpu.epc.frame(given.slot))[slot : slot + 8])


@pytest.mark.parametrize("state", [EpcmState.PENDING, EpcmState.MODIFIED, EpcmState.PR])
def test_state_bits_come_back(bench: Bench, leaf: ModuleType, state: EpcmState) -> None:
    given = Given(bench, leaf)
    page = bench.eadd(bench.ecreate(), 0, REG_RW)
    owner = bench.cpu.epc.address(bench.cpu.epcm[bench.cpu.epc.frame(page)].secs)
    bench.change(page, state=state)
    bench.tracked(owner, page)
    slot = EpcAddr(given.slot + 8)
    given.take(bench.evict(page, slot), secs=owner)
    assert given.run(slot=slot).ok
    found = bench.cpu.epcm[bench.cpu.epc.frame(given.page)].state
    assert found & ~EpcmState.BLOCKED == EpcmState.VALID | state


def test_a_tcs_comes_back_as_a_thread(bench: Bench, given: Given) -> None:
    bench.tracked(given.secs, given.tcs)
    slot = EpcAddr(given.slot + 8)
    given.take(bench.evict(given.tcs, slot))
    assert given.run(slot=slot).ok
    frame = bench.cpu.epc.frame(given.page)
    assert bench.cpu.enclaves[bench.cpu.epc.frame(given.secs)].tcs == {frame}
    assert bench.cpu.epcm[frame].pt == PageType.TCS
    assert bench.cpu.epcm[frame].perm == TCS & 7


def test_what_was_not_accepted_as_a_tcs_is_no_thread_yet(bench: Bench, given: Given) -> None:
    bench.change(given.tcs, state=EpcmState.VALID | EpcmState.MODIFIED)
    bench.tracked(given.secs, given.tcs)
    slot = EpcAddr(given.slot + 8)
    given.take(bench.evict(given.tcs, slot))
    assert given.run(slot=slot).ok
    assert not bench.cpu.enclaves[bench.cpu.epc.frame(given.secs)].tcs


def test_a_va_page_comes_back_with_its_versions(bench: Bench, given: Given) -> None:
    outer = bench.va_page()
    inner = EpcAddr(given.slot - 8)
    versions = bytes(bench.cpu.page(bench.cpu.epc.frame(inner)))
    reg = given.evicted
    given.take(bench.evict(inner, outer), secs=0)
    assert given.run(slot=outer).ok
    frame = bench.cpu.epc.frame(given.page)
    assert bytes(bench.cpu.page(frame)) == versions
    assert bench.cpu.epcm[frame].state == EpcmState.VALID, "a VA page is never blocked"
    given.take(reg)
    assert given.run(page=bench.page(), slot=EpcAddr(given.page + 8)).ok


def test_a_secs_comes_back_at_another_place(bench: Bench, given: Given) -> None:
    secs = bench.ecreate()
    frame = bench.cpu.epc.frame(secs)
    state, contents = bench.cpu.enclaves[frame], bytes(bench.cpu.epc.page(frame))
    slot = EpcAddr(given.slot + 8)
    given.take(bench.evict(secs, slot), secs=0)
    assert given.run(slot=slot).ok
    there = bench.cpu.epc.frame(given.page)
    assert there != frame
    assert bench.cpu.enclaves[there] is state
    assert (state.frame, state.store.head.secs_frame) == (there, there)
    assert bytes(bench.cpu.epc.page(there)) == contents
    assert (bench.cpu.epcm[there].state, bench.cpu.epcm[there].secs) == (EpcmState.VALID, there)
    assert not bench.cpu.written_out
    page = bench.eadd(given.page, 0, REG_RW)
    assert eremove(bench.cpu, page).ok


def test_a_second_page_at_one_address_lies_elsewhere(bench: Bench, given: Given) -> None:
    state = bench.cpu.enclaves[bench.cpu.epc.frame(given.secs)]
    state.store.frame_map[0] = 1  # as if another page had come there
    assert given.run().ok
    frame = bench.cpu.epc.frame(given.page)
    assert bytes(bench.cpu.epc.page(frame)) == CONTENTS
    assert state.store.frame_map[0] == 1


# Many.


class Many:
    """Evicted pages of one enclave."""

    COUNT = 6

    def __init__(self, bench: Bench, leaf: ModuleType) -> None:
        self.cpu, self.leaf = bench.cpu, leaf
        self.secs = bench.ecreate()
        pages = [
            bench.eadd(self.secs, n * PAGE_SIZE, REG_RW, bytes([n + 1]) * PAGE_SIZE)
            for n in range(self.COUNT)
        ]
        frames = np.array([bench.cpu.epc.frame(page) for page in pages], np.uint32)
        self.state = bench.cpu.enclaves[bench.cpu.epc.frame(self.secs)]
        self.contents = bytes(self.state.store.contents.view)
        self.slots = (bench.va_page() + 8 * np.arange(self.COUNT)).astype(np.uint64)
        self.sealed, self.pcmds = rows(self.COUNT), np.zeros((self.COUNT, 128), np.uint8)
        bench.tracked(self.secs, *pages)
        done, _ = ewb_leaf.run(bench.cpu, self.secs, frames, self.slots, self.sealed, self.pcmds)
        assert done == self.COUNT
        self.addresses = (BASE + PAGE_SIZE * np.arange(self.COUNT)).astype(np.uint64)
        self.frames = bench.cpu.epc.allocate_run(self.COUNT)

    def run(self) -> tuple[int, LeafResult]:
        done, result = self.leaf.run(
            self.cpu, self.secs, self.frames, self.slots, self.addresses, self.sealed, self.pcmds
        )
        assert isinstance(result, LeafResult)
        return int(done), result


@pytest.fixture
def many(bench: Bench, leaf: ModuleType) -> Many:
    return Many(bench, leaf)


def test_a_run_brings_all_back(many: Many) -> None:
    done, result = many.run()
    assert (done, result.ok) == (many.COUNT, True)
    assert bytes(many.state.store.contents.view) == many.contents
    assert many.state.store.frame_map[: many.COUNT].tolist() == (many.frames + 1).tolist()
    blocked = EpcmState.BLOCKED if many.leaf is eldb else EpcmState(0)
    assert {int(many.cpu.epcm[frame].state) for frame in many.frames.tolist()} == {
        int(EpcmState.VALID | blocked)
    }


@pytest.mark.parametrize("spoilt", [0, 3, 5])
def test_a_run_stops_at_a_wrong_mac(many: Many, spoilt: int) -> None:
    many.sealed[spoilt, 17] ^= 4
    done, result = many.run()
    assert (done, result.code) == (spoilt, SgxError.MAC_COMPARE_FAIL)
    assert many.state.children == spoilt
    assert not many.state.store.frame_map[spoilt:].any()
    assert not any(many.state.store.contents.view[spoilt * PAGE_SIZE :])


def test_a_run_stops_at_a_reserved_byte_of_pcmd(many: Many) -> None:
    many.pcmds[2, 80] = 1
    done, result = many.run()
    assert (done, result.code) == (2, SgxError.MAC_COMPARE_FAIL)


def test_a_run_faults_where_a_page_type_is_none(many: Many) -> None:
    many.pcmds[2, 1] = 9
    with pytest.raises(GeneralProtection, match="PAGE_TYPE"):
        many.run()
    assert many.state.children == 2


def test_a_run_faults_at_a_frame_that_is_taken(many: Many) -> None:
    many.frames[2] = many.frames[0]
    with pytest.raises(PageFault, match="VALID is 0"):
        many.run()
    assert many.state.children == 2


def test_a_secs_that_was_never_written_out_is_our_bug(bench: Bench, given: Given) -> None:
    slot = EpcAddr(given.slot + 8)
    secs = bench.ecreate()
    given.take(bench.evict(secs, slot), secs=0)
    bench.cpu.forget_written_out(Pcmd(bench.memory.read(given.evicted.pcmd, 128)).enclaveid)
    with pytest.raises(InternalError, match="was written out"):
        given.run(slot=slot)
