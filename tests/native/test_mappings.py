"""The mappings of a process: what the kernel answers for one address is what the file says of it."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from swsgx.inprocess.memory import OwnMemory
from swsgx.isa.address import PAGE_SIZE, TargetAddr
from swsgx.linux.task import SourceVma
from swsgx.native.images import address_of
from swsgx.native.mappings import Mapping, mapping_from, mappings, mappings_from, occupied
from swsgx.supervisor.memory import TargetMemory

OURS = os.getpid
TOP = 0x7FFF_FFFF_F000


@pytest.fixture
def older_kernel(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From the call on, the kernel is one before 6.11."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTTY, "not here")

    return lambda: monkeypatch.setattr(fcntl, "ioctl", refuse)


@pytest.fixture
def needs_query() -> None:
    """Skip where there is nothing to compare with."""
    with open("/proc/self/maps", "rb", buffering=0) as maps:
        try:
            fcntl.ioctl(maps, 0xC068_6611, bytes(104))
        except OSError as error:
            if error.errno == errno.ENOTTY:
                pytest.skip("a kernel before 6.11")


@dataclass
class Area:
    """A mapping for a test."""

    map: mmap.mmap

    @property
    def address(self) -> int:
        return address_of(memoryview(self.map))


@pytest.fixture
def areas(tmp_path: Path) -> Iterator[dict[str, Area]]:
    """Each kind of mapping that a program may have, by name."""

    def of(path: Path, flags: int, prot: int = mmap.PROT_READ | mmap.PROT_WRITE) -> Area:
        path.write_bytes(bytes(4 * PAGE_SIZE))
        with path.open("r+b") as file:
            return Area(mmap.mmap(file.fileno(), 2 * PAGE_SIZE, flags, prot, offset=PAGE_SIZE))

    anonymous = mmap.MAP_ANONYMOUS
    gone = tmp_path / "gone"
    fd = os.memfd_create("a name")
    os.ftruncate(fd, PAGE_SIZE)
    rwx = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    made = {
        "anonymous": Area(mmap.mmap(-1, 2 * PAGE_SIZE, anonymous | mmap.MAP_PRIVATE)),
        "executable": Area(mmap.mmap(-1, 2 * PAGE_SIZE, anonymous | mmap.MAP_PRIVATE, rwx)),
        "shared anonymous": Area(mmap.mmap(-1, 2 * PAGE_SIZE, anonymous | mmap.MAP_SHARED)),
        "private": of(tmp_path / "private", mmap.MAP_PRIVATE),
        "shared": of(tmp_path / "shared", mmap.MAP_SHARED),
        "deleted": of(gone, mmap.MAP_SHARED),
        "memfd": Area(mmap.mmap(fd, PAGE_SIZE, mmap.MAP_SHARED)),
        "spaces": of(tmp_path / "two  spaces ", mmap.MAP_SHARED),
        "lines": of(tmp_path / "two\nlines\r", mmap.MAP_SHARED),
        "bytes": of(tmp_path / os.fsdecode(b"\xff\xfe"), mmap.MAP_PRIVATE),
    }
    gone.unlink()
    os.close(fd)
    yield made
    for area in made.values():
        area.map.close()


#: Maps a file that is on a noexec mount of its own, and says where, and what the driver sees in both ways.
NOEXEC = """
import errno, fcntl, mmap, pathlib, sys
from swsgx.inprocess.memory import OwnMemory
from swsgx.native.images import address_of

def refuse(*_):
    raise OSError(errno.ENOTTY, "not here")

path = pathlib.Path(sys.argv[1], "file")
path.write_bytes(bytes(4096))
with path.open("r+b") as file:
    area = mmap.mmap(file.fileno(), 4096)
