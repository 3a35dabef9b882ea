"""Breaking the rules of EENTER and ERESUME one by one, on a loaded enclave; and what each refusal looks like."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from swsgx.cpu.enclu.refusals import reason_of
from swsgx.inprocess import EnclaveFault, Exit
from swsgx.inprocess.process import process
from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.flags import Attributes, PageType
from swsgx.isa.leaves import Enclu
from swsgx.isa.vectors import Vector
from swsgx.linux.mm import MAP_FIXED, MAP_SHARED
from swsgx.native.abi import EpcmEntry, EpcmState
from tests.make.native_enclave import Block, Loaded, Source, Thread
from tests.make.probe import the_probe

#: An address that no 4-level page table reaches.
FAR = 0x8000_0000_0000_0000
#: #PF codes of EENTER's operands: the page is absent, or the EPCM denies.
ABSENT, DENIED = 0x6, 0x8007

#: Counts its calls; faults once if RDI is 1, and goes on behind that. SSA frames of three pages: one for XSAVE, one
#: that nothing checks, one for GPRSGX.
VICTIM = Source(
    """
entry:	incq	data(%rip)
	test	%rdi, %rdi
	jz	1f
trap:	ud2
1:	eexit
""",
    threads=(Thread(nssa=2, ssa={1: None, 4: None}),),
    blocks=(Block("data"), Block("scratch")),
    ssaframesize=3,
    miscselect=1,
)


def epcm(loaded: Loaded, symbol: str, offset: int = 0) -> EpcmEntry:
    """The EPCM entry of a page of the enclave."""
    store = loaded.enclave.file.encl.store
    page = (loaded.built.symbols[symbol] + offset) // PAGE_SIZE
    return loaded.enclave.file.driver.cpu.epcm[int(store.frame_map[page]) - 1]


def changed(loaded: Loaded) -> None:
    """What whoever pokes the tables has to do."""
    loaded.enclave.file.encl.store.changed()


def take_out(loaded: Loaded, symbol: str, offset: int = 0) -> None:
    """The page is no longer in the EPC."""
    store = loaded.enclave.file.encl.store
    store.frame_map[(loaded.built.symbols[symbol] + offset) // PAGE_SIZE] = 0
    store.changed()


@contextlib.contextmanager
def mended(loaded: Loaded) -> Iterator[None]:
    """Whatever is poked in here is as before in the end: tables, contents, mappings."""
    encl = loaded.enclave.file.encl
    mm = encl.mappings[0].mm
    regions = [encl.driver.cpu.epcm.region.view, encl.store.table.view, loaded.contents]
    before = [bytes(region) for region in regions]
    tcs, vmas = list(loaded.enclave.tcs), mm.vmas
    mapped = [(vma.start, vma.end, vma.prot) for vma in vmas]
    try:
        yield
    finally:
        for region, data in zip(regions, before, strict=True):
            region[:] = data
        loaded.enclave.tcs[:] = tcs
        if mapped != [(vma.start, vma.end, vma.prot) for vma in mm.vmas]:
            for start, end, prot in mapped:
                mm.mmap(start, end - start, prot, MAP_SHARED | MAP_FIXED, loaded.enclave.file)
        changed(loaded)


def set_state(state: EpcmState, symbol: str, offset: int = 0) -> Callable[[Loaded], None]:
    def poke(loaded: Loaded) -> None:
        epcm(loaded, symbol, offset).state = state
        changed(loaded)

    return poke


def set_epcm(field: str, value: int, symbol: str, offset: int = 0) -> Callable[[Loaded], None]:
    def poke(loaded: Loaded) -> None:
        setattr(epcm(loaded, symbol, offset), field, value)
        changed(loaded)

    return poke


def set_tcs(field: str, value: int) -> Callable[[Loaded], None]:
    def poke(loaded: Loaded) -> None:
        setattr(loaded.tcs(), field, value)
        changed(loaded)

    return poke


def protect(symbol: str, prot: int, offset: int = 0) -> Callable[[Loaded], None]:
    def poke(loaded: Loaded) -> None:
        outcome = loaded.enclave.file.encl.mappings[0].mm.mprotect(
            loaded.address(symbol, offset), PAGE_SIZE, prot
        )
        assert outcome.ok, outcome.reason

    return poke


def unmap(symbol: str, offset: int = 0) -> Callable[[Loaded], None]:
    def poke(loaded: Loaded) -> None:
        loaded.enclave.file.encl.mappings[0].mm.munmap(loaded.address(symbol, offset), PAGE_SIZE)

    return poke


def move_tcs(distance: int) -> Callable[[Loaded], None]:
    def poke(loaded: Loaded) -> None:
        loaded.enclave.tcs[0] += distance

    return poke


def set_head(field: str, change: Callable[[int], int]) -> Callable[[Loaded], None]:
    def poke(loaded: Loaded) -> None:
        head = loaded.enclave.file.encl.store.head
        setattr(head, field, change(getattr(head, field)))
        changed(loaded)

    return poke


def set_frame(field: str, value: int) -> Callable[[Loaded], None]:
    """A register in the SSA frame that ERESUME would load."""

    def poke(loaded: Loaded) -> None:
        setattr(loaded.gpr(), field, value)

    return poke


def set_xsave(offset: int, data: bytes) -> Callable[[Loaded], None]:
    def poke(loaded: Loaded) -> None:
        loaded.frame()[offset : offset + len(data)] = data

    return poke


def bad_aep(loaded: Loaded) -> None:
    """Only a hand-written ENCLU has a choice of AEP; :func:`attempt` looks at this."""


@dataclass(frozen=True)
class Break:
    """One rule, and how to break it.

    Attributes:
        rule: what the refusal must say.
        poke: breaks the rule on a loaded enclave.
        vector, code: the exception.
        where: the page that a #PF names, as symbol and offset; None for a #GP.
    """

    rule: str
    poke: Callable[[Loaded], None]
    vector: Vector = Vector.GP
    code: int = 0
    where: tuple[str, int] | None = None


def _pages(what: str, symbol: str, offset: int) -> dict[str, Break]:
    """The rules of one page of an SSA frame."""
    place = (symbol, offset)
    paging = "the XSAVE area's pages can be read" if what == "xsave" else "the page of GPRSGX can be read"
    denied = "the XSAVE area's pages are REG" if what == "xsave" else "the page of GPRSGX is a REG"
    valid = EpcmState.VALID

    def absent(poke: Callable[[Loaded], None]) -> Break:
        return Break(paging, poke, Vector.PF, ABSENT, place)

    def refused(poke: Callable[[Loaded], None]) -> Break:
        return Break(denied, poke, Vector.PF, DENIED, place)

    return {
        f"{what}: not mapped": absent(unmap(*place)),
        f"{what}: mapped without W": absent(protect(symbol, 1, offset)),
        f"{what}: mapped without access": absent(protect(symbol, 0, offset)),
        f"{what}: not in the EPC": absent(lambda loaded: take_out(loaded, *place)),
        f"{what}: not valid": refused(set_state(EpcmState(0), *place)),
        f"{what}: blocked": refused(set_state(valid | EpcmState.BLOCKED, *place)),
        f"{what}: pending": refused(set_state(valid | EpcmState.PENDING, *place)),
        f"{what}: modified": refused(set_state(valid | EpcmState.MODIFIED, *place)),
        f"{what}: another address": refused(set_epcm("enclaveaddress", 0x1000, *place)),
        f"{what}: a TCS": refused(set_epcm("pt", PageType.TCS, *place)),
        f"{what}: trimmed": refused(set_epcm("pt", PageType.TRIM, *place)),
        f"{what}: another enclave's": refused(set_epcm("secs", 0x3FF, *place)),
        f"{what}: not R": refused(set_epcm("perm", 2, *place)),
        f"{what}: not W": refused(set_epcm("perm", 1, *place)),
    }


_TCS = ("tcs0", 0)

#: Checks 2 to 12, which EENTER and ERESUME share, in their order.
SHARED: dict[str, Break] = {
    "2 alignment": Break("RBX is page aligned", move_tcs(8)),
    "3 no enclave": Break("RBX is an EPC page", move_tcs(1 << 40), Vector.PF, ABSENT, ("tcs0", 1 << 40)),
    "3 hole": Break("RBX is an EPC page", move_tcs(0x1000), Vector.PF, ABSENT, ("tcs0", 0x1000)),
    "3 not mapped": Break("RBX is an EPC page", unmap(*_TCS), Vector.PF, ABSENT, _TCS),
    "3 no access": Break("RBX is an EPC page", protect("tcs0", 0), Vector.PF, ABSENT, _TCS),
    "3 evicted": Break(
        "RBX is an EPC page", lambda loaded: take_out(loaded, "tcs0"), Vector.PF, ABSENT, _TCS
    ),
    "4 AEP": Break("RCX (AEP) is canonical", bad_aep),
    "6 not valid": Break("VALID is 1", set_state(EpcmState(0), *_TCS), Vector.PF, DENIED, _TCS),
    "6 blocked": Break(
        "BLOCKED is 0",
        set_state(EpcmState.VALID | EpcmState.BLOCKED, *_TCS),
        Vector.PF,
        DENIED,
        _TCS,
    ),
    "6 address": Break(
        "ENCLAVEADDRESS is RBX", set_epcm("enclaveaddress", 0x1000, *_TCS), Vector.PF, DENIED, _TCS
    ),
    "6 type": Break("PT is PT_TCS", set_epcm("pt", PageType.REG, *_TCS), Vector.PF, DENIED, _TCS),
    "6 pending": Break(
        "neither PENDING nor MODIFIED",
        set_state(EpcmState.VALID | EpcmState.PENDING, *_TCS),
        Vector.PF,
        DENIED,
        _TCS,
    ),
    "6 modified": Break(
        "neither PENDING nor MODIFIED",
        set_state(EpcmState.VALID | EpcmState.MODIFIED, *_TCS),
        Vector.PF,
        DENIED,
        _TCS,
    ),
    "7 OSSA": Break("OSSA is page aligned", set_tcs("ossa", 0x1008)),
    "7 OFSBASE": Break("OFSBASE is page aligned", set_tcs("ofsbase", 0x1008)),
    "7 OGSBASE": Break("OGSBASE is page aligned", set_tcs("ogsbase", 0x1001)),
    "8 flags": Break("reserved bits of TCS.FLAGS", set_tcs("flags", 1 << 63)),
    "8 AEX-Notify without the feature": Break("reserved bits of TCS.FLAGS", set_tcs("flags", 2)),
    "9 initialised": Break(
        "the enclave is initialised", set_head("attributes", lambda value: value & ~Attributes.INIT)
    ),
    "10 mode": Break("MODE64BIT's", set_head("attributes", lambda value: value & ~Attributes.MODE64BIT)),
    "11 XFRM": Break("XFRM is a subset of XCR0", set_head("xfrm", lambda value: value | 0x18)),
}

#: EENTER's own, 13 to 18.
EENTER: dict[str, Break] = {
    "13 no frame": Break("an SSA frame is free", set_tcs("nssa", 0)),
    "13 all frames used": Break("an SSA frame is free", set_tcs("cssa", 2)),
    "14 outside ELRANGE": Break(
        "inside ELRANGE", set_tcs("ossa", 1 << 40), Vector.PF, ABSENT, ("entry", 1 << 40)
    ),
    **{f"14 {name}": rule for name, rule in _pages("xsave", "ssa0", 0).items()},
    **{f"15 {name}": rule for name, rule in _pages("gpr", "ssa0", 0x2000).items()},
    "16 entry": Break("OENTRY is canonical", set_tcs("oentry", FAR)),
    "17 FS": Break("the FS base is canonical", set_tcs("ofsbase", FAR)),
    "17 GS": Break("the GS base is canonical", set_tcs("ogsbase", FAR)),
    "18 busy": Break("no other logical processor", set_tcs("state", 1)),
}

#: ERESUME's own, from CSSA on. The frame is number 0 after one exit.
ERESUME: dict[str, Break] = {
    "CSSA": Break("there is an exit to resume from", set_tcs("cssa", 0)),
    "outside ELRANGE": Break(
        "inside ELRANGE", set_tcs("ossa", 1 << 40), Vector.PF, ABSENT, ("entry", 1 << 40)
    ),
    **_pages("xsave", "ssa0", 0),
    **_pages("gpr", "ssa0", 0x2000),
    "RIP": Break("GPRSGX.RIP is canonical", set_frame("rip", FAR)),
    "FS": Break("the FS base is canonical", set_frame("fsbase", FAR)),
    "GS": Break("the GS base is canonical", set_frame("gsbase", FAR)),
    "busy": Break("no other logical processor", set_tcs("state", 1)),
    "XSTATE_BV": Break("XSAVE area can be loaded", set_xsave(512, b"\x07")),
    "compacted": Break("XSAVE area can be loaded", set_xsave(527, b"\x80")),
    "header byte 8": Break("XSAVE area can be loaded", set_xsave(520, b"\x01")),
    "header byte 23": Break("XSAVE area can be loaded", set_xsave(535, b"\x01")),
    "MXCSR": Break("XSAVE area can be loaded", set_xsave(26, b"\x01")),
}


def attempt(loaded: Loaded, leaf: Enclu, *breaks: Break) -> EnclaveFault:
    """Break the rules and enter; the refusal."""
    aep_is_bad = False
    for rule in breaks:
        rule.poke(loaded)
        aep_is_bad |= rule.poke is bad_aep
    if aep_is_bad:
        return raw_refusal(loaded, leaf, aep=FAR)
    done: Exit = loaded.enclave.enter() if leaf == Enclu.EENTER else loaded.enclave.resume()
    assert done.exception is not None, "nothing was refused"
    assert not done.exception.inside
    return done.exception


def raw_refusal(loaded: Loaded, leaf: int, *, aep: int = 0) -> EnclaveFault:
    """What an ENCLU of the program's own raised, as its signal handler was told."""
    probe = the_probe()
    probe.prepare()
    with probe.catching(signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, skip_to="probe_exit"):
        process().attach()
        probe.into.rax, probe.into.rbx = leaf, loaded.enclave.tcs[0]
        probe.into.rcx = aep or probe.address("probe_aep")
        probe.go()
        caught = probe.caught
    assert caught.count == 1
    assert caught.registers["rip"] == probe.address("probe_enclu")
    pf = caught.registers["trap"] == Vector.PF
    assert (caught.signal == signal.SIGILL) == (caught.registers["trap"] == Vector.UD)
    return EnclaveFault(
        caught.registers["trap"],
        caught.registers["error"],
        caught.registers["cr2"] if pf else 0,
        inside=False,
        offset=None,
        reason=reason_of(process().attach()),
    )


def assert_refused(loaded: Loaded, fault: EnclaveFault, rule: Break) -> None:
    """Vector, code, address and reason are the rule's."""
    address = loaded.address(*rule.where) if rule.where else 0
    assert rule.rule in fault.reason.rule
    assert (fault.vector, fault.error_code, fault.address) == (rule.vector, rule.code, address)
