"""ENCLU leaves that the model carries out, for a thread of our own process that has left the enclave for it.

At such an ENCLU the monitor makes an AEX, as if an interrupt had come just before it, and ends the call. Here the leaf
is carried out with the registers in the SSA frame, and what it gives is put there; ERESUME goes on behind it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from swsgx.cpu.faults import Fault, InternalError, LeafResult
from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.flags import Miscselect
from swsgx.isa.leaves import Enclu
from swsgx.isa.ssa import Exinfo, Exitinfo, ExitType, Gprsgx, exinfo_offset, gprsgx_offset
from swsgx.isa.structs import Tcs
from swsgx.isa.vectors import Vector
from swsgx.linux.encl import Encl
from swsgx.linux.inside import execute
from swsgx.linux.mm import AddressSpace
from swsgx.native.abi import LogicalProcessor

__all__ = ["carry_out"]

#: CF PF AF ZF SF OF, and which of them results set.
_STATUS, _CF, _ZF = 0x8D5, 0x1, 0x40
_LOAD_TRIES = 500


def carry_out(mm: AddressSpace, encl: Encl, lp: LogicalProcessor, tcs: int) -> Fault | None:
    """Carry out the leaf that ``lp`` says the thread has left for.

    Args:
        mm: of this process.
        encl: the enclave.
        lp: the thread's.
        tcs: linear address of the TCS that it was inside with.

    Returns:
        The exception that the leaf raises: the frame is then that of an AEX for it. None: it has ended.
    """
    leaf, lp.leaf = Enclu(lp.leaf), 0
    with _frame(encl, tcs) as (gpr, _):
        rbx, rcx, rdx = gpr.rbx, gpr.rcx, gpr.rdx
    operands = (rbx, rcx, rdx) if leaf is Enclu.EACCEPTCOPY else (rbx, rcx)
    encl.ensure_resident([page & -PAGE_SIZE for page in operands if encl.has_page(page)])
    done = execute(mm, encl, leaf, rbx, rcx, rdx)
    while done.resolution is not None and done.resolution.resolved:  # as a thread does that resumes
        done = execute(mm, encl, leaf, rbx, rcx, rdx)
    with _frame(encl, tcs) as (gpr, exinfo):
        if done.fault is None:
            _go_on(gpr, lp.leaf_length, done.result)
        else:
            _fault(gpr, exinfo, done.fault)
    return done.fault


def _go_on(gpr: Gprsgx, length: int, result: LeafResult | None) -> None:
    gpr.rip += length
    if result is not None:
        gpr.rax = result.rax
        gpr.rflags = gpr.rflags & ~_STATUS | (_ZF if result.zf else 0) | (_CF if result.cf else 0)


def _fault(gpr: Gprsgx, exinfo: Exinfo | None, fault: Fault) -> None:
    """What an AEX tells of a #GP or #PF: nothing, unless MISCSELECT asks for it."""
    if exinfo is None:
        return
    gpr.exitinfo = int(Exitinfo(fault.vector, ExitType.HARDWARE, valid=True))
    exinfo.maddr = fault.address or 0 if fault.vector == Vector.PF else 0
    exinfo.errcd = fault.error_code


@contextmanager
def _frame(encl: Encl, tcs: int) -> Iterator[tuple[Gprsgx, Exinfo | None]]:
    """The last SSA frame of a TCS, which stays in the EPC meanwhile: its GPRSGX, and its EXINFO if it has one."""
    for _ in range(_LOAD_TRIES):
        encl.ensure_resident((tcs,))
        with encl.mutex:
            head, page = encl.store.head, Tcs(encl.store.page(tcs - encl.base))
            start = page.ossa + (page.cssa - 1) * head.ssaframesize * PAGE_SIZE
            at = start + gprsgx_offset(head.ssaframesize)
            if not _resident(encl, tcs - encl.base) or not _resident(encl, at):
                wanted = encl.base + at
            else:
                inside = encl.store.contents.view
                exinfo = None
                if head.miscselect & Miscselect.EXINFO:
                    where = start + exinfo_offset(head.ssaframesize)
                    exinfo = Exinfo(inside[where : where + Exinfo.size_of])
                yield Gprsgx(inside[at : at + Gprsgx.size_of]), exinfo
                return
        encl.ensure_resident((wanted & -PAGE_SIZE,))
    raise InternalError("ENCLU: the SSA frame of a thread that has left is in the EPC, or can be")


def _resident(encl: Encl, offset: int) -> bool:
    return bool(encl.store.frame_map[offset // PAGE_SIZE])
