"""A debugger looks at enclave memory: ptrace and /proc/PID/mem. Read from encl.c (sgx_vma_access) of 6.1 and 6.12.

Nothing else reaches it: process_vm_readv, O_DIRECT and the like are EFAULT, debug enclave or not.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import numpy as np

from swsgx.cpu.encls.edbgrd import edbgrd
from swsgx.cpu.encls.edbgwr import edbgwr
from swsgx.cpu.faults import Fault, LeafResult
from swsgx.isa.address import PAGE_SIZE, EpcAddr, Linaddr
from swsgx.isa.flags import PageType
from swsgx.linux import hooks
from swsgx.linux.outcome import Outcome, done, refuse
from swsgx.linux.provenance import Subject
from swsgx.linux.vma import Vma, shown_prot
from swsgx.trace import Reason

if TYPE_CHECKING:
    from swsgx.linux.encl import Encl
    from swsgx.linux.mm import AddressSpace

__all__ = ["peek", "poke", "read_memory", "write_memory"]

_WORD = 8
#: How often a page that cannot be loaded now is tried again, the reclaimer having run in between.
_TRIES = 4


def peek(mm: AddressSpace, address: int, subject: Subject | None = None) -> bytes | Outcome:
    """PTRACE_PEEKDATA: the 8 bytes at ``address``, of any alignment; -EIO if not all can be had."""
    return read_memory(mm, address, _WORD, subject, whole=True)


def poke(mm: AddressSpace, address: int, data: bytes, subject: Subject | None = None) -> Outcome:
    """PTRACE_POKEDATA: store 8 bytes at ``address``, of any alignment; -EIO if not all can be stored."""
    written = write_memory(mm, address, data, subject)
    return written if not written.ok or written.value == len(data) else Outcome(-errno.EIO, written.reason)


def read_memory(
    mm: AddressSpace, address: int, size: int, subject: Subject | None = None, *, whole: bool = False
) -> bytes | Outcome:
    """read(2) of /proc/PID/mem: what could be read, at most ``size`` bytes.

    Args:
        whole: less than all is -EIO, too.

    Returns:
        The bytes; -EIO if there are none. Whatever goes wrong inside a chunk of at most 4096 bytes, the chunk
        gives nothing.
    """
    out = bytearray(size)
    moved = _walk(mm, address, memoryview(out), subject, write=False)
    if not moved.ok or (whole and moved.value != size):
        return Outcome(-errno.EIO, moved.reason)
    return bytes(out[: moved.value])


def write_memory(mm: AddressSpace, address: int, data: bytes, subject: Subject | None = None) -> Outcome:
    """write(2) to /proc/PID/mem: how many bytes were stored; -EIO if none."""
    return _walk(mm, address, memoryview(bytearray(data)), subject, write=True)


def _walk(
    mm: AddressSpace, address: int, buffer: memoryview, subject: Subject | None, *, write: bool
) -> Outcome:
    """Chunk by chunk, and in each the driver's function for as long as it moves something."""
    moved = 0
    while moved < len(buffer):
        chunk = buffer[moved : moved + PAGE_SIZE]
        outcome = _chunk(mm, address + moved, chunk, subject, write=write)
        moved += max(outcome.value, 0)
        if outcome.value < len(chunk):
            return Outcome(moved if moved else -errno.EIO, outcome.reason)
    return done(moved)


