"""Leaf numbers of ENCLS and ENCLU, and the bytes of the instructions."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["ENCLS_OPCODE", "ENCLU_OPCODE", "ENCLV_OPCODE", "Encls", "Enclu"]

#: ENCLS, privilege level 0. Neither ModRM nor immediate; LOCK, 66, F2, F3 and VEX before it are #UD.
ENCLS_OPCODE = b"\x0f\x01\xcf"
#: ENCLU, privilege level 3.
ENCLU_OPCODE = b"\x0f\x01\xd7"
#: ENCLV, for virtual-machine monitors.
ENCLV_OPCODE = b"\x0f\x01\xc0"


class Encls(IntEnum):
    """ENCLS leaves by EAX. Source: SDM, "Supervisor and User Mode Enclave Instruction Leaf Functions"."""

    ECREATE = 0x00
    EADD = 0x01
    EINIT = 0x02
    EREMOVE = 0x03
    EDBGRD = 0x04
    EDBGWR = 0x05
    EEXTEND = 0x06
    ELDB = 0x07
    ELDU = 0x08
    EBLOCK = 0x09
    EPA = 0x0A
    EWB = 0x0B
    ETRACK = 0x0C
    EAUG = 0x0D
    EMODPR = 0x0E
    EMODT = 0x0F
    ERDINFO = 0x10
    ETRACKC = 0x11
    ELDBC = 0x12
    ELDUC = 0x13
    EUPDATESVN = 0x18

    @property
    def returns_code(self) -> bool:
        """Whether the leaf reports in RAX and ZF; the others succeed or fault and leave both alone."""
        return self not in (
            Encls.ECREATE,
            Encls.EADD,
            Encls.EEXTEND,
            Encls.EPA,
            Encls.EAUG,
        )

    @property
    def sgx2(self) -> bool:
        """Whether only a CPU with SGX2 has the leaf (CPUID.12H.0:EAX[1]); elsewhere it is unknown: #GP."""
        return self in (Encls.EAUG, Encls.EMODPR, Encls.EMODT)


class Enclu(IntEnum):
    """ENCLU leaves by EAX. Source: SDM, "Supervisor and User Mode Enclave Instruction Leaf Functions"."""

    EREPORT = 0x00
    EGETKEY = 0x01
    EENTER = 0x02
    ERESUME = 0x03
    EEXIT = 0x04
    EACCEPT = 0x05
    EMODPE = 0x06
    EACCEPTCOPY = 0x07
    EVERIFYREPORT2 = 0x08
    EDECCSSA = 0x09

    @property
    def inside(self) -> bool:
        """Whether the leaf is for enclave code; EENTER and ERESUME are for the outside. Wrong side: #GP."""
        return self not in (Enclu.EENTER, Enclu.ERESUME, Enclu.EVERIFYREPORT2)

    @property
    def sgx2(self) -> bool:
        """Whether only a CPU with SGX2 has the leaf (CPUID.12H.0:EAX[1]); elsewhere it is unknown: #GP."""
        return self in (Enclu.EACCEPT, Enclu.EMODPE, Enclu.EACCEPTCOPY)
