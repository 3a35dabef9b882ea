"""One fresh key for all of these tests, since making one takes a moment."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from swsgx.identity.signer import generate_key, sign
from swsgx.identity.sigstruct import SigstructOptions, unsigned
from swsgx.isa.sigstruct import Sigstruct


@pytest.fixture(scope="session")
def key() -> rsa.RSAPrivateKey:
    return generate_key()


@pytest.fixture(scope="session")
def signed_once(key: rsa.RSAPrivateKey) -> bytes:
    options = SigstructOptions(
        isvprodid=1, isvsvn=2, date=0x20240229, isvfamilyid=b"F" * 16, isvextprodid=b"E" * 16
    )
    return bytes(sign(unsigned(bytes(range(32)), options), key))


@pytest.fixture
def signed(signed_once: bytes) -> Sigstruct:
    """A good SIGSTRUCT that the test may spoil."""
    return Sigstruct.copy_of(signed_once)
