"""Files, listings and stat of a machine with SGX, against the kernel's own answers where there are some."""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swsgx.isa.cpuid import CpuModel
from swsgx.supervisor.emulated_files import (
    LINKS,
    NODES,
    Dirent,
    FileFacts,
    added,
    cpuinfo,
    device_facts,
    directory_facts,
    misc,
    pack_dirents,
    pack_stat,
    pack_statx,
    parse_dirents,
    sgx_total_bytes,
    small_file,
    small_file_facts,
)

SGX2 = CpuModel.with_sgx2()
NR_STAT, NR_GETDENTS64, NR_STATX = 4, 217, 332
AT_FDCWD = -100

# Published flags of real machines with SGX, from fsgsbase on.
COFFEE_LAKE = (
    "fsgsbase tsc_adjust sgx bmi1 avx2 smep bmi2 erms invpcid mpx rdseed adx smap clflushopt intel_pt xsaveopt xsavec"
    " xgetbv1 xsaves dtherm ida arat pln pts hwp hwp_notify hwp_act_window hwp_epp sgx_lc md_clear flush_l1d"
    " arch_capabilities"
)
ICE_LAKE = (
    "fsgsbase tsc_adjust sgx bmi1 avx2 smep bmi2 erms invpcid cqm rdt_a avx512f avx512dq rdseed adx smap avx512ifma"
    " clflushopt clwb intel_pt avx512cd sha_ni avx512bw avx512vl xsaveopt xsavec xgetbv1 xsaves cqm_llc cqm_occup_llc"
    " cqm_mbm_total cqm_mbm_local split_lock_detect wbnoinvd dtherm ida arat pln pts avx512vbmi umip pku ospke"
    " avx512_vbmi2 gfni vaes vpclmulqdq avx512_vnni avx512_bitalg tme avx512_vpopcntdq la57 rdpid sgx_lc fsrm md_clear"
    " pconfig flush_l1d arch_capabilities"
)


def lines(flags: str) -> bytes:
    """/proc/cpuinfo of two CPUs."""
    cpu = f"model name\t: A CPU\nflags\t\t: fpu vme lm {flags}\nvmx flags\t: vnmi ept\nbugs\t\t: mds\n\n"
    return f"processor\t: 0\n{cpu}processor\t: 1\n{cpu}".encode()


@pytest.mark.parametrize("flags", [COFFEE_LAKE, ICE_LAKE], ids=["coffee lake", "ice lake"])
@pytest.mark.parametrize("missing", [["sgx", "sgx_lc"], ["sgx"], ["sgx_lc"], []], ids=str)
def test_flags_come_where_the_kernel_prints_them(flags: str, missing: list[str]) -> None:
    without = " ".join(flag for flag in flags.split() if flag not in missing)
    assert cpuinfo(lines(without)) == lines(flags)


def test_flags_of_a_cpu_without_what_comes_behind_are_at_the_end() -> None:
    assert cpuinfo(b"flags\t\t: fpu lm fsgsbase\n") == b"flags\t\t: fpu lm fsgsbase sgx sgx_lc\n"


def test_this_machines_cpuinfo_gains_two_flags_for_each_cpu_and_no_more() -> None:
    real = Path("/proc/cpuinfo").read_bytes()
    once = cpuinfo(real)
    assert cpuinfo(once) == once
    for line, changed in zip(real.split(b"\n"), once.split(b"\n"), strict=True):
        if line.startswith(b"flags"):
            assert {b"sgx", b"sgx_lc"} <= set(changed.split())
            assert [f for f in changed.split() if f not in (b"sgx", b"sgx_lc")] == [
                f for f in line.split() if f not in (b"sgx", b"sgx_lc")
            ]
        else:
            assert changed == line


def test_the_first_node_has_the_whole_epc() -> None:
    assert sgx_total_bytes(SGX2, 0) == b"134217728\n"
    assert sgx_total_bytes(SGX2, 1) == b"0\n"
    assert small_file("/sys/devices/system/node/node0/x86/sgx_total_bytes", SGX2) == b"134217728\n"


