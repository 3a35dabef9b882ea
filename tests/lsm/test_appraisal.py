"""References of files and their check. evmctl makes and checks the same ones in tests/conformance/test_readers.py."""

from __future__ import annotations

import datetime
import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from swsgx.lsm.appraisal import (
    HASHES,
    AppraisalError,
    DigestReference,
    Keyring,
    PrivateKey,
    SignatureReference,
    appraise,
    key_id,
    parse_reference,
    read_reference,
    sign_digest,
)

DATA = b"the contents"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP384R1())
KEYS = pytest.mark.parametrize("key", [RSA, EC], ids=["rsa", "ecdsa"])


def _digest_of(data: bytes) -> Callable[[str], bytes]:
    return lambda algorithm: hashlib.new(algorithm, data).digest()


def _signed(key: PrivateKey, algorithm: str = "sha256") -> bytes:
    return sign_digest(key, algorithm, hashlib.new(algorithm, DATA).digest()).packed()


def _trusting(*keys: PrivateKey) -> Keyring:
    keyring = Keyring()
    for key in keys:
        keyring.add(key.public_key())
    return keyring


def test_digest_references_of_both_types_are_read() -> None:
    assert parse_reference(b"\x01" + bytes(range(20))) == DigestReference("sha1", bytes(range(20)))
    assert parse_reference(b"\x04\x04" + bytes(range(32))) == DigestReference("sha256", bytes(range(32)))


def test_signature_reference_has_the_kernels_header() -> None:
    value = bytes.fromhex("0302 04 98b58b0c 0002 abcd".replace(" ", ""))
    assert parse_reference(value) == SignatureReference("sha256", 0x98B58B0C, b"\xab\xcd")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("", "an empty reference"),
        ("01" + "00" * 19, "a sha1 digest of 19 bytes, not 20"),
        ("0404" + "00" * 33, "a sha256 digest of 33 bytes, not 32"),
        ("04", "hash algorithm missing"),
        ("0411" + "00" * 32, "hash algorithm 11"),
        ("03020498b5", "a signature of 5 bytes, less than its header has"),
        ("03010498b58b0c0002abcd", "a signature of version 1"),
        ("03020498b58b0c0003abcd", "a signature of 2 bytes that claims to have 3"),
        ("03020498b58b0c0000", "a signature of 0 bytes that claims to have 0"),
        ("0502", "type 0x5: a portable signature of EVM; not supported"),
        ("0601", "type 0x6: a signature of fs-verity"),
        ("ff", "type 0xff: unknown"),
    ],
)
def test_reference_of_another_form_is_refused_with_what_it_is(value: str, problem: str) -> None:
    with pytest.raises(AppraisalError, match=problem):
        parse_reference(bytes.fromhex(value))


@given(st.binary(max_size=60))
def test_any_bytes_are_a_reference_or_a_clear_error(value: bytes) -> None:
    try:
        reference = parse_reference(value)
    except AppraisalError:
        return
    assert reference.packed() == value or value[0] == 1


@KEYS
@pytest.mark.parametrize("algorithm", sorted(HASHES.values()))
def test_signature_over_the_file_is_accepted(key: PrivateKey, algorithm: str) -> None:
    value = _signed(key, algorithm)
    assert appraise("f", value, _digest_of(DATA), _trusting(key), algorithms=[algorithm]) is None


@KEYS
def test_signature_over_another_file_is_refused(key: PrivateKey) -> None:
    reason = appraise("f", _signed(key), _digest_of(DATA + b"."), _trusting(key))
    assert reason is not None
    assert "is over this file" in reason.rule


@KEYS
def test_signature_with_one_bit_changed_is_refused(key: PrivateKey) -> None:
    value = bytearray(_signed(key))
    value[-1] ^= 1
    assert appraise("f", bytes(value), _digest_of(DATA), _trusting(key)) is not None


def test_signature_by_a_key_that_nobody_trusts_is_refused_without_hashing_the_file() -> None:
    def never(algorithm: str) -> bytes:
        raise AssertionError(algorithm)

    reason = appraise("f", _signed(RSA), never, _trusting(EC))
    assert reason is not None
    assert reason.expected == f"key {key_id(RSA.public_key()):08x}"


