"""Signing, in one step and in two, checked by an RSA that is not ours."""

from __future__ import annotations

import datetime

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from swsgx.identity.errors import IdentityError
from swsgx.identity.signer import complete, digest_input, modulus_bytes, mrsigner, sign, verify
from swsgx.identity.sigstruct import SigstructOptions, bcd_date, from_signed_bytes, redated, unsigned
from swsgx.isa.sigstruct import SIGSTRUCT_HEADER, SIGSTRUCT_HEADER2, Sigstruct

MRENCLAVE = bytes(range(32))

u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFF_FFFF)
u64 = st.integers(0, (1 << 64) - 1)
bytes16 = st.binary(min_size=16, max_size=16)
options = st.builds(
    SigstructOptions,
    attributes=u64,
    attributemask=u64,
    xfrm=u64,
    xfrmmask=u64,
    miscselect=u32,
    miscmask=u32,
    isvprodid=u16,
    isvsvn=u16,
    date=u32,
    vendor=st.sampled_from([0, 0x8086]),
    swdefined=u32,
    isvfamilyid=bytes16,
    isvextprodid=bytes16,
)


def independently_verified(sigstruct: Sigstruct) -> bool:
    """RSA as the cryptography package does it, from the bytes alone."""
    data = bytes(sigstruct)
    public = rsa.RSAPublicNumbers(3, int.from_bytes(data[128:512], "little")).public_key()
    try:
        public.verify(data[899:515:-1], data[:128] + data[900:1028], padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True


def away(data: bytes, key: rsa.RSAPrivateKey) -> bytes:
    """The signer who is elsewhere: 256 bytes in, 384 bytes out."""
    return key.sign(data, padding.PKCS1v15(), hashes.SHA256())


@settings(max_examples=30)
@given(options, st.binary(min_size=32, max_size=32))
def test_what_is_signed_verifies_here_and_elsewhere(
    key: rsa.RSAPrivateKey, given_options: SigstructOptions, mrenclave: bytes
) -> None:
    signed = sign(unsigned(mrenclave, given_options), key)
    assert verify(signed).reasons == ()
    assert independently_verified(signed)
    for name in SigstructOptions.__slots__:
        assert getattr(signed, name) == getattr(given_options, name)
    assert signed.enclavehash == mrenclave


@settings(max_examples=30)
@given(st.integers(128, 1027), st.integers(1, 255))
def test_our_rsa_verdict_is_that_of_an_independent_one(signed_once: bytes, at: int, change: int) -> None:
    changed = bytearray(signed_once)
    changed[at] ^= change
    # The other one refuses to look at moduli that no key has, and does not read SIGSTRUCT.EXPONENT.
    assume(changed[511] & 0x80 and changed[128] & 1 and not 512 <= at < 516)
    assert verify(Sigstruct(changed)).rsa == independently_verified(Sigstruct(changed))


def test_signing_gives_a_new_sigstruct_and_leaves_the_old_one(key: rsa.RSAPrivateKey) -> None:
    before = unsigned(MRENCLAVE)
    copied = bytes(before)
    assert sign(before, key) != before
    assert bytes(before) == copied


def test_a_signed_sigstruct_can_be_signed_again_by_another(signed: Sigstruct) -> None:
    other = rsa.generate_private_key(3, 3072)
    again = sign(signed, other)
    assert verify(again)
    assert mrsigner(again) != mrsigner(signed)
    assert again.signed_bytes() == signed.signed_bytes()


def test_signing_is_deterministic(key: rsa.RSAPrivateKey) -> None:
    assert sign(unsigned(MRENCLAVE), key) == sign(unsigned(MRENCLAVE), key)


def test_the_modulus_is_stored_little_endian(key: rsa.RSAPrivateKey, signed: Sigstruct) -> None:
    assert signed.modulus == modulus_bytes(key.public_key())
    assert int.from_bytes(signed.modulus, "little") == key.public_key().public_numbers().n


def test_two_steps_give_the_same_bytes_as_one(key: rsa.RSAPrivateKey) -> None:
    before = unsigned(MRENCLAVE, SigstructOptions(date=0x20240229))
    data = digest_input(before)
    assert len(data) == 256
    assert complete(before, key.public_key(), away(data, key)) == sign(before, key)


def test_the_second_step_can_start_from_the_256_bytes_alone(key: rsa.RSAPrivateKey) -> None:
    before = unsigned(MRENCLAVE, SigstructOptions(isvsvn=7, isvextprodid=b"x" * 16))
    assert from_signed_bytes(digest_input(before)) == before


@pytest.mark.parametrize("size", [0, 255, 257, 1808])
def test_signed_bytes_of_another_length_are_refused(size: int) -> None:
    with pytest.raises(IdentityError, match=f"expected 256 bytes, found {size} bytes"):
        from_signed_bytes(bytes(size))


def test_the_second_step_takes_the_date_of_the_first(key: rsa.RSAPrivateKey) -> None:
    monday = unsigned(MRENCLAVE, SigstructOptions(date=0x20240101))
    tuesday = unsigned(MRENCLAVE, SigstructOptions(date=0x20240102))
    assert redated(tuesday, digest_input(monday)) == monday
    assert tuesday.date == 0x20240102


@pytest.mark.parametrize(
    ("other", "field"),
    [
        (unsigned(bytes(32)), "enclavehash"),
        (unsigned(MRENCLAVE, SigstructOptions(isvsvn=1)), "isvsvn"),
        (unsigned(MRENCLAVE, SigstructOptions(vendor=0x8086)), "vendor"),
        (unsigned(MRENCLAVE, SigstructOptions(miscselect=1)), "miscselect"),
        (unsigned(MRENCLAVE, SigstructOptions(isvextprodid=b"y" * 16)), "isvextprodid"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_the_second_step_refuses_whatever_else_has_changed_and_names_it(other: Sigstruct, field: str) -> None:
    with pytest.raises(IdentityError, match=f"expected {field} "):
        redated(unsigned(MRENCLAVE), digest_input(other))


def test_a_signature_over_other_bytes_is_refused(key: rsa.RSAPrivateKey) -> None:
    signature = away(digest_input(unsigned(bytes(32))), key)
    with pytest.raises(IdentityError, match="signing: the signature is over these bytes, by this key"):
        complete(unsigned(MRENCLAVE), key.public_key(), signature)


def test_a_signature_by_another_key_is_refused(key: rsa.RSAPrivateKey) -> None:
    before = unsigned(MRENCLAVE)
    other = rsa.generate_private_key(3, 3072)
    with pytest.raises(IdentityError, match="signing: the signature is"):
        complete(before, other.public_key(), away(digest_input(before), key))


def test_a_signature_with_another_hash_is_refused(key: rsa.RSAPrivateKey) -> None:
    before = unsigned(MRENCLAVE)
    signature = key.sign(digest_input(before), padding.PKCS1v15(), hashes.SHA512())
    with pytest.raises(IdentityError, match="no PKCS #1 padding of SHA-256"):
        complete(before, key.public_key(), signature)


def test_a_little_endian_signature_is_refused_with_the_remedy(key: rsa.RSAPrivateKey) -> None:
    before = unsigned(MRENCLAVE)
    with pytest.raises(IdentityError) as told:
        complete(before, key.public_key(), away(digest_input(before), key)[::-1])
    assert told.value.reason.remedy == "its bytes are in little-endian order; give them big-endian"


def test_a_wrong_signature_gets_no_remedy_that_does_not_help(key: rsa.RSAPrivateKey) -> None:
    with pytest.raises(IdentityError) as told:
        complete(unsigned(MRENCLAVE), key.public_key(), b"\x01" * 384)
    assert told.value.reason.remedy == ""


@pytest.mark.parametrize("size", [0, 383, 385, 768])
def test_a_signature_of_another_length_is_refused(key: rsa.RSAPrivateKey, size: int) -> None:
    with pytest.raises(IdentityError, match=f"expected 384 bytes, found {size} bytes"):
        complete(unsigned(MRENCLAVE), key.public_key(), bytes(size))


@pytest.mark.parametrize(("exponent", "bits"), [(65537, 3072), (3, 2048), (3, 4096)])
def test_a_key_that_einit_cannot_use_signs_nothing(exponent: int, bits: int) -> None:
    bad = rsa.generate_private_key(exponent, bits)
    with pytest.raises(IdentityError, match="signing key: the "):
        sign(unsigned(MRENCLAVE), bad)
    with pytest.raises(IdentityError, match="signing key: the "):
        complete(unsigned(MRENCLAVE), bad.public_key(), bytes(384))


def test_an_unsigned_sigstruct_has_its_constants_and_no_key() -> None:
    made = unsigned(MRENCLAVE)
    assert (made.header, made.header2, made.exponent) == (SIGSTRUCT_HEADER, SIGSTRUCT_HEADER2, 3)
    assert not any(made.modulus + made.signature + made.q1 + made.q2)
    assert made.first_nonzero_reserved() is None


def test_by_default_everything_is_pinned_but_debug() -> None:
    made = unsigned(MRENCLAVE)
    assert (made.attributes, made.attributemask) == (4, 0xFFFF_FFFF_FFFF_FFFD)
    assert (made.xfrm, made.xfrmmask) == (3, 0xFFFF_FFFF_FFFF_FFFF)
    assert (made.miscselect, made.miscmask) == (0, 0xFFFF_FFFF)


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (SigstructOptions(isvsvn=0x10000), "isvsvn"),
        (SigstructOptions(isvprodid=-1), "isvprodid"),
        (SigstructOptions(date=1 << 32), "date"),
        (SigstructOptions(attributes=1 << 64), "attributes"),
        (SigstructOptions(isvfamilyid=bytes(15)), "isvfamilyid"),
        (SigstructOptions(isvextprodid=bytes(17)), "isvextprodid"),
    ],
)
def test_a_value_that_does_not_fit_its_field_is_refused_by_name(bad: SigstructOptions, field: str) -> None:
    with pytest.raises(IdentityError, match=f"SIGSTRUCT: {field} fits its field"):
        unsigned(MRENCLAVE, bad)


def test_a_measurement_of_another_length_is_refused() -> None:
    with pytest.raises(IdentityError, match="enclavehash fits its field: expected 32 bytes"):
        unsigned(bytes(31))


def test_a_date_is_binary_coded_decimal() -> None:
    assert bcd_date(datetime.date(2024, 2, 29)) == 0x20240229
    assert bcd_date(datetime.date(999, 12, 31)) == 0x09991231
