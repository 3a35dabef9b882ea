"""What EINIT checks in a SIGSTRUCT, in plain integer arithmetic.

The CPU has no division: it takes the two quotients Q1 and Q2 from the SIGSTRUCT and multiplies. With
``T = S*S - Q1*N`` and ``0 <= T < N``, the number ``S*T - Q2*N`` must be the padded digest and lie in
``0..N-1``. A signature that is good RSA fails with bad quotients, so both verdicts are given apart.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from swsgx.isa.layout import SDM
from swsgx.isa.sigstruct import (
    RSA_BYTES,
    RSA_EXPONENT,
    SIGSTRUCT_HEADER,
    SIGSTRUCT_HEADER2,
    SIGSTRUCT_VENDORS,
    Sigstruct,
)
from swsgx.trace import Reason

__all__ = [
    "PADDING",
    "Verification",
    "check_with_q",
    "encoded_message",
    "header_violation",
    "mrsigner",
    "q1_q2",
    "q_violation",
    "rsa_violation",
    "verify",
]

_SOURCE = f"{SDM}, 'EINIT-Initialize an Enclave for Execution'"

#: The first 352 bytes of every padded digest: ``00 01``, 330 times ``FF``, ``00``, the DigestInfo of SHA-256.
#: EINIT keeps them as SECS.PADDING.
PADDING = b"\x00\x01" + b"\xff" * 330 + b"\x00" + bytes.fromhex("3031300d060960864801650304020105000420")


def encoded_message(sigstruct: Sigstruct) -> bytes:
    """The padded SHA-256 of the signed bytes, PKCS #1 v1.5: 384 bytes, a big-endian number."""
    return PADDING + hashlib.sha256(sigstruct.signed_bytes()).digest()


def mrsigner(signed: Sigstruct | bytes) -> bytes:
    """MRSIGNER: SHA-256 over the modulus as it is stored, little-endian.

    Args:
        signed: a SIGSTRUCT, or the 384 bytes of its modulus.

    Raises:
        ValueError: not 384 bytes.
    """
    modulus = signed.modulus if isinstance(signed, Sigstruct) else signed
    if len(modulus) != RSA_BYTES:
        raise ValueError(f"modulus: {len(modulus)} bytes given, it has {RSA_BYTES}")
    return hashlib.sha256(modulus).digest()


def q1_q2(signature: int, modulus: int) -> tuple[int, int]:
    """The quotients that EINIT wants: ``floor(S^2 / N)`` and ``floor((S^3 - Q1*S*N) / N)``."""
    q1, rest = divmod(signature * signature, modulus)
    return q1, signature * rest // modulus


def _numbers(sigstruct: Sigstruct) -> tuple[int, int, int, int]:
    """N, S, Q1, Q2."""
    n, s, q1, q2 = (
        int.from_bytes(stored, "little")
        for stored in (sigstruct.modulus, sigstruct.signature, sigstruct.q1, sigstruct.q2)
    )
    return n, s, q1, q2


def header_violation(sigstruct: Sigstruct) -> Reason | None:
    """EINIT's first look: constant fields, vendor, exponent, reserved bytes; what fails is INVALID_SIG_STRUCT."""

    def reason(rule: str, expected: str, found: str) -> Reason:
        return Reason("EINIT", rule, expected, found, _SOURCE)

    if sigstruct.header != SIGSTRUCT_HEADER:
        return reason("SIGSTRUCT.HEADER is the constant", SIGSTRUCT_HEADER.hex(), sigstruct.header.hex())
    if sigstruct.vendor not in SIGSTRUCT_VENDORS:
        expected = " or ".join(hex(vendor) for vendor in SIGSTRUCT_VENDORS)
        return reason("SIGSTRUCT.VENDOR is a known one", expected, hex(sigstruct.vendor))
    if sigstruct.header2 != SIGSTRUCT_HEADER2:
        return reason("SIGSTRUCT.HEADER2 is the constant", SIGSTRUCT_HEADER2.hex(), sigstruct.header2.hex())
    if sigstruct.exponent != RSA_EXPONENT:
        return reason("SIGSTRUCT.EXPONENT is 3", str(RSA_EXPONENT), str(sigstruct.exponent))
    broken = sigstruct.first_nonzero_reserved()
    if broken is not None:
        name, offset = broken
        return reason(
            "reserved bytes of SIGSTRUCT are zero",
            "0",
            f"{sigstruct.buffer[offset]:#04x} at {offset} ({name})",
        )
    return None


