"""The signer's key: RSA-3072 with exponent 3, in PEM files.

Every other kind of file is refused with the rule that it breaks, since "could not load key" helps nobody.
"""

from __future__ import annotations

import re

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

from swsgx.identity.errors import IdentityError
from swsgx.isa.layout import SDM
from swsgx.isa.sigstruct import RSA_EXPONENT
from swsgx.trace import Reason

__all__ = [
    "KEY_BITS",
    "generate_key",
    "load_private_key",
    "load_public_key",
    "private_pem",
    "public_pem",
    "require_signer_key",
]

#: Bits of the modulus.
KEY_BITS = 3072

_SOURCE = f"{SDM}, 'Enclave Signature Structure (SIGSTRUCT)'"
_REMEDY = "make one: openssl genrsa -3 3072"
_LABEL = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----")
_PRIVATE = ("PRIVATE KEY", "RSA PRIVATE KEY")
_PUBLIC = ("PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE")
#: What a key made here says of itself, before the PEM block.
_NOTICE = b"Made by swsgx, for enclaves in tests. Whoever can read this file can sign as you.\n"


def _refusal(rule: str, expected: str, found: str, remedy: str = "") -> IdentityError:
    return IdentityError(Reason("signing key", rule, expected, found, _SOURCE, remedy))


def generate_key() -> rsa.RSAPrivateKey:
    """A fresh RSA-3072 key with exponent 3."""
    return rsa.generate_private_key(public_exponent=RSA_EXPONENT, key_size=KEY_BITS)


def private_pem(key: rsa.RSAPrivateKey) -> bytes:
    """The key as an unencrypted PKCS #8 PEM file, with a line before it that says where it is from."""
    return _NOTICE + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_pem(key: rsa.RSAPublicKey) -> bytes:
    """The public key as a PEM SubjectPublicKeyInfo, as two-step signers exchange it."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _label(pem: bytes) -> str:
    """What the first PEM block says it is."""
    if not pem.strip():
        raise _refusal("the file is a PEM file", "a BEGIN line", "an empty file", _REMEDY)
    match = _LABEL.search(pem)
    if match is None:
        found = "DER, or some other binary" if pem[:1] == b"\x30" or b"\0" in pem else "no BEGIN line"
        raise _refusal("the file is a PEM file", "a BEGIN line", found, "convert it: openssl rsa -inform DER")
    return match[1].decode("ascii")


def load_private_key(pem: bytes) -> rsa.RSAPrivateKey:
    """A signer's private key out of a PEM file (PKCS #1 or PKCS #8, not encrypted).

    Raises:
        IdentityError: no PEM, no private key, encrypted, damaged, not RSA, not 3072 bits, or exponent not 3.
    """
    label = _label(pem)
    if label == "ENCRYPTED PRIVATE KEY" or b"Proc-Type: 4,ENCRYPTED" in pem:
        raise _refusal(
            "the key is not encrypted",
            "no passphrase",
            "an encrypted key",
            "decrypt it: openssl rsa -in FILE",
        )
    if label not in _PRIVATE:
        raise _refusal("the file holds a private RSA key", " or ".join(_PRIVATE), label, _REMEDY)
    try:
        key: PrivateKeyTypes = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _refusal("the private key can be decoded", "a sound key", _first_line(error), _REMEDY) from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise _refusal("the key is for RSA", "RSA", type(key).__name__.lstrip("_"), _REMEDY)
    require_signer_key(key.public_key())
    return key


def load_public_key(pem: bytes) -> rsa.RSAPublicKey:
    """A signer's public key out of a PEM file (SubjectPublicKeyInfo, PKCS #1, or an X.509 certificate).

    Raises:
        IdentityError: no PEM, a private key, damaged, not RSA, not 3072 bits, or exponent not 3.
    """
    label = _label(pem)
    if label not in _PUBLIC:
        remedy = "take its public half: openssl rsa -in FILE -pubout" if "PRIVATE" in label else _REMEDY
        raise _refusal("the file holds a public RSA key", " or ".join(_PUBLIC), label, remedy)
    try:
        key: PublicKeyTypes
        if label == "CERTIFICATE":
            key = x509.load_pem_x509_certificate(pem).public_key()
        else:
            key = serialization.load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _refusal("the public key can be decoded", "a sound key", _first_line(error), _REMEDY) from None
    if not isinstance(key, rsa.RSAPublicKey):
        raise _refusal("the key is for RSA", "RSA", type(key).__name__.lstrip("_"), _REMEDY)
    require_signer_key(key)
    return key


def require_signer_key(key: rsa.RSAPublicKey) -> None:
    """Do nothing for a key that EINIT can use.

    Raises:
        IdentityError: not 3072 bits, or exponent not 3.
    """
    if key.key_size != KEY_BITS:
        raise _refusal("the key has 3072 bits", f"{KEY_BITS} bits", f"{key.key_size} bits", _REMEDY)
    exponent = key.public_numbers().e
    if exponent != RSA_EXPONENT:
        raise _refusal("the public exponent is 3", str(RSA_EXPONENT), str(exponent), _REMEDY)


def _first_line(error: Exception) -> str:
    """The library's own words, kept short."""
    return (str(error).strip().split("\n")[0] or type(error).__name__)[:120]
