"""Bits and small enumerations: attributes, page types, permissions, page-fault codes, key names."""

from __future__ import annotations

from enum import IntEnum, IntFlag

__all__ = [
    "MISC_RESERVED",
    "PERM_MASK",
    "SECINFO_PT_SHIFT",
    "SECINFO_RESERVED",
    "Attributes",
    "KeyName",
    "KeyPolicy",
    "Miscselect",
    "PageFaultCode",
    "PageType",
    "SecinfoFlags",
    "TcsFlags",
    "Xfrm",
    "page_type_of",
    "secinfo_flags",
]


class Attributes(IntFlag):
    """SECS.ATTRIBUTES, low 8 bytes. Source: SDM, "ATTRIBUTES"."""

    INIT = 1 << 0
    """Set by EINIT only; software must give 0."""
    DEBUG = 1 << 1
    """EDBGRD and EDBGWR are allowed; always part of sealing keys."""
    MODE64BIT = 1 << 2
    """A 64-bit enclave."""
    PROVISIONKEY = 1 << 4
    """EGETKEY may give provisioning keys."""
    EINITTOKEN_KEY = 1 << 5
    """EGETKEY may give the launch key; EINIT wants MRSIGNER to be the launch hash."""
    CET = 1 << 6
    """Control-flow enforcement; no model here has it."""
    KSS = 1 << 7
    """Key separation: CONFIGID, CONFIGSVN, ISVFAMILYID, ISVEXTPRODID and key policy bits 2 to 5."""
    AEXNOTIFY = 1 << 10
    """The enclave may be told of asynchronous exits."""


class Xfrm(IntFlag):
    """Extended features, numbered as in XCR0. Source: SDM, "ATTRIBUTES" (its bits 127:64)."""

    X87 = 1 << 0
    SSE = 1 << 1
    AVX = 1 << 2
    BNDREGS = 1 << 3
    BNDCSR = 1 << 4
    OPMASK = 1 << 5
    ZMM_HI256 = 1 << 6
    HI16_ZMM = 1 << 7
    PKRU = 1 << 9
    XTILECFG = 1 << 17
    XTILEDATA = 1 << 18


class Miscselect(IntFlag):
    """SECS.MISCSELECT: what an AEX saves besides registers. Source: SDM, "MISCSELECT"."""

    EXINFO = 1 << 0
    """Address and error code of #PF and #GP go to the SSA."""
    CPINFO = 1 << 1
    """The same for #CP; needs CET, which no model here has."""


#: MISCSELECT bits that no edition of the manual names.
MISC_RESERVED = 0xFFFF_FFFC


class PageType(IntEnum):
    """EPCM.PT and SECINFO.FLAGS.PAGE_TYPE. Source: SDM, "PAGE_TYPE"."""

    SECS = 0
    TCS = 1
    REG = 2
    VA = 3
    TRIM = 4
    SS_FIRST = 5
    """Shadow stack, with CET only."""
    SS_REST = 6
    """Shadow stack, with CET only."""


class SecinfoFlags(IntFlag):
    """SECINFO.FLAGS without the page type. Source: SDM, "SECINFO.FLAGS"."""

    R = 1 << 0
    W = 1 << 1
    X = 1 << 2
    PENDING = 1 << 3
    MODIFIED = 1 << 4
    PR = 1 << 5
    """Permission restriction under way."""


#: The three permission bits of :class:`SecinfoFlags`.
PERM_MASK = 7
#: PAGE_TYPE stands in bits 15:8 of SECINFO.FLAGS.
SECINFO_PT_SHIFT = 8
#: Bits of SECINFO.FLAGS that must be zero for every leaf: 7:6 and 63:16.
SECINFO_RESERVED = 0xFFFF_FFFF_FFFF_00C0


def secinfo_flags(page_type: PageType, perm: int = 0) -> int:
    """SECINFO.FLAGS for a page type and permission bits; a REG page with R and W has 0x203."""
    return page_type << SECINFO_PT_SHIFT | perm


def page_type_of(flags: int) -> int:
    """PAGE_TYPE out of SECINFO.FLAGS; 7 and above are reserved and in no enumeration, hence an integer."""
    return flags >> SECINFO_PT_SHIFT & 0xFF


class TcsFlags(IntFlag):
    """TCS.FLAGS. Source: SDM, "Thread Control Structure (TCS)"."""

    DBGOPTIN = 1 << 0
    """Entries through this TCS can be debugged; only EDBGWR sets it."""
    AEXNOTIFY = 1 << 1


class PageFaultCode(IntFlag):
    """The page-fault error code. Source: SDM volume 3A, "Page-Fault Exceptions".

    SGX = 1 implies P = 1, RSVD = 0 and PK = 0.
    """

    P = 1 << 0
    W = 1 << 1
    U = 1 << 2
    RSVD = 1 << 3
    I = 1 << 4  # noqa: E741 - the manual's name
    PK = 1 << 5
    SGX = 1 << 15
    """The EPCM forbade the access, not the page table."""


class KeyName(IntEnum):
    """KEYREQUEST.KEYNAME. Source: SDM, "KEYREQUEST KeyName"."""

    EINITTOKEN = 0
    PROVISION = 1
    PROVISION_SEAL = 2
    REPORT = 3
    SEAL = 4


class KeyPolicy(IntFlag):
    """KEYREQUEST.KEYPOLICY; 15:6 must be zero, 2 to 5 need KSS. Source: SDM, "KEYREQUEST Policy"."""

    MRENCLAVE = 1 << 0
    MRSIGNER = 1 << 1
    NOISVPRODID = 1 << 2
    CONFIGID = 1 << 3
    ISVFAMILYID = 1 << 4
    ISVEXTPRODID = 1 << 5
