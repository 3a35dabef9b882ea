"""Signing a SIGSTRUCT, in one step or in two.

In one: :func:`sign` with the private key. In two, where the key is elsewhere: :func:`digest_input` gives the
256 bytes that the signer hashes and signs (RSASSA-PKCS1-v1_5, SHA-256), :func:`complete` takes the 384 bytes
that come back, big-endian as every RSA tool writes them. Both ways give the same bytes.
"""

from __future__ import annotations

from dataclasses import replace

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from swsgx.identity.errors import IdentityError
from swsgx.identity.rsakey import (
    generate_key,
    load_private_key,
    load_public_key,
    private_pem,
    public_pem,
    require_signer_key,
)
from swsgx.identity.signature import (
    PADDING,
    Verification,
    check_with_q,
    encoded_message,
    header_violation,
    mrsigner,
    q1_q2,
    q_violation,
    rsa_violation,
    verify,
)
from swsgx.isa.sigstruct import RSA_BYTES, RSA_EXPONENT, Sigstruct
from swsgx.trace import Reason

__all__ = [
    "PADDING",
    "Verification",
    "check_with_q",
    "complete",
    "digest_input",
    "encoded_message",
    "generate_key",
    "header_violation",
    "load_private_key",
    "load_public_key",
    "modulus_bytes",
    "mrsigner",
    "private_pem",
    "public_pem",
    "q1_q2",
    "q_violation",
    "sign",
    "verify",
]


def digest_input(sigstruct: Sigstruct) -> bytes:
    """The 256 bytes that are hashed and signed; a file for a signer who is elsewhere."""
    return sigstruct.signed_bytes()


def modulus_bytes(key: rsa.RSAPublicKey) -> bytes:
    """The modulus as SIGSTRUCT stores it: 384 bytes, little-endian."""
    return key.public_numbers().n.to_bytes(RSA_BYTES, "little")


def sign(sigstruct: Sigstruct, key: rsa.RSAPrivateKey) -> Sigstruct:
    """A new SIGSTRUCT: the given one with modulus, signature, Q1 and Q2.

    Args:
        sigstruct: left as it is; its own key fields do not matter.
        key: RSA-3072 with exponent 3.

    Raises:
        IdentityError: another kind of key.
    """
    require_signer_key(key.public_key())
    signature = key.sign(digest_input(sigstruct), padding.PKCS1v15(), hashes.SHA256())
    return complete(sigstruct, key.public_key(), signature)


def complete(sigstruct: Sigstruct, public_key: rsa.RSAPublicKey, signature: bytes) -> Sigstruct:
    """A new SIGSTRUCT: the given one with a signature that was made elsewhere.

    Args:
        sigstruct: the one whose :func:`digest_input` was signed; left as it is.
        public_key: the signer's.
        signature: 384 bytes, big-endian.

    Raises:
        IdentityError: another kind of key; the signature has another length, or is not over these bytes by
            this key.
    """
    require_signer_key(public_key)
    if len(signature) != RSA_BYTES:
        raise IdentityError(
            Reason(
                "signing",
                "the signature is raw RSA-3072",
                f"{RSA_BYTES} bytes",
                f"{len(signature)} bytes",
                "RFC 8017, 'RSASSA-PKCS1-v1_5'",
                "give the signer's raw output, neither hexadecimal nor base64",
            )
        )
    number, modulus = int.from_bytes(signature, "big"), public_key.public_numbers().n
    made = Sigstruct.copy_of(bytes(sigstruct))
    made.modulus = modulus_bytes(public_key)
    made.exponent = RSA_EXPONENT
    made.signature = signature[::-1]
    wrong = rsa_violation(made)
    if wrong is not None:
        made.signature = signature
        turned = rsa_violation(made) is None
        remedy = "its bytes are in little-endian order; give them big-endian" if turned else ""
        raise IdentityError(replace(wrong, operation="signing", remedy=remedy))
    q1, q2 = q1_q2(number, modulus)
    made.q1 = q1.to_bytes(RSA_BYTES, "little")
    made.q2 = q2.to_bytes(RSA_BYTES, "little")
    return made