def test_signature_that_names_the_wrong_key_is_refused() -> None:
    """Two keys can have one number, and the number proves nothing."""
    keyring = Keyring()
    keyring.add(EC.public_key(), key_id(RSA.public_key()))
    assert appraise("f", _signed(RSA), _digest_of(DATA), keyring) is not None
    keyring.add(RSA.public_key())
    assert appraise("f", _signed(RSA), _digest_of(DATA), keyring) is None


def test_file_without_a_reference_is_refused_and_told_how_to_get_one() -> None:
    reason = appraise("f", None, _digest_of(DATA), Keyring())
    assert reason is not None
    assert "evmctl ima_sign" in reason.remedy


def test_digest_will_do_only_where_no_signature_is_demanded() -> None:
    value = DigestReference("sha256", hashlib.sha256(DATA).digest()).packed()
    assert appraise("f", value, _digest_of(DATA), Keyring(), signature=False) is None
    assert appraise("f", value, _digest_of(b""), Keyring(), signature=False) is not None
    reason = appraise("f", value, _digest_of(DATA), Keyring())
    assert reason is not None
    assert reason.rule == "the reference is a signature"


def test_algorithm_that_is_not_accepted_is_refused_though_the_signature_is_right() -> None:
    reason = appraise("f", _signed(RSA, "sha1"), _digest_of(DATA), _trusting(RSA))
    assert reason is not None
    assert (reason.expected, reason.found) == ("sha256, sha384, sha512", "sha1 (f)")


def test_reference_that_cannot_be_read_is_a_refusal_and_no_error() -> None:
    reason = appraise("f", b"\x05", _digest_of(DATA), Keyring())
    assert reason is not None
    assert "portable signature" in reason.found


# ---- files ----------------------------------------------------------------------------------------------------------


def _no_attribute(path: int | Path, name: str) -> bytes:
    raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))


def test_attribute_comes_before_the_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "f.sig").write_bytes(b"beside")
    assert read_reference(tmp_path / "f", get=lambda path, name: name.encode()) == b"security.ima"
    assert read_reference(tmp_path / "f", get=_no_attribute) == b"beside"


def test_file_without_attribute_and_signature_has_no_reference(tmp_path: Path) -> None:
    assert read_reference(tmp_path / "f", get=_no_attribute) is None


def test_signature_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "f.sig").mkdir()
    with pytest.raises(AppraisalError, match=r"f\.sig: cannot be read: Is a directory"):
        read_reference(tmp_path / "f", get=_no_attribute)


def _certificate(key: PrivateKey, identifier: bytes) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test")])
    start = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    return (
        x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + datetime.timedelta(9999))
        .add_extension(x509.SubjectKeyIdentifier(identifier), critical=False)
        .sign(key, hashes.SHA256())
    )


@KEYS
@pytest.mark.parametrize("encoding", [serialization.Encoding.PEM, serialization.Encoding.DER])
def test_keys_and_certificates_are_read_in_both_encodings(
    key: PrivateKey, encoding: serialization.Encoding, tmp_path: Path
) -> None:
    public = key.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
    for data in (public, _certificate(key, bytes(20)).public_bytes(encoding)):
        (tmp_path / "key").write_bytes(data)
        keyring = Keyring()
        keyring.add_file(tmp_path / "key")
        assert appraise("f", _signed(key), _digest_of(DATA), keyring) is None


def test_certificates_own_identifier_names_its_key_too(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(
        _certificate(EC, b"\1" * 16 + b"\xca\xfe\xba\xbe").public_bytes(serialization.Encoding.DER)
    )
    keyring = Keyring()
    keyring.add_file(tmp_path / "key")
    assert len(tuple(keyring.named(0xCAFEBABE))) == 1


def test_file_that_is_no_key_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"hello")
    with pytest.raises(AppraisalError, match="is neither a public key nor a certificate"):
        Keyring().add_file(tmp_path / "key")
    with pytest.raises(AppraisalError, match="cannot be read: No such file"):
        Keyring().add_file(tmp_path / "missing")
