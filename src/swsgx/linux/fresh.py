"""EACCEPT of a page that is not there yet, in one go: page fault, EAUG, page fault again, EACCEPT.

An enclave whose heap grows does this for each page of it. One step after the other, each with its checks, is
:func:`swsgx.linux.inside.execute`; this does what they do together where none of them can refuse or tell anything, and
leaves all else to them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from swsgx.cpu.epcm import HOME_ENCLAVE
from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.flags import PageType, SecinfoFlags
from swsgx.isa.structs import Secinfo
from swsgx.linux.backing import VA_SLOTS
from swsgx.linux.vma import PROT_ACCESS
from swsgx.native.abi import EpcmState, VmaBits

if TYPE_CHECKING:
    from swsgx.linux.encl import Encl, EnclaveMapping

__all__ = ["accept_fresh"]

_ACCESSIBLE = int(VmaBits.R | VmaBits.W | VmaBits.X)
_READ_NOW = int(VmaBits.R | VmaBits.PRESENT)
_PRESENT = np.uint8(VmaBits.PRESENT)
_VALID, _REG = int(EpcmState.VALID), int(PageType.REG)
_R, _RW = int(SecinfoFlags.R), int(SecinfoFlags.R | SecinfoFlags.W)
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
    if encl.security is not None:
        return False
    ready = encl.initialised and encl.profile.sgx2 and cpu.model.sgx2 and encl.page_count % VA_SLOTS
    if not ready or driver.trace.on or driver.failures.armed or epc.free_count <= driver.reclaimer.low:
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
