"""Pages leave the EPC and come back under unmodified programs, which do not notice.

More: ``SWSGX_PAGING_SECONDS`` says for how long the storm goes on; ``SWSGX_PAGING_EPC``, ``SWSGX_PAGING_ENCLAVE`` (both
in MiB) and ``SWSGX_PAGING_PROCESSES`` how large it is.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.make import supervised
from tests.make.native_enclave import NEEDS_GCC
from tests.make.paging import Running, Usage, written_enclave
from tests.make.sandbox import NOBODY, confined
from tests.make.sgx_program import FOLDER, Programs

pytestmark = NEEDS_GCC

SECONDS = int(os.environ.get("SWSGX_PAGING_SECONDS", "4"))
EPC = int(os.environ.get("SWSGX_PAGING_EPC", "8"))
ENCLAVE = int(os.environ.get("SWSGX_PAGING_ENCLAVE", "12"))
PROCESSES = int(os.environ.get("SWSGX_PAGING_PROCESSES", "2"))
_DEBUG = 2
_MIB = 1 << 20
#: What the supervisor has besides pages: Python, its tables, and pages that it will give back soon.
_OWN, _SPARE = 96 * _MIB, 16 * _MIB
#: Shared memory of one enclave; each has two descriptors.
_FILES = 24


@pytest.fixture(scope="session")
def large_enclave(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written_enclave(tmp_path_factory.mktemp("paging") / "enclave", ENCLAVE * _MIB // 4096)


def _watched(running: Running) -> list[Usage]:
    """What the supervisor uses, again and again until the program ends."""
    found = []
    while running.front.poll() is None:
        found.append(running.usage())
        time.sleep(0.25)
    return found


@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.parametrize("attributes", [0, _DEBUG], ids=["production", "debug"])
@pytest.mark.parametrize("isolation", ["off", "hidden"])
def test_no_byte_is_wrong_in_enclaves_that_are_larger_than_the_epc(
    isolation: str, attributes: int, large_enclave: Path, programs: Programs
) -> None:
    words = [
        str(word)
        for word in (programs.build("paging_storm.c"), large_enclave, PROCESSES, SECONDS, attributes)
    ]
    with Running(words, ["--epc", f"{EPC}M", "--isolation", isolation]) as running:
        usage = _watched(running)
        status, said, told = running.end()
    assert (status, told) == (0, ""), said
    assert said.endswith("EXIT-SUCCESS\n")
    # A process that was killed may not be all gone when its successor begins.
    most = (EPC + 2 * PROCESSES * ENCLAVE) * _MIB
    assert max(found.own for found in usage) < _OWN
    assert max(found.shared for found in usage) < most + PROCESSES * _SPARE
    assert max(found.files for found in usage) < _FILES * (1 + 2 * PROCESSES)


@pytest.mark.parametrize("isolation", ["off", "hidden"])
def test_an_epc_that_is_full_of_pages_on_their_way_is_not_full(
    isolation: str, tmp_path: Path, programs: Programs
) -> None:
    # Not more: three times the VA pages, which never leave, must have room, too.
    enclave = written_enclave(tmp_path / "enclave", 12 * _MIB // 4096)
    words = [str(word) for word in (programs.build("paging_storm.c"), enclave, 3, 1)]
    with Running(words, ["--epc", "768K", "--isolation", isolation]) as running:
        status, said, told = running.end()
    assert (status, told) == (0, ""), said


# The backing store: whoever may look at the supervisor may write to it.

#: Pages of each of two enclaves, on an EPC of 256 pages.
_PAGES = 600
_SIZE = (1 << 24) // 4096
_PCMD = 128


class Told(Running):
    """``paging_ask.c``: two processes with an enclave each that do what they are told."""

    def __init__(self, programs: Programs, *words: str, options: Sequence[str] = ()) -> None:
        program = programs.build("paging_ask.c")
        super().__init__([program, str(_PAGES), *words], ["--epc", "1M", "--explain", *options])
        assert self.line() == "ready"
        self.first = int(self.ask("1 where 0").split()[0], 16)

    def ask(self, word: str) -> str:
        self.say(word)
        return self.line()

    def fill(self, process: int, value: int) -> None:
        """Each page gets that, plus its number; so most of the other process's pages are out."""
        assert self.ask(f"{process} all 0 {value}") == "done"

    def close(self) -> str:
        """End it; what the user was told."""
        status, said, told = self.end()
        assert (status, said) == (0, "EXIT-SUCCESS\n")
        return told


