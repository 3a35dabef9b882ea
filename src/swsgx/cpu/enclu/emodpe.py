"""EMODPE: an enclave gives one of its pages more permissions. Source: SDM, "EMODPE"."""

from __future__ import annotations

from swsgx.cpu.enclu.operands import Inside, check_page, in_elrange, read_secinfo, to_epc, unused
from swsgx.cpu.machine import Cpu
from swsgx.cpu.operation import Operation, enclu_leaf
from swsgx.isa.address import PAGE_SIZE, Linaddr
from swsgx.isa.flags import PERM_MASK, SecinfoFlags
from swsgx.isa.leaves import Enclu

__all__ = ["emodpe"]

OP = Operation(Enclu.EMODPE)


@enclu_leaf(OP)
def emodpe(cpu: Cpu, thread: Inside, secinfo: Linaddr, page: Linaddr) -> None:
    """Add SECINFO's permissions to a page's, at once. Of SECINFO only R, W and X matter.

    EMODPE has no error code: it succeeds or faults.

    Args:
        thread: who executes it.
        secinfo: address of a SECINFO in a readable page of the enclave, 64-byte aligned (RBX).
        page: an address in ELRANGE, 4 KiB aligned (RCX).

    Raises:
        GeneralProtection: an operand is misaligned or outside ELRANGE, reserved bit set, the page is in use, or
            it would get W without R.
        PageFault: an operand is not mapped (without the SGX bit), or its page is no REG page in use (with it).
    """
    # Operands.
    OP.aligned("RBX", secinfo, 64)
    OP.aligned("RCX", page, PAGE_SIZE)
    in_elrange(OP, cpu, thread, "RBX", secinfo)
    in_elrange(OP, cpu, thread, "RCX", page)
    info_frame = to_epc(OP, cpu, thread, "RBX", secinfo)
    frame = to_epc(OP, cpu, thread, "RCX", page)
    flags = read_secinfo(OP, cpu, thread, secinfo, info_frame).flags

    # The page.
    entry = check_page(OP, cpu, thread, "RCX", page, frame, 0)
    unused(OP, cpu, "RCX", frame)
    perm = entry.perm | flags & PERM_MASK
    if perm & SecinfoFlags.W and not perm & SecinfoFlags.R:
        raise OP.gp("the page gets no W without R", "R, or no W", perm)

    # Commit.
    entry.perm = perm
    cpu.enclaves[thread.secs].store.changed()
