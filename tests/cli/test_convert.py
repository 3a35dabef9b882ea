"""``swsgx convert``."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from tests.make.command import Command
from tests.make.enclave import ecreate, page, stream


def test_an_elf_enclave_becomes_a_stream_with_the_same_measurement(swsgx: Command, enclaves: Path) -> None:
    for name in ("ours.elf", "selftest.elf", "stream.sgxs"):
        before = swsgx("measure", enclaves / name).out
        assert swsgx("convert", enclaves / name, "-o", "x.sgxs").status == 0
        assert swsgx("measure", "x.sgxs").out == before


def test_a_stream_gets_its_size(swsgx: Command) -> None:
    Path("u.sgxs").write_bytes(ecreate(0x10, tag=b"UNSIZED\0") + page(0) + page(0x2000))
    assert swsgx("convert", "--fix-size", "u.sgxs", "-o", "x.sgxs").status == 0
    data = Path("x.sgxs").read_bytes()
    assert swsgx("measure", "x.sgxs").out.strip() == hashlib.sha256(data).hexdigest()


def test_a_stream_with_a_size_is_not_fixed_again_and_nothing_is_written(swsgx: Command) -> None:
    Path("x.sgxs").write_bytes(stream(page(0)))
    assert "has no size yet" in swsgx("convert", "--fix-size", "x.sgxs", "-o", "y.sgxs").refusal
    assert os.listdir() == ["x.sgxs"]


def test_a_stream_that_is_not_canonical_is_not_converted(swsgx: Command) -> None:
    Path("x.sgxs").write_bytes(stream(page(0x1000), page(0)))
    assert "pages ascend" in swsgx("convert", "x.sgxs", "-o", "y.sgxs").refusal
    assert os.listdir() == ["x.sgxs"]
