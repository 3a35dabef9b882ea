"""The vector "Signed A": every byte of a SIGSTRUCT is known in advance."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from swsgx.identity.signer import complete, digest_input, mrsigner, private_pem, sign, verify
from swsgx.identity.sigstruct import SigstructOptions, unsigned
from swsgx.isa.sigstruct import Sigstruct
from tests.vectors import signed_a

OPTIONS = SigstructOptions(
    date=0x20240229,
    attributes=4,
    attributemask=0xFF00_FFFF_FFFF_FFFD,
    xfrm=3,
    xfrmmask=0xFFFF_FFFF_FFFF_FF1B,
    miscselect=0,
    miscmask=0xFFFF_FFFF,
    isvprodid=1,
    isvsvn=2,
)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module")
def vector_key() -> rsa.RSAPrivateKey:
    return signed_a.private_key()


@pytest.fixture(scope="module")
def result(vector_key: rsa.RSAPrivateKey) -> Sigstruct:
    return sign(unsigned(signed_a.ENCLAVEHASH, OPTIONS), vector_key)


def test_the_key_is_the_one_that_the_sentence_gives() -> None:
    p, q = signed_a.primes()
    assert (p & 0xFFFF_FFFF_FFFF_FFFF, q & 0xFFFF_FFFF_FFFF_FFFF) == (signed_a.P_LOW, signed_a.Q_LOW)
    assert (p * q).bit_length() == 3072


def test_the_signed_bytes() -> None:
    assert sha256(digest_input(unsigned(signed_a.ENCLAVEHASH, OPTIONS))) == signed_a.SHA256_OF_SIGNED_BYTES


def test_the_signature_in_big_endian_order(result: Sigstruct) -> None:
    assert sha256(result.signature[::-1]) == signed_a.SHA256_OF_SIGNATURE


def test_mrsigner(result: Sigstruct) -> None:
    assert mrsigner(result).hex() == sha256(result.modulus) == signed_a.SHA256_OF_MODULUS


def test_the_whole_sigstruct(result: Sigstruct) -> None:
    assert sha256(bytes(result)) == signed_a.SHA256_OF_SIGSTRUCT
    assert verify(result).reasons == ()


def test_the_whole_sigstruct_in_two_steps(result: Sigstruct, vector_key: rsa.RSAPrivateKey) -> None:
    again = complete(unsigned(signed_a.ENCLAVEHASH, OPTIONS), vector_key.public_key(), result.signature[::-1])
    assert sha256(bytes(again)) == signed_a.SHA256_OF_SIGSTRUCT


def test_the_key_is_written_for_tests_only(vector_key: rsa.RSAPrivateKey) -> None:
    assert b"tests" in private_pem(vector_key).split(b"\n")[0]
