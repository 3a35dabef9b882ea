"""``swsgx measure``."""

from __future__ import annotations

import hashlib
import json
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from swsgx.cli.output import progress_of
from swsgx.image.enclave import load_plan
from tests.make.command import Command
from tests.make.enclave import chunk, eadd, ecreate, page, selftest_elf, stream
from tests.vectors.mrenclave import VECTORS, Vector


def test_an_elf_enclave_prints_its_measurement_and_nothing_else(swsgx: Command, enclave: Path) -> None:
    ran = swsgx("measure", enclave)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out == load_plan(enclave).measure().digest().hex() + "\n"


def test_a_streams_measurement_is_its_hash(swsgx: Command, enclaves: Path) -> None:
    file = enclaves / "stream.sgxs"
    assert swsgx("measure", file).out.strip() == hashlib.sha256(file.read_bytes()).hexdigest()


def stream_of(vector: Vector) -> bytes:
    """The records of a vector, in its order: what a `.sgxs` file of it is."""
    records = [ecreate(vector.size, vector.ssaframesize)]
    for added in vector.pages:
        records.append(eadd(added.offset, added.flags))
        starts = (256 * number for number in added.chunks)
        records += [chunk(added.offset + at, added.content[at : at + 256]) for at in starts]
    return b"".join(records)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v.name)
def test_streams_of_the_vectors_have_their_measurements(swsgx: Command, vector: Vector) -> None:
    Path("x.sgxs").write_bytes(stream_of(vector))
    ran = swsgx("measure", "x.sgxs")
    assert (ran.status, ran.out.strip()) == (0, vector.mrenclave)
    # V4 adds its pages in descending order: it has a measurement, but loaders of this format refuse it.
    assert ("not canonical" in ran.err) == (vector.name == "V4")


def test_a_stream_that_is_not_canonical_is_measured_with_one_warning(swsgx: Command) -> None:
    data = stream(page(0x1000), page(0), page(0))
    Path("x.sgxs").write_bytes(data)
    ran = swsgx("measure", "x.sgxs")
    assert ran.status == 0
    assert ran.out.strip() == hashlib.sha256(data).hexdigest()
    assert "warning: not canonical" in ran.err
    assert "and 1 more" in ran.err
    assert len(ran.err.splitlines()) == 1


def test_a_stream_without_a_size_has_no_measurement(swsgx: Command) -> None:
    Path("x.sgxs").write_bytes(ecreate(0, tag=b"UNSIZED\0") + page(0))
    assert "no size yet" in swsgx("measure", "x.sgxs").refusal


def test_json_tells_violations_too(swsgx: Command) -> None:
    Path("x.sgxs").write_bytes(stream(eadd(0), chunk(0), chunk(0)))
    ran = swsgx("measure", "x.sgxs", "--json")
    told = json.loads(ran.out)
    assert len(told["mrenclave"]) == 64
    assert len(told["violations"]) == 1


@pytest.mark.parametrize("size", ["8192", "0x2000", "8K", "8k"])
def test_the_heap_of_a_selftest_enclave_counts(swsgx: Command, enclaves: Path, size: str) -> None:
    file = enclaves / "selftest.elf"
    expected = load_plan(file, heap_size=8192).measure().digest().hex()
    assert swsgx("measure", file, "--heap-size", size).out.strip() == expected
    assert swsgx("measure", file).out.strip() != expected


def test_a_heap_size_for_another_file_is_refused(swsgx: Command, enclave: Path, enclaves: Path) -> None:
    for file in (enclave, enclaves / "stream.sgxs"):
        assert (
            "only a selftest ELF file takes a heap size"
            in swsgx("measure", file, "--heap-size", 4096).refusal
        )


def test_no_bar_is_drawn_where_nobody_looks() -> None:
    with progress_of("x", 1 << 30) as progress:
        assert progress is None


def test_a_bar_is_drawn_on_a_terminal_and_standard_output_stays_clean(checkout: Path, tmp_path: Path) -> None:
    file = tmp_path / "big.elf"
    file.write_bytes(selftest_elf().build())
    master, slave = pty.openpty()
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from swsgx.cli.main import main; main()",
            "measure",
            str(file),
            "--heap-size",
            "256M",
        ],
        stdout=subprocess.PIPE,
        stderr=slave,
        env={"PYTHONPATH": str(checkout / "src"), "TERM": "xterm"},
        check=True,
    )
    import os

    os.close(slave)
    shown = os.read(master, 1 << 16)
    os.close(master)
    assert b"measuring" in shown
    assert len(done.stdout.strip()) == 64
