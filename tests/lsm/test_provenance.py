"""Where memory comes from: real mappings of this process, and of a child; lines and entries that are made up."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import itertools
import mmap
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swsgx.linux.security import OriginClass
from swsgx.lsm.appraisal import read_reference
from swsgx.lsm.audit import Source
from swsgx.lsm.file_facts import (
    FileDigests,
    FileFacts,
    Mount,
    ProvenanceError,
    open_for_writing,
    parse_mounts,
)
from swsgx.lsm.pagemap import PageState, page_states, runs
from swsgx.lsm.provenance import Extent, Provenance, Vma, kind_of
from swsgx.native.mappings import Mapping, mappings

PAGE = 4096
PROCMAP_QUERY = 0xC068_6611
HERE = os.getpid()

Map = Callable[..., int]


@pytest.fixture(autouse=True, params=["one mapping is asked for", "all are read"])
def _kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux 6.11 or newer, if this is one; and an older one."""
    if request.param == "one mapping is asked for":
        return
    real = fcntl.ioctl

    def older(fd: Any, number: int, *arguments: Any) -> Any:
        if number == PROCMAP_QUERY:
            raise OSError(errno.ENOTTY, "not here")
        return real(fd, number, *arguments)

    monkeypatch.setattr(fcntl, "ioctl", older)


