"""EPA: make a version array page. Source: SDM, "EPA"."""

from __future__ import annotations

from swsgx.cpu.epcm import HOME_EPC
from swsgx.cpu.machine import Cpu
from swsgx.cpu.operation import Operation, encls_leaf
from swsgx.isa.address import PAGE_SIZE, EpcAddr
from swsgx.isa.flags import PageType
from swsgx.isa.leaves import Encls
from swsgx.native.abi import EpcmState

__all__ = ["epa"]

OP = Operation(Encls.EPA)


@encls_leaf(OP)
def epa(cpu: Cpu, page_type: int, page: EpcAddr) -> None:
    """Turn a free EPC page into 512 empty version slots.

    Args:
        page_type: PT_VA, nothing else (RBX).
        page: 4 KiB aligned (RCX).

    Raises:
        GeneralProtection: another page type, misaligned, or the page is in use by another leaf.
        PageFault: not in the EPC, or not free.
    """
    if page_type != PageType.VA:
        raise OP.gp("RBX is PT_VA", int(PageType.VA), page_type)
    OP.aligned("RCX", page, PAGE_SIZE)
    frame = OP.in_epc(cpu, "RCX", page)
    OP.unlocked(cpu, "RCX", frame)
    if cpu.epcm.valid(frame):
        raise OP.pf(page, "EPCM(RCX).VALID is 0", "a free page", "a valid page")

    # Commit.
    cpu.epc.page(frame)[:] = bytes(PAGE_SIZE)
    cpu.epcm.set(frame, address=0, secs=0, pt=PageType.VA, perm=0, state=EpcmState.VALID, home=HOME_EPC)
