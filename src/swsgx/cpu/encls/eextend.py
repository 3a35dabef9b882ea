"""EEXTEND: measure 256 bytes of an enclave page. Source: SDM, "EEXTEND"."""

from __future__ import annotations

from swsgx.cpu.machine import Cpu
from swsgx.cpu.operation import Operation, encls_leaf
from swsgx.isa.address import PAGE_SIZE, EpcAddr
from swsgx.isa.flags import PageType
from swsgx.isa.leaves import Encls

__all__ = ["CHUNK_SIZE", "eextend", "extend_page"]

OP = Operation(Encls.EEXTEND)

#: Bytes that one EEXTEND measures.
CHUNK_SIZE = 256


@encls_leaf(OP)
def eextend(cpu: Cpu, secs: EpcAddr, chunk: EpcAddr) -> None:
    """Extend MRENCLAVE with 256 bytes as they stand in the EPC, and their offset in ELRANGE.

    EEXTEND has no error code: it succeeds or faults.

    Args:
        secs: the SECS of the enclave that owns the page, 4 KiB aligned (RBX).
        chunk: an EPC address, 256-byte aligned (RCX).

    Raises:
        GeneralProtection: misaligned operand, RBX is not the page's SECS, enclave initialised.
        PageFault: an operand is not in the EPC, or RCX is no REG or TCS page.
    """
    # Operands.
    OP.aligned("RBX", secs, PAGE_SIZE)
    secs_frame = OP.in_epc(cpu, "RBX", secs)
    OP.aligned("RCX", chunk, CHUNK_SIZE)
    frame = OP.in_epc(cpu, "RCX", chunk)

    # The page.
    OP.unlocked(cpu, "RCX", frame)
    if not cpu.epcm.valid(frame):
        raise OP.pf(chunk, "EPCM(RCX).VALID is 1", "a valid page", "a free page")
    entry = cpu.epcm[frame]
    if entry.pt not in (PageType.REG, PageType.TCS):
        raise OP.pf(
            chunk, "EPCM(RCX).PT is PT_REG or PT_TCS", "PT_REG or PT_TCS", f"PT_{PageType(entry.pt).name}"
        )
    if entry.secs != secs_frame:
        raise OP.gp("RBX is the SECS of RCX's page", cpu.epc.address(entry.secs), secs)
    if cpu.is_measuring(secs_frame):
        raise OP.gp(
            "no other leaf extends the measurement",
            "MRENCLAVE not in use",
            "MRENCLAVE in use",
            remedy="try again",
        )
    if cpu.initialised(secs_frame):
        raise OP.gp("the enclave is not initialised", "ATTRIBUTES.INIT = 0", "ATTRIBUTES.INIT = 1")

    # Commit.
    at = chunk % PAGE_SIZE
    data = cpu.page(frame)[at : at + CHUNK_SIZE]
    cpu.enclaves[secs_frame].measurement.eextend(cpu.offset_of(frame) + at, data)


def extend_page(cpu: Cpu, secs: EpcAddr, page: EpcAddr) -> None:
    """The sixteen EEXTEND of one page, in ascending order."""
    for at in range(0, PAGE_SIZE, CHUNK_SIZE):
        eextend(cpu, secs, EpcAddr(page + at))