@pytest.fixture
def mapped() -> Iterator[Map]:
    """Maps a file, by descriptor, and gives the address; -1 is anonymous memory."""
    with ExitStack() as stack:

        def make(fd: int, length: int, flags: int = mmap.MAP_PRIVATE, *, touched: bool = False) -> int:
            flags |= mmap.MAP_ANONYMOUS if fd < 0 else 0
            memory = mmap.mmap(fd, length, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
            stack.callback(memory.close)
            if touched:
                for at in range(0, length, PAGE):
                    memory[at] = memory[at]
            view = ctypes.c_char.from_buffer(memory)
            address = ctypes.addressof(view)
            # The view would keep the memory from being closed.
            del view
            return address

        yield make


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Four pages, each of one letter, that nobody has open."""
    path = tmp_path / "lib.so"
    path.write_bytes(b"".join(bytes([letter]) * PAGE for letter in b"abcd"))
    path.chmod(0o750)
    return path


def _opened(path: Path, flags: int = os.O_RDONLY) -> int:
    return os.open(path, flags | os.O_CLOEXEC)


def _one(extents: list[Extent]) -> Extent:
    (extent,) = extents
    return extent


def _write(address: int, data: bytes) -> None:
    ctypes.memmove(address, data, len(data))


# ---- kinds ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [mmap.MAP_PRIVATE, mmap.MAP_SHARED], ids=["private", "shared"])
def test_mapped_file_is_a_file_with_its_facts(file: Path, mapped: Map, flags: int) -> None:
    fd = _opened(file, os.O_RDWR)
    address = mapped(fd, 4 * PAGE, flags)
    extent = _one(Provenance(HERE).extents(address + PAGE, 2 * PAGE))
    os.close(fd)
    status = file.stat()
    assert (extent.kind, extent.path, extent.offset) == (OriginClass.FILE, str(file), PAGE)
    assert (extent.device, extent.inode) == (status.st_dev, status.st_ino)
    assert (extent.mode, extent.uid) == (0o750, os.getuid())
    assert extent.shared is (flags == mmap.MAP_SHARED)
    assert not extent.deleted
    assert not extent.anonymous
    assert extent.filesystem


def test_patched_page_of_a_private_mapping_is_a_modified_file_and_its_neighbours_are_not(
    file: Path, mapped: Map
) -> None:
    fd = _opened(file)
    address = mapped(fd, 4 * PAGE)
    os.close(fd)
    _write(address + PAGE + 7, b"!")
    extents = Provenance(HERE).extents(address, 4 * PAGE)
    assert [(e.kind.value, e.start - address, e.length, e.offset) for e in extents] == [
        ("file", 0, PAGE, 0),
        ("filemod", PAGE, PAGE, PAGE),
        ("file", 2 * PAGE, 2 * PAGE, 2 * PAGE),
    ]


def test_page_that_was_written_with_what_it_held_is_a_copy_all_the_same(file: Path, mapped: Map) -> None:
    fd = _opened(file)
    address = mapped(fd, PAGE, touched=True)
    os.close(fd)
    assert _one(Provenance(HERE).extents(address, PAGE)).kind is OriginClass.FILEMOD


def test_pages_that_nobody_touched_are_touched_before_anything_is_said(file: Path, mapped: Map) -> None:
    fd = _opened(file)
    address = mapped(fd, 4 * PAGE)
    os.close(fd)
    touched: list[int] = []
    blind = Provenance(HERE, touch=lambda start, length: touched.append(length))
    assert _one(blind.extents(address, 4 * PAGE)).kind is OriginClass.UNKNOWN
    assert touched == [4 * PAGE]
    assert _one(Provenance(HERE).extents(address, 4 * PAGE)).kind is OriginClass.FILE


def test_copy_that_was_given_up_is_the_file_again(file: Path, mapped: Map) -> None:
    """Which is why what is loaded is compared with the file in the end."""
    fd = _opened(file)
    address = mapped(fd, PAGE)
    os.close(fd)
    _write(address, b"!")
    assert _one(Provenance(HERE).extents(address, PAGE)).kind is OriginClass.FILEMOD
    loaded = ctypes.string_at(address, PAGE)
    libc = ctypes.CDLL(None)
    assert libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(PAGE), mmap.MADV_DONTNEED) == 0
    extent = _one(Provenance(HERE).extents(address, PAGE))
    assert extent.kind is OriginClass.FILE
    assert Provenance(HERE).confirm(extent, loaded).kind is OriginClass.FILEMOD
    assert Provenance(HERE).confirm(extent, b"a" * PAGE) == extent


def test_last_page_of_a_file_is_confirmed_with_zeros_behind_its_end(tmp_path: Path, mapped: Map) -> None:
    (tmp_path / "f").write_bytes(b"short")
    fd = _opened(tmp_path / "f")
    extent = _one(Provenance(HERE).extents(mapped(fd, len(b"short")), PAGE))
    os.close(fd)
    assert Provenance(HERE).confirm(extent, b"short".ljust(PAGE, b"\0")).kind is OriginClass.FILE
    assert Provenance(HERE).confirm(extent, b"short".ljust(PAGE, b"x")).kind is OriginClass.FILEMOD


def test_memfd_is_a_memfd_however_it_is_called(mapped: Map) -> None:
    fd = os.memfd_create("lib (deleted)")
    os.ftruncate(fd, PAGE)
    extent = _one(Provenance(HERE).extents(mapped(fd, PAGE), PAGE))
    os.close(fd)
    assert extent.kind is OriginClass.MEMFD
    assert extent.anonymous
    assert extent.writers is None


def test_file_that_is_called_like_a_memfd_is_a_file(file: Path, mapped: Map) -> None:
    odd = file.with_name("memfd:x (deleted)")
    file.rename(odd)
    fd = _opened(odd)
    extent = _one(Provenance(HERE).extents(mapped(fd, PAGE), PAGE))
    os.close(fd)
    assert (extent.kind, extent.path, extent.deleted) == (OriginClass.FILE, str(odd), False)


@pytest.mark.parametrize("separator", ["\r", "\x0b", "\x1e", "\x85", "\u2028", "\n"])
def test_name_of_a_file_cannot_add_a_line_to_the_maps(file: Path, mapped: Map, separator: str) -> None:
    """A name that claims that all addresses are another file's."""
    status = file.stat()
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    claim = f"0-7fffffffffff r-xs 00000000 {device} {status.st_ino} {os.sep}x".replace("/", "_")
    odd = file.with_name(f"a{separator}{claim}{separator}b")
    odd.write_bytes(b"z" * PAGE)
    fd = _opened(odd)
    address = mapped(fd, PAGE)
    os.close(fd)
    above = mapped(-1, PAGE)
    extent = _one(Provenance(HERE).extents(address, PAGE))
    assert extent.inode == odd.stat().st_ino
    assert extent.kind is (OriginClass.FILE if extent.path == str(odd) else OriginClass.UNKNOWN)
    assert _one(Provenance(HERE).extents(above, PAGE)).kind is OriginClass.ANON


def test_deleted_file_counts_as_anonymous(file: Path, mapped: Map) -> None:
    fd = _opened(file)
    address = mapped(fd, PAGE)
    os.close(fd)
    file.unlink()
    extent = _one(Provenance(HERE).extents(address, PAGE))
    assert extent.deleted
    assert extent.anonymous
    assert extent.path == str(file)


def test_file_that_took_the_place_of_a_mapped_one_is_not_taken_for_it(file: Path, mapped: Map) -> None:
    fd = _opened(file)
    address = mapped(fd, PAGE)
    os.close(fd)
    file.with_name("other").write_bytes(b"x" * PAGE)
    file.with_name("other").rename(file)
    extent = _one(Provenance(HERE).extents(address, PAGE))
    assert extent.inode != file.stat().st_ino
    assert extent.anonymous


def test_anonymous_and_shared_anonymous_memory_are_told_apart(mapped: Map) -> None:
    private = _one(Provenance(HERE).extents(mapped(-1, PAGE), PAGE))
    shared = _one(Provenance(HERE).extents(mapped(-1, PAGE, mmap.MAP_SHARED), PAGE))
    assert (private.kind, shared.kind) == (OriginClass.ANON, OriginClass.SHM)
    assert (private.path, private.uid) == ("", -1)


def test_posix_shared_memory_is_shm(mapped: Map) -> None:
    place = Path("/dev/shm")
    if not os.access(place, os.W_OK) or not any(
        m.point == str(place) and m.filesystem == "tmpfs" for m in parse_mounts(_mountinfo())
    ):
        pytest.skip("needs a tmpfs on /dev/shm that can be written: mount -t tmpfs tmpfs /dev/shm")
    path = place / f"swsgx-test-{HERE}"
    path.write_bytes(bytes(PAGE))
    try:
        fd = _opened(path)
        assert _one(Provenance(HERE).extents(mapped(fd, PAGE), PAGE)).kind is OriginClass.SHM
        os.close(fd)
    finally:
        path.unlink()


def _mountinfo() -> str:
    return os.fsdecode(Path("/proc/self/mountinfo").read_bytes())


def test_range_over_two_mappings_and_a_hole_is_judged_extent_by_extent(file: Path, mapped: Map) -> None:
    address = mapped(-1, 6 * PAGE)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    fd = _opened(file)
    fixed = mmap.MAP_PRIVATE | 0x10
    placed = libc.mmap(ctypes.c_void_p(address + 2 * PAGE), 2 * PAGE, 1, fixed, fd, ctypes.c_long(PAGE))
    os.close(fd)
    assert placed == address + 2 * PAGE
    assert libc.munmap(ctypes.c_void_p(address + 4 * PAGE), PAGE) == 0
    extents = Provenance(HERE).extents(address, 6 * PAGE)
    assert [(e.kind.value, (e.start - address) // PAGE, e.length // PAGE) for e in extents] == [
        ("anon", 0, 2),
        ("file", 2, 2),
        ("unknown", 4, 1),
        ("anon", 5, 1),
    ]
    assert extents[1].offset == PAGE


def test_range_over_several_mappings_and_holes_is_told_in_its_order(file: Path, mapped: Map) -> None:
    fd = _opened(file)
    base = mapped(-1, 6 * PAGE)
    at = ctypes.CDLL(None, use_errno=True)
    at.mmap.restype, at.mmap.argtypes = ctypes.c_void_p, [ctypes.c_void_p, *[ctypes.c_long] * 5]
    at.munmap.argtypes = [ctypes.c_void_p, ctypes.c_long]
    fixed = mmap.MAP_PRIVATE | 0x10
    assert at.mmap(base + PAGE, PAGE, mmap.PROT_READ, fixed, fd, 2 * PAGE) == base + PAGE
    assert at.munmap(base + 3 * PAGE, PAGE) == 0
    os.close(fd)
    looked = Provenance(HERE)
    for start, count in ((0, 6), (1, 4), (2, 2), (3, 1)):
        extents = looked.extents(base + start * PAGE, count * PAGE)
        kinds = "".join(e.kind.value[0] * (e.length // PAGE) for e in extents)
        assert kinds == "afauaa"[start : start + count]
        assert [e.start for e in extents] == [
            base + start * PAGE + sum(e.length for e in extents[:n]) for n in range(len(extents))
        ]
    (whole,) = looked.extents(base + PAGE, PAGE)
    assert (whole.offset, whole.path) == (2 * PAGE, str(file))
    # The hole is filled again, so that who unmaps all of it meets nobody else's.
    assert at.mmap(base + 3 * PAGE, PAGE, 0, fixed | mmap.MAP_ANONYMOUS, -1, 0) == base + 3 * PAGE


def test_vdso_is_unknown() -> None:
    for mapping in mappings(HERE):
        if mapping.path == "[vdso]":
            assert _one(Provenance(HERE).extents(mapping.start, PAGE)).kind is OriginClass.UNKNOWN
            return
    pytest.skip("this process has no vDSO; boot without vdso=0")


#: Maps a file privately, spoils its first page, says where, and waits.
MAPPER = """
import ctypes, mmap, os, sys
m = mmap.mmap(os.open(sys.argv[1], os.O_RDONLY), 0, flags=mmap.MAP_PRIVATE)
m[0] = 33
print(ctypes.addressof(ctypes.c_char.from_buffer(m)), flush=True)
sys.stdin.read()
"""


def test_another_processs_memory_is_looked_at_like_ours(file: Path) -> None:
    command = [sys.executable, "-c", MAPPER, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        if child.stdout is None or child.stdin is None:
            pytest.fail("no pipes")
        address = int(child.stdout.readline())
        provenance = Provenance(child.pid)
        extents = provenance.extents(address, 4 * PAGE)
        fd = provenance.open(extents[1])
        contents = os.pread(fd, 1 << 20, 0)
        os.close(fd)
        child.stdin.close()
    assert [e.kind for e in extents] == [OriginClass.FILEMOD, OriginClass.FILE]
    assert contents == file.read_bytes()
    with pytest.raises(ProvenanceError, match=f"process {child.pid} cannot be looked at: No such"):
        provenance.extents(address, PAGE)


def test_file_on_a_mount_that_only_the_process_sees_is_found_with_that_mounts_noexec(file: Path) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare: apt-get install util-linux")
    place = file.parent
    script = (
        f"mount -t tmpfs -o noexec,mode=755 only-here {place} && head -c 8192 /dev/zero > {place}/inner "
        f"&& printf 'a signature' > {place}/inner.sig "
        f'&& exec "$@" {place}/inner'
    )
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    command += [sys.executable, "-c", MAPPER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        if child.stdout is None or child.stdin is None:
            pytest.fail("no pipes")
        answer = child.stdout.readline()
        if not answer:
            pytest.skip(
                "needs user namespaces: sysctl kernel.unprivileged_userns_clone=1, or another container"
            )
        provenance = Provenance(child.pid)
        extents = provenance.extents(int(answer), 2 * PAGE)
        beside = read_reference(provenance.reachable(extents[1]))
        child.stdin.close()
    assert [e.kind for e in extents] == [OriginClass.FILEMOD, OriginClass.FILE]
    assert (extents[1].path, extents[1].filesystem) == (f"{place}/inner", "tmpfs")
    assert extents[1].noexec
    assert extents[1].reports_changes
    assert beside == b"a signature"


def test_file_of_memory_without_one_cannot_be_opened(mapped: Map) -> None:
    provenance = Provenance(HERE)
    extent = _one(provenance.extents(mapped(-1, PAGE), PAGE))
    with pytest.raises(ProvenanceError, match="memory without a file: is not there any more"):
        provenance.open(extent)


def test_driver_gets_the_facts_it_knows() -> None:
    extent = Extent(
        start=0, length=PAGE, kind=OriginClass.FILE, path="/a", device=1, inode=2, offset=3, writers=None
    )
    origin = extent.origin()
    assert (origin.kind, origin.path, origin.device, origin.inode, origin.offset) == (
        OriginClass.FILE,
        "/a",
        1,
        2,
        3,
    )
    assert origin.writers is False


def test_audit_record_gets_the_files_place_and_nothing_of_memory_without_one() -> None:
    extent = Extent(start=0, length=PAGE, kind=OriginClass.FILE, path="/a", device=1, inode=2, offset=PAGE)
    wanted = Source(kind="file", path="/a", device=1, inode=2, offset=PAGE, digest="sha256:00")
    assert extent.source("sha256:00") == wanted
    assert Extent(start=0, length=PAGE, kind=OriginClass.ANON).source() == Source(kind="anon")


# ---- writers --------------------------------------------------------------------------------------------------------


def test_file_that_nobody_writes_has_no_writers(file: Path, mapped: Map) -> None:
    fd = _opened(file)
    extent = _one(Provenance(HERE).extents(mapped(fd, PAGE), PAGE))
    os.close(fd)
    if extent.writers is None:
        pytest.skip(f"{extent.filesystem} grants no leases; TMPDIR on ext4 or tmpfs runs this")
    assert extent.writers is False
    assert not extent.unreliable


def test_file_that_is_open_for_writing_has_writers_until_it_is_closed(file: Path) -> None:
    reading, writing = _opened(file), _opened(file, os.O_WRONLY)
    seen = open_for_writing(reading)
    os.close(writing)
    after = open_for_writing(reading)
    os.close(reading)
    if after is None:
        pytest.skip("the filesystem of TMPDIR grants no leases; one on ext4 or tmpfs runs this")
    assert (seen, after) == (True, False)


def test_shared_writable_mapping_is_a_writer_though_its_file_is_closed(file: Path, mapped: Map) -> None:
    fd = _opened(file, os.O_RDWR)
    mapped(fd, PAGE, mmap.MAP_SHARED)
    os.close(fd)
    reading = _opened(file)
    seen = open_for_writing(reading)
    os.close(reading)
    if seen is None:
        pytest.skip("the filesystem of TMPDIR grants no leases; one on ext4 or tmpfs runs this")
    assert seen is True


def test_file_on_fuse_is_unreliable_whoever_writes_it() -> None:
    mount = Mount(1, 2, "/m", False, "fuse.sshfs")
    assert not mount.reports_changes
    extent = Extent(start=0, length=PAGE, kind=OriginClass.FILE, writers=False, reports_changes=False)
    assert extent.unreliable


# ---- digests --------------------------------------------------------------------------------------------------------

LATER = 1 << 62


def test_digest_is_computed_once_while_the_file_stands_still(file: Path) -> None:
    digests = FileDigests(clock=lambda: LATER)
    fd = _opened(file)
    wanted = hashlib.sha256(file.read_bytes()).digest()
    assert [digests.digest(fd), digests.digest(fd)] == [wanted, wanted]
    assert digests.read == 1
    assert digests.digest(fd, "sha512") == hashlib.sha512(file.read_bytes()).digest()
    os.close(fd)


def test_changed_file_has_another_digest(file: Path) -> None:
    digests = FileDigests(clock=lambda: LATER)
    fd = _opened(file)
    digests.digest(fd)
    file.write_bytes(b"changed")
    os.utime(file, ns=(1, 1))
    assert digests.digest(fd) == hashlib.sha256(b"changed").digest()
    os.close(fd)


def test_digest_of_a_file_that_changed_just_now_is_not_kept(file: Path) -> None:
    """It may change again within the grain of its times."""
    digests = FileDigests(clock=lambda: file.stat().st_ctime_ns + 1)
    fd = _opened(file)
    digests.digest(fd)
    digests.digest(fd)
    os.close(fd)
    assert digests.read == 2


def test_digest_is_not_kept_where_its_asker_knows_of_writers(file: Path) -> None:
    digests = FileDigests(clock=lambda: LATER)
    fd = _opened(file)
    digests.digest(fd, keep=False)
    digests.digest(fd, keep=False)
    os.close(fd)
    assert digests.read == 2


def test_no_more_digests_are_kept_than_the_limit(tmp_path: Path) -> None:
    digests = FileDigests(limit=1, clock=lambda: LATER)
    for name in ("a", "b", "a"):
        (tmp_path / name).touch()
        fd = _opened(tmp_path / name)
        digests.digest(fd)
        os.close(fd)
    assert digests.read == 3


def test_file_that_does_not_hold_still_has_no_digest(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pread

    def changing(fd: int, size: int, at: int) -> bytes:
        with file.open("ab") as more:
            more.write(b"x")
        return real(fd, size, at) if at == 0 else b""

    fd = _opened(file)
    monkeypatch.setattr(os, "pread", changing)
    with pytest.raises(ProvenanceError, match="changes while its digest is computed"):
        FileDigests().digest(fd)
    monkeypatch.undo()
    os.close(fd)


# ---- lines and entries ----------------------------------------------------------------------------------------------


def test_mapping_has_its_device_as_a_number() -> None:
    vma = Vma.of(Mapping(0x7F00, 0x8F00, "r-xp", 0x2000, "fe:01", 42, "/a/b c (deleted)"))
    assert vma == Vma(0x7F00, 0x8F00, "r-xp", 0x2000, os.makedev(0xFE, 1), 42, "/a/b c (deleted)")
    assert not vma.shared


def test_mounts_are_read_with_their_escapes_and_optional_fields() -> None:
    text = (
        "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue\n"
        "37 36 0:44 / /mnt/\\134x rw,nosuid,noexec - fuse.sshfs host: rw\n"
    )
    assert parse_mounts(text) == [
        Mount(36, os.makedev(98, 0), "/mnt 2", False, "ext3"),
        Mount(37, os.makedev(0, 44), "/mnt/\\x", True, "fuse.sshfs"),
    ]


_MOUNTS = [Mount(1, 5, "/", False, "ext4"), Mount(2, 6, "/dev/shm", False, "tmpfs")]


def _facts(device: int, *, regular: bool = True, filesystem: str = "ext4") -> FileFacts:
    return FileFacts(device, 9, regular, 1, 0o644, 0, False, filesystem, True, False, "")


@pytest.mark.parametrize(
    ("device", "inode", "path", "facts", "kind"),
    [
        (0, 0, "", None, "anon"),
        (0, 0, "[heap]", None, "anon"),
        (0, 0, "[stack]", None, "anon"),
        (0, 0, "[anon:arena]", None, "anon"),
        (0, 0, "[vvar]", None, "unknown"),
        (5, 9, "/a", _facts(5), "file"),
        (5, 9, "/a", None, "unknown"),
        (5, 9, "/dev/sgx_enclave", _facts(5, regular=False), "unknown"),
        (1, 9, "/memfd:x (deleted)", None, "memfd"),
        (5, 9, "/memfd:x (deleted)", _facts(5), "file"),
        (1, 9, "/SYSV00000000 (deleted)", None, "shm"),
        (1, 9, "/dev/zero (deleted)", None, "shm"),
        (1, 9, "[anon_shmem:x]", None, "shm"),
        (6, 9, "/dev/shm/x", _facts(6, filesystem="tmpfs"), "shm"),
        (6, 9, "/elsewhere/x", _facts(6, filesystem="tmpfs"), "file"),
        (1, 9, "anon_inode:[x]", None, "unknown"),
    ],
)
def test_kind_is_told_by_device_inode_and_name(
    device: int, inode: int, path: str, facts: FileFacts | None, kind: str
) -> None:
    assert kind_of(Vma(0, PAGE, "r--p", 0, device, inode, path), facts, _MOUNTS).value == kind


@pytest.mark.parametrize(
    ("bits", "state"),
    [
        ((), PageState.ABSENT),
        ((61,), PageState.ABSENT),
        ((63, 61), PageState.MAPPED),
        ((63, 61, 56, 55), PageState.MAPPED),
        ((63,), PageState.COPIED),
        ((63, 56), PageState.COPIED),
        ((62,), PageState.COPIED),
        ((62, 61), PageState.MAPPED),
    ],
)
def test_page_is_a_copy_if_it_is_there_or_swapped_and_not_a_files(
    bits: tuple[int, ...], state: PageState
) -> None:
    entry = np.array([sum(1 << bit for bit in bits)], dtype=np.uint64)
    assert page_states(entry).tolist() == [state]


@given(st.lists(st.sampled_from(PageState), max_size=30))
def test_runs_cover_all_pages_in_order_and_neighbours_differ(states: list[PageState]) -> None:
    found = list(runs(np.array(states, dtype=np.uint8)))
    assert [state for first, last, state in found for _ in range(first, last)] == states
    assert all(a[2] != b[2] for a, b in itertools.pairwise(found))
