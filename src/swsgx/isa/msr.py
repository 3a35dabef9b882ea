"""Model-specific registers that concern SGX. Source: SDM, "Intel SGX Resource Enumeration" and volume 4."""

from __future__ import annotations

from enum import IntEnum, IntFlag

__all__ = ["DEFAULT_LAUNCH_SIGNER", "FeatureControl", "Msr", "lepubkeyhash_digest", "lepubkeyhash_words"]

#: MRSIGNER of Intel's launch enclave: what IA32_SGXLEPUBKEYHASH0..3 hold after reset.
DEFAULT_LAUNCH_SIGNER = bytes.fromhex("acb77012053e05a63d413b8bbae8fb6c5d73b3f2996d91c43bbbf90959c0f8d4")


class Msr(IntEnum):
    """Register numbers."""

    FEATURE_CONTROL = 0x3A
    SGXLEPUBKEYHASH0 = 0x8C
    SGXLEPUBKEYHASH1 = 0x8D
    SGXLEPUBKEYHASH2 = 0x8E
    SGXLEPUBKEYHASH3 = 0x8F
    SGXOWNEREPOCH0 = 0x300
    SGXOWNEREPOCH1 = 0x301
    SGX_SVN_STATUS = 0x500


class FeatureControl(IntFlag):
    """IA32_FEATURE_CONTROL. SGX is usable with LOCK and SGX_ENABLE; CPUID does not show SGX_ENABLE."""

    LOCK = 1 << 0
    SGX_LC = 1 << 17
    """The launch hash registers can be written."""
    SGX_ENABLE = 1 << 18


def lepubkeyhash_words(digest: bytes) -> tuple[int, int, int, int]:
    """The four register values for a 32-byte MRSIGNER; bytes 0 to 7 are register 0, little-endian.

    Raises:
        ValueError: not 32 bytes.
    """
    if len(digest) != 32:
        raise ValueError(f"MRSIGNER: {len(digest)} bytes given, a digest has 32")
    w0, w1, w2, w3 = (int.from_bytes(digest[i : i + 8], "little") for i in range(0, 32, 8))
    return w0, w1, w2, w3


def lepubkeyhash_digest(words: tuple[int, int, int, int]) -> bytes:
    """The 32-byte MRSIGNER that the four register values stand for."""
    return b"".join(word.to_bytes(8, "little") for word in words)