path.unlink() if sys.argv[2] == "deleted" else None
address = address_of(memoryview(area))
native = OwnMemory().find_vma(address).may_exec
fcntl.ioctl = refuse
print(address, native, OwnMemory().find_vma(address).may_exec, flush=True)
input()
"""
MOUNT = 'mount -t tmpfs -o noexec none "$1" && exec "$2" -c "$3" "$1" "$4"'


def named(name: str) -> Mapping:
    return next(found for found in mappings(OURS()) if found.path == name)


def sources(address: int) -> tuple[SourceVma | None, SourceVma | None]:
    """What the driver sees: of ourselves, and of another process, which here we are, too."""
    return OwnMemory().find_vma(TargetAddr(address)), TargetMemory(OURS()).find_vma(address)


@pytest.mark.usefixtures("needs_query")
def test_both_ways_give_the_same_of_each_kind(
    areas: dict[str, Area], older_kernel: Callable[[], None]
) -> None:
    addresses = {name: area.address for name, area in areas.items()}
    special = ("[stack]", "[vdso]", "[vvar]", "[heap]")
    addresses |= {found.path: found.start for found in mappings(OURS()) if found.path in special}
    native = {name: (mapping_from(OURS(), at), sources(at)) for name, at in addresses.items()}
    older_kernel()
    assert {name: (mapping_from(OURS(), at), sources(at)) for name, at in addresses.items()} == native


@pytest.mark.parametrize("native", [True, False])
def test_what_is_said_of_each_kind(
    areas: dict[str, Area], native: bool, older_kernel: Callable[[], None], tmp_path: Path
) -> None:
    if not native:
        older_kernel()

    def of(name: str) -> Mapping:
        found = mapping_from(OURS(), areas[name].address)
        assert found is not None
        assert found.start <= areas[name].address < found.end
        assert found.pinnable
        assert found.may_execute(OURS())
        return found

    assert (of("anonymous").permissions, of("anonymous").path) == ("rw-p", "")
    assert of("executable").permissions == "rwxp"
    assert (of("shared anonymous").permissions, of("shared anonymous").path) == (
        "rw-s",
        "/dev/zero (deleted)",
    )
    private = of("private")
    assert (private.permissions, private.offset) == ("rw-p", PAGE_SIZE)
    assert private.path == str(tmp_path / "private")
    status = (tmp_path / "private").stat()
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    assert (private.inode, private.device) == (status.st_ino, device)
    assert of("shared").permissions == "rw-s"
    assert of("deleted").path == f"{tmp_path / 'gone'} (deleted)"
    assert of("memfd").path == "/memfd:a name (deleted)"
    assert of("spaces").path == str(tmp_path / "two  spaces ")
    assert of("lines").path == str(tmp_path / "two\nlines\r")
    assert of("bytes").path == str(tmp_path / os.fsdecode(b"\xff\xfe"))


@pytest.mark.parametrize("state", ["there", "deleted"])
def test_a_noexec_mount_lets_nothing_become_executable(
    state: str, older_kernel: Callable[[], None], tmp_path: Path
) -> None:
    unshared = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*unshared, "mount", "-t", "tmpfs", "none", tmp_path], check=False).returncode:
        pytest.skip("no mount namespace to be had")
    words: list[str | Path] = [*unshared, "sh", "-c", MOUNT, "sh", tmp_path, sys.executable, NOEXEC, state]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        address, *own = child.stdout.readline().split()
        seen = [TargetMemory(child.pid).find_vma(int(address))]
        older_kernel()
        seen.append(TargetMemory(child.pid).find_vma(int(address)))
        child.communicate("\n")
    if state == "there":
        assert own == ["False", "False"]
        assert [vma is not None and vma.may_exec for vma in seen] == [False, False]
    else:
        # Its mount cannot be asked for by a name that is gone: the same in both ways, and for both.
        assert own == ["True", "True"]
        assert [vma is not None and vma.may_exec for vma in seen] == [True, True]


@pytest.mark.parametrize("native", [True, False])
def test_what_the_kernel_maps_for_the_clock_cannot_be_pinned(
    native: bool, older_kernel: Callable[[], None]
) -> None:
    if not native:
        older_kernel()
    for name, pinnable in (("[vvar]", False), ("[vdso]", True), ("[stack]", True)):
        found = [vma for vma in sources(named(name).start) if vma is not None]
        assert [(vma.may_exec, vma.pinnable) for vma in found] == [(True, pinnable)] * 2


@pytest.mark.parametrize("native", [True, False])
def test_the_next_mapping_is_found_from_a_gap_and_none_behind_the_last(
    native: bool, older_kernel: Callable[[], None]
) -> None:
    if not native:
        older_kernel()
    with mmap.mmap(-1, 3 * PAGE_SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        first = Area(area).address
        before = mapping_from(OURS(), first - 1)
        found = mapping_from(OURS(), first)
        assert before is not None
        assert found is not None
        assert before.end > first - 1
        assert found.start <= first
        assert occupied(OURS(), first + PAGE_SIZE, PAGE_SIZE)
    last = list(mappings(OURS()))[-1]
    assert last.path == "[stack]" or last.end <= TOP
    # Not the page that old programs call: the kernel's find_vma does not know it.
    assert mapping_from(OURS(), last.end) is None
    assert not occupied(OURS(), last.end, PAGE_SIZE)
    stack = named("[stack]")
    assert mapping_from(OURS(), stack.start - 1) == next(mappings_from(OURS(), stack.start - 1))


@pytest.mark.parametrize("native", [True, False])
def test_another_process_and_one_that_is_gone(native: bool, older_kernel: Callable[[], None]) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        if not native:
            older_kernel()
        assert child.stdout is not None
        child.stdout.readline()
        assert list(mappings_from(child.pid, 0)) == list(mappings(child.pid)) != []
        child.communicate(b"\n")
    assert list(mappings(child.pid)) == []
    assert list(mappings_from(child.pid, 0)) == []
    assert mapping_from(child.pid, 0) is None
