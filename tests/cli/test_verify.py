"""``swsgx verify``: each check has its own verdict."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from swsgx.isa.sigstruct import Sigstruct
from tests.make.command import Command
from tests.make.enclave import ecreate, page


@pytest.fixture
def sig(swsgx: Command, enclave: Path, key: Path) -> Path:
    assert swsgx("sign", enclave, "-k", key, "-o", "o.sig").status == 0
    return Path("o.sig")


def verdicts(out: str) -> dict[str, str]:
    return {line.split()[0]: line.split()[1] for line in out.splitlines()}


def test_a_good_signature_is_status_0_and_the_measurement_is_not_checked(swsgx: Command, sig: Path) -> None:
    ran = swsgx("verify", sig)
    assert (ran.status, ran.err) == (0, "")
    assert verdicts(ran.out) == {"header": "ok", "rsa": "ok", "q1q2": "ok", "measurement": "not"}


def test_with_its_enclave_all_four_are_ok(swsgx: Command, sig: Path, enclave: Path) -> None:
    ran = swsgx("verify", sig, "--enclave", enclave)
    assert ran.status == 0
    assert set(verdicts(ran.out).values()) == {"ok"}
    assert "measurement" in verdicts(ran.out)


@pytest.mark.parametrize(
    ("offset", "failed"),
    [
        (0, {"header", "rsa", "q1q2"}),
        (16, {"header", "rsa", "q1q2"}),
        (20, {"rsa", "q1q2"}),
        (44, {"header", "rsa", "q1q2"}),
        (130, {"rsa", "q1q2"}),
        (512, {"header"}),
        (516, {"rsa", "q1q2"}),
        (960, {"rsa", "q1q2"}),
        (1026, {"rsa", "q1q2"}),
        (1028, {"header"}),
        (1040, {"q1q2"}),
        (1424, {"q1q2"}),
        (1807, {"q1q2"}),
    ],
)
def test_a_changed_byte_fails_the_checks_that_cover_it_and_no_other(
    swsgx: Command, sig: Path, offset: int, failed: set[str]
) -> None:
    data = bytearray(sig.read_bytes())
    data[offset] ^= 1
    sig.write_bytes(data)
    ran = swsgx("verify", sig)
    assert ran.status == 1
    assert {name for name, word in verdicts(ran.out).items() if word == "FAILED"} == failed
    assert all(name in ran.refusal for name in failed)


def test_good_signature_and_another_enclave_is_a_result_of_its_own(
    swsgx: Command, sig: Path, enclaves: Path
) -> None:
    ran = swsgx("verify", sig, "--enclave", enclaves / "selftest.elf")
    assert ran.status == 1
    told = verdicts(ran.out)
    assert told.pop("measurement") == "FAILED"
    assert set(told.values()) == {"ok"}


def test_json_has_verdicts_reasons_and_both_measurements(swsgx: Command, sig: Path, enclaves: Path) -> None:
    ran = swsgx("verify", sig, "--json", "--enclave", enclaves / "selftest.elf")
    told = json.loads(ran.out)
    assert told["verdicts"] == {"header": True, "rsa": True, "q1q2": True, "measurement": False}
    assert told["reasons"]["measurement"]["found"] == told["mrenclave"]["computed"]
    assert told["mrenclave"]["signed"] != told["mrenclave"]["computed"]
    assert len(told["mrsigner"]) == 64


@pytest.mark.parametrize("size", [0, 1, 1807, 1809, 4096])
def test_a_file_that_is_not_1808_bytes_is_no_sigstruct(swsgx: Command, sig: Path, size: int) -> None:
    Path("bad.sig").write_bytes((sig.read_bytes() * 3)[:size])
    ran = swsgx("verify", "bad.sig")
    assert ran.status == 1
    assert f"expected {Sigstruct.size_of} bytes, found {size} bytes" in ran.refusal


def test_a_sigstruct_of_zeros_or_ones_is_answered(swsgx: Command) -> None:
    for byte in (b"\0", b"\xff"):
        Path("x.sig").write_bytes(byte * Sigstruct.size_of)
        ran = swsgx("verify", "x.sig")
        assert ran.status == 1
        assert verdicts(ran.out)["rsa"] == "FAILED"


def test_a_stream_without_a_size_fails_the_measurement(swsgx: Command, sig: Path) -> None:
    Path("u.sgxs").write_bytes(ecreate(0, tag=b"UNSIZED\0") + page(0))
    ran = swsgx("verify", sig, "-e", "u.sgxs")
    assert ran.status == 1
    assert "without a size" in ran.out


def test_a_bad_enclave_is_an_error_of_its_own_file(swsgx: Command, sig: Path) -> None:
    Path("x").write_bytes(b"?")
    assert swsgx("verify", sig, "-e", "x").refusal.startswith("swsgx verify: x: ")
