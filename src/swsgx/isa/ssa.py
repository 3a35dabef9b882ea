"""The state save area: what an asynchronous exit writes, and how large it is.

A frame of ``L = 4096 * SSAFRAMESIZE`` bytes starts with the XSAVE area (standard format) and ends with the
:class:`Gprsgx` at ``L - 184``; an :class:`Exinfo`, if MISCSELECT asks for it, stands right before that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.flags import Miscselect, Xfrm
from swsgx.isa.layout import SDM, Layout, u8, u32, u64, zero

__all__ = [
    "EXITINFO_TYPE_SHIFT",
    "EXITINFO_VALID",
    "INTEL_COMPONENTS",
    "XSAVE_LEGACY_SIZE",
    "Exinfo",
    "ExitType",
    "Exitinfo",
    "Gprsgx",
    "XsaveComponent",
    "exinfo_offset",
    "gprsgx_offset",
    "misc_size",
    "ssa_frame_pages",
    "xfrm_violation",
    "xsave_size",
]

#: Bytes of the XSAVE legacy region (512) and header (64), there whatever XFRM says.
XSAVE_LEGACY_SIZE = 576
#: EXITINFO.VALID.
EXITINFO_VALID = 1 << 31
#: EXITINFO.EXIT_TYPE stands in bits 10:8.
EXITINFO_TYPE_SHIFT = 8


class Gprsgx(Layout, size=184, align=8, source=f"{SDM}, 'GPRSGX Region'"):
    """General registers of an interrupted enclave, at the end of its SSA frame.

    The table in the manual's overview prints 176 bytes; its own field list and every header give 184.
    """

    rax = u64(0)
    rcx = u64(8)
    rdx = u64(16)
    rbx = u64(24)
    rsp = u64(32)
    rbp = u64(40)
    rsi = u64(48)
    rdi = u64(56)
    r8 = u64(64)
    r9 = u64(72)
    r10 = u64(80)
    r11 = u64(88)
    r12 = u64(96)
    r13 = u64(104)
    r14 = u64(112)
    r15 = u64(120)
    rflags = u64(128, "TF is stored as 0")
    rip = u64(136)
    ursp = u64(144, "RSP outside, stored by EENTER, given back by an AEX")
    urbp = u64(152, "RBP outside, stored by EENTER, given back by an AEX")
    exitinfo = u32(160, "see Exitinfo")
    reserved_164 = zero(164, 3)
    aexnotify = u8(167, "bit 0: the enclave wants to be told of the exit")
    fsbase = u64(168)
    gsbase = u64(176)


class Exinfo(Layout, size=16, align=8, source=f"{SDM}, 'EXINFO Structure'"):
    """Details of a #PF or #GP, with MISCSELECT.EXINFO."""

    maddr = u64(0, "#PF: the full faulting address; #GP: 0")
    errcd = u32(8, "error code")
    reserved_12 = zero(12, 4)


class ExitType(IntEnum):
    """EXITINFO.EXIT_TYPE."""

    NONE = 0
    """With VALID = 0 only."""
    HARDWARE = 3
    SOFTWARE = 6


@dataclass(frozen=True, slots=True)
class Exitinfo:
    """EXITINFO, taken apart. Source: SDM, "EXITINFO".

    Attributes:
        vector: exception number, 0 to 255.
        exit_type: 3 bits; a defined value is an :class:`ExitType`.
        valid: whether the enclave may know the reason of the exit.
    """

    vector: int = 0
    exit_type: int = ExitType.NONE
    valid: bool = False

    def __int__(self) -> int:
        """The 32-bit value in the SSA."""
        return (
            self.vector & 0xFF
            | (self.exit_type & 7) << EXITINFO_TYPE_SHIFT
            | (EXITINFO_VALID if self.valid else 0)
        )

    @classmethod
    def unpack(cls, value: int) -> Exitinfo:
        """From the 32-bit value; reserved bits are dropped."""
        return cls(value & 0xFF, value >> EXITINFO_TYPE_SHIFT & 7, bool(value & EXITINFO_VALID))


