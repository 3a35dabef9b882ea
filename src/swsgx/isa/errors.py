"""What a leaf says in RAX when it fails with ZF = 1."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["SgxError"]


class SgxError(IntEnum):
    """Error codes of ENCLS and ENCLU leaves. Source: SDM, "Error Codes"; 0 is success and no member."""

    INVALID_SIG_STRUCT = 1
    INVALID_ATTRIBUTE = 2
    BLKSTATE = 3
    INVALID_MEASUREMENT = 4
    NOTBLOCKABLE = 5
    PG_INVLD = 6
    EPC_PAGE_CONFLICT = 7
    INVALID_SIGNATURE = 8
    MAC_COMPARE_FAIL = 9
    PAGE_NOT_BLOCKED = 10
    NOT_TRACKED = 11
    VA_SLOT_OCCUPIED = 12
    CHILD_PRESENT = 13
    ENCLAVE_ACT = 14
    ENTRYEPOCH_LOCKED = 15
    INVALID_EINITTOKEN = 16
    PREV_TRK_INCMPL = 17
    PG_IS_SECS = 18
    PAGE_ATTRIBUTES_MISMATCH = 19
    PAGE_NOT_MODIFIABLE = 20
    PAGE_NOT_DEBUGGABLE = 21
    PG_NONEPC = 26
    """The number is from memory: the editions read do not print it."""
    TRACK_NOT_REQUIRED = 27
    INVALID_REPORTMACSTRUCT = 28
    INVALID_CPUSVN = 32
    INVALID_ISVSVN = 64
    UNMASKED_EVENT = 128
    INVALID_KEYNAME = 256

    @property
    def symbol(self) -> str:
        """The name in the manual's spelling: ``"SGX_INVALID_SIGNATURE"``."""
        return f"SGX_{self.name}"
