"""REPORT, TARGETINFO and KEYREQUEST: operands of EREPORT and EGETKEY."""

from __future__ import annotations

from swsgx.isa.layout import SDM, Layout, octets, u16, u32, u64, zero

__all__ = ["Keyrequest", "Report", "Targetinfo"]


class Report(Layout, size=432, align=512, source=f"{SDM}, 'REPORT (REPORT)'"):
    """What EREPORT says of an enclave to another one on the same CPU."""

    cpusvn = octets(0, 16, "security version of the CPU; opaque, not an integer")
    miscselect = u32(16)
    cet_attributes = zero(20, 1, "CET only")
    reserved_21 = zero(21, 11)
    isvextprodid = octets(32, 16)
    attributes = u64(48, "Attributes bits")
    xfrm = u64(56, "Xfrm bits")
    mrenclave = octets(64, 32)
    reserved_96 = zero(96, 32)
    mrsigner = octets(128, 32)
    reserved_160 = zero(160, 32)
    configid = octets(192, 64)
    isvprodid = u16(256)
    isvsvn = u16(258)
    configsvn = u16(260)
    reserved_262 = zero(262, 42)
    isvfamilyid = octets(304, 16)
    reportdata = octets(320, 64, "what the enclave wanted said")
    keyid = octets(384, 32, "KEYID of the report key; not under the MAC")
    mac = octets(416, 16, "AES-CMAC under the target's report key over bytes 0 to 383")

    def maced_bytes(self) -> bytes:
        """The 384 bytes under the MAC."""
        return bytes(self.buffer[0:384])


class Targetinfo(Layout, size=512, align=512, source=f"{SDM}, 'REPORT TARGET INFO (TARGETINFO)'"):
    """For which enclave a report is meant; all zero is legal."""

    measurement = octets(0, 32, "MRENCLAVE of the target")
    attributes = u64(32, "Attributes bits of the target, INIT set")
    xfrm = u64(40, "Xfrm bits of the target")
    cet_attributes = zero(48, 1, "CET only")
    reserved_49 = zero(49, 1)
    configsvn = u16(50)
    miscselect = u32(52)
    reserved_56 = zero(56, 8)
    configid = octets(64, 64)
    reserved_128 = zero(128, 384)


class Keyrequest(Layout, size=512, align=512, source=f"{SDM}, 'KEY REQUEST (KEYREQUEST)'"):
    """Which key EGETKEY shall derive, and from what."""

    keyname = u16(0, "KeyName")
    keypolicy = u16(2, "KeyPolicy bits; 15:6 must be zero")
    isvsvn = u16(4, "at most the enclave's own")
    cet_attributes_mask = zero(6, 1, "CET only")
    reserved_7 = zero(7, 1)
    cpusvn = octets(8, 16, "not beyond the current one")
    attributemask = u64(24, "bits of ATTRIBUTES that enter the key, besides INIT and DEBUG")
    xfrmmask = u64(32, "bits of XFRM that enter the key")
    keyid = octets(40, 32, "wear-out protection; REPORT: out of the report")
    miscmask = u32(72, "bits of MISCSELECT that enter the key")
    configsvn = u16(76, "at most the enclave's own")
    reserved_78 = zero(78, 434)
