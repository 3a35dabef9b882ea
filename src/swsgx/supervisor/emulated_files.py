"""What a program must read, list and stat on a machine with SGX, made of what the host really has.

Pure functions: nobody here opens anything. The nodes are as Linux 6.12 makes them: two misc devices, provision
registered first, minors counted down from 127 as they are registered (``drivers/char/misc.c``).
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from swsgx.isa.cpuid import CpuModel

__all__ = [
    "ADDED",
    "LINKS",
    "NODES",
    "Dirent",
    "FileFacts",
    "added",
    "contents_of",
    "cpuinfo",
    "device_facts",
    "directory_facts",
    "facts_of",
    "misc",
    "pack_dirents",
    "pack_stat",
    "pack_statx",
    "parse_dirents",
    "real_facts",
    "sgx_total_bytes",
    "small_file",
    "small_file_facts",
]

_MISC_MAJOR = 10
_ENCLAVE_MINOR, _PROVISION_MINOR = 125, 126

#: Path of each device node: its minor number; the major is that of misc devices. The same device has the same numbers
#: under all its names, as a real machine's udev rules and the 2019 driver have it.
NODES = {
    "/dev/sgx_enclave": _ENCLAVE_MINOR,
    "/dev/sgx_provision": _PROVISION_MINOR,
    "/dev/sgx/enclave": _ENCLAVE_MINOR,
    "/dev/sgx/provision": _PROVISION_MINOR,
}

#: Symbolic links in sysfs, with what they hold.
LINKS = {
    "/sys/class/misc/sgx_enclave": "../../devices/virtual/misc/sgx_enclave",
    "/sys/class/misc/sgx_provision": "../../devices/virtual/misc/sgx_provision",
    f"/sys/dev/char/{_MISC_MAJOR}:{_ENCLAVE_MINOR}": "../../devices/virtual/misc/sgx_enclave",
    f"/sys/dev/char/{_MISC_MAJOR}:{_PROVISION_MINOR}": "../../devices/virtual/misc/sgx_provision",
}

# d_type of linux_dirent64.
_DT_CHR, _DT_DIR, _DT_REG, _DT_LNK = 2, 4, 8, 10
_DIRENT = struct.Struct("<QqHB")
#: ino64_t and off_t of what is made up: far from what file systems give out, and still positive.
_INODES = 0x5357_0000_0000
_OFFSETS = 0x7FFF_FFFF_5357_0000

_NUMA_NODE = "/sys/devices/system/node/node"

# /proc/cpuinfo prints flags by word and bit of arch/x86/include/asm/cpufeatures.h. sgx is bit 2 of word 9, sgx_lc bit
# 30 of word 16: each comes before the first flag that is behind it. Names of 6.1 and 6.12; vnmi has moved from word 8
# to word 15 and is left out.
_BEHIND_SGX_LC = frozenset(
    b"overflow_recov succor smca avx512_4vnniw avx512_4fmaps fsrm avx512_vp2intersect md_clear serialize tsxldtrk"
    b" pconfig arch_lbr ibt amx_bf16 avx512_fp16 amx_tile amx_int8 flush_l1d arch_capabilities"
    b" sme sev sev_es sev_snp debug_swap svsm amd_lbr_pmc_freeze".split()  # codespell:ignore sme
)
_BEHIND_SGX = _BEHIND_SGX_LC | frozenset(
    b"bmi1 hle avx2 smep bmi2 erms invpcid rtm cqm mpx rdt_a avx512f avx512dq rdseed adx smap avx512ifma clflushopt"
    b" clwb intel_pt avx512pf avx512er avx512cd sha_ni avx512bw avx512vl xsaveopt xsavec xgetbv1 xsaves cqm_llc"
    b" cqm_occup_llc cqm_mbm_total cqm_mbm_local split_lock_detect user_shstk avx_vnni avx512_bf16 fred lam clzero"
    b" irperf xsaveerptr rdpru wbnoinvd amd_ppin virt_ssbd cppc brs dtherm ida arat pln pts hwp hwp_notify"
    b" hwp_act_window hwp_epp hwp_pkg_req hfi npt lbrv svm_lock nrip_save tsc_scale vmcb_clean flushbyasid"
    b" decodeassists pausefilter pfthreshold avic v_vmsave_vmload vgif x2avic v_spec_ctrl avx512vbmi umip pku ospke"
    b" waitpkg avx512_vbmi2 gfni vaes vpclmulqdq avx512_vnni avx512_bitalg tme avx512_vpopcntdq la57 rdpid"
    b" bus_lock_detect cldemote movdiri movdir64b enqcmd sgx_lc".split()
)


def _numa_node(path: str) -> tuple[int, str] | None:
    """The node's number in a path of sysfs, and what follows it."""
    if not path.startswith(_NUMA_NODE):
        return None
    number, _, rest = path[len(_NUMA_NODE) :].partition("/")
    return (int(number), rest) if number.isdecimal() and number.isascii() and len(number) < 8 else None


