"""Flags, leaf numbers, error codes, vectors: typed from the manual's tables."""

from __future__ import annotations

import pytest

from swsgx.isa import (
    ENCLS_OPCODE,
    ENCLU_OPCODE,
    ENCLV_OPCODE,
    SECINFO_RESERVED,
    Attributes,
    Encls,
    Enclu,
    KeyName,
    KeyPolicy,
    Miscselect,
    PageFaultCode,
    PageType,
    SecinfoFlags,
    SgxError,
    TcsFlags,
    Vector,
    Xfrm,
    page_type_of,
    secinfo_flags,
)


def test_attribute_bits() -> None:
    assert {a.name: a.value.bit_length() - 1 for a in Attributes} == {
        "INIT": 0,
        "DEBUG": 1,
        "MODE64BIT": 2,
        "PROVISIONKEY": 4,
        "EINITTOKEN_KEY": 5,
        "CET": 6,
        "KSS": 7,
        "AEXNOTIFY": 10,
    }


def test_xfrm_bits() -> None:
    bits = {
        "X87": 0,
        "SSE": 1,
        "AVX": 2,
        "BNDREGS": 3,
        "BNDCSR": 4,
        "OPMASK": 5,
        "ZMM_HI256": 6,
        "HI16_ZMM": 7,
    }
    bits |= {"PKRU": 9, "XTILECFG": 17, "XTILEDATA": 18}
    assert {x.name: x.value.bit_length() - 1 for x in Xfrm} == bits


def test_page_fault_code_bits() -> None:
    assert {c.name: c.value.bit_length() - 1 for c in PageFaultCode} == {
        "P": 0,
        "W": 1,
        "U": 2,
        "RSVD": 3,
        "I": 4,
        "PK": 5,
        "SGX": 15,
    }


def test_page_types() -> None:
    assert [(t.name, t.value) for t in PageType] == [
        ("SECS", 0),
        ("TCS", 1),
        ("REG", 2),
        ("VA", 3),
        ("TRIM", 4),
        ("SS_FIRST", 5),
        ("SS_REST", 6),
    ]


def test_small_flags() -> None:
    assert [f.value for f in SecinfoFlags] == [1, 2, 4, 8, 16, 32]
    assert [f.name for f in SecinfoFlags] == ["R", "W", "X", "PENDING", "MODIFIED", "PR"]
    assert (TcsFlags.DBGOPTIN, TcsFlags.AEXNOTIFY) == (1, 2)
    assert (Miscselect.EXINFO, Miscselect.CPINFO) == (1, 2)
    assert [k.value for k in KeyName] == [0, 1, 2, 3, 4]
    assert [p.value for p in KeyPolicy] == [1, 2, 4, 8, 16, 32]


@pytest.mark.parametrize(
    ("page_type", "perm", "flags"),
    [
        (PageType.REG, SecinfoFlags.R | SecinfoFlags.W, 0x203),
        (PageType.REG, SecinfoFlags.R | SecinfoFlags.X, 0x205),
        (PageType.TCS, 0, 0x100),
        (PageType.SECS, 0, 0),
        (PageType.TRIM, SecinfoFlags.MODIFIED, 0x410),
    ],
)
def test_secinfo_flags_are_permissions_and_the_page_type_in_bits_15_to_8(
    page_type: PageType, perm: int, flags: int
) -> None:
    assert secinfo_flags(page_type, perm) == flags
    assert page_type_of(flags) == page_type


def test_secinfo_bits_7_6_and_63_to_16_are_reserved_and_no_flag_is() -> None:
    assert SECINFO_RESERVED == ((1 << 64) - 1) & ~0xFFFF | 0xC0
    assert not SECINFO_RESERVED & secinfo_flags(PageType.SS_REST, 0x3F)


def test_the_three_instructions() -> None:
    assert (ENCLS_OPCODE.hex(), ENCLU_OPCODE.hex(), ENCLV_OPCODE.hex()) == ("0f01cf", "0f01d7", "0f01c0")


