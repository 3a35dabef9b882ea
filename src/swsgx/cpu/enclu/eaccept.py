"""EACCEPT: an enclave agrees to what was done to one of its pages. Source: SDM, "EACCEPT"."""

from __future__ import annotations

from swsgx.cpu.encls.tcs import check_limits, check_reserved
from swsgx.cpu.enclu.operands import Inside, in_elrange, read_secinfo, to_epc, unused
from swsgx.cpu.faults import SUCCESS, LeafResult
from swsgx.cpu.machine import Cpu
from swsgx.cpu.operation import Operation, enclu_leaf
from swsgx.cpu.tracking import is_tracked
from swsgx.isa.address import PAGE_SIZE, Linaddr
from swsgx.isa.errors import SgxError
from swsgx.isa.flags import PERM_MASK, PageType, SecinfoFlags, TcsFlags, page_type_of
from swsgx.isa.leaves import Enclu
from swsgx.isa.structs import Tcs
from swsgx.native.abi import EpcmEntry, EpcmState

__all__ = ["eaccept"]

OP = Operation(Enclu.EACCEPT)

# Plain numbers: an enclave that grows executes this leaf once for each page.
_PENDING, _MODIFIED, _PR = int(SecinfoFlags.PENDING), int(SecinfoFlags.MODIFIED), int(SecinfoFlags.PR)
_CHANGED = int(EpcmState.MODIFIED | EpcmState.PR)
_SETTLED = 0xFF & ~int(EpcmState.PENDING | EpcmState.MODIFIED | EpcmState.PR)
_ENTRY_PENDING, _ENTRY_MODIFIED = int(EpcmState.PENDING), int(EpcmState.MODIFIED)


@enclu_leaf(OP)
def eaccept(cpu: Cpu, thread: Inside, secinfo: Linaddr, page: Linaddr) -> LeafResult:
    """Make a page usable that EAUG, EMODPR or EMODT left waiting, if it is as SECINFO says.

    Args:
        thread: who executes it.
        secinfo: address of a SECINFO in a readable page of the enclave, 64-byte aligned (RBX).
        page: an address in ELRANGE, 4 KiB aligned (RCX).

    Returns:
        Success; PAGE_ATTRIBUTES_MISMATCH if the page is not as SECINFO says (PR is not compared); NOT_TRACKED while a
        thread may be inside that saw the page as it was.

    Raises:
        GeneralProtection: an operand is misaligned or outside ELRANGE; SECINFO asks for what cannot be; the page is
            in use; a new TCS that no thread could enter by.
        PageFault: an operand is not mapped (without the SGX bit), or its page is not fit (with it).
    """
    # SECINFO.
    OP.aligned("RBX", secinfo, 64)
    in_elrange(OP, cpu, thread, "RBX", secinfo)
    info_frame = to_epc(OP, cpu, thread, "RBX", secinfo)
    flags = read_secinfo(OP, cpu, thread, secinfo, info_frame).flags

    # The page's address, and what is asked.
    OP.aligned("RCX", page, PAGE_SIZE)
    in_elrange(OP, cpu, thread, "RCX", page)
    frame = to_epc(OP, cpu, thread, "RCX", page)
    _check_request(flags)

    # The page.
    entry = cpu.epcm[frame]
    _check_page(cpu, thread, page, entry)
    unused(OP, cpu, "RCX", frame)
    mismatch = _compare(entry, page, flags)
    if mismatch is not None:
        return mismatch
    state = cpu.enclaves[thread.secs]
    if entry.state & _CHANGED and not is_tracked(cpu.tracker, state, entry.epoch):
        return OP.code(
            SgxError.NOT_TRACKED,
            "all threads that could have seen the page as it was have left since",
            f"a later epoch than {entry.epoch}, and none inside from before",
            f"epoch {state.epoch}, {cpu.tracker.stragglers(state)} inside from before",
            remedy="the driver must run ETRACK and interrupt the enclave's threads",
        )
    if entry.pt == PageType.TCS:
        _check_tcs(cpu, thread, frame)

    # Commit.
    entry.state &= _SETTLED
    if entry.pt == PageType.TCS:
        state.tcs.add(frame)
    state.store.changed()
    return SUCCESS


