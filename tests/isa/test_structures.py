"""Where the manual puts each field. The numbers are typed from its tables, not taken from the classes."""

from __future__ import annotations

import pytest

from swsgx.isa import (
    Einittoken,
    Exinfo,
    Gprsgx,
    Keyrequest,
    Layout,
    Pageinfo,
    Pcmd,
    Report,
    Secinfo,
    Secs,
    Sigstruct,
    Targetinfo,
    Tcs,
)

SIZES = [
    (Secs, 4096, 4096),
    (Tcs, 4096, 4096),
    (Pageinfo, 32, 32),
    (Secinfo, 64, 64),
    (Pcmd, 128, 128),
    (Gprsgx, 184, 8),
    (Exinfo, 16, 8),
    (Sigstruct, 1808, 4096),
    (Einittoken, 304, 512),
    (Report, 432, 512),
    (Targetinfo, 512, 512),
    (Keyrequest, 512, 512),
]

#: Class: "offset:size name", separated by commas; everything that is not named here is reserved.
FIELDS: dict[type[Layout], str] = {
    Secs: """0:8 size, 8:8 baseaddr, 16:4 ssaframesize, 20:4 miscselect, 48:8 attributes, 56:8 xfrm,
        64:32 mrenclave, 128:32 mrsigner, 192:64 configid, 256:2 isvprodid, 258:2 isvsvn, 260:2 configsvn""",
    Tcs: """0:8 state, 8:8 flags, 16:8 ossa, 24:4 cssa, 28:4 nssa, 32:8 oentry, 40:8 aep, 48:8 ofsbase,
        56:8 ogsbase, 64:4 fslimit, 68:4 gslimit""",
    Pageinfo: "0:8 linaddr, 8:8 srcpge, 16:8 secinfo, 24:8 secs",
    Secinfo: "0:8 flags",
    Pcmd: "0:64 secinfo, 64:8 enclaveid, 112:16 mac",
    Gprsgx: """0:8 rax, 8:8 rcx, 16:8 rdx, 24:8 rbx, 32:8 rsp, 40:8 rbp, 48:8 rsi, 56:8 rdi, 64:8 r8, 72:8 r9,
        80:8 r10, 88:8 r11, 96:8 r12, 104:8 r13, 112:8 r14, 120:8 r15, 128:8 rflags, 136:8 rip, 144:8 ursp,
        152:8 urbp, 160:4 exitinfo, 167:1 aexnotify, 168:8 fsbase, 176:8 gsbase""",
    Exinfo: "0:8 maddr, 8:4 errcd",
    Sigstruct: """0:16 header, 16:4 vendor, 20:4 date, 24:16 header2, 40:4 swdefined, 128:384 modulus,
        512:4 exponent, 516:384 signature, 900:4 miscselect, 904:4 miscmask, 912:16 isvfamilyid,
        928:8 attributes, 936:8 xfrm, 944:8 attributemask, 952:8 xfrmmask, 960:32 enclavehash,
        1008:16 isvextprodid, 1024:2 isvprodid, 1026:2 isvsvn, 1040:384 q1, 1424:384 q2""",
    Einittoken: """0:4 valid, 48:8 attributes, 56:8 xfrm, 64:32 mrenclave, 128:32 mrsigner, 192:16 cpusvnle,
        208:2 isvprodidle, 210:2 isvsvnle, 236:4 maskedmiscselectle, 240:8 maskedattributesle,
        248:8 maskedxfrmle, 256:32 keyid, 288:16 mac""",
    Report: """0:16 cpusvn, 16:4 miscselect, 32:16 isvextprodid, 48:8 attributes, 56:8 xfrm, 64:32 mrenclave,
        128:32 mrsigner, 192:64 configid, 256:2 isvprodid, 258:2 isvsvn, 260:2 configsvn, 304:16 isvfamilyid,
        320:64 reportdata, 384:32 keyid, 416:16 mac""",
    Targetinfo: """0:32 measurement, 32:8 attributes, 40:8 xfrm, 50:2 configsvn, 52:4 miscselect,
        64:64 configid""",
    Keyrequest: """0:2 keyname, 2:2 keypolicy, 4:2 isvsvn, 8:16 cpusvn, 24:8 attributemask, 32:8 xfrmmask,
        40:32 keyid, 72:4 miscmask, 76:2 configsvn""",
}


@pytest.mark.parametrize(("layout", "size", "align"), SIZES, ids=lambda v: getattr(v, "__name__", None))
def test_size_and_alignment_are_the_manuals(layout: type[Layout], size: int, align: int) -> None:
    assert (layout.size_of, layout.align_of) == (size, align)


@pytest.mark.parametrize("layout", FIELDS, ids=lambda c: c.__name__)
def test_fields_stand_where_the_manual_puts_them_and_all_else_is_reserved(layout: type[Layout]) -> None:
    ours = [f"{f.offset}:{f.size} {f.name}" for f in layout.fields() if not f.reserved]
    assert ours == " ".join(FIELDS[layout].split()).split(", ")


def test_the_tables_here_are_about_every_structure() -> None:
    assert {layout for layout, _, _ in SIZES} == set(FIELDS)


def test_the_signed_bytes_are_0_to_127_and_900_to_1027() -> None:
    data = bytes(i * 7 % 251 for i in range(1808))
    assert Sigstruct.copy_of(data).signed_bytes() == data[:128] + data[900:1028]


@pytest.mark.parametrize("field", ["modulus", "exponent", "signature", "reserved_1028", "q1", "q2"])
def test_fields_of_the_key_are_not_under_the_signature(field: str) -> None:
    data = bytearray(1808)
    at = getattr(Sigstruct, field)
    data[at.offset : at.end] = b"\xff" * at.size
    assert not any(Sigstruct(data).signed_bytes())


def test_the_mac_of_a_token_covers_192_bytes_and_that_of_a_report_384() -> None:
    assert Einittoken.copy_of(bytes(192) + b"\xff" * 112).maced_bytes() == bytes(192)
    assert Report.copy_of(bytes(384) + b"\xff" * 48).maced_bytes() == bytes(384)
