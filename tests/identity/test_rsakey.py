"""Key files: the good kinds load, every bad kind is refused with the rule it breaks."""

from __future__ import annotations

import base64
import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from swsgx.identity.errors import IdentityError
from swsgx.identity.rsakey import (
    generate_key,
    load_private_key,
    load_public_key,
    private_pem,
    public_pem,
)

PEM = serialization.Encoding.PEM
DER = serialization.Encoding.DER
PKCS1 = serialization.PrivateFormat.TraditionalOpenSSL
PKCS8 = serialization.PrivateFormat.PKCS8
PLAIN = serialization.NoEncryption()
Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def pkcs8(key: Private) -> bytes:
    return key.private_bytes(PEM, PKCS8, PLAIN)


def spki(key: Private) -> bytes:
    return key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def certificate(key: rsa.RSAPrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test only")])
    day = datetime.datetime(2024, 1, 1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, day, day + datetime.timedelta(days=1))
    return builder.sign(key, hashes.SHA256()).public_bytes(PEM)


def same(one: rsa.RSAPrivateKey | rsa.RSAPublicKey, other: rsa.RSAPrivateKey | rsa.RSAPublicKey) -> bool:
    numbers = [
        (k.public_key() if isinstance(k, rsa.RSAPrivateKey) else k).public_numbers() for k in (one, other)
    ]
    return numbers[0] == numbers[1]


def test_a_generated_key_has_3072_bits_and_exponent_3() -> None:
    key = generate_key()
    assert (key.key_size, key.public_key().public_numbers().e) == (3072, 3)


def test_two_generated_keys_differ(key: rsa.RSAPrivateKey) -> None:
    assert not same(key, generate_key())


def test_a_private_key_survives_its_pem_file(key: rsa.RSAPrivateKey) -> None:
    assert load_private_key(private_pem(key)).private_numbers() == key.private_numbers()


def test_a_public_key_survives_its_pem_file(key: rsa.RSAPrivateKey) -> None:
    assert same(load_public_key(public_pem(key.public_key())), key)


def test_a_private_key_file_says_that_it_is_for_tests(key: rsa.RSAPrivateKey) -> None:
    assert private_pem(key).startswith(b"Made by swsgx, for enclaves in tests.")


@pytest.mark.parametrize("form", [PKCS1, PKCS8], ids=["PKCS #1", "PKCS #8"])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"], ids=["LF", "CR LF"])
def test_both_forms_of_private_keys_load(
    key: rsa.RSAPrivateKey, form: serialization.PrivateFormat, newline: bytes
) -> None:
    assert same(load_private_key(key.private_bytes(PEM, form, PLAIN).replace(b"\n", newline)), key)


def test_public_keys_load_as_pkcs_1_and_out_of_certificates_too(key: rsa.RSAPrivateKey) -> None:
    assert same(load_public_key(key.public_key().public_bytes(PEM, serialization.PublicFormat.PKCS1)), key)
    assert same(load_public_key(certificate(key)), key)


@pytest.mark.parametrize(
    ("pem", "found"),
    [
        (b"", "an empty file"),
        (b" \n", "an empty file"),
        (b"not a key", "no BEGIN line"),
        (b"\x7fELF\0", "DER, or some other binary"),
        (b"\xff\xfe\xfd", "no BEGIN line"),
    ],
)
def test_what_is_no_pem_is_refused(pem: bytes, found: str) -> None:
    for load in (load_private_key, load_public_key):
        with pytest.raises(IdentityError) as told:
            load(pem)
        assert told.value.reason.rule == "the file is a PEM file"
        assert told.value.reason.found == found


def test_der_is_refused_with_the_way_to_convert_it(key: rsa.RSAPrivateKey) -> None:
    with pytest.raises(IdentityError, match="openssl rsa -inform DER"):
        load_private_key(key.private_bytes(DER, PKCS8, PLAIN))


@pytest.mark.parametrize("form", [PKCS1, PKCS8], ids=["PKCS #1", "PKCS #8"])
def test_an_encrypted_key_is_refused(key: rsa.RSAPrivateKey, form: serialization.PrivateFormat) -> None:
    pem = key.private_bytes(PEM, form, serialization.BestAvailableEncryption(b"passphrase"))
    with pytest.raises(IdentityError, match=r"the key is not encrypted.*openssl rsa -in FILE"):
        load_private_key(pem)


def test_a_public_key_cannot_sign(key: rsa.RSAPrivateKey) -> None:
    with pytest.raises(IdentityError, match=r"holds a private RSA key: .*found PUBLIC KEY"):
        load_private_key(spki(key))


def test_a_certificate_cannot_sign(key: rsa.RSAPrivateKey) -> None:
    with pytest.raises(IdentityError, match=r"holds a private RSA key: .*found CERTIFICATE"):
        load_private_key(certificate(key))


def test_a_private_key_is_not_taken_where_the_public_one_is_meant(key: rsa.RSAPrivateKey) -> None:
    with pytest.raises(IdentityError, match="found PRIVATE KEY; take its public half: openssl rsa"):
        load_public_key(pkcs8(key))


def test_an_openssh_key_is_refused(key: rsa.RSAPrivateKey) -> None:
    pem = key.private_bytes(PEM, serialization.PrivateFormat.OpenSSH, PLAIN)
    with pytest.raises(IdentityError, match="found OPENSSH PRIVATE KEY"):
        load_private_key(pem)


@pytest.mark.parametrize("bits", [2048, 4096])
def test_another_size_is_refused(bits: int) -> None:
    key = rsa.generate_private_key(3, bits)
    for load, pem in ((load_private_key, pkcs8(key)), (load_public_key, spki(key))):
        with pytest.raises(
            IdentityError, match=f"the key has 3072 bits: expected 3072 bits, found {bits} bits"
        ):
            load(pem)


def test_another_exponent_is_refused() -> None:
    key = rsa.generate_private_key(65537, 3072)
    for load, pem in ((load_private_key, pkcs8(key)), (load_public_key, spki(key))):
        with pytest.raises(
            IdentityError, match="the public exponent is 3: expected 3, found 65537; make one"
        ):
            load(pem)


@pytest.mark.parametrize(
    ("key", "found"),
    [(ec.generate_private_key(ec.SECP256R1()), "EC"), (ed25519.Ed25519PrivateKey.generate(), "Ed25519")],
    ids=["EC", "Ed25519"],
)
def test_keys_that_are_not_for_rsa_are_refused(key: Private, found: str) -> None:
    for load, pem in ((load_private_key, pkcs8(key)), (load_public_key, spki(key))):
        with pytest.raises(IdentityError, match=f"the key is for RSA: expected RSA, found .*{found}"):
            load(pem)


def test_a_damaged_key_is_refused(key: rsa.RSAPrivateKey) -> None:
    for load, pem in (
        (load_private_key, pkcs8(key)),
        (load_public_key, spki(key)),
        (load_public_key, certificate(key)),
    ):
        lines = pem.split(b"\n")
        for broken in (
            lines[:-3],
            [lines[0], b"AAAA" + lines[1][4:], *lines[2:]],
            [lines[0], b"!", *lines[2:]],
        ):
            with pytest.raises(IdentityError, match="can be decoded"):
                load(b"\n".join(broken))


def test_a_private_key_that_is_no_pair_is_refused(key: rsa.RSAPrivateKey) -> None:
    """The primes of one key with the modulus of another."""
    der = bytearray(key.private_bytes(DER, PKCS1, PLAIN))
    at = der.index(key.public_key().public_numbers().n.to_bytes(384, "big"))
    der[at + 200] ^= 1
    pem = (
        b"-----BEGIN RSA PRIVATE KEY-----\n"
        + base64.encodebytes(bytes(der))
        + b"-----END RSA PRIVATE KEY-----\n"
    )
    with pytest.raises(IdentityError, match="the private key can be decoded"):
        load_private_key(pem)
