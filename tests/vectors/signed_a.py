"""The SIGSTRUCT called "Signed A", and its key. Origin: see README.md beside this file.

The key is derived from a sentence, so it is public knowledge: for tests only.
"""

from __future__ import annotations

import hashlib
import math
from functools import cache

from cryptography.hazmat.primitives.asymmetric import rsa

__all__ = [
    "ENCLAVEHASH",
    "P_LOW",
    "Q_LOW",
    "SHA256_OF_MODULUS",
    "SHA256_OF_SIGNATURE",
    "SHA256_OF_SIGNED_BYTES",
    "SHA256_OF_SIGSTRUCT",
    "primes",
    "private_key",
]

#: MRENCLAVE of file A.
ENCLAVEHASH = bytes.fromhex("2202e1b75f90b4adde17d53fddb88dcfe1b127455ec02f06ffd9232116c7ded2")
#: Low 64 bits of the two primes.
P_LOW, Q_LOW = 0xFE673CDB6978A9E9, 0x27B5602786BB9239
SHA256_OF_SIGNED_BYTES = "dec9dd6e942d5fc354155e4b8af5be0dd811e69b7a5617c282c1c394c2f6cf80"
#: Of the 384 bytes in big-endian order.
SHA256_OF_SIGNATURE = "fdb82d07628dce1f32e445a41f0907d1b3df345e2599e82e7cdb4c1580863b3a"
#: Of the 384 bytes as the SIGSTRUCT has them, so it is MRSIGNER.
SHA256_OF_MODULUS = "429f5932436386769c7102c204684a9fb9a8e7e20d21a2ac72420ed22f5aeae9"
SHA256_OF_SIGSTRUCT = "3ac60df9b2d46262d62e799642e89d6cdfa5890455a29607bbd03ca3cb98423e"

_SMALL_PRIMES = [n for n in range(3, 2000, 2) if all(n % d for d in range(3, int(n**0.5) + 1, 2))]


def _is_prime(number: int) -> bool:
    """Miller-Rabin with fixed bases: enough to find again what is already known to be prime."""
    if any(number % small == 0 for small in _SMALL_PRIMES):
        return False
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in (2, 3, 5, 7, 11, 13, 17, 19):
        x = pow(base, odd, number)
        if x in (1, number - 1):
            continue
        for _ in range(twos - 1):
            x = x * x % number
            if x == number - 1:
                break
        else:
            return False
    return True


def _prime(letter: str) -> int:
    """SHA-256 of the sentence, six times; two top bits and bit 0 set; then the next that fits."""
    digests = (
        hashlib.sha256(f"enclave-files vector key {letter}".encode() + bytes([k])).digest() for k in range(6)
    )
    x = int.from_bytes(b"".join(digests), "big") | 3 << 1534 | 1
    while x % 3 != 2 or not _is_prime(x):
        x += 2
    return x


@cache
def primes() -> tuple[int, int]:
    """P and q, 1536 bits each; takes about a second the first time."""
    return _prime("p"), _prime("q")


@cache
def private_key() -> rsa.RSAPrivateKey:
    """The key, with e = 3."""
    p, q = primes()
    d = pow(3, -1, math.lcm(p - 1, q - 1))
    public = rsa.RSAPublicNumbers(3, p * q)
    return rsa.RSAPrivateNumbers(
        p, q, d, rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q), public
    ).private_key()
