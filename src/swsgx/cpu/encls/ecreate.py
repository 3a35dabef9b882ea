"""ECREATE: make a SECS out of an EPC page. Source: SDM, "ECREATE"."""

from __future__ import annotations

from swsgx.cpu.encls.secinfo import check_secinfo, read_secinfo
from swsgx.cpu.epcm import HOME_EPC
from swsgx.cpu.machine import Cpu, SecsState
from swsgx.cpu.memory import LinearMemory
from swsgx.cpu.operation import Operation, encls_leaf
from swsgx.cpu.store import EnclaveStore
from swsgx.identity.measure import Measurement
from swsgx.isa.address import PAGE_SIZE, EpcAddr, Linaddr, is_canonical
from swsgx.isa.flags import Attributes, PageType
from swsgx.isa.leaves import Encls
from swsgx.isa.ssa import Gprsgx, misc_size, xfrm_violation, xsave_size
from swsgx.isa.structs import Pageinfo, Secs
from swsgx.native.abi import EpcmState

__all__ = ["ecreate"]

OP = Operation(Encls.ECREATE)

#: Reserved areas of the source; the CET fields have their own rule, MRENCLAVE and MRSIGNER are ignored.
_RESERVED = ("reserved_33", "reserved_96", "reserved_160", "reserved_262")


@encls_leaf(OP)
def ecreate(cpu: Cpu, memory: LinearMemory, pageinfo: Linaddr, page: EpcAddr) -> None:
    """Copy a SECS into the EPC and start the enclave's measurement with its SIZE and SSAFRAMESIZE.

    ECREATE has no error code: it succeeds or faults.

    Args:
        memory: where PAGEINFO, SECINFO and the source page are.
        pageinfo: linear address of a PAGEINFO, 32-byte aligned (RBX).
        page: an EPC page that is not yet valid, 4 KiB aligned (RCX).

    Raises:
        GeneralProtection: misaligned operand, reserved bit set, or a SECS field that this processor does not take.
        PageFault: operand not readable, RCX not in the EPC, or the page already valid.
        OSError: not the machine's fault: the host cannot map so large an ELRANGE.
    """
    # Operands.
    OP.aligned("RBX", pageinfo, 32)
    OP.aligned("RCX", page, PAGE_SIZE)
    frame = OP.in_epc(cpu, "RCX", page)
    info = Pageinfo(OP.read(memory, "PAGEINFO", pageinfo, Pageinfo.size_of))
    OP.aligned("PAGEINFO.SRCPGE", info.srcpge, PAGE_SIZE)
    OP.aligned("PAGEINFO.SECINFO", info.secinfo, 64)
    if info.linaddr:
        raise OP.gp("PAGEINFO.LINADDR is 0", 0, info.linaddr)
    if info.secs:
        raise OP.gp("PAGEINFO.SECS is 0", 0, info.secs)
    check_secinfo(OP, read_secinfo(OP, memory, Linaddr(info.secinfo)), (PageType.SECS,))

    # The page.
    OP.unlocked(cpu, "RCX", frame)
    if cpu.epcm.valid(frame):
        raise OP.pf(page, "EPCM(RCX).VALID is 0", "a free page", "a valid page")

    # The data.
    secs = Secs(bytearray(OP.read(memory, "PAGEINFO.SRCPGE", Linaddr(info.srcpge), PAGE_SIZE)))
    _check_secs(cpu, secs)

    # Commit.
    secs.mrenclave = bytes(32)
    secs.mrsigner = bytes(32)
    secs.isvprodid = 0
    secs.isvsvn = 0
    eid = cpu.next_eid()
    store = EnclaveStore(secs, frame, eid, xsave_size(secs.xfrm, cpu.model.components))
    measurement = Measurement()
    measurement.ecreate(secs.ssaframesize, secs.size)
    cpu.enclaves[frame] = SecsState(frame, eid, store, measurement)
    cpu.epc.page(frame)[:] = secs.buffer
    cpu.epcm.set(frame, address=0, secs=frame, pt=PageType.SECS, perm=0, state=EpcmState.VALID, home=HOME_EPC)


def _check_secs(cpu: Cpu, secs: Secs) -> None:
    """The rules for the source SECS; all #GP(0), so their order cannot be told from outside."""
    model = cpu.model
    broken = xfrm_violation(secs.xfrm, model.xfrm_mask)
    if broken is not None:
        raise OP.gp(f"SECS.XFRM: {broken}", broken, secs.xfrm)
    if any(secs.cet_leg_bitmap_offset) or any(secs.cet_attributes):
        raise OP.gp("SECS CET fields are zero", "zero: this processor has no CET", "not zero")
    if secs.miscselect & ~model.exinfo:
        raise OP.gp("SECS.MISCSELECT is a subset of CPUID.12H.0:EBX", model.exinfo, secs.miscselect)
    frame_bytes = secs.ssaframesize * PAGE_SIZE
    needed = xsave_size(secs.xfrm, model.components) + misc_size(secs.miscselect) + Gprsgx.size_of
    if frame_bytes < needed:
        raise OP.gp(
            "an SSA frame holds the XSAVE area, MISC and GPRSGX",
            f"SSAFRAMESIZE >= {-(-needed // PAGE_SIZE)} pages for {needed} bytes",
            f"{secs.ssaframesize} pages",
        )
    _check_range(cpu, secs)
    if secs.attributes & ~model.attributes_mask:
        raise OP.gp(
            "SECS.ATTRIBUTES is a subset of CPUID.12H.1:EBX:EAX", model.attributes_mask, secs.attributes
        )
    for name in _RESERVED:
        if any(getattr(secs, name)):
            raise OP.gp(f"SECS reserved bytes are zero ({name})", "zero", "not zero")
    if not secs.attributes & Attributes.KSS:
        if any(secs.configid):
            raise OP.gp("SECS.CONFIGID is zero without KSS", "zero", secs.configid.hex())
        if secs.configsvn:
            raise OP.gp("SECS.CONFIGSVN is zero without KSS", 0, secs.configsvn)


def _check_range(cpu: Cpu, secs: Secs) -> None:
    if secs.attributes & Attributes.MODE64BIT:
        if not is_canonical(secs.baseaddr):
            raise OP.gp("SECS.BASEADDR is canonical", "a canonical address", secs.baseaddr)
        limit = cpu.model.size_log2_64
    else:
        if secs.baseaddr >> 32:
            raise OP.gp(
                "SECS.BASEADDR of a 32-bit enclave is below 4 GiB", "below 0x100000000", secs.baseaddr
            )
        limit = cpu.model.size_log2_32
    if secs.size >= 1 << limit:
        raise OP.gp("SECS.SIZE is below CPUID.12H.0:EDX's limit", f"below 2^{limit}", secs.size)
    if secs.size & (secs.size - 1):
        raise OP.gp("SECS.SIZE is a power of two", "a power of two", secs.size)
    if secs.size < 2 * PAGE_SIZE:
        raise OP.gp("SECS.SIZE is at least two pages", "at least 0x2000", secs.size)
    if secs.baseaddr & (secs.size - 1):
        raise OP.gp(
            "SECS.BASEADDR is a multiple of SECS.SIZE", f"a multiple of {secs.size:#x}", secs.baseaddr
        )