def _insert(flags: list[bytes], name: bytes, behind: frozenset[bytes]) -> None:
    if name not in flags:
        place = next((i for i, flag in enumerate(flags) if flag in behind), len(flags))
        flags.insert(place, name)


def cpuinfo(real: bytes) -> bytes:
    """/proc/cpuinfo with the flags ``sgx`` and ``sgx_lc`` for each CPU, where the kernel prints them.

    Args:
        real: the host's, or any part of it that does not begin or end inside a line of flags.
    """
    done: dict[bytes, bytes] = {}
    lines = real.split(b"\n")
    for number, line in enumerate(lines):
        name, colon, text = line.partition(b":")
        if not colon or name.rstrip() != b"flags":
            continue
        if line not in done:
            flags = text.split()
            _insert(flags, b"sgx_lc", _BEHIND_SGX_LC)
            _insert(flags, b"sgx", _BEHIND_SGX)
            done[line] = b" ".join((name + colon, *flags))
        lines[number] = done[line]
    return b"\n".join(lines)


def sgx_total_bytes(model: CpuModel, node: int) -> bytes:
    """/sys/devices/system/node/nodeN/x86/sgx_total_bytes: all of the EPC is on node 0."""
    return b"%d\n" % (model.epc_size if node == 0 else 0)


def misc(real: bytes) -> bytes:
    """/proc/misc with our two devices; the one that was registered last comes first."""
    names = {line.split()[-1] for line in real.splitlines() if line.strip()}
    return (
        b"".join(
            b"%3d %s\n" % (minor, name)
            for minor, name in ((_ENCLAVE_MINOR, b"sgx_enclave"), (_PROVISION_MINOR, b"sgx_provision"))
            if name not in names
        )
        + real
    )


def small_file(path: str, model: CpuModel) -> bytes | None:
    """What a file of sysfs holds that only a machine with SGX has; None: none of ours.

    Args:
        path: absolute, without ``..`` and links.
        model: the CPU.
    """
    numa = _numa_node(path)
    if numa is not None:
        return sgx_total_bytes(model, numa[0]) if numa[1] == "x86/sgx_total_bytes" else None
    folder, _, name = path.rpartition("/")
    folder, _, device = folder.rpartition("/")
    minor = NODES.get(f"/dev/{device}")
    if folder != "/sys/devices/virtual/misc" or minor is None:
        return None
    if name == "dev":
        return b"%d:%d\n" % (_MISC_MAJOR, minor)
    if name == "uevent":
        return b"MAJOR=%d\nMINOR=%d\nDEVNAME=%s\n" % (_MISC_MAJOR, minor, device.encode())
    return None


# ---- directories -----------------------------------------------------------------------------------------------------


class Dirent(NamedTuple):
    """One ``struct linux_dirent64``.

    Attributes:
        name: without a slash.
        kind: DT_*.
        inode: as stat says it.
        offset: where the next entry begins, for whoever seeks.
    """

    name: bytes
    kind: int
    inode: int
    offset: int


_OF_DEVICE = ((b".", _DT_DIR), (b"..", _DT_DIR), (b"dev", _DT_REG), (b"uevent", _DT_REG))
#: What directories hold that only a machine with SGX has: (name, DT_*).
ADDED: dict[str, tuple[tuple[bytes, int], ...]] = {
    "/dev": ((b"sgx_enclave", _DT_CHR), (b"sgx_provision", _DT_CHR), (b"sgx", _DT_DIR)),
    "/dev/sgx": ((b".", _DT_DIR), (b"..", _DT_DIR), (b"enclave", _DT_CHR), (b"provision", _DT_CHR)),
    "/sys/class/misc": ((b"sgx_enclave", _DT_LNK), (b"sgx_provision", _DT_LNK)),
    "/sys/devices/virtual/misc": ((b"sgx_enclave", _DT_DIR), (b"sgx_provision", _DT_DIR)),
    "/sys/devices/virtual/misc/sgx_enclave": _OF_DEVICE,
    "/sys/devices/virtual/misc/sgx_provision": _OF_DEVICE,
}
_NUMA_ADDED: dict[str, tuple[tuple[bytes, int], ...]] = {
    "": ((b"x86", _DT_DIR),),
    "x86": ((b".", _DT_DIR), (b"..", _DT_DIR), (b"sgx_total_bytes", _DT_REG)),
}


