"""What the driver is told of a process: who it is, and where bytes come from that were copied out of it."""

from __future__ import annotations

import hashlib
import mmap
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from swsgx.isa.address import PAGE_SIZE, TargetAddr
from swsgx.linux.provenance import Extent, OriginClass
from swsgx.lsm import process_facts
from swsgx.lsm.process_facts import ProcessMemory, SourceFiles, subject_of
from swsgx.native.images import address_of

Map = Callable[[Path], int]


@pytest.fixture
def mapped() -> Map:
    """Maps a file into our own process, privately."""
    maps: list[mmap.mmap] = []

    def make(path: Path) -> int:
        with path.open("rb") as file:
            maps.append(mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE))
        return address_of(memoryview(maps[-1]))

    return make


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "code"
    path.write_bytes(b"".join(bytes([letter]) * PAGE_SIZE for letter in b"abcd"))
    return path


def _extents(address: int, contents: bytes) -> list[Extent]:
    return list(ProcessMemory(os.getpid(), SourceFiles()).extents(TargetAddr(address), memoryview(contents)))


def _kinds(extents: list[Extent]) -> list[tuple[int, str]]:
    return [(extent.size, extent.origin.kind.value if extent.origin else "") for extent in extents]


def test_bytes_of_a_file_are_the_files(file: Path, mapped: Map) -> None:
    (extent,) = _extents(mapped(file), file.read_bytes())
    assert (extent.size, extent.origin is not None) == (4 * PAGE_SIZE, True)
    origin = extent.origin
    assert origin is not None
    assert (origin.kind, origin.path, origin.inode) == (OriginClass.FILE, str(file), file.stat().st_ino)
    assert origin.file is not None
    assert origin.file.digest("sha256") == hashlib.sha256(file.read_bytes()).digest()
    assert origin.file.attribute("user.nothing") is None


def test_bytes_that_are_not_the_files_are_a_modified_copy_though_the_tables_say_nothing(
    file: Path, mapped: Map
) -> None:
    contents = bytearray(file.read_bytes())
    contents[2 * PAGE_SIZE + 9] ^= 1
    assert _kinds(_extents(mapped(file), bytes(contents))) == [
        (PAGE_SIZE, "file"),
        (PAGE_SIZE, "file"),
        (PAGE_SIZE, "filemod"),
        (PAGE_SIZE, "file"),
    ]


def test_bytes_in_the_middle_of_pages_have_an_origin(file: Path, mapped: Map) -> None:
    address = mapped(file) + PAGE_SIZE + 100
    contents = file.read_bytes()[PAGE_SIZE + 100 :][:1808]
    assert _kinds(_extents(address, contents)) == [(1808, "file")]
    assert _kinds(_extents(address, b"x" + contents[1:])) == [(1808, "filemod")]


def test_file_with_another_path_here_is_nobodys(
    file: Path, mapped: Map, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, contents = mapped(file), file.read_bytes()
    monkeypatch.setattr(process_facts, "_is_here", lambda *_: False)
    assert _kinds(_extents(address, contents)) == [(4 * PAGE_SIZE, "unknown")]
    assert subject_of(os.getpid()).exe == ""


def test_file_that_was_replaced_is_another(file: Path, mapped: Map) -> None:
    address, contents = mapped(file), file.read_bytes()
    new = file.with_name("new")
    new.write_bytes(contents)
    new.rename(file)
    (extent,) = _extents(address, contents)
    assert extent.origin is not None
    assert extent.origin.anonymous


def test_name_of_a_file_forges_no_mapping(tmp_path: Path, mapped: Map) -> None:
    odd = tmp_path / "a\r10000-20000 r-xp 00000000 00:01 1 b"
    odd.write_bytes(b"z" * PAGE_SIZE)
    mapped(odd)
    assert _kinds(_extents(0x10000, bytes(PAGE_SIZE))) == [(PAGE_SIZE, "unknown")]


def test_process_that_is_gone_has_no_memory_and_no_rights() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
        assert (
            list(ProcessMemory(child.pid, SourceFiles()).extents(TargetAddr(0x1000), memoryview(b"x"))) == []
        )
        subject = subject_of(child.pid)
    assert (subject.exe, subject.label, subject.comm, subject.uid) == ("", "", "", (1 << 32) - 1)


def test_subject_is_the_process_of_a_thread() -> None:
    subject = subject_of(os.getpid())
    assert (subject.pid, subject.uid) == (os.getpid(), os.geteuid())
    assert subject.exe == str(Path("/proc/self/exe").readlink())
    assert subject.comm == Path("/proc/self/comm").read_text().rstrip("\n")