def test_supervisor_leaf_numbers() -> None:
    names = (
        "ECREATE EADD EINIT EREMOVE EDBGRD EDBGWR EEXTEND ELDB ELDU EBLOCK EPA EWB ETRACK EAUG EMODPR EMODT"
    )
    names += " ERDINFO ETRACKC ELDBC ELDUC"
    assert [(leaf.name, leaf.value) for leaf in Encls] == [
        *zip(names.split(), range(20), strict=True),
        ("EUPDATESVN", 24),
    ]


def test_user_leaf_numbers() -> None:
    names = "EREPORT EGETKEY EENTER ERESUME EEXIT EACCEPT EMODPE EACCEPTCOPY EVERIFYREPORT2 EDECCSSA"
    assert [(leaf.name, leaf.value) for leaf in Enclu] == list(zip(names.split(), range(10), strict=True))


def test_the_leaves_without_a_code_are_those_that_succeed_or_fault() -> None:
    assert {leaf.name for leaf in Encls if not leaf.returns_code} == {
        "ECREATE",
        "EADD",
        "EEXTEND",
        "EPA",
        "EAUG",
    }


def test_only_entering_is_done_from_outside() -> None:
    assert {leaf.name for leaf in Enclu if not leaf.inside} == {"EENTER", "ERESUME", "EVERIFYREPORT2"}


def test_error_codes() -> None:
    names = "INVALID_SIG_STRUCT INVALID_ATTRIBUTE BLKSTATE INVALID_MEASUREMENT NOTBLOCKABLE PG_INVLD EPC_PAGE_CONFLICT"
    names += " INVALID_SIGNATURE MAC_COMPARE_FAIL PAGE_NOT_BLOCKED NOT_TRACKED VA_SLOT_OCCUPIED CHILD_PRESENT"
    names += " ENCLAVE_ACT ENTRYEPOCH_LOCKED INVALID_EINITTOKEN PREV_TRK_INCMPL PG_IS_SECS PAGE_ATTRIBUTES_MISMATCH"
    names += " PAGE_NOT_MODIFIABLE PAGE_NOT_DEBUGGABLE"
    expected = dict(zip(names.split(), range(1, 22), strict=True))
    expected |= {
        "PG_NONEPC": 26,
        "TRACK_NOT_REQUIRED": 27,
        "INVALID_REPORTMACSTRUCT": 28,
        "INVALID_CPUSVN": 32,
    }
    expected |= {"INVALID_ISVSVN": 64, "UNMASKED_EVENT": 128, "INVALID_KEYNAME": 256}
    assert {e.name: e.value for e in SgxError} == expected


def test_an_error_is_told_in_the_manuals_spelling() -> None:
    assert SgxError.INVALID_SIGNATURE.symbol == "SGX_INVALID_SIGNATURE"


@pytest.mark.parametrize(
    ("vector", "number", "mnemonic", "code"),
    [
        (Vector.DE, 0, "#DE", False),
        (Vector.DB, 1, "#DB", False),
        (Vector.NMI, 2, "NMI", False),
        (Vector.BP, 3, "#BP", False),
        (Vector.BR, 5, "#BR", False),
        (Vector.UD, 6, "#UD", False),
        (Vector.NM, 7, "#NM", False),
        (Vector.SS, 12, "#SS", True),
        (Vector.GP, 13, "#GP", True),
        (Vector.PF, 14, "#PF", True),
        (Vector.MF, 16, "#MF", False),
        (Vector.AC, 17, "#AC", True),
        (Vector.MC, 18, "#MC", False),
        (Vector.XM, 19, "#XM", False),
        (Vector.CP, 21, "#CP", True),
    ],
)
def test_vectors(vector: Vector, number: int, mnemonic: str, code: bool) -> None:
    assert (vector.value, vector.mnemonic, vector.has_error_code) == (number, mnemonic, code)