def _inode(path: str) -> int:
    """The same number for the same path, always."""
    number = 0
    for byte in path.encode("utf-8", "surrogateescape"):
        number = (number * 31 + byte) & 0xFFFF_FFFF
    return _INODES + number


def added(directory: str, present: Iterable[bytes] = ()) -> tuple[Dirent, ...]:
    """The entries to add to a directory's own, after its last; for a directory of ours: all it has.

    Args:
        directory: absolute, without ``..`` and links.
        present: names that it really has: they are not added again.
    """
    entries = ADDED.get(directory)
    if entries is None:
        numa = _numa_node(directory)
        entries = _NUMA_ADDED.get(numa[1], ()) if numa is not None else ()
    there = frozenset(present)
    paths = {b".": directory, b"..": directory.rpartition("/")[0]}
    return tuple(
        Dirent(name, kind, _inode(paths.get(name, f"{directory}/{os.fsdecode(name)}")), _OFFSETS + number)
        for number, (name, kind) in enumerate(entries, 1)
        if name not in there
    )


def parse_dirents(buffer: bytes) -> list[Dirent]:
    """What getdents64 has written. An entry that is not whole ends the list: the buffer is a program's memory."""
    entries = []
    at = 0
    while at + _DIRENT.size < len(buffer):
        inode, offset, length, kind = _DIRENT.unpack_from(buffer, at)
        if length <= _DIRENT.size or at + length > len(buffer):
            break
        name = buffer[at + _DIRENT.size : at + length].split(b"\0", 1)[0]
        entries.append(Dirent(name, kind, inode, offset))
        at += length
    return entries