class Stored:
    """What was written out of one enclave, page by page of those that a program talks of."""

    def __init__(self, told: Told, enclave: int) -> None:
        self._path, self._first = told.memfds()[f"sgx-backing-{enclave}"], told.first

    def _places(self, page: int) -> tuple[int, int]:
        index = self._first + page
        return index * 4096, (_SIZE + 1) * 4096 + index * _PCMD

    def get(self, page: int) -> tuple[bytes, bytes]:
        """Contents and PCMD."""
        with self._path.open("rb") as file:
            contents, pcmd = self._places(page)
            return os.pread(file.fileno(), 4096, contents), os.pread(file.fileno(), _PCMD, pcmd)

    def put(self, page: int, what: tuple[bytes, bytes]) -> None:
        with self._path.open("r+b", buffering=0) as file:
            for data, at in zip(what, self._places(page), strict=True):
                assert os.pwrite(file.fileno(), data, at) == len(data)

    def flip(self, page: int, part: int, bit: int) -> None:
        """A bit of the contents (part 0) or of the PCMD (1)."""
        parts = [bytearray(data) for data in self.get(page)]
        parts[part][bit // 8] ^= 1 << bit % 8
        self.put(page, (bytes(parts[0]), bytes(parts[1])))


def _old(told: Told) -> None:
    old = Stored(told, 1).get(5)
    told.fill(1, 3000)
    told.fill(2, 4000)
    Stored(told, 1).put(5, old)


def _swapped(told: Told) -> None:
    stored = Stored(told, 1)
    fifth, sixth = stored.get(5), stored.get(6)
    stored.put(5, sixth)
    stored.put(6, fifth)


def _another(told: Told) -> None:
    told.fill(1, 3000)  # now those of the other one are out
    foreign = Stored(told, 2).get(5)
    told.fill(2, 4000)
    Stored(told, 1).put(5, foreign)


def _version(told: Told) -> None:
    """All versions that are in the EPC; a SECS has larger words, and one of another machine's is not there."""
    with told.memfds()["sgx-epc"].open("r+b", buffering=0) as file:
        epc = np.frombuffer(file.read(), "<u8").reshape(-1, 512).copy()
        arrays = (epc < 1 << 32).all(axis=1) & ((epc != 0).sum(axis=1) > 8)
        assert arrays.any()
        epc[arrays] ^= (epc[arrays] != 0).astype(np.uint64)
        os.pwrite(file.fileno(), epc.tobytes(), 0)


ATTACKS: dict[str, Callable[[Told], None]] = {
    "first-bit": lambda told: Stored(told, 1).flip(5, 0, 0),
    "last-bit": lambda told: Stored(told, 1).flip(5, 0, 8 * 4096 - 1),
    "zeros": lambda told: Stored(told, 1).put(5, (bytes(4096), Stored(told, 1).get(5)[1])),
    "pcmd-flags": lambda told: Stored(told, 1).flip(5, 1, 1),
    "pcmd-type": lambda told: Stored(told, 1).flip(5, 1, 10),
    "pcmd-reserved": lambda told: Stored(told, 1).flip(5, 1, 8 * 80),
    "pcmd-mac": lambda told: Stored(told, 1).flip(5, 1, 8 * 112),
    "old": _old,
    "swapped": _swapped,
    "another": _another,
}


@pytest.mark.parametrize("attack", [*ATTACKS, "version"])
@pytest.mark.parametrize(
    ("way", "refusal"), [("vdso", "vector 14 code 4 page 5"), ("raw", "signal 7 code 2 page 5")]
)
def test_page_that_was_changed_outside_is_refused(
    way: str, refusal: str, attack: str, programs: Programs
) -> None:
    isolation = "off" if way == "vdso" else "hidden"
    with Told(programs, way, options=["--isolation", isolation]) as told:
        told.fill(1, 1000)
        told.fill(2, 2000)
        ATTACKS.get(attack, _version)(told)
        assert told.ask("1 read 5") == refusal
        # All that is out of the enclave stays there; what is in the EPC is used further, as on Linux.
        assert told.ask("1 read 9") == refusal.replace("page 5", "page 9")
        assert told.ask("1 read 5") == refusal
        if attack != "version":
            for page in (5, 6, _PAGES - 1):
                assert told.ask(f"2 read {page}").startswith("value ")
            told.fill(2, 5000)
            assert told.ask("2 read 5") == "value 5005"
        explained = told.close()
    assert "the page that EWB wrote" in explained
    remedy = "the backing store was changed, or an old version or another page was put there"
    assert remedy in explained or attack == "pcmd-type"  # of no type that there is: #GP


# Corner cases, a program for each.

SMALL = ("code", "mappings", "children", "shared", "files", "outside", "looked_at")
#: Places where userfaultfd is allowed, in which less else is.
_ROOT = os.getuid() == 0
PLACES: dict[str, dict[str, Any]] = {
    "ordinary-user": {"user": NOBODY},
    "no-capabilities": {"capabilities": False},
    "namespace-without-capabilities": {"namespace": True, "capabilities": False},
}


def _confined(words: Sequence[str | Path], *options: str, **how: Any) -> subprocess.CompletedProcess[str]:
    """A program in a sandbox, under ``swsgx run``."""
    command = [*supervised.swsgx_run()[:-1], *options, "--"]
    return subprocess.run(
        confined(*command, *words, reach=[Path(words[0])], **how),
        cwd="/",
        env=supervised.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("link", [(), ("-static",)], ids=["dynamic", "static"])
@pytest.mark.parametrize("isolation", ["off", "hidden"])
@pytest.mark.parametrize("name", SMALL)
def test_program_on_a_tiny_epc(name: str, isolation: str, link: tuple[str, ...], programs: Programs) -> None:
    program = programs.build(f"paging_{name}.c", *link)
    with Running([program], ["--epc", "512K", "--isolation", isolation]) as running:
        assert running.end() == (0, "EXIT-SUCCESS\n", "")


def test_small_programs_are_all_here() -> None:
    found = {path.stem.removeprefix("paging_") for path in FOLDER.glob("paging_*.c")}
    assert found == {*SMALL, "ask", "storm"}


@pytest.mark.parametrize("isolation", ["off", "hidden"])
@pytest.mark.parametrize("place", PLACES)
def test_pages_leave_and_come_back_where_little_is_allowed(
    place: str, isolation: str, programs: Programs
) -> None:
    if "user" in PLACES[place] and not _ROOT:
        pytest.skip("becoming another user takes root")
    program = programs.build("paging_children.c")
    done = _confined([program], "--epc", "512K", "--isolation", isolation, **PLACES[place])
    if "namespace" in PLACES[place] and "unshare" in done.stderr:
        pytest.skip("no user namespace can be made here")
    assert (done.returncode, done.stdout, done.stderr) == (0, "EXIT-SUCCESS\n", "")


@pytest.mark.parametrize("isolation", ["off", "hidden"])
@pytest.mark.parametrize("refused", ["userfaultfd", "userfaultfd=38"])
def test_where_userfaultfd_is_refused_a_full_epc_is_no_memory(
    refused: str, isolation: str, programs: Programs
) -> None:
    program = programs.build("memory_copy.c")
    options = ("--isolation", isolation, "--explain", "--epc")
    done = _confined([program], *options, "512K", refused=[refused])
    assert (done.returncode, done.stdout) == (0, "EXIT-SUCCESS\n")
    done = _confined([program], *options, "32K", refused=[refused])
    assert done.returncode == 1
    assert "Cannot allocate memory" in done.stdout
    assert "allow userfaultfd in the sandbox's or container's filter" in done.stderr
