"""What the driver is told of a process: who it is, and where bytes come from that were copied out of it."""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from swsgx.isa.address import PAGE_SIZE, TargetAddr
from swsgx.linux.provenance import Extent, OriginClass
from swsgx.lsm import pagemap, process_facts, provenance
from swsgx.lsm.file_facts import FileFacts, Mount, file_facts
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


def _known(address: int, length: int) -> ProcessMemory:
    """Our memory, of which a mapping was looked at a moment ago."""
    memory = ProcessMemory(os.getpid(), SourceFiles())
    list(memory.extents(TargetAddr(address), memoryview(bytes(length)), code=False))
    return memory


@pytest.fixture
def copy(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """An empty file; and what was looked at is believed for as long as a test takes."""
    monkeypatch.setattr(provenance, "_BELIEVED", 3600)
    fd = os.memfd_create("copy")
    yield fd
    os.close(fd)


def test_pages_that_were_not_written_to_are_copied_from_their_file(
    file: Path, mapped: Map, copy: int
) -> None:
    address = mapped(file)
    pages = _known(address, PAGE_SIZE).unwritten(TargetAddr(address + PAGE_SIZE), 3 * PAGE_SIZE)
    assert pages is not None
    assert (pages.start, pages.end) == (address + PAGE_SIZE, address + 4 * PAGE_SIZE)
    origin = pages.copy_to_file(copy, 64, address + 2 * PAGE_SIZE, PAGE_SIZE)
    assert origin is not None
    assert (origin.kind, origin.path, origin.offset) == (OriginClass.FILE, str(file), 2 * PAGE_SIZE)
    assert os.pread(copy, 2 * PAGE_SIZE, 64) == b"c" * PAGE_SIZE


def test_pages_end_where_one_was_written_to_even_with_what_it_had(file: Path, mapped: Map) -> None:
    address = mapped(file)
    (ctypes.c_char * (4 * PAGE_SIZE)).from_address(address)[2 * PAGE_SIZE] = b"c"
    memory = _known(address, PAGE_SIZE)
    pages = memory.unwritten(TargetAddr(address), 4 * PAGE_SIZE)
    assert pages is not None
    assert pages.end == address + 2 * PAGE_SIZE
    assert memory.unwritten(TargetAddr(address + 2 * PAGE_SIZE), PAGE_SIZE) is None


def test_what_was_not_looked_at_is_not_copied_from_a_file(file: Path, mapped: Map) -> None:
    assert ProcessMemory(os.getpid(), SourceFiles()).unwritten(TargetAddr(mapped(file)), PAGE_SIZE) is None


def test_memory_of_no_file_is_not_copied_from_one() -> None:
    area = mmap.mmap(-1, PAGE_SIZE)
    address = address_of(memoryview(area))
    assert _known(address, PAGE_SIZE).unwritten(TargetAddr(address), PAGE_SIZE) is None


def test_memory_that_may_not_be_read_is_not_copied_from_its_file(file: Path, copy: int) -> None:
    with file.open("rb") as source:
        area = mmap.mmap(source.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
    address = address_of(memoryview(area))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mprotect(ctypes.c_void_p(address), PAGE_SIZE, 0) == 0
    assert _known(address, PAGE_SIZE).unwritten(TargetAddr(address), PAGE_SIZE) is None


def test_file_with_another_path_here_is_not_copied_from(
    file: Path, mapped: Map, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_facts, "_is_here", lambda *_: False)
    address = mapped(file)
    assert _known(address, PAGE_SIZE).unwritten(TargetAddr(address), PAGE_SIZE) is None


@pytest.mark.parametrize("filesystem", ["fuse", "overlay"])
def test_files_that_can_be_others_when_they_are_opened_again_are_not_copied_from(
    file: Path, mapped: Map, monkeypatch: pytest.MonkeyPatch, filesystem: str
) -> None:
    def other(fd: int, mounts: list[Mount]) -> FileFacts:
        return replace(file_facts(fd, mounts), filesystem=filesystem, reports_changes=filesystem != "fuse")

    monkeypatch.setattr("swsgx.lsm.provenance.file_facts", other)
    address = mapped(file)
    assert _known(address, PAGE_SIZE).unwritten(TargetAddr(address), PAGE_SIZE) is None


def test_file_that_became_shorter_is_not_copied_from(file: Path, mapped: Map, copy: int) -> None:
    address = mapped(file)
    pages = _known(address, PAGE_SIZE).unwritten(TargetAddr(address), 4 * PAGE_SIZE)
    assert pages is not None
    os.truncate(file, PAGE_SIZE)
    assert pages.copy_to_file(copy, 0, address + PAGE_SIZE, PAGE_SIZE) is None
    assert pages.copy_to_file(copy, 0, address, PAGE_SIZE) is not None


def test_part_of_a_page_at_a_files_end_is_not_copied_from_it(tmp_path: Path, mapped: Map, copy: int) -> None:
    path = tmp_path / "short"
    path.write_bytes(bytes(PAGE_SIZE + 1))
    address = mapped(path)
    pages = _known(address, PAGE_SIZE).unwritten(TargetAddr(address), 2 * PAGE_SIZE)
    assert pages is not None
    assert pages.copy_to_file(copy, 0, address + PAGE_SIZE, PAGE_SIZE) is None


def test_without_a_pagemap_nothing_is_copied_from_files(
    file: Path, mapped: Map, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = mapped(file)
    memory = _known(address, PAGE_SIZE)
    monkeypatch.setattr(pagemap, "_entries", lambda *_: np.zeros(0, np.uint64))
    assert memory.unwritten(TargetAddr(address), PAGE_SIZE) is None


def test_what_was_known_of_a_file_a_while_ago_is_not_said_of_a_copy_now(
    file: Path, mapped: Map, copy: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = mapped(file)
    pages = _known(address, PAGE_SIZE).unwritten(TargetAddr(address), PAGE_SIZE)
    assert pages is not None
    later = time.monotonic() + 7200
    with monkeypatch.context() as clock:
        clock.setattr("swsgx.lsm.provenance.time.monotonic", lambda: later)
        assert pages.copy_to_file(copy, 0, address, PAGE_SIZE) is None
    assert pages.copy_to_file(copy, 0, address, PAGE_SIZE) is not None