def pack_dirents(entries: Sequence[Dirent], room: int) -> tuple[bytes, int]:
    """Entries as getdents64 writes them.

    Args:
        entries: what is left of the directory.
        room: bytes of the program's buffer.

    Returns: the bytes, and how many entries they are. None of several: the call's answer is EINVAL.
    """
    packed = bytearray()
    for number, entry in enumerate(entries):
        length = -(-(_DIRENT.size + len(entry.name) + 1) // 8) * 8
        if len(packed) + length > room:
            return bytes(packed), number
        head = _DIRENT.pack(entry.inode, entry.offset, length, entry.kind)
        packed += (head + entry.name).ljust(length, b"\0")
    return bytes(packed), len(entries)


# ---- stat ------------------------------------------------------------------------------------------------------------

_STAT = struct.Struct("<QQQIIIIQqqq" + "qQ" * 3 + "24x")
_STATX = struct.Struct("<IIQIIIHxxQQQQ" + "qIxxxx" * 4 + "IIIIQIIQ" + "88x")
_STATX_BASIC_STATS = 0x7FF
_STATX_BTIME = 0x800
_STATX_MNT_ID = 0x1000
_SECOND = 1_000_000_000


class FileFacts(NamedTuple):
    """What stat and statx say. Times are in nanoseconds; ``mount`` is None where it is not known."""

    mode: int
    inode: int
    device: int
    links: int = 1
    owner: int = 0
    group: int = 0
    rdev: int = 0
    size: int = 0
    block_size: int = 4096
    blocks: int = 0
    accessed: int = 0
    modified: int = 0
    changed: int = 0
    born: int | None = None
    attributes: int = 0
    attributes_mask: int = 0
    mount: int | None = None


def _beside(like: os.stat_result, facts: FileFacts) -> FileFacts:
    """The file system and the times of something real: the nodes are there since the machine started."""
    return facts._replace(
        device=like.st_dev, accessed=like.st_atime_ns, modified=like.st_mtime_ns, changed=like.st_ctime_ns
    )


def real_facts(status: os.stat_result) -> FileFacts:
    """What the host says of a file of its own."""
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


def device_facts(path: str, like: os.stat_result) -> FileFacts:
    """A device node.

    Its mode is 0666. The driver's own default is 0600 for root; systemd's rules then give everybody 0666 for enclave,
    and group sgx_prv 0660 for provision. That group is missing on a host without SGX, and a run cannot add anybody to
    it. To open the node is all that the mode decides, and here that harms nobody: the keys are emulated.

    Args:
        path: one of :data:`NODES`.
        like: stat of the real /dev.
    """
    facts = FileFacts(
        mode=stat.S_IFCHR | 0o666, inode=_inode(path), device=0, rdev=os.makedev(_MISC_MAJOR, NODES[path])
    )
    return _beside(like, facts)


def directory_facts(path: str, like: os.stat_result) -> FileFacts:
    """A directory that is ours alone, say /dev/sgx. ``like``: stat of a real directory above it."""
    links = 2 + sum(kind == _DT_DIR and name not in (b".", b"..") for name, kind in ADDED.get(path, ()))
    # devtmpfs counts 20 bytes for each entry, sysfs none.
    size = 20 * sum(name not in (b".", b"..") for name, _ in ADDED[path]) if path == "/dev/sgx" else 0
    return _beside(
        like, FileFacts(mode=stat.S_IFDIR | 0o755, inode=_inode(path), device=0, links=links, size=size)
    )


def small_file_facts(path: str, like: os.stat_result) -> FileFacts:
    """A file of sysfs that :func:`small_file` or :data:`LINKS` has. ``like``: stat of a real directory above it."""
    target = LINKS.get(path)
    if target is not None:
        facts = FileFacts(mode=stat.S_IFLNK | 0o777, inode=_inode(path), device=0)
    else:
        writable = 0o200 if path.endswith("/uevent") else 0
        facts = FileFacts(mode=stat.S_IFREG | 0o444 | writable, inode=_inode(path), device=0, size=4096)
    return _beside(like, facts)


def contents_of(path: str, model: CpuModel) -> bytes | None:
    """What a program must read in a file; None: what is there."""
    if path == "/proc/cpuinfo":
        return cpuinfo(Path(path).read_bytes())
    if path == "/proc/misc":
        return misc(Path(path).read_bytes())
    return small_file(path, model)


def facts_of(path: str, model: CpuModel) -> FileFacts | None:
    """What stat says of a path that is not a node; None: what is there."""
    if path in LINKS or small_file(path, model) is not None:
        return small_file_facts(path, Path("/sys/devices").stat())
    if path == "/dev":  # by way of /dev/sgx/..
        return real_facts(Path(path).stat())
    if path in ADDED and not Path(path).is_dir():
        return directory_facts(path, Path("/dev" if path.startswith("/dev") else "/sys").stat())
    return None


def pack_stat(facts: FileFacts) -> bytes:
    """``struct stat`` of x86-64, 144 bytes."""
    return _STAT.pack(
        facts.device,
        facts.inode,
        facts.links,
        facts.mode,
        facts.owner,
        facts.group,
        0,
        facts.rdev,
        facts.size,
        facts.block_size,
        facts.blocks,
        *divmod(facts.accessed, _SECOND),
        *divmod(facts.modified, _SECOND),
        *divmod(facts.changed, _SECOND),
    )


def pack_statx(facts: FileFacts) -> bytes:
    """``struct statx``, 256 bytes. Its mask says what is known, whatever was asked for, as the kernel's does."""
    mask = _STATX_BASIC_STATS
    mask |= _STATX_BTIME if facts.born is not None else 0
    mask |= _STATX_MNT_ID if facts.mount is not None else 0
    return _STATX.pack(
        mask,
        facts.block_size,
        facts.attributes,
        facts.links,
        facts.owner,
        facts.group,
        facts.mode,
        facts.inode,
        facts.size,
        facts.blocks,
        facts.attributes_mask,
        *divmod(facts.accessed, _SECOND),
        *divmod(facts.born or 0, _SECOND),
        *divmod(facts.changed, _SECOND),
        *divmod(facts.modified, _SECOND),
        os.major(facts.rdev),
        os.minor(facts.rdev),
        os.major(facts.device),
        os.minor(facts.device),
        facts.mount or 0,
        0,
        0,
        0,
    )
