"""The promise of the hook points, as something that can be checked at any moment: I0, I1 and I6.

I0: if some mapping of some process over a page of an enclave is executable, then the page was let in by every module,
its obligations are discharged by the enclave's identity, the mapping was allowed with that protection, and the page
has not been writable, too, unless the enclave is granted that. Mappings are judged, not EPCM permissions: X in the EPCM
is the enclave's own to add.

The check walks the driver's tables: VMAs, the bytes that native code reads, and the sticky state. It needs no other
thread to change them meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from swsgx.cpu.faults import InternalError
from swsgx.isa.address import PAGE_SIZE
from swsgx.linux.device import Driver
from swsgx.linux.encl import Encl, EnclaveMapping
from swsgx.linux.security import Grant, PageFlag
from swsgx.linux.sticky import EnclaveSecurity
from swsgx.linux.vma import PROT_ACCESS, PROT_EXEC, PROT_WRITE, Vma, shown_prot
from swsgx.lsm.stack import Stack
from swsgx.native.abi import VmaBits

__all__ = [
    "Books",
    "Flags",
    "check",
    "every_executable_page_is_allowed",
    "flags_only_grow",
    "keep_books",
    "keep_flags",
]

Mask = npt.NDArray[np.bool_]
_MAPPED = np.uint8(PROT_ACCESS | VmaBits.MAPPED)


def check(driver: Driver, stack: Stack) -> None:
    """I0, now.

    Raises:
        InternalError: it does not hold; the message names the first page of each breach.
    """
    breaches = every_executable_page_is_allowed(driver, stack)
    if breaches:
        raise InternalError("I0: " + "; ".join(breaches))


def every_executable_page_is_allowed(driver: Driver, stack: Stack) -> list[str]:
    """I0, over all mappings of all enclaves; what breaks it, in words. A stack that is permissive promises nothing."""
    if not stack.enforcing:
        return []
    return [breach for encl in driver.enclaves for breach in _of_enclave(encl, stack)]


def _of_enclave(encl: Encl, stack: Stack) -> Iterator[str]:
    security = encl.security
    if security is None or not encl.created:
        return
    if encl.initialised and security.identity is None:
        yield f"enclave {encl.number} was initialised without being asked for"
    for mapping in list(encl.mappings):
        shown = np.zeros(len(mapping.bits), np.uint8)
        for vma in mapping.mm.vmas:
            if vma.mapping is mapping:
                first, last = encl.clip(vma.start, vma.end)
                shown[first:last] = np.uint8(VmaBits.MAPPED | vma.prot)
                yield from _of_vma(encl, security, vma, first, last, stack)
        yield from _of_bytes(encl, mapping, shown)


def _of_bytes(encl: Encl, mapping: EnclaveMapping, shown: npt.NDArray[np.uint8]) -> Iterator[str]:
    """What native code reads is what the VMAs say."""
    wrong = mapping.bits & _MAPPED != shown
    if wrong.any():
        at = int(np.argmax(wrong))
        found = shown_prot(int(mapping.bits[at]))
        yield f"{_page(encl, at)}: the byte says {found}, the mapping {shown_prot(int(shown[at]))}"


def _of_vma(
    encl: Encl, security: EnclaveSecurity, vma: Vma, first: int, last: int, stack: Stack
) -> Iterator[str]:
    judged = vma.judgement.prot if vma.judgement is not None else 0
    if vma.prot & ~judged:
        yield f"{vma!r} of enclave {encl.number} was allowed {shown_prot(judged)}"
    pages = security.pages
    there = encl.page_type[first:last] != 0
    flags = pages.flags[first:last]
    ever_w, ever_x = flags & PageFlag.EVER_W != 0, flags & PageFlag.EVER_X != 0

    def breach(mask: Mask, what: str) -> Iterator[str]:
        if mask.any():
            yield f"{_page(encl, first + int(np.argmax(mask)))} of {vma!r}: {what}"

    if vma.prot & PROT_WRITE:
        yield from breach(there & ~ever_w, "is mapped writable, and its flags do not know")
    if not vma.prot & PROT_EXEC:
        return
    yield from breach(there & ~ever_x, "is mapped executable, and its flags do not know")
    yield from breach(there & (flags & PageFlag.ADMITTED == 0), "is executable, and no module let it in")
    held = int(security.grants | security.tolerated)
    owed = pages.obligations[first:last] & np.uint8(~held & 0xFF)
    yield from breach(there & (owed != 0), "is executable, and owes what its enclave was not granted")
    if not encl.initialised:
        yield from breach(
            there & (pages.obligations[first:last] != 0),
            "is executable, owes something, and INIT was not done",
        )
    if not stack.write_execute:
        return
    if not held & Grant.EXECDIRTY:
        yield from breach(there & ever_w, "is executable, was writable, and its enclave lacks execdirty")
    if not held & Grant.AUGEXEC:
        augmented = flags & PageFlag.AUGMENTED != 0
        yield from breach(
            there & augmented, "is executable, was added by EAUG, and its enclave lacks augexec"
        )
    if vma.prot & PROT_WRITE and not held & Grant.MAPWX:
        yield f"{vma!r} is writable and executable, and enclave {encl.number} lacks mapwx"


def _page(encl: Encl, index: int) -> str:
    return f"enclave {encl.number}, page {encl.base + index * PAGE_SIZE:#x}"


# I6.


@dataclass(frozen=True, slots=True, eq=False)
class Flags:
    """The sticky state of all enclaves at one moment.

    Attributes:
        pages: by number of the enclave: flags, obligations and births, page by page.
    """

    pages: dict[
        int,
        tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.uint32], npt.NDArray[np.bool_]],
    ]


def keep_flags(driver: Driver) -> Flags:
    """A copy of the sticky state, for :func:`flags_only_grow`."""
    return Flags(
        {
            encl.number: (
                encl.security.pages.flags.copy(),
                encl.security.pages.obligations.copy(),
                encl.security.pages.births.copy(),
                encl.page_type != 0,
            )
            for encl in driver.enclaves
            if encl.security is not None and encl.created
        }
    )


def flags_only_grow(before: Flags, after: Flags) -> list[str]:
    """I6: flags and obligations of a page only grow until EREMOVE; what has shrunk, in words."""
    found = []
    for number, (flags, obligations, births, there) in before.pages.items():
        later = after.pages.get(number)
        if later is None:
            continue
        same = there & (births == later[2])
        lost = same & ((flags & ~later[0] != 0) | (obligations & ~later[1] != 0))
        if lost.any():
            found.append(f"enclave {number}, page index {int(np.argmax(lost))}: a flag is gone")
    return found


# I1.


@dataclass(frozen=True, slots=True)
class Books:
    """All that a refusal must leave alone: EPC, EPCM, measurements, contents, pages, mappings and sticky state.

    Two are equal if nothing has changed between them.
    """

    free_epc: int
    epcm: bytes
    enclaves: tuple[tuple[object, ...], ...]


def keep_books(driver: Driver) -> Books:
    """What the books say now."""
    cpu = driver.cpu
    return Books(
        cpu.epc.free_count,
        bytes(cpu.epcm.region.view),
        tuple(_entries(encl) for encl in sorted(driver.enclaves, key=lambda one: one.number)),
    )


def _entries(encl: Encl) -> tuple[object, ...]:
    state, security = encl.known_state, encl.security
    sticky: tuple[object, ...] = ()
    if security is not None:
        pages = security.pages
        arrays = (pages.flags, pages.obligations, pages.origins, pages.births)
        sticky = (*(array.tobytes() for array in arrays), security.grants, security.label, security.identity)
    return (
        encl.number,
        encl.created,
        encl.initialised,
        encl.allowed,
        encl.page_count,
        encl.page_type.tobytes(),
        encl.max_prot.tobytes(),
        (state.measurement.digest(), state.children, bytes(state.store.contents.view))
        if state is not None
        else None,
        tuple(
            (bytes(one.bits), [(vma.start, vma.end, vma.prot) for vma in one.mm.vmas])
            for one in encl.mappings
        ),
        sticky,
    )