def _chunk(
    mm: AddressSpace, address: int, chunk: memoryview, subject: Subject | None, *, write: bool
) -> Outcome:
    for _ in range(_TRIES):
        with mm.lock:
            vma = mm.vma_at(address)
            if vma is None:
                return _refuse(None, errno.EIO, "an enclave mapping covers the address", "a mapping", address)
            encl = vma.encl
            outcome = access(vma, address, chunk, subject, write=write)
        encl.tell_loaded()
        if write and outcome.ok:
            # The word before, too: what a patch has put there can depend on what is written now.
            start = (address - _WORD) // _WORD * _WORD
            end = -(-(address + outcome.value) // _WORD) * _WORD
            encl.pages_written(Linaddr(start), end - start)
        if outcome.errno != errno.EAGAIN:
            break
        encl.driver.wake()
    trace = encl.driver.trace
    if trace.on:
        name = "debug write" if write else "debug read"
        args = {"address": address, "length": len(chunk), "enclave": encl.number}
        trace.event("memory", name, args, str(outcome), outcome.reason)
    return outcome


def _refuse(
    encl: Encl | None,
    number: int,
    rule: str,
    expected: object,
    found: object,
    remedy: str = "",
    cause: Reason | None = None,
) -> Outcome:
    source = encl.profile.source("encl.c: sgx_vma_access") if encl is not None else "Linux 6.12, mm/memory.c"
    return refuse(
        number,
        operation="debug access",
        rule=rule,
        expected=expected,
        found=found,
        source=source,
        remedy=remedy,
        cause=cause,
    )


def access(vma: Vma, address: int, buffer: memoryview, subject: Subject | None, *, write: bool) -> Outcome:
    """The driver's vm_ops->access: move bytes between ``buffer`` and enclave memory, word by word.

    Returns: all of them, as their number; -EFAULT no enclave, no debug enclave (v23: or not initialised), no
        page, a mapping wider than the page's ceiling, or what was evicted cannot be loaded; -EAGAIN not now: no
        EPC; -EIO EDBGRD or EDBGWR refuses. Then nothing is reported, even if words were moved before.
    """
    if vma.mapping is None:
        return _refuse(None, errno.EFAULT, "the mapping has an enclave", "an enclave", "none: fork failed")
    encl = vma.encl
    if not encl.debug:
        return _refuse(
            encl,
            errno.EFAULT,
            "the enclave has ATTRIBUTES.DEBUG",
            "a debug enclave",
            encl.attributes,
            "create the enclave with DEBUG set (the SIGSTRUCT must allow it)",
        )
    if encl.profile.debug_needs_init and not encl.initialised:
        return _refuse(encl, errno.EFAULT, "INIT was done", "an initialised enclave", "a created one")
    if encl.security is None:
        with encl.mutex:
            return _words(vma, address, buffer, write=write)
    with encl.guard, encl.mutex:
        reason = hooks.debugging(encl, subject, address, len(buffer), write=write)
        if reason is not None:
            return Outcome(-errno.EFAULT, reason)
        outcome = _words(vma, address, buffer, write=write)
        if write and encl.has_page(address):
            # Words were written before one that failed, or none: a page can only be believed to be worse than it is.
            first = (address - encl.base) // PAGE_SIZE
            encl.security.pages.written(first, (address - encl.base + len(buffer) - 1) // PAGE_SIZE + 1)
        return outcome


def _words(vma: Vma, address: int, buffer: memoryview, *, write: bool) -> Outcome:
    """Page by page, word by word."""
    at = 0
    while at < len(buffer):
        count = min(PAGE_SIZE - (address + at) % PAGE_SIZE, len(buffer) - at)
        refused = _page(vma, address + at, buffer[at : at + count], write=write)
        if refused is not None:
            return refused
        at += count
    return done(len(buffer))


def _page(vma: Vma, address: int, part: memoryview, *, write: bool) -> Outcome | None:
    """The bytes of one page; None: all were moved."""
    encl, cpu = vma.encl, vma.encl.driver.cpu
    if not encl.has_page(address):
        return _refuse(
            encl, errno.EFAULT, "a page was added at the address", "a page", f"a hole at {address:#x}"
        )
    index = (address - encl.base) // PAGE_SIZE
    ceiling = int(encl.max_prot[index])
    if vma.prot & ~ceiling:
        return _refuse(
            encl,
            errno.EFAULT,
            "the mapping is not wider than the page's ceiling",
            shown_prot(ceiling),
            shown_prot(vma.prot),
        )
    loaded = encl.paging.load(np.array([index]))
    if not loaded.ok:
        return loaded
    frame = int(encl.store.frame_map[index]) - 1
    # What EDBGRD and EDBGWR check is the same for all words of a REG page, so the first stands for those between; but
    # who records leaves wants each.
    alike = cpu.epcm[frame].pt == PageType.REG and not encl.driver.trace.on
    at = 0
    while at < len(part):
        place = (address + at) % PAGE_SIZE
        count = min(_WORD - place % _WORD, len(part) - at)
        if alike and at and len(part) - at >= _WORD:
            count = (len(part) - at) // _WORD * _WORD
            page = cpu.page(frame)[place : place + count]
            if write:
                page[:] = part[at : at + count]
            else:
                part[at : at + count] = page
        else:
            epc = EpcAddr(cpu.epc.address(frame) + place)
            refused = _word(encl, epc, part[at : at + count], write=write)
            if refused is not None:
                return refused
        at += count
    return None


def _word(encl: Encl, address: EpcAddr, part: memoryview, *, write: bool) -> Outcome | None:
    """The bytes of one aligned word: read it, and if writing, merge and store it."""
    cpu, offset = encl.driver.cpu, address % _WORD
    word = EpcAddr(address - offset)
    try:
        found = edbgrd(cpu, word)
        if isinstance(found, LeafResult):
            return _failed(encl, "EDBGRD", str(found), found.reason)
        data = bytearray(found.to_bytes(_WORD, "little"))
        if not write:
            part[:] = data[offset : offset + len(part)]
            return None
        data[offset : offset + len(part)] = part
        stored = edbgwr(cpu, word, int.from_bytes(data, "little"))
    except Fault as fault:
        return _failed(encl, fault.reason.operation, fault.mnemonic, fault.reason)
    return None if stored.ok else _failed(encl, "EDBGWR", str(stored), stored.reason)


def _failed(encl: Encl, leaf: str, found: str, cause: Reason | None) -> Outcome:
    return _refuse(encl, errno.EIO, f"{leaf} succeeds", "success", found, cause=cause)
