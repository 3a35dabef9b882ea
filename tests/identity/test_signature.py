"""What EINIT finds in a SIGSTRUCT: each check fails alone, with its own reason."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from swsgx.identity.signature import (
    PADDING,
    check_with_q,
    encoded_message,
    header_violation,
    mrsigner,
    q1_q2,
    q_violation,
    rsa_violation,
    verify,
)
from swsgx.identity.signer import sign
from swsgx.isa.sigstruct import Sigstruct

RESERVED = [f for f in Sigstruct.fields() if f.reserved]


def number(data: bytes) -> int:
    return int.from_bytes(data, "little")


def stored(value: int) -> bytes:
    return value.to_bytes(384, "little")


def test_a_good_sigstruct_passes_every_check(signed: Sigstruct) -> None:
    verdict = verify(signed)
    assert bool(verdict)
    assert (verdict.header, verdict.rsa, verdict.q1q2, verdict.reasons) == (True, True, True, ())


def test_the_padding_is_the_first_352_bytes_of_every_padded_digest(signed: Sigstruct) -> None:
    em = encoded_message(signed)
    assert (len(em), len(PADDING)) == (384, 352)
    assert em == PADDING + hashlib.sha256(signed.signed_bytes()).digest()
    assert em[:2] == b"\0\1"
    assert em[2:332] == b"\xff" * 330
    assert em[332:352].hex() == "003031300d060960864801650304020105000420"


def test_the_padded_digest_is_what_the_signature_opens_to(signed: Sigstruct) -> None:
    opened = pow(number(signed.signature), 3, number(signed.modulus))
    assert opened.to_bytes(384, "big") == encoded_message(signed)


def test_q1_and_q2_are_the_quotients(signed: Sigstruct) -> None:
    n, s, q1, q2 = (number(x) for x in (signed.modulus, signed.signature, signed.q1, signed.q2))
    assert q1 == s**2 // n
    assert q2 == (s**3 - q1 * s * n) // n


@given(st.integers(1, 1 << 3072), st.integers(0, 1 << 3072))
def test_the_identity_of_the_quotients_holds_for_any_numbers(n: int, s: int) -> None:
    s %= n
    q1, q2 = q1_q2(s, n)
    t = s * s - q1 * n
    assert 0 <= t < n
    assert s * t - q2 * n == pow(s, 3, n)


@pytest.mark.parametrize("field", ["q1", "q2"])
@pytest.mark.parametrize("by", [-1, 1])
def test_a_quotient_that_is_off_by_one_fails_einit_but_not_rsa(
    signed: Sigstruct, field: str, by: int
) -> None:
    setattr(signed, field, stored(number(getattr(signed, field)) + by))
    verdict = verify(signed)
    assert (verdict.header, verdict.rsa, verdict.q1q2) == (True, True, False)
    assert verdict.q1q2_reason is not None
    assert field.upper() in verdict.q1q2_reason.rule
    assert verdict.q1q2_reason.found == ("below 0" if by > 0 else "N or more")
    assert not check_with_q(signed)


def test_quotients_of_zero_fail(signed: Sigstruct) -> None:
    signed.q1 = signed.q2 = bytes(384)
    assert not check_with_q(signed)


def test_quotients_that_only_cancel_out_fail(key: rsa.RSAPrivateKey, signed: Sigstruct) -> None:
    """Q1 - 1 and Q2 + S give the same number in the end, but T is not below N."""
    # Q2 + S must fit its field: about every second signature will do.
    while number(signed.q2) + number(signed.signature) >> 3072:
        signed.swdefined += 1
        signed = sign(signed, key)
    n, s, q1, q2 = (number(x) for x in (signed.modulus, signed.signature, signed.q1, signed.q2))
    assert s * (s * s - (q1 - 1) * n) - (q2 + s) * n == int.from_bytes(encoded_message(signed), "big")
    signed.q1, signed.q2 = stored(q1 - 1), stored(q2 + s)
    reason = q_violation(signed)
    assert reason is not None
    assert reason.rule == "SIGSTRUCT.Q1 is floor(S^2 / N)"


def test_a_modulus_of_zero_fails_without_dividing_by_it(signed: Sigstruct) -> None:
    signed.modulus = bytes(384)
    verdict = verify(signed)
    assert (verdict.rsa, verdict.q1q2) == (False, False)


def test_an_all_zero_sigstruct_fails_everything() -> None:
    verdict = verify(Sigstruct())
    assert (verdict.header, verdict.rsa, verdict.q1q2) == (False, False, False)
    assert len(verdict.reasons) == 3


def test_a_signature_as_large_as_the_modulus_is_no_rsa_signature(signed: Sigstruct) -> None:
    """RFC 8017 wants S < N; EINIT's arithmetic, as the manual prints it, does not say so."""
    signed.signature = signed.modulus
    reason = rsa_violation(signed)
    assert reason is not None
    assert reason.rule == "the signature is below the modulus"


