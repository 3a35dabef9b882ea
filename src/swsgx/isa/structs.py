"""SECS, TCS, and the operands of page leaves: PAGEINFO, SECINFO, PCMD.

CET is off in every model here, so its fields are reserved bytes under their own names.
"""

from __future__ import annotations

from swsgx.isa.layout import SDM, Layout, octets, sub, u16, u32, u64, zero

__all__ = ["Pageinfo", "Pcmd", "Secinfo", "Secs", "Tcs"]


class Secs(Layout, size=4096, align=4096, source=f"{SDM}, 'SGX Enclave Control Structure (SECS)'"):
    """The page that holds an enclave's range, attributes and identity. Never mapped into the enclave."""

    size = u64(0, "bytes; a power of two, at least two pages, below the limit of CPUID.12H.0:EDX")
    baseaddr = u64(8, "linear address; a multiple of size, canonical")
    ssaframesize = u32(16, "pages in one SSA frame")
    miscselect = u32(20, "Miscselect bits; a subset of CPUID.12H.0:EBX")
    cet_leg_bitmap_offset = zero(24, 8, "CET only")
    cet_attributes = zero(32, 1, "CET only")
    reserved_33 = zero(33, 15)
    attributes = u64(48, "Attributes bits; a subset of CPUID.12H.1:EBX:EAX, INIT clear in the source")
    xfrm = u64(56, "Xfrm bits; a subset of CPUID.12H.1:EDX:ECX that XSETBV would accept")
    mrenclave = octets(64, 32, "measurement, in digest order; ECREATE ignores the source's bytes")
    reserved_96 = zero(96, 32)
    mrsigner = octets(128, 32, "SHA-256 of the signer's modulus; written by EINIT")
    reserved_160 = zero(160, 32)
    configid = octets(192, 64, "all zero unless ATTRIBUTES.KSS")
    isvprodid = u16(256, "product number; 0 until EINIT")
    isvsvn = u16(258, "security version; 0 until EINIT")
    configsvn = u16(260, "0 unless ATTRIBUTES.KSS")
    reserved_262 = zero(262, 3834)


class Tcs(Layout, size=4096, align=4096, source=f"{SDM}, 'Thread Control Structure (TCS)'"):
    """One thread's way into an enclave. Enclave code can neither read nor write it."""

    state = u64(0, "0 inactive, 1 active; EADD stores 0")
    flags = u64(8, "TcsFlags; EADD stores DBGOPTIN as 0")
    ossa = u64(16, "bytes from BASEADDR to SSA frame 0; page aligned")
    cssa = u32(24, "current SSA frame; EADD stores 0")
    nssa = u32(28, "number of SSA frames")
    oentry = u64(32, "bytes from BASEADDR to the entry point")
    aep = u64(40, "asynchronous exit pointer of the current entry; EADD stores 0")
    ofsbase = u64(48, "bytes from BASEADDR to the FS base; page aligned")
    ogsbase = u64(56, "bytes from BASEADDR to the GS base; page aligned")
    fslimit = u32(64, "32-bit enclaves: low 12 bits all ones")
    gslimit = u32(68, "32-bit enclaves: low 12 bits all ones")
    ocetssa = zero(72, 8, "CET only")
    prevssp = zero(80, 8, "CET only")
    reserved_88 = zero(88, 4008)


class Secinfo(Layout, size=64, align=64, source=f"{SDM}, 'SGX Security Information (SECINFO)'"):
    """Permissions, state and type of one page."""

    flags = u64(0, "SecinfoFlags, page type in bits 15:8, the rest zero")
    reserved_8 = zero(8, 56)


class Pageinfo(Layout, size=32, align=32, source=f"{SDM}, 'Page Information (PAGEINFO)'"):
    """What ECREATE, EADD, EAUG, EWB and ELD* are pointed at by RBX."""

    linaddr = u64(0, "linear address of the page in its enclave, page aligned; an output of EWB")
    srcpge = u64(8, "linear address of 4096 bytes outside the EPC, page aligned")
    secinfo = u64(16, "linear address of a SECINFO (64-byte aligned) or, for EWB and ELD*, of a PCMD (128)")
    secs = u64(24, "linear address of the SECS in the EPC, page aligned; 0 where there is none")


class Pcmd(Layout, size=128, align=128, source=f"{SDM}, 'Paging Crypto MetaData (PCMD)'"):
    """What EWB writes beside an evicted page."""

    secinfo = sub(0, Secinfo, "flags of the page, PENDING, MODIFIED and PR included")
    enclaveid = u64(64, "EID of the owner; 0 for a VA page")
    reserved_72 = zero(72, 40, "written as zero, covered by the MAC")
    mac = octets(112, 16, "AES-GCM tag")