@pytest.mark.parametrize(
    "path",
    [
        "/sys/devices/system/node/node0/x86",
        "/sys/devices/system/node/node/x86/sgx_total_bytes",
        "/sys/devices/system/node/node\u0661/x86/sgx_total_bytes",
        "/sys/devices/system/node/node0/x86/sgx_total_bytes/",
        "/sys/devices/virtual/misc/kvm/dev",
        "/sys/devices/virtual/misc/sgx_enclave/power",
        "/sys/class/misc/sgx_enclave",
        "/",
        "",
    ],
)
def test_other_paths_are_not_ours(path: str) -> None:
    assert small_file(path, SGX2) is None
    assert added(path + "/none") == ()


def test_sysfs_tells_the_numbers_of_the_nodes() -> None:
    folder = "/sys/devices/virtual/misc"
    assert small_file(f"{folder}/sgx_enclave/dev", SGX2) == b"10:125\n"
    assert (
        small_file(f"{folder}/sgx_provision/uevent", SGX2) == b"MAJOR=10\nMINOR=126\nDEVNAME=sgx_provision\n"
    )
    assert LINKS["/sys/dev/char/10:125"].endswith("/sgx_enclave")


def test_proc_misc_has_the_devices_once() -> None:
    real = b"232 kvm\n  1 psaux\n"
    assert misc(real) == b"125 sgx_enclave\n126 sgx_provision\n" + real
    assert misc(misc(real)) == misc(real)


# ---- listings --------------------------------------------------------------------------------------------------------


