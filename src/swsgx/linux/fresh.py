"""EACCEPT of a page that is not there yet, in one go: page fault, EAUG, page fault again, EACCEPT.

An enclave whose heap grows does this for each page of it. One step after the other, each with its checks, is
:func:`swsgx.linux.inside.execute`; this does what they do together where none of them can refuse or tell anything, and
leaves all else to them. :func:`reserve` goes further: whoever grows page after page may do some by itself.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from swsgx.cpu.epc import Frames
from swsgx.cpu.epcm import HOME_ENCLAVE
from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.flags import PageType, SecinfoFlags
from swsgx.isa.structs import Secinfo
from swsgx.linux.backing import VA_SLOTS
from swsgx.linux.vma import PROT_ACCESS
from swsgx.native.abi import EpcmState, VmaBits

if TYPE_CHECKING:
    from swsgx.linux.encl import Encl, EnclaveMapping

__all__ = ["Reserved", "accept_fresh", "reserve"]

_ACCESSIBLE = int(VmaBits.R | VmaBits.W | VmaBits.X)
_READ_WRITE = np.uint8(VmaBits.R | VmaBits.W)
_READ_NOW = int(VmaBits.R | VmaBits.PRESENT)
_PRESENT = np.uint8(VmaBits.PRESENT)
_VALID, _REG = int(EpcmState.VALID), int(PageType.REG)
_R, _RW = int(SecinfoFlags.R), int(SecinfoFlags.R | SecinfoFlags.W)
#: Pages below which nothing is reserved.
_WORTH_IT = 4
#: What is asked for: REG, R and W, PENDING.
_WANTED = bytes(Secinfo.of(flags=_RW | int(SecinfoFlags.PENDING) | _REG << 8).buffer)


def accept_fresh(encl: Encl, mapping: EnclaveMapping, secinfo: int, page: int) -> bool:
    """EACCEPT by a thread inside an initialised enclave, of a page that its own page fault adds.

    Address spaces are not told. Call it without any lock.

    Args:
        encl: the enclave.
        mapping: of the thread's process.
        secinfo, page: RBX and RCX.

    Returns:
        Whether the page is there now, accepted. False: nothing was done.
    """
    driver, base = encl.driver, encl.base
    index, info = (page - base) // PAGE_SIZE, (secinfo - base) // PAGE_SIZE
    pages = encl.size // PAGE_SIZE
    if page % PAGE_SIZE or secinfo % 64 or not (0 <= index < pages and 0 <= info < pages):
        return False
    cpu, bits = driver.cpu, mapping.bits
    epc = cpu.epc
    if not _unobserved(encl) or epc.free_count <= driver.reclaimer.low:
        return False
    if not bits[index] & _ACCESSIBLE or bits[info] & _READ_NOW != _READ_NOW:
        return False
    with encl.mutex:
        if encl.secs is None or cpu.any_locked() or encl.page_type[index]:
            return False
        store = encl.state.store
        holder = int(store.frame_map[info]) - 1
        if holder < 0 or store.frame_map[index]:
            return False
        entry = cpu.epcm[holder]
        if entry.state != _VALID or entry.pt != _REG or not entry.perm & _R or entry.home != HOME_ENCLAVE:
            return False
        at = secinfo - base
        if store.contents.view[at : at + Secinfo.size_of] != _WANTED:
            return False
        frame = epc.allocate()
        if frame is None:
            return False
        store.clear(index * PAGE_SIZE, PAGE_SIZE)
        cpu.epcm.set(
            frame,
            address=page,
            secs=encl.secs,
            pt=PageType.REG,
            perm=_RW,
            state=EpcmState.VALID,
            home=HOME_ENCLAVE,
        )
        store.frame_map[index] = frame + 1
        encl.state.children += 1
        encl.insert(index, 1, PageType.REG, PROT_ACCESS)
        bits[index] |= _PRESENT
        encl.augmented += 1
        store.changed()
    driver.count("eaug", 1)
    return True


@dataclass(eq=False)
class Reserved:
    """Zero pages that an enclave is about to accept, one after the other: in no table yet, with an EPC page each.

    No program can tell; whoever could is told nothing before :meth:`accepted`.

    Attributes:
        encl, mapping: the enclave, and the only address space that maps it.
        first: page index in ELRANGE.
        frames: their EPC pages.
    """

    encl: Encl
    mapping: EnclaveMapping
    first: int
    frames: Frames

    def __len__(self) -> int:
        return len(self.frames)

    def shrink(self, count: int) -> bool:
        """Give back what lies behind the first ``count`` pages; whether that is any. Any lock may be held."""
        rest = self.frames[count:]
        if len(rest):
            self.frames = self.frames[:count]
            self.encl.driver.cpu.epc.unread(rest)
            if self.encl.created:
                self.encl.store.contents.punch((self.first + count) * PAGE_SIZE, len(rest) * PAGE_SIZE)
        return bool(len(rest))

    def accepted(self) -> None:
        """All that is left was accepted: EAUG, EACCEPT. Address spaces are not told. Call it without any lock."""
        encl, left = self.encl, bool(len(self))
        while left and encl.created:
            with encl.mutex:
                if encl.secs is not None:  # it is none when the enclave has ended, too
                    self._appear(encl.secs)
                    return
            # Nobody is inside any more, and all pages were written out.
            left = encl.ensure_resident(()).errno in (0, errno.EAGAIN)
        encl.driver.cpu.epc.unread(self.frames)  # it has ended, or is broken

    def _appear(self, secs: int) -> None:
        encl, first, count = self.encl, self.first, len(self)
        address = encl.base + first * PAGE_SIZE
        encl.driver.cpu.epcm.set_run(self.frames, first_address=address, secs=secs, pt=PageType.REG, perm=_RW)
        encl.store.frame_map[first : first + count] = self.frames + np.uint32(1)
        encl.state.children += count
        encl.insert(first, count, PageType.REG, PROT_ACCESS)
        self.mapping.bits[first : first + count] |= _PRESENT
        encl.augmented += count
        encl.store.changed()
        encl.driver.count("eaug", count)


def reserve(encl: Encl, mapping: EnclaveMapping, first: int, most: int) -> Reserved | None:
    """Pages that a thread inside would get by EACCEPT of one after the other, if nothing else happens meanwhile.

    They are readable and writable where they are mapped. Call it without any lock.

    Args:
        encl: the enclave.
        mapping: of the thread's process.
        first: index of the first.
        most: how many at most.

    Returns:
        Some; None if there are too few to be worth it, or somebody could tell.
    """
    driver = encl.driver
    if not _unobserved(encl) or len(encl.mappings) != 1:
        return None
    spare = (driver.cpu.epc.free_count - driver.reclaimer.low) // 4
    most = min(most, VA_SLOTS - encl.page_count % VA_SLOTS, spare, encl.size // PAGE_SIZE - first)
    if most < _WORTH_IT:
        return None
    with encl.mutex:
        part = slice(first, first + most)
        here = (mapping.bits[part] & _READ_WRITE) == _READ_WRITE
        here &= (encl.page_type[part] == 0) & (encl.store.frame_map[part] == 0)
        count = most if here.all() else int(np.argmin(here))
        if count < _WORTH_IT or encl.secs is None:
            return None
        frames = driver.cpu.epc.allocate_up_to(count)
        try:
            encl.store.clear(first * PAGE_SIZE, len(frames) * PAGE_SIZE)
        except OSError:  # the host has no memory for them
            driver.cpu.epc.unread(frames)
            return None
        return Reserved(encl, mapping, first, frames)


def _unobserved(encl: Encl) -> bool:
    """Whether pages can be added to an enclave with nobody to tell, and room for the version of one more."""
    driver = encl.driver
    able = encl.initialised and encl.profile.sgx2 and driver.cpu.model.sgx2
    told = driver.trace.on or driver.failures.armed or encl.security is not None
    return able and not told and encl.page_count % VA_SLOTS != 0
