"""SIGSTRUCT and EINITTOKEN: what EINIT is pointed at by RBX and RDX."""

from __future__ import annotations

from swsgx.isa.layout import SDM, Layout, octets, u16, u32, u64, zero

__all__ = [
    "RSA_BYTES",
    "RSA_EXPONENT",
    "SIGSTRUCT_HEADER",
    "SIGSTRUCT_HEADER2",
    "SIGSTRUCT_VENDORS",
    "Einittoken",
    "Sigstruct",
]

#: What SIGSTRUCT.HEADER must hold.
SIGSTRUCT_HEADER = bytes.fromhex("06000000e10000000000010000000000")
#: What SIGSTRUCT.HEADER2 must hold.
SIGSTRUCT_HEADER2 = bytes.fromhex("01010000600000006000000001000000")
#: What SIGSTRUCT.VENDOR may hold: anybody, or Intel.
SIGSTRUCT_VENDORS = (0, 0x8086)
#: Bytes of a 3072-bit number.
RSA_BYTES = 384
#: The only public exponent that EINIT takes.
RSA_EXPONENT = 3


class Sigstruct(Layout, size=1808, align=4096, source=f"{SDM}, 'Enclave Signature Structure (SIGSTRUCT)'"):
    """The certificate of an enclave: who signed which measurement, with which attributes.

    Numbers of 384 bytes are little-endian. Bytes 0 to 127 and 900 to 1027 are signed.
    """

    header = octets(0, 16, "SIGSTRUCT_HEADER")
    vendor = u32(16, "0, or 0x8086 for Intel's own enclaves")
    date = u32(20, "0xYYYYMMDD, binary-coded decimal; EINIT does not look at it")
    header2 = octets(24, 16, "SIGSTRUCT_HEADER2")
    swdefined = u32(40, "free for software")
    reserved_44 = zero(44, 84)
    modulus = octets(128, 384, "the signer's 3072-bit modulus N")
    exponent = u32(512, "3")
    signature = octets(516, 384, "S = EM^d mod N, PKCS #1 v1.5 with SHA-256")
    miscselect = u32(900, "what SECS.MISCSELECT must be where miscmask is 1")
    miscmask = u32(904, "bits of MISCSELECT that are compared")
    cet_attributes = zero(908, 1, "CET only")
    cet_attributes_mask = zero(909, 1, "CET only")
    reserved_910 = zero(910, 2)
    isvfamilyid = octets(912, 16, "product family; zero unless KSS")
    attributes = u64(928, "what SECS.ATTRIBUTES must be where attributemask is 1; INIT clear")
    xfrm = u64(936, "what SECS.XFRM must be where xfrmmask is 1")
    attributemask = u64(944, "bits of ATTRIBUTES that are compared")
    xfrmmask = u64(952, "bits of XFRM that are compared")
    enclavehash = octets(960, 32, "the MRENCLAVE that is signed, in digest order")
    reserved_992 = zero(992, 16)
    isvextprodid = octets(1008, 16, "extended product number; zero unless KSS")
    isvprodid = u16(1024, "product number")
    isvsvn = u16(1026, "security version")
    reserved_1028 = zero(1028, 12)
    q1 = octets(1040, 384, "floor(S^2 / N)")
    q2 = octets(1424, 384, "floor((S^3 - Q1 * S * N) / N)")

    def signed_bytes(self) -> bytes:
        """The 256 bytes under the signature: 0 to 127, then 900 to 1027."""
        return bytes(self.buffer[0:128]) + bytes(self.buffer[900:1028])


class Einittoken(Layout, size=304, align=512, source=f"{SDM}, 'EINIT Token Structure (EINITTOKEN)'"):
    """A launch enclave's permission. All zero where the signer's hash is in IA32_SGXLEPUBKEYHASH0..3."""

    valid = u32(0, "bit 0; the rest must be zero")
    reserved_4 = zero(4, 44)
    attributes = u64(48, "SECS.ATTRIBUTES of the enclave")
    xfrm = u64(56, "SECS.XFRM of the enclave")
    mrenclave = octets(64, 32, "the enclave's measurement")
    reserved_96 = zero(96, 32)
    mrsigner = octets(128, 32, "the enclave's signer")
    reserved_160 = zero(160, 32)
    cpusvnle = octets(192, 16, "CPUSVN of the launch enclave")
    isvprodidle = u16(208, "ISVPRODID of the launch enclave")
    isvsvnle = u16(210, "ISVSVN of the launch enclave")
    reserved_212 = zero(212, 24)
    maskedmiscselectle = u32(236, "MISCSELECT of the launch enclave, masked")
    maskedattributesle = u64(240, "ATTRIBUTES of the launch enclave, masked")
    maskedxfrmle = u64(248, "XFRM of the launch enclave, masked")
    keyid = octets(256, 32, "KEYID of the launch key")
    mac = octets(288, 16, "AES-CMAC under the launch key over bytes 0 to 191")

    def maced_bytes(self) -> bytes:
        """The 192 bytes under the MAC."""
        return bytes(self.buffer[0:192])