def test_a_modulus_of_fewer_bits_is_no_rsa_3072(signed: Sigstruct) -> None:
    signed.modulus = stored(number(signed.modulus) >> 1)
    reason = rsa_violation(signed)
    assert reason is not None
    assert reason.found == "3071 bits"


def test_a_signature_by_another_key_says_so(signed: Sigstruct, signed_once: bytes) -> None:
    signed.modulus = rsa.generate_private_key(3, 3072).public_key().public_numbers().n.to_bytes(384, "little")
    reason = rsa_violation(signed)
    assert reason is not None
    assert "another key" in reason.found or reason.rule == "the signature is below the modulus"


def test_a_signature_over_other_bytes_names_both_digests(signed: Sigstruct) -> None:
    before = hashlib.sha256(signed.signed_bytes()).hexdigest()
    signed.isvsvn += 1
    reason = q_violation(signed)
    assert reason is not None
    assert reason.found == f"SHA-256 {before}"
    assert reason.expected == f"SHA-256 {hashlib.sha256(signed.signed_bytes()).hexdigest()}"


@settings(max_examples=200)
@given(st.integers(0, 1807), st.integers(0, 7))
def test_no_bit_can_be_changed_unseen(signed_once: bytes, byte: int, bit: int) -> None:
    changed = bytearray(signed_once)
    changed[byte] ^= 1 << bit
    assert not verify(Sigstruct(changed))


@settings(max_examples=100)
@given(st.sampled_from([*range(128), *range(900, 1028)]), st.integers(0, 7))
def test_a_change_of_a_signed_bit_fails_both_ways_of_verifying(
    signed_once: bytes, byte: int, bit: int
) -> None:
    changed = bytearray(signed_once)
    changed[byte] ^= 1 << bit
    verdict = verify(Sigstruct(changed))
    assert (verdict.rsa, verdict.q1q2) == (False, False)


@pytest.mark.parametrize("field", ["header", "header2"])
@pytest.mark.parametrize("at", range(16))
def test_each_byte_of_the_constant_headers_counts(signed: Sigstruct, field: str, at: int) -> None:
    changed = bytearray(getattr(signed, field))
    changed[at] ^= 0x80
    setattr(signed, field, bytes(changed))
    reason = header_violation(signed)
    assert reason is not None
    assert reason.rule == f"SIGSTRUCT.{field.upper()} is the constant"


def test_the_vendor_is_nobody_or_intel(signed: Sigstruct) -> None:
    for vendor in (0, 0x8086):
        signed.vendor = vendor
        assert header_violation(signed) is None
    signed.vendor = 1
    reason = header_violation(signed)
    assert reason is not None
    assert (reason.expected, reason.found) == ("0x0 or 0x8086", "0x1")


@pytest.mark.parametrize("exponent", [0, 1, 2, 4, 65537])
def test_the_exponent_is_3(signed: Sigstruct, exponent: int) -> None:
    signed.exponent = exponent
    reason = header_violation(signed)
    assert reason is not None
    assert reason.found == str(exponent)


@pytest.mark.parametrize("field", RESERVED, ids=lambda f: f.name)
@pytest.mark.parametrize("which", [0, -1])
def test_reserved_bytes_are_zero_first_and_last_of_each_field(
    signed: Sigstruct, field: object, which: int
) -> None:
    name = getattr(field, "name")  # noqa: B009 - a descriptor of any type
    data = bytearray(getattr(signed, name))
    data[which] = 1
    setattr(signed, name, bytes(data))
    reason = header_violation(signed)
    assert reason is not None
    assert name in reason.found


@pytest.mark.parametrize(
    "field", ["date", "swdefined", "isvprodid", "isvsvn", "miscselect", "attributes", "xfrm"]
)
def test_the_header_check_leaves_what_the_signer_chooses_alone(signed: Sigstruct, field: str) -> None:
    setattr(signed, field, 0x55)
    assert header_violation(signed) is None


def test_the_header_is_checked_before_the_vendor_and_the_vendor_before_the_exponent(
    signed: Sigstruct,
) -> None:
    signed.vendor, signed.exponent, signed.header = 1, 1, bytes(16)
    rules = []
    for field, good in (("header", None), ("vendor", 0), ("exponent", 3)):
        reason = header_violation(signed)
        assert reason is not None
        rules.append(reason.rule)
        setattr(signed, field, bytes.fromhex("06000000e10000000000010000000000") if good is None else good)
    assert [rule.split()[0] for rule in rules] == [
        "SIGSTRUCT.HEADER",
        "SIGSTRUCT.VENDOR",
        "SIGSTRUCT.EXPONENT",
    ]
    assert header_violation(signed) is None


def test_mrsigner_is_sha_256_of_the_little_endian_modulus(signed: Sigstruct) -> None:
    assert mrsigner(signed) == hashlib.sha256(signed.modulus).digest() == mrsigner(signed.modulus)


@pytest.mark.parametrize("size", [0, 383, 385])
def test_mrsigner_wants_a_whole_modulus(size: int) -> None:
    with pytest.raises(ValueError, match="it has 384"):
        mrsigner(bytes(size))
