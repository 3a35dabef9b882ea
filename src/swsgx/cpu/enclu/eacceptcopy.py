"""EACCEPTCOPY: an enclave takes a new page, with contents and permissions of its choice. Source: SDM, "EACCEPTCOPY"."""

from __future__ import annotations

from swsgx.cpu.enclu.operands import (
    Inside,
    check_page,
    in_elrange,
    is_right_place,
    read_secinfo,
    to_epc,
    unused,
)
from swsgx.cpu.faults import SUCCESS, LeafResult
from swsgx.cpu.machine import Cpu
from swsgx.cpu.operation import Operation, enclu_leaf
from swsgx.isa.address import PAGE_SIZE, Linaddr
from swsgx.isa.errors import SgxError
from swsgx.isa.flags import PERM_MASK, PageType, SecinfoFlags, page_type_of
from swsgx.isa.leaves import Enclu
from swsgx.native.abi import EpcmEntry, EpcmState

__all__ = ["eacceptcopy"]

OP = Operation(Enclu.EACCEPTCOPY)

_NEW = int(SecinfoFlags.R | SecinfoFlags.W)


@enclu_leaf(OP)
def eacceptcopy(cpu: Cpu, thread: Inside, secinfo: Linaddr, page: Linaddr, source: Linaddr) -> LeafResult:
    """Copy a page of the enclave into one that EAUG made, which gets SECINFO's permissions and is usable from then on.

    Args:
        thread: who executes it.
        secinfo: address of a SECINFO in a readable page of the enclave, 64-byte aligned (RBX).
        page: the new page, an address in ELRANGE, 4 KiB aligned (RCX).
        source: a readable page of the enclave, 4 KiB aligned (RDX).

    Returns:
        Success; PAGE_ATTRIBUTES_MISMATCH if ``page`` is not one that EAUG made and that nobody has accepted.

    Raises:
        GeneralProtection: an operand is misaligned or outside ELRANGE; a reserved bit, W without R or another type
            than REG in SECINFO; a page is in use.
        PageFault: an operand is not mapped (without the SGX bit); SECINFO's or the source's page is not fit (with it).
    """
    # Operands. Manual's slips: the SDM tests R and BLOCKED of the wrong operand; read as meant.
    OP.aligned("RBX", secinfo, 64)
    OP.aligned("RCX", page, PAGE_SIZE)
    OP.aligned("RDX", source, PAGE_SIZE)
    for operand, address in (("RBX", secinfo), ("RCX", page), ("RDX", source)):
        in_elrange(OP, cpu, thread, operand, address)
    info_frame = to_epc(OP, cpu, thread, "RBX", secinfo)
    frame = to_epc(OP, cpu, thread, "RCX", page, write=True)
    source_frame = to_epc(OP, cpu, thread, "RDX", source)
    flags = read_secinfo(OP, cpu, thread, secinfo, info_frame).flags
    perm = flags & PERM_MASK
    if perm & SecinfoFlags.W and not perm & SecinfoFlags.R:
        raise OP.gp("SECINFO.W comes with SECINFO.R", "R, or no W", flags)
    if page_type_of(flags) != PageType.REG:
        raise OP.gp("SECINFO.PAGE_TYPE is PT_REG", int(PageType.REG), page_type_of(flags))

    # The pages.
    check_page(OP, cpu, thread, "RDX", source, source_frame, int(SecinfoFlags.R))
    unused(OP, cpu, "RDX", source_frame)
    entry = cpu.epcm[frame]
    broken = _not_new(entry, thread, page)
    if broken:
        return OP.code(
            SgxError.PAGE_ATTRIBUTES_MISMATCH,
            f"EPCM(RCX){broken}",
            "a page of this enclave as EAUG makes it: PENDING, REG, R and W",
            f"state {EpcmState(entry.state)!s}, type {entry.pt}, permissions {entry.perm}",
            remedy="let the driver add the page first; EACCEPTCOPY takes no page that was accepted",
        )
    unused(OP, cpu, "RCX", frame)

    # Commit.
    cpu.page(frame)[:] = cpu.page(source_frame)
    entry.perm = perm
    entry.state &= ~int(EpcmState.PENDING) & 0xFF
    cpu.enclaves[thread.secs].store.changed()
    return SUCCESS


def _not_new(entry: EpcmEntry, thread: Inside, page: Linaddr) -> str:
    """The first thing in which a page is not one that EAUG just made here; empty if there is none."""
    state = EpcmState(entry.state)
    rules = (
        (".VALID is 1", EpcmState.VALID in state),
        (".PENDING is 1", EpcmState.PENDING in state),
        (".MODIFIED is 0", EpcmState.MODIFIED not in state),
        (".BLOCKED is 0", EpcmState.BLOCKED not in state),
        (".PT is PT_REG", entry.pt == PageType.REG),
        (".R and W are 1, X is 0", entry.perm == _NEW),
        (": the enclave's page of that address", is_right_place(entry, thread, page)),
    )
    return next((rule for rule, holds in rules if not holds), "")
