"""What CPUID says of SGX, and the model of a CPU that it is said from.

Values only: nobody here executes CPUID. Source: SDM, "Intel SGX Resource Enumeration Leaves".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self

from swsgx.isa.address import PAGE_SIZE, is_aligned
from swsgx.isa.flags import Attributes, Miscselect
from swsgx.isa.ssa import INTEL_COMPONENTS, XsaveComponent

__all__ = [
    "DEFAULT_EPC_BASE",
    "DEFAULT_EPC_SIZE",
    "SGX_LEAF",
    "CpuModel",
    "CpuidOverride",
    "CpuidResult",
    "leaf_7_bits",
    "leaf_12h",
    "overrides",
]

#: The CPUID leaf that tells of SGX.
SGX_LEAF = 0x12
#: Physical address of the EPC, as on a small real machine.
DEFAULT_EPC_BASE = 0x7020_0000
#: Bytes of EPC.
DEFAULT_EPC_SIZE = 128 << 20

_FEATURE_LEAF = 7
_EBX_SGX = 1 << 2
_ECX_SGX_LC = 1 << 30
_EDX_SGX_KEYS = 1 << 1
_BITS_32 = (1 << 32) - 1
_EAX_SGX1 = 1 << 0
_EAX_SGX2 = 1 << 1
_EAX_EDECCSSA = 1 << 11
_SECTION_VALID = 1
_SECTION_CONFIDENTIAL_INTEGRITY = 1


class CpuidResult(NamedTuple):
    """The four registers, 32 bits each."""

    eax: int = 0
    ebx: int = 0
    ecx: int = 0
    edx: int = 0


class CpuidOverride(NamedTuple):
    """What becomes of a host's answer: ``answer & keep | set``, register by register.

    Attributes:
        leaf: EAX.
        subleaf: ECX.
        keep: bits of the host that stay.
        set: bits that are set whatever the host says.
    """

    leaf: int
    subleaf: int
    keep: CpuidResult
    set: CpuidResult

    def apply(self, answer: CpuidResult) -> CpuidResult:
        """The changed answer."""
        return CpuidResult(*(a & k | s for a, k, s in zip(answer, self.keep, self.set, strict=True)))


@dataclass(frozen=True, slots=True)
class CpuModel:
    """A CPU with SGX, as far as software can tell.

    Attributes:
        name: for people.
        sgx2: whether it has the SGX2 leaves.
        kss: whether it has key separation and sharing.
        exinfo: MISCSELECT bits it supports.
        attributes_mask: ATTRIBUTES bits that ECREATE accepts; INIT is never among them.
        xfrm_mask: XFRM bits that ECREATE accepts.
        size_log2_32: an enclave that is not 64-bit is smaller than 2 to this power, in bytes.
        size_log2_64: the same for 64-bit enclaves.
        epc_base: physical address of the EPC section, page aligned.
        epc_size: bytes of EPC, whole pages.
        aexnotify: whether it has AEX-Notify and EDECCSSA.
        flc: whether IA32_SGXLEPUBKEYHASH0..3 can be written (flexible launch control).
        components: XSAVE state components beyond x87 and SSE.

    Raises:
        ValueError: the EPC is empty or not in whole pages, or a mask says what no CPU can.
    """

    name: str
    sgx2: bool
    kss: bool
    exinfo: int
    attributes_mask: int
    xfrm_mask: int
    size_log2_32: int
    size_log2_64: int
    epc_base: int = DEFAULT_EPC_BASE
    epc_size: int = DEFAULT_EPC_SIZE
    aexnotify: bool = False
    flc: bool = True
    components: tuple[XsaveComponent, ...] = INTEL_COMPONENTS

    def __post_init__(self) -> None:
        # The complement of a Flag has only its named bits: masks are plain numbers.
        for name in ("exinfo", "attributes_mask", "xfrm_mask"):
            object.__setattr__(self, name, int(getattr(self, name)))
        if self.epc_size <= 0 or not is_aligned(self.epc_size, PAGE_SIZE):
            raise ValueError(
                f"EPC size {self.epc_size:#x}: expected whole pages of {PAGE_SIZE} bytes, at least one"
            )
        if not is_aligned(self.epc_base, PAGE_SIZE):
            raise ValueError(f"EPC base {self.epc_base:#x}: expected a multiple of {PAGE_SIZE}")
        if self.epc_base < 0 or self.epc_base + self.epc_size > 1 << 52:
            raise ValueError(f"EPC {self.epc_base:#x}+{self.epc_size:#x}: expected to end below 2^52")
        if self.attributes_mask & Attributes.INIT:
            raise ValueError(f"attributes mask {self.attributes_mask:#x}: expected INIT (bit 0) clear")
        if bool(self.attributes_mask & Attributes.KSS) != self.kss:
            raise ValueError(
                f"attributes mask {self.attributes_mask:#x}: expected KSS (bit 7) to be {int(self.kss)}"
            )
        if bool(self.attributes_mask & Attributes.AEXNOTIFY) != self.aexnotify:
            raise ValueError(
                f"attributes mask {self.attributes_mask:#x}: "
                f"expected AEXNOTIFY (bit 10) to be {int(self.aexnotify)}"
            )
        unknown = self.xfrm_mask & ~(3 | sum(1 << component.bit for component in self.components))
        if unknown or self.xfrm_mask & 3 != 3:
            raise ValueError(
                f"XFRM mask {self.xfrm_mask:#x}: expected bits 1:0, and no bit without a state component"
            )

    @property
    def epc_pages(self) -> int:
        """How many pages the EPC has."""
        return self.epc_size // PAGE_SIZE

    @classmethod
    def with_sgx2(
        cls,
        *,
        epc_size: int = DEFAULT_EPC_SIZE,
        xfrm_mask: int = 0x2E7,
        components: tuple[XsaveComponent, ...] = INTEL_COMPONENTS,
        aexnotify: bool = False,
    ) -> Self:
        """SGX1, SGX2, flexible launch control, KSS, EXINFO: what a server of 2021 says (Xeon Gold 5315Y)."""
        return cls(
            name="SGX2, FLC, KSS, EXINFO",
            sgx2=True,
            kss=True,
            exinfo=Miscselect.EXINFO,
            attributes_mask=0xB6 | (Attributes.AEXNOTIFY if aexnotify else 0),
            xfrm_mask=xfrm_mask,
            size_log2_32=0x1F,
            size_log2_64=0x38,
            epc_size=epc_size,
            aexnotify=aexnotify,
            components=components,
        )

    @classmethod
    def with_sgx1(
        cls,
        *,
        epc_size: int = DEFAULT_EPC_SIZE,
        xfrm_mask: int = 0x1F,
        components: tuple[XsaveComponent, ...] = INTEL_COMPONENTS,
        flc: bool = True,
    ) -> Self:
        """SGX1 without KSS and EXINFO: what a workstation of 2019 says (Xeon E-2276G)."""
        return cls(
            name="SGX1, FLC" if flc else "SGX1",
            sgx2=False,
            kss=False,
            exinfo=0,
            attributes_mask=0x36,
            xfrm_mask=xfrm_mask,
            size_log2_32=0x1F,
            size_log2_64=0x24,
            epc_size=epc_size,
            flc=flc,
            components=components,
        )


def leaf_7_bits(model: CpuModel) -> CpuidResult:
    """The bits of CPUID.07H.0 that concern SGX: EBX 2, ECX 30, EDX 1 (SGX-KEYS, which no model has)."""
    return CpuidResult(ebx=_EBX_SGX, ecx=_ECX_SGX_LC if model.flc else 0)


def leaf_12h(model: CpuModel, subleaf: int) -> CpuidResult:
    """CPUID.12H: capabilities (0), attributes (1), the EPC section (2), nothing beyond.

    Args:
        model: the CPU that is asked.
        subleaf: ECX.
    """
    if subleaf == 0:
        eax = _EAX_SGX1 | (_EAX_SGX2 if model.sgx2 else 0) | (_EAX_EDECCSSA if model.aexnotify else 0)
        return CpuidResult(eax, model.exinfo, 0, model.size_log2_64 << 8 | model.size_log2_32)
    if subleaf == 1:
        flags, xfrm = model.attributes_mask, model.xfrm_mask
        return CpuidResult(flags & 0xFFFF_FFFF, flags >> 32, xfrm & 0xFFFF_FFFF, xfrm >> 32)
    if subleaf == 2:
        base, size = model.epc_base, model.epc_size
        return CpuidResult(
            base & 0xFFFF_F000 | _SECTION_VALID,
            base >> 32,
            size & 0xFFFF_F000 | _SECTION_CONFIDENTIAL_INTEGRITY,
            size >> 32,
        )
    return CpuidResult()


def overrides(model: CpuModel) -> tuple[CpuidOverride, ...]:
    """What a host's CPUID must be changed by, so that it tells of this CPU's SGX and of no other.

    A subleaf of 12H that is not named here is all zero, so the first one behind the EPC section ends the enumeration.
    The highest basic leaf, which CPUID.0 tells, must be at least :data:`SGX_LEAF`.
    """
    ours = leaf_7_bits(model)
    theirs = CpuidResult(_BITS_32, _BITS_32 & ~_EBX_SGX, _BITS_32 & ~_ECX_SGX_LC, _BITS_32 & ~_EDX_SGX_KEYS)
    subleaves = (
        CpuidOverride(SGX_LEAF, subleaf, CpuidResult(), leaf_12h(model, subleaf)) for subleaf in range(3)
    )
    return (CpuidOverride(_FEATURE_LEAF, 0, theirs, ours), *subleaves)
