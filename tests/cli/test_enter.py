"""``swsgx enter``: the example enclaves, really run."""

from __future__ import annotations

import ctypes
import hashlib
import json
from pathlib import Path

import pytest

from swsgx.native import images
from tests.make.command import Command, Ran
from tests.make.enclave import chunk, eadd, page, stream
from tests.make.examples import NEEDS_TOOLS, build_examples

NEEDS_IMAGES = pytest.mark.skipif(
    not (images.IMAGES / "swsgx-monitor.so").exists(),
    reason="runs enclave code: `make -C native` to run these",
)
pytestmark = [NEEDS_TOOLS, NEEDS_IMAGES]


@pytest.fixture(scope="module")
def examples(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_examples(checkout, tmp_path_factory.mktemp("examples"))


@pytest.fixture
def compute(examples: Path) -> Path:
    return examples / "compute.elf"


@pytest.fixture
def fault(examples: Path) -> Path:
    return examples / "fault.elf"


def registers(ran: Ran) -> dict[str, int]:
    assert ran.status == 0, ran
    told = json.loads(ran.out)["registers"]
    assert isinstance(told, dict)
    return told


def test_arguments_arrive_and_results_come_back(swsgx: Command, compute: Path) -> None:
    told = registers(swsgx("enter", compute, "--op", "0", "--rsi", "40", "--rdx", "0x2", "--json"))
    assert told == {"rdi": 0, "rsi": 42, "rdx": 0, "r8": 0, "r9": 0}


@pytest.mark.parametrize("size", [0, 1, 55, 56, 63, 64, 65, 4096, 10000])
def test_a_host_buffer_is_hashed_as_hashlib_does(swsgx: Command, compute: Path, size: int) -> None:
    data = bytes(i * 7 & 0xFF for i in range(size))
    Path("data").write_bytes(data or b"x")
    words = ["--op", 1, "--rsi", "file:data", "--rdx", size, "--r8", "out:32", "--json"]
    ran = swsgx("enter", compute, *words)
    assert registers(ran)["rdi"] == 0
    assert json.loads(ran.out)["buffers"] == {"r8": hashlib.sha256(data).hexdigest()}


def test_the_text_form_shows_registers_and_buffers(swsgx: Command, compute: Path) -> None:
    ran = swsgx("enter", compute, "--op", 1, "--rsi", "str:abc", "--rdx", 3, "--r8", "out:32")
    assert ran.status == 0
    assert f"[r8] {hashlib.sha256(b'abc').hexdigest()}" in ran.out
    assert "rsi  0x3  (3)" in ran.out
    again = swsgx("enter", compute, "--op", 1, "--rsi", "hex:616263", "--rdx", 3, "--r8", "out:32")
    assert again.out == ran.out


def test_the_kernel_computes_inside_what_it_computes_outside(
    swsgx: Command, compute: Path, examples: Path
) -> None:
    kernel = ctypes.CDLL(str(examples / "kernel.so")).compute_kernel
    kernel.restype = ctypes.c_uint64
    kernel.argtypes = [ctypes.c_uint64, ctypes.c_uint64]
    told = registers(swsgx("enter", compute, "--op", 2, "--rsi", 50, "--rdx", 7, "--json"))
    assert told["rsi"] == kernel(50, 7)


@pytest.mark.parametrize("thread", [0, 1])
def test_each_thread_finds_its_own_page_and_the_heap(swsgx: Command, compute: Path, thread: int) -> None:
    assert registers(swsgx("enter", compute, "--tcs", thread, "--op", 5, "--json"))["rsi"] == thread
    assert (
        registers(swsgx("enter", compute, "--tcs", thread, "--op", 4, "--rsi", 9, "--json"))["rsi"] == 65536
    )


def test_an_unknown_operation_is_the_enclaves_answer_and_not_ours(swsgx: Command, compute: Path) -> None:
    assert registers(swsgx("enter", compute, "--op", 99, "--json"))["rdi"] == 1


@pytest.mark.parametrize(
    ("words", "vector"),
    [((0, 100, 0, 5), "#DE"), ((1, 5, 0, 0), "#PF"), ((2, 5, 0, 0), "#UD"), ((3, 0, 0, 0), "#PF")],
)
def test_an_exception_is_status_1_and_told(
    swsgx: Command, fault: Path, words: tuple[int, ...], vector: str
) -> None:
    line = [
        x
        for name, value in zip(("--op", "--rsi", "--rdx", "--r8"), words, strict=True)
        for x in (name, value)
    ]
    ran = swsgx("enter", fault, *line)
    assert ran.status == 1
    assert ran.refusal.startswith(f"swsgx enter: {fault}: {vector}")
    told = json.loads(swsgx("enter", fault, *line, "--json").out)
    assert told["exception"]["name"] == vector
    assert told["exception"]["inside"] is True


@pytest.mark.parametrize(
    ("words", "value"), [((0, 100, 0, 5), 20), ((0, 100, 7, 5), 14), ((1, 5, 0, 0), 5), ((2, 55, 0, 0), 55)]
)
def test_the_enclaves_handler_repairs_and_the_call_ends_well(
    swsgx: Command, fault: Path, words: tuple[int, ...], value: int
) -> None:
    line = [
        x
        for name, value in zip(("--op", "--rsi", "--rdx", "--r8"), words, strict=True)
        for x in (name, value)
    ]
    ran = swsgx("enter", fault, *line, "--handle", "--json")
    assert registers(ran) | {"rdi": 0, "rsi": value} == registers(ran)
    assert json.loads(ran.out)["repairs"] == (0 if words[2] else 1)


def test_what_the_handler_cannot_repair_stays_an_exception(swsgx: Command, fault: Path) -> None:
    assert "#PF at 0x0" in swsgx("enter", fault, "--op", 3, "--handle").refusal


def test_a_signature_is_used_and_checked(swsgx: Command, compute: Path, fault: Path, key: Path) -> None:
    swsgx("sign", compute, "-k", key, "-o", "good.sig")
    assert swsgx("enter", compute, "--sig", "good.sig").status == 0
    assert swsgx("enter", compute, "--key", key).status == 0
    ran = swsgx("enter", fault, "--sig", "good.sig")
    assert ran.status == 1
    assert "SGX_IOC_ENCLAVE_INIT" in ran.refusal
    bad = bytearray(Path("good.sig").read_bytes())
    bad[1040] ^= 1
    Path("bad.sig").write_bytes(bad)
    assert "Q1" in swsgx("enter", compute, "--sig", "bad.sig").refusal


def test_a_signature_that_forbids_debug_refuses_a_debug_enclave(
    swsgx: Command, compute: Path, key: Path
) -> None:
    swsgx("sign", compute, "-k", key, "-o", "no.sig", "--debug", "forbid")
    assert swsgx("enter", compute, "--sig", "no.sig").status == 0
    assert "ATTRIBUTES" in swsgx("enter", compute, "--sig", "no.sig", "--debug").refusal
    swsgx("sign", compute, "-k", key, "-o", "yes.sig")
    assert swsgx("enter", compute, "--sig", "yes.sig", "--debug").status == 0


def test_a_thread_that_is_not_there_is_refused(swsgx: Command, compute: Path) -> None:
    assert "has 2 threads" in swsgx("enter", compute, "--tcs", 2).refusal


@pytest.mark.parametrize(
    "value", ["abc", "hex:0", "out:0", "out:-1", "out:2G", "str", "what:1", "-1", "0x1" + "0" * 16]
)
def test_a_value_that_is_none_is_status_2(swsgx: Command, compute: Path, value: str) -> None:
    ran = swsgx("enter", compute, f"--rsi={value}")
    assert ran.status == 2
    assert "--rsi" in ran.refusal


def test_a_buffer_of_a_missing_file_is_named(swsgx: Command, compute: Path) -> None:
    assert swsgx("enter", compute, "--rsi", "file:no").refusal == "swsgx enter: no: No such file or directory"


def test_sig_and_key_exclude_each_other(swsgx: Command, compute: Path, key: Path) -> None:
    assert swsgx("enter", compute, "--sig", "x", "--key", key).status == 2


def test_a_stream_without_threads_cannot_be_entered(swsgx: Command) -> None:
    Path("x.sgxs").write_bytes(stream(page(0)))
    assert "has 0 threads" in swsgx("enter", "x.sgxs").refusal


def test_a_stream_that_linux_cannot_load_is_refused_by_name(swsgx: Command) -> None:
    Path("x.sgxs").write_bytes(stream(page(0, 0x100), eadd(0x1000) + chunk(0x1000)))
    assert "page 0x1000 is measured whole and in order" in swsgx("enter", "x.sgxs").refusal


def test_trace_tells_ioctls_entries_and_exits(swsgx: Command, compute: Path) -> None:
    ran = swsgx("--trace", "enter", compute)
    assert ran.status == 0
    for word in ("SGX_IOC_ENCLAVE_CREATE", "EINIT", "EENTER", "EEXIT"):
        assert word in ran.err


def test_without_the_images_the_remedy_is_told(
    swsgx: Command, compute: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(**_: object) -> None:
        raise images.ImageMissing("swsgx-monitor.so is not built: run `make -C native`")

    monkeypatch.setattr("swsgx.inprocess.Sgx", missing)
    assert "make -C native" in swsgx("enter", compute).refusal
