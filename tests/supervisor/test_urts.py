"""A host in the manner of Intel's untrusted runtime: nothing is lost of very many calls, exceptions and signals.

``tests/programs/urts`` counts and checks; what it asks is in its ``protocol.h``. More: ``SWSGX_URTS_RUNS`` says how
often a million calls are made in each way, in a row.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.make import supervised, urts
from tests.make.native_enclave import NEEDS_GCC

pytestmark = [NEEDS_GCC]

WAYS = {
    "vdso": ["--vdso"],
    "vdso-onstack": ["--vdso", "--onstack"],
    "enclu": [],
    "enclu-onstack": ["--onstack"],
}
#: A call costs about 50 times as much where enclaves are hidden.
CALLS = {"off": 50_000, "hidden": 10_000}
MILLION = 1_000_000
RUNS = int(os.environ.get("SWSGX_URTS_RUNS", "1"))


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return urts.built_host(tmp_path_factory.mktemp("urts"))


@pytest.fixture(scope="session")
def enclave(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return urts.written_enclave(tmp_path_factory.mktemp("urts") / "enclave")


@pytest.fixture(autouse=True)
def options(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What ``swsgx run`` is given, for a test to add to."""
    given: list[str] = []
    monkeypatch.setattr(supervised, "options", given)
    return given


def _run(host: Path, enclave: Path, *words: str, limit: float = 60) -> str:
    """What it says; it must have ended well."""
    done = supervised.run([host, enclave, *words], timeout=limit)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.endswith("EXIT-SUCCESS\n")
    return str(done.stdout)


def _number(name: str, said: str) -> int:
    found = re.search(rf"\b{name} (\d+)", said)
    assert found is not None, said
    return int(found[1])


@pytest.mark.parametrize("isolation", CALLS)
@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_lost_of_calls_exceptions_and_signals(
    way: str, isolation: str, host: Path, enclave: Path, options: list[str]
) -> None:
    options += ["--isolation", isolation]
    said = _run(host, enclave, *WAYS[way], "--calls", str(CALLS[isolation]))
    assert _number("calls", said) >= CALLS[isolation]
    assert _number("ticks", said) > 100
    assert _number("at the AEP", said) > 10
    assert _number("forks", said) > 0
    assert _number("threads", said) > 0


@pytest.mark.parametrize("way", ["vdso", "enclu"])
def test_nothing_is_lost_where_no_code_may_be_patched(
    way: str, host: Path, enclave: Path, options: list[str]
) -> None:
    options += ["--isolation", "off", "--no-patch"]
    _run(host, enclave, *WAYS[way], "--calls", "20000")


@pytest.mark.parametrize("way", ["vdso", "enclu"])
def test_debug_enclave_gives_the_same(way: str, host: Path, tmp_path: Path) -> None:
    enclave = urts.written_enclave(tmp_path / "enclave", debug=True)
    _run(host, enclave, *WAYS[way], "--calls", "20000")


@pytest.mark.parametrize("way", ["vdso", "enclu"])
def test_breakpoint_of_a_tcs_that_opted_in_is_a_trap(way: str, host: Path, tmp_path: Path) -> None:
    enclave = urts.written_enclave(tmp_path / "enclave", debug=True)
    _run(host, enclave, *WAYS[way], "--calls", "20000", "--opt-in")


@pytest.mark.slow
@pytest.mark.timeout(RUNS * 180)
@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_lost_of_a_million_calls(way: str, host: Path, enclave: Path, options: list[str]) -> None:
    options += ["--isolation", "off"]
    for seed in range(1, RUNS + 1):
        _run(host, enclave, *WAYS[way], "--calls", str(MILLION), "--seed", str(seed), limit=150)