def syscall(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    result = int(libc.syscall(ctypes.c_long(number), *arguments))
    assert result >= 0, os.strerror(ctypes.get_errno())
    return result


def test_the_kernels_entries_are_understood() -> None:
    buffer = ctypes.create_string_buffer(1 << 20)
    fd = os.open("/dev", os.O_RDONLY)
    try:
        size = syscall(NR_GETDENTS64, ctypes.c_int(fd), buffer, ctypes.c_ulong(len(buffer)))
    finally:
        os.close(fd)
    entries = parse_dirents(buffer.raw[:size])
    assert {os.fsdecode(entry.name) for entry in entries} == {".", "..", *os.listdir("/dev")}
    packed, count = pack_dirents(entries, 1 << 20)
    assert (len(packed), count) == (size, len(entries))
    assert parse_dirents(packed) == entries


def test_dev_gains_what_it_does_not_have() -> None:
    assert [(entry.name, entry.kind) for entry in added("/dev", [b"null"])] == [
        (b"sgx_enclave", 2),
        (b"sgx_provision", 2),
        (b"sgx", 4),
    ]
    assert [entry.name for entry in added("/dev", [b"sgx_enclave", b"sgx"])] == [b"sgx_provision"]
    assert [entry.name for entry in added("/dev/sgx")] == [b".", b"..", b"enclave", b"provision"]
    assert [entry.name for entry in added("/sys/devices/system/node/node3", [b"cpulist"])] == [b"x86"]
    assert [entry.name for entry in added("/sys/devices/system/node/node3/x86")][2:] == [b"sgx_total_bytes"]


def test_a_listing_and_stat_agree() -> None:
    like = Path("/dev").stat()
    inodes = {entry.name: entry.inode for entry in added("/dev")}
    assert device_facts("/dev/sgx_enclave", like).inode == inodes[b"sgx_enclave"]
    assert directory_facts("/dev/sgx", like).inode == inodes[b"sgx"] == added("/dev/sgx")[0].inode
    assert len({entry.inode for entry in (*added("/dev"), *added("/dev/sgx")[2:])}) == 5


def test_a_buffer_too_small_takes_what_fits() -> None:
    entries = added("/dev")
    whole, _ = pack_dirents(entries, 4096)
    for room in range(len(whole) + 8):
        packed, count = pack_dirents(entries, room)
        assert len(packed) <= room
        assert parse_dirents(packed) == list(entries[:count])
    assert pack_dirents(entries, 8) == (b"", 0)


@given(st.binary(max_size=200))
def test_no_buffer_is_a_reason_to_fail(buffer: bytes) -> None:
    parse_dirents(buffer)


@given(
    st.lists(
        st.builds(
            Dirent,
            st.binary(min_size=1, max_size=255).filter(lambda name: b"\0" not in name),
            st.integers(0, 255),
            st.integers(0, (1 << 64) - 1),
            st.integers(0, (1 << 63) - 1),
        )
    )
)
def test_entries_survive(entries: list[Dirent]) -> None:
    packed, count = pack_dirents(entries, 1 << 20)
    assert count == len(entries)
    assert len(packed) % 8 == 0
    assert parse_dirents(packed) == entries


# ---- stat ------------------------------------------------------------------------------------------------------------


def facts_of(status: os.stat_result) -> FileFacts:
    return FileFacts(
        mode=status.st_mode,
        inode=status.st_ino,
        device=status.st_dev,
        links=status.st_nlink,
        owner=status.st_uid,
        group=status.st_gid,
        rdev=status.st_rdev,
        size=status.st_size,
        block_size=status.st_blksize,
        blocks=status.st_blocks,
        accessed=status.st_atime_ns,
        modified=status.st_mtime_ns,
        changed=status.st_ctime_ns,
    )


@pytest.mark.parametrize("path", ["file", "/dev/null", "/dev", "/proc/self/status"])
def test_structures_are_the_kernels(path: str, tmp_path: Path) -> None:
    target = tmp_path / path
    if path == "file":
        target.write_bytes(bytes(10000))
        os.utime(target, ns=(1_700_000_000_123_456_789, -5_000_000_001))
    facts = facts_of(target.stat())
    name = os.fsencode(target)
    buffer = ctypes.create_string_buffer(144)
    syscall(NR_STAT, name, buffer)
    assert pack_stat(facts) == buffer.raw
    buffer = ctypes.create_string_buffer(256)
    syscall(NR_STATX, ctypes.c_int(AT_FDCWD), name, ctypes.c_int(0), ctypes.c_uint(0x1FFF), buffer)
    mask, _, attributes = struct.unpack_from("<IIQ", buffer.raw)
    (attributes_mask,) = struct.unpack_from("<Q", buffer.raw, 56)
    born = struct.unpack_from("<qI", buffer.raw, 80)
    (mount,) = struct.unpack_from("<Q", buffer.raw, 144)
    ours = pack_statx(
        facts._replace(
            born=born[0] * 1_000_000_000 + born[1] if mask & 0x800 else None,
            attributes=attributes,
            attributes_mask=attributes_mask,
            mount=mount if mask & 0x1000 else None,
        )
    )
    assert len(ours) == 256
    assert ours[4:152] == buffer.raw[4:152]
    assert struct.unpack_from("<I", ours)[0] == mask & 0x1FFF


@pytest.mark.parametrize(("path", "minor"), NODES.items())
def test_nodes_are_misc_devices_that_everybody_may_open(path: str, minor: int) -> None:
    facts = device_facts(path, Path("/dev").stat())
    assert stat.S_ISCHR(facts.mode)
    assert stat.S_IMODE(facts.mode) == 0o666
    assert (os.major(facts.rdev), os.minor(facts.rdev)) == (10, minor)
    assert facts.device == Path("/dev").stat().st_dev


def test_directories_and_files_look_like_those_around_them() -> None:
    like = Path("/dev").stat()
    folder = directory_facts("/dev/sgx", like)
    assert (stat.S_ISDIR(folder.mode), folder.links, folder.size) == (True, 2, 40)
    file = small_file_facts("/sys/devices/system/node/node0/x86/sgx_total_bytes", like)
    assert (file.mode, file.size) == (stat.S_IFREG | 0o444, 4096)
    assert stat.S_ISLNK(small_file_facts("/sys/class/misc/sgx_enclave", like).mode)
    assert small_file_facts("/sys/devices/virtual/misc/sgx_enclave/uevent", like).mode == stat.S_IFREG | 0o644