def _check_request(flags: int) -> None:
    """What EACCEPT can be asked for at all."""
    page_type = page_type_of(flags)
    if page_type == PageType.REG:
        legal = not flags & _MODIFIED and bool(flags & (_PENDING | _PR))
    elif page_type in (PageType.TCS, PageType.TRIM):
        legal = bool(flags & _MODIFIED) and not flags & (_PENDING | _PR)
    else:
        legal = False
    if not legal:
        raise OP.gp(
            "SECINFO asks for what EACCEPT can accept",
            "REG with PENDING or PR, or TCS or TRIM with MODIFIED alone",
            flags,
        )


def _check_page(cpu: Cpu, thread: Inside, page: Linaddr, entry: EpcmEntry) -> None:
    """What is a page fault: a page that is none to be accepted."""
    if not entry.state & EpcmState.VALID:
        raise OP.pf(page, "EPCM(RCX).VALID is 1", "a valid page", "a free page")
    if entry.state & EpcmState.BLOCKED:
        raise OP.pf(page, "EPCM(RCX).BLOCKED is 0", "a page that is not blocked", "BLOCKED")
    if entry.pt not in (PageType.REG, PageType.TCS, PageType.TRIM):
        found = f"PT_{PageType(entry.pt).name}"
        raise OP.pf(page, "EPCM(RCX).PT is PT_REG, PT_TCS or PT_TRIM", "PT_REG, PT_TCS or PT_TRIM", found)
    if entry.secs != thread.secs:
        expected = cpu.epc.address(thread.secs)
        raise OP.pf(page, "EPCM(RCX).ENCLAVESECS is the enclave's", expected, cpu.epc.address(entry.secs))


def _compare(entry: EpcmEntry, page: Linaddr, flags: int) -> LeafResult | None:
    """PAGE_ATTRIBUTES_MISMATCH for the first thing in which the EPCM and the request differ."""
    pairs = (
        ("ENCLAVEADDRESS", int(page), entry.enclaveaddress),
        ("PENDING", bool(flags & _PENDING), bool(entry.state & _ENTRY_PENDING)),
        ("MODIFIED", bool(flags & _MODIFIED), bool(entry.state & _ENTRY_MODIFIED)),
        ("R, W and X", flags & PERM_MASK, entry.perm),
        ("PT", page_type_of(flags), entry.pt),
    )
    for name, wanted, found in pairs:
        if wanted != found:
            return OP.code(
                SgxError.PAGE_ATTRIBUTES_MISMATCH,
                f"EPCM(RCX).{name} is as asked",
                int(wanted),
                int(found),
                remedy="ask for what the page is, or do not accept it",
            )
    return None


def _check_tcs(cpu: Cpu, thread: Inside, frame: int) -> None:
    """What was a REG page becomes a TCS that must be as EADD would have made it."""
    tcs = Tcs(bytearray(cpu.page(frame)))
    check_reserved(OP, tcs)
    if tcs.flags & TcsFlags.DBGOPTIN:
        raise OP.gp("TCS.FLAGS.DBGOPTIN is 0", 0, tcs.flags)
    if tcs.cssa >= tcs.nssa:
        raise OP.gp("TCS.CSSA is below TCS.NSSA", f"below {tcs.nssa}", tcs.cssa)
    if tcs.aep:
        raise OP.gp("TCS.AEP is 0", 0, tcs.aep)
    if tcs.state:
        raise OP.gp("TCS.STATE is inactive", 0, tcs.state)
    check_limits(OP, tcs, cpu.secs(thread.secs).attributes)
