"""``swsgx inspect``: everything that a file says, for people and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from swsgx.image.enclave import load_plan
from swsgx.isa.sigstruct import Sigstruct
from tests.make.command import Command
from tests.make.enclave import chunk, eadd, ecreate, page, stream


def test_an_enclave_shows_measurement_map_holes_and_threads(swsgx: Command, enclave: Path) -> None:
    ran = swsgx("inspect", enclave)
    assert (ran.status, ran.err) == (0, "")
    assert load_plan(enclave).measure().digest().hex() in ran.out
    for word in ("heap", "stack 1", "tcs 0", "ssa 1", "thread 0", "(hole)", "segment 2", "oentry", "0x1010"):
        assert word in ran.out


def test_lines_are_not_wrapped_or_cut_where_nobody_looks(swsgx: Command, enclave: Path) -> None:
    out = swsgx("inspect", enclave).out
    assert "…" not in out
    assert all(line == line.rstrip() for line in out.splitlines())


def test_json_of_an_enclave_adds_up(swsgx: Command, enclave: Path) -> None:
    told = json.loads(swsgx("inspect", enclave, "--json").out)
    plan = load_plan(enclave)
    assert told["kind"] == "swsgx"
    assert told["mrenclave"] == plan.measure().digest().hex()
    assert sum(run["pages"] for run in told["map"]) == plan.pages == sum(c["count"] for c in told["pages"])
    assert [t["offset"] for t in told["threads"]] == list(plan.tcs)
    assert told["wanted"] == {"attributes": 4, "xfrm": 3, "miscselect": 0}
    assert {"offset": 0x7000, "end": 0xC000, "pages": 5, "type": "REG", "permissions": "rw-"}.items() <= next(
        run for run in told["map"] if run["name"] == "heap"
    ).items()


def test_a_stream_shows_what_is_measured_and_what_fills_it(swsgx: Command) -> None:
    Path("x.sgxs").write_bytes(
        stream(
            page(0, 0x205, b"\xcc" * 4096),
            page(0x1000),
            eadd(0x3000) + chunk(0x3000, b"a" * 256),
            eadd(0x4000),
            eadd(0x5000) + chunk(0x5000, b"b" * 256, measured=False),
        )
    )
    told = json.loads(swsgx("inspect", "x.sgxs", "--json").out)
    assert [(r["offset"], r["measured"], r["content"]) for r in told["map"]] == [
        (0, "all", "all cc"),
        (0x1000, "all", "zero"),
        (0x3000, "part", "data"),
        (0x4000, "none", "data"),
    ]
    assert told["stream"]["canonical"]
    assert told["stream"]["measured_chunks"] == 33
    assert "part" in swsgx("inspect", "x.sgxs").out


def test_a_stream_that_is_not_canonical_is_shown_with_every_violation(swsgx: Command) -> None:
    Path("x.sgxs").write_bytes(stream(page(0x1000), page(0), eadd(0x2000, 0x103)))
    ran = swsgx("inspect", "x.sgxs")
    assert ran.status == 0
    assert ran.out.count("not canonical: ") == 2
    assert len(json.loads(swsgx("inspect", "x.sgxs", "--json").out)["violations"]) == 2


def test_a_stream_without_a_size_is_shown_without_a_measurement(swsgx: Command) -> None:
    Path("x.sgxs").write_bytes(ecreate(0x100, tag=b"UNSIZED\0") + page(0))
    ran = swsgx("inspect", "x.sgxs")
    assert ran.status == 0
    assert "UNSIZED" in ran.out
    told = json.loads(swsgx("inspect", "x.sgxs", "--json").out)
    assert (told["size"], told["mrenclave"]) == (None, None)


def test_a_page_of_an_unknown_type_is_shown_by_its_number(swsgx: Command) -> None:
    Path("x.sgxs").write_bytes(stream(eadd(0, 0x4203)))
    assert "type 66" in swsgx("inspect", "x.sgxs").out


def test_a_sigstruct_shows_every_field_names_its_bits_and_gives_verdicts(
    swsgx: Command, enclave: Path, key: Path
) -> None:
    swsgx("sign", enclave, "-k", key, "-o", "o.sig", "--kss", "--date", "2024-02-29", "--miscselect", "1")
    out = swsgx("inspect", "o.sig").out
    names = {field.name for field in Sigstruct.fields() if not field.reserved} - {"enclavehash"}
    shown = {line.split()[0] for line in out.splitlines() if line.startswith("  ")}
    assert names | {"mrenclave", "mrsigner", "header", "rsa", "q1q2"} <= shown
    assert "MODE64BIT KSS" in out
    assert "0x20240229" in out
    assert "EXINFO" in out


def test_unnamed_bits_are_shown_together_as_a_number(swsgx: Command, enclave: Path, key: Path) -> None:
    swsgx("sign", enclave, "-k", key, "-o", "o.sig", "--attributes-mask", hex(1 << 63 | 1 << 40 | 2))
    told = json.loads(swsgx("inspect", "o.sig", "--json").out)
    assert told["flags"]["attributemask"] == ["DEBUG", hex(1 << 63 | 1 << 40)]


def test_json_of_a_sigstruct_has_offsets_and_whole_values(swsgx: Command, enclave: Path, key: Path) -> None:
    swsgx("sign", enclave, "-k", key, "-o", "o.sig", "--isvsvn", "3")
    told = json.loads(swsgx("inspect", "o.sig", "--json").out)
    assert told["kind"] == "sigstruct"
    assert told["fields"]["isvsvn"]["value"] == 3
    assert told["fields"]["isvsvn"]["offset"] == 1026
    assert len(told["fields"]["modulus"]["value"]) == 768
    assert told["verdicts"] == {"header": True, "rsa": True, "q1q2": True}


def test_a_sigstruct_that_is_cut_is_still_known_for_one(swsgx: Command, enclave: Path, key: Path) -> None:
    swsgx("sign", enclave, "-k", key, "-o", "o.sig")
    Path("cut.sig").write_bytes(Path("o.sig").read_bytes()[:1000])
    assert "a .sig file is a bare SIGSTRUCT" in swsgx("inspect", "cut.sig").refusal


@pytest.mark.parametrize("data", [b"", b"\0" * 10, b"plain text"])
def test_a_file_that_is_neither_is_refused(swsgx: Command, data: bytes) -> None:
    Path("x").write_bytes(data)
    assert swsgx("inspect", "x").refusal.startswith("swsgx inspect: x: ")
