"""What `make run` shows: each part comes, and says what the machine must say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.make import supervised
from tests.make.examples import NEEDS_TOOLS

pytestmark = [NEEDS_TOOLS, pytest.mark.slow]

#: Lines of the program that knows nothing of swsgx, in order.
PROGRAM = (
    r"open {8}/dev/sgx_enclave is descriptor \d+",
    r"create {6}512 KiB at 0x[0-9a-f]+",
    r"add {9}59 pages by 12 calls, 7 of them measured",
    r"init {8}measurement and signature are accepted",
    r"vdso {8}__vdso_sgx_enter_enclave is at 0x[0-9a-f]+",
    r"call {8}20 \+ 22 = 42",
    r"call {8}it keeps what it counts: three times 7 is 21",
    r"call {8}SHA-256 of 65536 bytes of mine: [0-9a-f]{64}",
    r" {12}the same computed out here: equal",
    r"exception {3}function 3 \(inside, or ERESUME\)",
    r" {12}exception_vector 14 \(#PF\), error code 0x4, address 0x[0-9a-f]+",
    r" {12}that page of mine was closed: opened, and ERESUME",
    r"call {8}SHA-256 of 65536 bytes of mine: [0-9a-f]{64}",
    r" {12}the same computed out here: equal",
    r"no TCS {6}function 2 \(EENTER itself\)",
    r" {12}exception_vector 14 \(#PF\), error code 0x8007, address 0x[0-9a-f]+",
    r"outside {5}I read f{16} where the enclave begins",
)
REST = (
    r"calls {7}5000 calls, \d+ ns each",
    r"calls {7}200000 calls, \d+ ns each",
    r"swsgx run: SGX_IOC_ENCLAVE_INIT gave EPERM",
    r" +rule: +SIGSTRUCT.SIGNATURE is over these bytes, by the key of MODULUS",
    r"init {8}Operation not permitted \(errno 1\)",
    r"  ERESUME +the call goes on and ends with 20",
    r"  ERESUME +the call goes on and ends with 7",
    r"First light\..*",
)


@pytest.fixture(scope="module")
def shown(checkout: Path) -> str:
    if supervised.run(["true"]).returncode:
        pytest.skip("swsgx run does not work here: swsgx doctor says why")
    if not (checkout / "build/examples/host").exists():
        pytest.skip("the examples are not built: make examples")
    done = subprocess.run(
        [sys.executable, "tools/first_light.py"],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout / "src"), "SWSGX_TRACEBACK": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_make_run_shows_a_program_that_knows_only_the_kernel_and_what_else_there_is(shown: str) -> None:
    at = 0
    for line in (*PROGRAM, *REST):
        found = re.compile(f"^{line}$", re.MULTILINE).search(shown, at)
        assert found, f"{line}\nis missing behind\n{shown[:at]}\nin\n{shown[at:]}"
        at = found.end()


def test_make_run_shows_what_the_signature_is_worth(shown: str) -> None:
    assert [line.split() for line in shown.splitlines() if line.endswith("  ok")] == [
        [name, "ok"] for name in ("header", "rsa", "q1q2", "measurement")
    ]


def test_make_run_says_that_there_is_no_confidentiality(shown: str) -> None:
    assert "No confidentiality" in shown.splitlines()[0]


def test_program_of_make_run_knows_nothing_of_swsgx(checkout: Path) -> None:
    """It would run on a machine with SGX as it is."""
    for path in (checkout / "examples/host").iterdir():
        code = re.sub(r"/\*.*?\*/|//[^\n]*", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        assert "swsgx" not in code, path