@dataclass(frozen=True, slots=True)
class XsaveComponent:
    """One extended state component, as CPUID.0DH enumerates it.

    Attributes:
        bit: its number in XCR0, 2 or above.
        name: for people.
        offset: bytes from the start of the XSAVE area, standard format (EBX).
        size: bytes (EAX).
    """

    bit: int
    name: str
    offset: int
    size: int


#: Where Intel's CPUs have the components; SGX does not fix it, CPUID.0DH tells.
INTEL_COMPONENTS: tuple[XsaveComponent, ...] = (
    XsaveComponent(2, "AVX", 576, 256),
    XsaveComponent(3, "BNDREGS", 960, 64),
    XsaveComponent(4, "BNDCSR", 1024, 64),
    XsaveComponent(5, "opmask", 1088, 64),
    XsaveComponent(6, "ZMM_Hi256", 1152, 512),
    XsaveComponent(7, "Hi16_ZMM", 1664, 1024),
    XsaveComponent(9, "PKRU", 2688, 8),
    XsaveComponent(17, "XTILECFG", 2752, 64),
    XsaveComponent(18, "XTILEDATA", 2816, 8192),
)


def xsave_size(xfrm: int, components: Sequence[XsaveComponent] = INTEL_COMPONENTS) -> int:
    """Bytes of the XSAVE area that an enclave with this XFRM needs. Source: SDM, ECREATE's operation.

    Args:
        xfrm: XFRM bits; 0 and 1 add nothing to the 576 bytes.
        components: what the CPU has.

    Raises:
        ValueError: a bit whose component the CPU does not have.
    """
    by_bit = {component.bit: component for component in components}
    offset, size = XSAVE_LEGACY_SIZE, 0
    for bit in range(2, 63):
        if xfrm >> bit & 1:
            if bit not in by_bit:
                raise ValueError(f"XFRM {xfrm:#x}: bit {bit} is no state component of this CPU")
            component = by_bit[bit]
            if component.offset >= offset + size:
                offset, size = component.offset, component.size
    return offset + size


def misc_size(miscselect: int) -> int:
    """Bytes of the MISC region right before GPRSGX."""
    return Exinfo.size_of if miscselect & Miscselect.EXINFO else 0


def ssa_frame_pages(
    xfrm: int, miscselect: int, components: Sequence[XsaveComponent] = INTEL_COMPONENTS
) -> int:
    """The smallest SSAFRAMESIZE, in pages, that ECREATE accepts for these."""
    return -(-(xsave_size(xfrm, components) + misc_size(miscselect) + Gprsgx.size_of) // PAGE_SIZE)


def gprsgx_offset(ssaframesize: int) -> int:
    """Bytes from the start of a frame of ``ssaframesize`` pages to its GPRSGX."""
    return PAGE_SIZE * ssaframesize - Gprsgx.size_of


def exinfo_offset(ssaframesize: int) -> int:
    """Bytes from the start of a frame of ``ssaframesize`` pages to its EXINFO."""
    return gprsgx_offset(ssaframesize) - Exinfo.size_of


#: XCR0 bits that XSETBV takes only together.
_TOGETHER = (
    Xfrm.BNDREGS | Xfrm.BNDCSR,
    Xfrm.OPMASK | Xfrm.ZMM_HI256 | Xfrm.HI16_ZMM,
    Xfrm.XTILECFG | Xfrm.XTILEDATA,
)


def xfrm_violation(xfrm: int, supported: int) -> str | None:
    """The first rule for XFRM that a value breaks, in words, or None. Source: SDM, ECREATE and XSETBV.

    Args:
        xfrm: SECS.XFRM.
        supported: the bits of CPUID.12H.1:EDX:ECX.
    """
    legacy = Xfrm.X87 | Xfrm.SSE
    if xfrm & legacy != legacy:
        return "bits 1:0 (x87, SSE) are both set"
    if xfrm >> 63:
        return "bit 63 is clear"
    if xfrm & ~supported:
        return f"is a subset of CPUID.12H.1:EDX:ECX, {supported:#x}"
    for group in _TOGETHER:
        if xfrm & group not in (0, group):
            return f"bits {group:#x} are set together or not at all"
    if xfrm & Xfrm.OPMASK and not xfrm & Xfrm.AVX:
        return "AVX-512 (bits 7:5) comes with AVX (bit 2)"
    return None