def q_violation(sigstruct: Sigstruct) -> Reason | None:
    """The signature as EINIT checks it, with Q1 and Q2 and no division; what fails is INVALID_SIGNATURE."""
    n, s, q1, q2 = _numbers(sigstruct)

    def reason(rule: str, expected: str, found: str) -> Reason:
        return Reason("EINIT", rule, expected, found, _SOURCE)

    t = s * s - q1 * n
    if not 0 <= t < n:
        return reason(
            "SIGSTRUCT.Q1 is floor(S^2 / N)", "0 <= S^2 - Q1*N < N", "below 0" if t < 0 else "N or more"
        )
    em = s * t - q2 * n
    if not 0 <= em < n:
        return reason(
            "SIGSTRUCT.Q2 fits S and Q1", "0 <= S*T - Q2*N < N", "below 0" if em < 0 else "N or more"
        )
    if em != int.from_bytes(encoded_message(sigstruct), "big"):
        return reason(
            "SIGSTRUCT.SIGNATURE is over these bytes, by the key of MODULUS",
            _digest_told(sigstruct),
            _em_told(em),
        )
    return None


def check_with_q(sigstruct: Sigstruct) -> bool:
    """Whether EINIT takes the signature; :func:`q_violation` tells why not."""
    return q_violation(sigstruct) is None


def rsa_violation(sigstruct: Sigstruct) -> Reason | None:
    """The signature as anybody else checks it: RSA-3072, e = 3, PKCS #1 v1.5, SHA-256; Q1 and Q2 do not matter."""
    n, s, _, _ = _numbers(sigstruct)

    def reason(rule: str, expected: str, found: str) -> Reason:
        return Reason("RSA verification", rule, expected, found, "RFC 8017, 'RSASSA-PKCS1-v1_5'")

    if n.bit_length() != 8 * RSA_BYTES:
        return reason("the modulus has 3072 bits", "3072 bits", f"{n.bit_length()} bits")
    if s >= n:
        return reason("the signature is below the modulus", "S < N", "S >= N")
    em = pow(s, RSA_EXPONENT, n)
    if em != int.from_bytes(encoded_message(sigstruct), "big"):
        return reason("the signature is over these bytes, by this key", _digest_told(sigstruct), _em_told(em))
    return None


def _digest_told(sigstruct: Sigstruct) -> str:
    return f"SHA-256 {hashlib.sha256(sigstruct.signed_bytes()).hexdigest()}"


def _em_told(em: int) -> str:
    """What a signature opened to, in words."""
    data = em.to_bytes(RSA_BYTES, "big")
    if data.startswith(PADDING):
        return f"SHA-256 {data[len(PADDING) :].hex()}"
    return "no PKCS #1 padding of SHA-256: another key, or not a signature"


@dataclass(frozen=True, slots=True)
class Verification:
    """Separate verdicts on one SIGSTRUCT; each reason is None where the check holds.

    Attributes:
        header_reason: constant fields, vendor, exponent, reserved bytes.
        rsa_reason: the signature without Q1 and Q2.
        q1q2_reason: the signature as EINIT computes it.
    """

    header_reason: Reason | None
    rsa_reason: Reason | None
    q1q2_reason: Reason | None

    @property
    def header(self) -> bool:
        """Whether the fixed fields are right."""
        return self.header_reason is None

    @property
    def rsa(self) -> bool:
        """Whether the RSA signature is right."""
        return self.rsa_reason is None

    @property
    def q1q2(self) -> bool:
        """Whether EINIT's own arithmetic comes out."""
        return self.q1q2_reason is None

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """What is wrong; empty where EINIT would go on to the measurement."""
        return tuple(r for r in (self.header_reason, self.rsa_reason, self.q1q2_reason) if r is not None)

    def __bool__(self) -> bool:
        return not self.reasons


def verify(sigstruct: Sigstruct) -> Verification:
    """All checks that need nothing but the SIGSTRUCT itself."""
    return Verification(header_violation(sigstruct), rsa_violation(sigstruct), q_violation(sigstruct))
