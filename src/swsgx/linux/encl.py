"""One enclave as the driver knows it: state, pages as arrays, and the address spaces that map it."""

from __future__ import annotations

import contextlib
import errno
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from swsgx.cpu.encls import eremove
from swsgx.cpu.faults import InternalError, invariant
from swsgx.cpu.machine import SecsState
from swsgx.cpu.store import EnclaveStore, consecutive
from swsgx.isa.address import PAGE_SIZE, EpcAddr, Linaddr
from swsgx.isa.flags import Attributes, PageType
from swsgx.isa.structs import Secs, Tcs
from swsgx.linux import hooks
from swsgx.linux.backing import VA_SLOTS, Indexes
from swsgx.linux.engine import MappedRun
from swsgx.linux.outcome import OK, Outcome, refuse
from swsgx.linux.paging import EnclavePaging
from swsgx.linux.profile import Profile
from swsgx.linux.sticky import EnclaveSecurity
from swsgx.linux.task import READ_IMPLIES_EXEC
from swsgx.linux.vma import shown_prot
from swsgx.native.abi import EpcmState, Grant, VmaBits, grant_offset
from swsgx.native.shm import SharedRegion
from swsgx.trace import Reason

if TYPE_CHECKING:
    from swsgx.linux.device import Driver
    from swsgx.linux.mm import AddressSpace
    from swsgx.linux.provenance import Subject

__all__ = ["VA_SLOTS", "Encl", "EnclaveMapping"]

#: How often a page that cannot be loaded now is tried again, the reclaimer having run in between.
_LOAD_TRIES = 4
_PERM = int(VmaBits.R | VmaBits.W | VmaBits.X)
_REG, _VALID, _PR = int(PageType.REG), int(EpcmState.VALID), int(EpcmState.PR)
_BLOCKED = int(EpcmState.BLOCKED)
Bytes = npt.NDArray[np.uint8]


class EnclaveMapping:
    """One enclave in one address space: an entry of the enclave's mm list.

    Attributes:
        encl, mm: the two.
        vma_bits: one byte a page of ELRANGE (:class:`~swsgx.native.abi.VmaBits`), in shared memory for native
            code to read; None before CREATE.
        bits: the same as an array.
        grant: behind the bytes, what the enclave may accept by itself here.
        attached: the engine knows of it.
        areas: VMAs of the enclave in the address space.
    """

    def __init__(self, encl: Encl, mm: AddressSpace) -> None:
        self.encl = encl
        self.mm = mm
        self.vma_bits: SharedRegion | None = None
        self.bits: Bytes = np.empty(0, np.uint8)
        self.grant = Grant()
        self.attached = False
        self.areas = 0
        if encl.created:
            self.allocate()

    def allocate(self) -> None:
        """The enclave has a range now: make the byte array."""
        pages = self.encl.size // PAGE_SIZE
        at = grant_offset(pages)
        self.vma_bits = SharedRegion(f"sgx-vma-{self.encl.number}", at + Grant.size_of)
        self.bits = np.frombuffer(self.vma_bits.view, np.uint8, count=pages)
        self.grant = Grant(self.vma_bits.view[at:])

    def clip(self, start: int, end: int) -> tuple[int, int]:
        """The page indexes in ELRANGE of the part of an address range that lies in it."""
        if self.vma_bits is None:
            return 0, 0
        base, size = self.encl.base, self.encl.size
        low, high = max(start, base), min(end, base + size)
        return ((low - base) // PAGE_SIZE, (high - base) // PAGE_SIZE) if low < high else (0, 0)

    def cover(self, start: int, end: int, prot: int, *, fresh: bool) -> None:
        """A VMA with ``prot`` covers the range; ``fresh``: its page-table entries are gone."""
        first, last = self.clip(start, end)
        part = self.bits[first:last]
        kept = 0 if fresh else part & np.uint8(VmaBits.PRESENT)
        part[:] = kept | np.uint8(VmaBits.MAPPED | prot & _PERM)

    def uncover(self, start: int, end: int) -> None:
        """No VMA covers the range any more."""
        first, last = self.clip(start, end)
        self.bits[first:last] = 0

    def close(self) -> None:
        """Give the byte array back."""
        if self.vma_bits is not None:
            self.bits, self.grant = np.empty(0, np.uint8), Grant()
            self.vma_bits.close()
            self.vma_bits = None


class Encl:
    """An enclave, from the open of its file to the end of its last mapping.

    Args:
        driver: to which it belongs.
        profile: whose rules it follows.
        number: for people.

    Attributes:
        created, initialised, debug, dead: state flags.
        ioctl_bit: held while an ioctl runs; a second one is EBUSY.
        mutex: the enclave's own lock.
        base, size: ELRANGE, bytes; 0 before CREATE.
        attributes, xfrm, miscselect: as given to CREATE.
        allowed: attributes that INIT lets pass.
        secs: EPC frame of the SECS; None before CREATE, and while it is written out.
        max_prot: by page index, the most that a mapping may have: R 1, W 2, X 4.
        page_type: by page index, :class:`~swsgx.isa.flags.PageType`; 0 where there is no page.
        augmented: pages that EAUG has added so far.
        page_count: pages plus one for the SECS; decides when a VA page is needed.
        va_pages: EPC frames of VA pages.
        listed: by page index, whether the page is on the reclaimer's list.
        queued: by page index, whether the reclaimer's queue has an entry for it, be it listed or not.
        paging: its evicted pages.
        mappings: the mm list.
        security: what is kept for security modules; None: nobody was listening when the file was opened.
        guard: :attr:`~swsgx.linux.sticky.EnclaveSecurity.lock`, or nothing.
        users: subjects that have used the file, in the order of their coming; values mean nothing.
    """

    def __init__(self, driver: Driver, profile: Profile, number: int) -> None:
        self.driver = driver
        self.profile = profile
        self.number = number
        self.created = False
        self.initialised = False
        self.debug = False
        self.dead = False
        self.ioctl_bit = threading.Lock()
        self.mutex = threading.RLock()
        self.base = 0
        self.size = 0
        self.attributes = 0
        self.xfrm = 0
        self.miscselect = 0
        self.allowed = 0
        self.secs: int | None = None
        self.max_prot: Bytes = np.empty(0, np.uint8)
        self.page_type: Bytes = np.empty(0, np.uint8)
        self.augmented = 0
        self.page_count = 0
        self.va_pages: list[int] = []
        self.listed: Bytes = np.empty(0, np.uint8)
        self.queued: Bytes = np.empty(0, np.uint8)
        self.paging = EnclavePaging(self)
        self._state: SecsState | None = None
        self._pinned_for: tuple[int, ...] = ()
        self._pinned: npt.NDArray[np.bool_] = np.empty(0, np.bool_)
        self.mappings: list[EnclaveMapping] = []
        self.security = EnclaveSecurity() if driver.security.active else None
        self.guard: contextlib.AbstractContextManager[object] = (
            self.security.lock if self.security is not None else contextlib.nullcontext()
        )
        self.users: dict[Subject, None] = {}

    def __repr__(self) -> str:
        return f"<enclave {self.number} {self.base:#x}+{self.size:#x}>"

    @property
    def store(self) -> EnclaveStore:
        """Where the contents of its pages are; from CREATE on."""
        return self.state.store

    @property
    def state(self) -> SecsState:
        """What its SECS holds, wherever that is; from CREATE on."""
        if self._state is None:
            raise InternalError(f"enclave {self.number}: CREATE comes before its state")
        return self._state

    @property
    def known_state(self) -> SecsState | None:
        """The same at any time; None before CREATE and behind the end."""
        return self._state if self.created else None

    @property
    def secs_address(self) -> EpcAddr:
        """EPC address of the SECS; from CREATE on, and while it is in the EPC."""
        invariant(self.secs is not None, "enclave: its SECS is in the EPC", enclave=self.number)
        return self.driver.cpu.epc.address(self.secs or 0)

    def settle(self, secs: Secs, frame: int) -> None:
        """ECREATE succeeded: record what CREATE records. :meth:`announce` must follow, without the mutex."""
        self.secs = frame
        self._state = self.driver.cpu.enclaves[frame]
        self._state.store.shared = self.driver.demand
        self.base, self.size = secs.baseaddr, secs.size
        self.attributes, self.xfrm, self.miscselect = secs.attributes, secs.xfrm, secs.miscselect
        kept = self.allowed if self.profile.create.keeps_allowed else 0
        self.allowed = kept | self.profile.allowed_attributes
        self.debug = bool(secs.attributes & Attributes.DEBUG)
        pages = secs.size // PAGE_SIZE
        self.max_prot = np.zeros(pages, np.uint8)
        self.page_type = np.zeros(pages, np.uint8)
        self.listed = np.zeros(pages, np.uint8)
        self.queued = np.zeros(pages, np.uint8)
        self.paging.settle()
        self._pinned_for, self._pinned = (), np.zeros(pages, np.bool_)
        if self.security is not None:
            self.security.settle(pages)
        for mapping in list(self.mappings):
            mapping.allocate()
        self.created = True

    def announce(self) -> None:
        """Tell the address spaces that have mapped the enclave before CREATE that it has a range now."""
        for mapping in list(self.mappings):
            mapping.mm.enclave_created(mapping)

    def used_by(self, subject: Subject | None) -> Reason | None:
        """The file is used by ``subject``: ask a security module if that is somebody new; None allows."""
        if self.security is None or subject is None or subject in self.users:
            return None
        reason = hooks.receiving(self, subject, next(reversed(self.users), None))
        if reason is None:
            self.users[subject] = None
        return reason

    # Pages.

    def clip(self, start: int, end: int) -> tuple[int, int]:
        """The page indexes of the part of an address range that lies in ELRANGE; (0, 0) if none does."""
        low, high = max(start, self.base), min(end, self.base + self.size)
        return ((low - self.base) // PAGE_SIZE, (high - self.base) // PAGE_SIZE) if low < high else (0, 0)

    def has_page(self, address: int) -> bool:
        """Whether a page was added at the address."""
        offset = address - self.base
        return 0 <= offset < self.size and bool(self.page_type[offset // PAGE_SIZE])

    def insert(self, first: int, count: int, page_type: PageType, ceiling: int) -> None:
        """Pages were added: remember their type and ceiling."""
        self.page_type[first : first + count] = int(page_type)
        self.max_prot[first : first + count] = ceiling
        self.page_count += count
        if self.security is not None:
            mapped = hooks.mapped_prots(self, first, first + count)
            self.security.pages.born(first, count, mapped, augmented=self.initialised)
        self.driver.reclaimer.enlist(self, np.arange(first, first + count))

    def remove(self, first: int, count: int) -> None:
        """Pages were removed from the EPC: nothing is known of them any more. The VA pages they needed stay."""
        self.paging.forget(first, count)
        self.driver.reclaimer.unlist(self, first, count)
        self.page_type[first : first + count] = 0
        self.max_prot[first : first + count] = 0
        self.page_count -= count
        if self.security is not None:
            self.security.pages.removed(first, count)

    def may_map(self, start: int, end: int, prot: int, personality: int, operation: str) -> Outcome:
        """The rule common to mmap and mprotect.

        Args:
            start, end: the range, page aligned.
            prot: R 1, W 2, X 4.
            personality: of the caller.
            operation: ``"mmap"`` or ``"mprotect"``, for the reason.

        Returns:
            0; -EACCES outside an initialised enclave's range, from a READ_IMPLIES_EXEC task, or when a page of
            the range was not declared with that much (series v23: or when a page does not exist).
        """
        rules = self.profile.mapping
        if rules.none_is_free and not prot:
            return OK
        source = self.profile.source("encl.c: sgx_encl_may_map")

        def no(rule: str, expected: object, found: object, remedy: str = "") -> Outcome:
            return refuse(
                errno.EACCES,
                operation=operation,
                rule=rule,
                expected=expected,
                found=found,
                source=source,
                remedy=remedy,
            )

        elrange = f"{self.base:#x}-{self.base + self.size:#x}"
        if rules.range_after_init and self.initialised and (start < self.base or end > self.base + self.size):
            return no("the range is inside the initialised enclave", elrange, f"{start:#x}-{end:#x}")
        if rules.refuses_read_implies_exec and personality & READ_IMPLIES_EXEC:
            return no("the task's personality has no READ_IMPLIES_EXEC", "not set", personality)
        first, last = self.clip(start, end)
        types, ceilings = self.page_type[first:last], self.max_prot[first:last]
        if not rules.holes and (last - first != (end - start) // PAGE_SIZE or not types.all()):
            found = f"a hole in {start:#x}-{end:#x}"
            return no(
                "every page of the range exists", "pages added before", found, "map PROT_NONE to reserve"
            )
        lacking = (types != 0) & (np.uint8(prot) & ~ceilings != 0)
        if lacking.any():
            index = first + int(np.argmax(lacking))
            where = self.base + index * PAGE_SIZE
            allowed = int(self.max_prot[index])
            return no(
                "no page was added with less than the mapping asks",
                f"{shown_prot(allowed)} at most at {where:#x}",
                shown_prot(prot),
                "map segments separately, or add the page with more permissions",
            )
        return OK

    def usable(self, first: int, last: int) -> Bytes:
        """What the EPCM lets the enclave do with pages ``first`` to ``last``: R 1, W 2, X 4 each.

        0 unless it is a REG page that waits for no EACCEPT. A permission restriction under way (PR) takes nothing
        beyond what EMODPR has taken already.
        """
        with self.mutex:  # else a page leaves the EPC, and another comes to its frame, while we look
            return self._all_usable(first, last)

    def _all_usable(self, first: int, last: int) -> Bytes:
        frames = self.store.frame_map[first:last]
        if last - first == 1:  # as for each page that is accepted, where arrays cost more than they give
            return np.full(1, self._usable_one(first, int(frames[0])), np.uint8)
        columns = self.driver.cpu.epcm.columns
        at = np.where(frames != 0, frames, 1) - np.uint32(1)
        usable = (frames != 0) & (columns["pt"][at] == int(PageType.REG))
        usable &= columns["state"][at] & ~np.uint8(self._means_nothing) == int(EpcmState.VALID)
        perms: Bytes = columns["perm"][at]
        perms[~usable] = 0
        if self.driver.demand and self.paging.evicted:
            perms[frames == 0] = self.paging.usable[first:last][frames == 0]
        return perms

    def _usable_one(self, index: int, frame: int) -> int:
        if not frame:
            return int(self.paging.usable[index]) if self.driver.demand else 0
        entry = self.driver.cpu.epcm[frame - 1]
        usable = entry.pt == _REG and entry.state & ~self._means_nothing == _VALID
        return entry.perm if usable else 0

    @property
    def _means_nothing(self) -> int:
        """States that take no permission. Who waits for a page on its way out does not see it go."""
        return _PR | _BLOCKED if self.driver.demand else _PR

    def effective(self, first: int, last: int, prot: int) -> Bytes:
        """What pages ``first`` to ``last`` really get under a VMA with ``prot``: R 1, W 2, X 4 each.

        What VMA and EPCM both allow; nothing under a VMA that is wider than the page's ceiling.
        """
        perms = self.usable(first, last) & np.uint8(prot & _PERM)
        perms[(self.max_prot[first:last] & prot) != prot] = 0
        return perms

    def _effective_one(self, index: int, prot: int) -> int:
        if prot & ~int(self.max_prot[index]):
            return 0
        return self._usable_one(index, int(self.store.frame_map[index])) & prot & _PERM

    def runs(self, start: int, end: int, prot: int) -> Iterator[MappedRun]:
        """Effective protection of a VMA's range, as runs that cover it without gap."""
        first, last = self.clip(start, end)
        if first == last or not prot:
            yield MappedRun(Linaddr(start), end - start, 0)
            return
        low, high = self.base + first * PAGE_SIZE, self.base + last * PAGE_SIZE
        if last - first == 1 and start == low and end == high:
            yield MappedRun(Linaddr(start), PAGE_SIZE, self._effective_one(first, prot))
            return
        if start < low:
            yield MappedRun(Linaddr(start), low - start, 0)
        perms = self.effective(first, last, prot)
        if last - first == 1 and end - start == PAGE_SIZE:
            yield MappedRun(Linaddr(low), PAGE_SIZE, int(perms[0]))
            return
        cuts = [0, *(np.flatnonzero(np.diff(perms)) + 1).tolist(), last - first]
        for begin, stop in itertools.pairwise(cuts):
            yield MappedRun(Linaddr(low + begin * PAGE_SIZE), (stop - begin) * PAGE_SIZE, int(perms[begin]))
        if end > high:
            yield MappedRun(Linaddr(high), end - high, 0)

    def zap(self, first: int, count: int) -> None:
        """Page-table entries of a range of pages go, in every address space; the next touch is a fault.

        Raises:
            OSError: the host cannot do it in an address space; others were not asked.
        """
        start = self.base + first * PAGE_SIZE
        self._tell(lambda mapping: mapping.mm.zap(mapping, start, start + count * PAGE_SIZE))

    def _tell(self, tell: Callable[[EnclaveMapping], None]) -> None:
        """Tell each address space that maps the enclave; also one that comes meanwhile, by fork, with old bits."""
        told: set[EnclaveMapping] = set()
        while left := [mapping for mapping in list(self.mappings) if mapping not in told]:
            for mapping in left:
                tell(mapping)
            told.update(left)

    def pages_changed(self, first: int, count: int) -> None:
        """EPCM entries or ceilings of a range of pages changed: tell every address space that maps them."""
        if not count or not self.mappings:
            return
        start = self.base + first * PAGE_SIZE
        self._tell(lambda mapping: mapping.mm.sync(mapping, start, start + count * PAGE_SIZE))

    def pages_written(self, address: Linaddr, length: int) -> None:
        """A debugger has written words: address spaces with copies of them change those."""
        self._tell(lambda mapping: mapping.mm.engine.written(self, address, length))

    def take_away(self, first: int, count: int) -> None:
        """Pages are about to leave the EPC: no address space has page-table entries for them."""
        if not self.driver.demand:
            self.zap(first, count)
            return

        def forget(mapping: EnclaveMapping) -> None:
            mapping.bits[first : first + count] &= np.uint8(~VmaBits.PRESENT & 0xFF)

        self._tell(forget)

    def pinned(self, indexes: Indexes) -> npt.NDArray[np.bool_]:
        """Which pages must stay where threads can enter at any time: TCSs, and all their SSA frames.

        The processor looks at them without a page table's help, and an AEX can come at any time.
        """
        frames = tuple(sorted(self.state.tcs))
        if frames != self._pinned_for:
            cpu, size = self.driver.cpu, self.state.store.head.ssaframesize
            self._pinned_for, self._pinned = frames, np.zeros(self.size // PAGE_SIZE, np.bool_)
            for frame in frames:
                tcs = Tcs(bytearray(cpu.page(frame)))
                first = tcs.ossa // PAGE_SIZE
                self._pinned[first : first + tcs.nssa * size] = True
                self._pinned[cpu.offset_of(frame) // PAGE_SIZE] = True
        return self._pinned[indexes]

    # Paging. Call these with no lock held.

    def ensure_resident(self, addresses: Iterable[int]) -> Outcome:
        """Have pages in the EPC and mapped: what the fault handler does, and whoever needs to look at them.

        Args:
            addresses: linear addresses, in any order; none: only the SECS is wanted.

        Returns:
            0: they are, and so is the SECS. Whatever is answered a moment later may be otherwise again.
            -EAGAIN: not now: pages are being written out, or EPC is short; try again. -ENOMEM: EPC is short and
            will stay so. -EFAULT: no page was added at an address, or the enclave is broken. Linux tells the last two
            as SIGBUS.
        """
        indexes = np.unique(np.array([(a - self.base) // PAGE_SIZE for a in addresses], np.int64))
        if not self.created or not all(self.has_page(self.base + i * PAGE_SIZE) for i in indexes.tolist()):
            return refuse(
                errno.EFAULT,
                operation="page fault",
                rule="a page was added at the address",
                expected="a page",
                found="a hole",
                source=self.profile.source("encl.c: sgx_vma_fault"),
            )
        driver = self.driver
        if any(self.paging.is_evicted(index) for index in indexes.tolist()):
            driver.count("faults", 1)
        driver.balance()
        ahead = self.paging.ahead(int(indexes[0])) if len(indexes) else 0
        if ahead and driver.cpu.epc.free_count < driver.reclaimer.low + ahead + len(indexes):
            driver.reclaimer.reclaim(ahead)  # many at a time cost less each
        outcome = OK
        for _ in range(_LOAD_TRIES):
            with self.mutex:
                outcome = self.paging.load(indexes)
            if outcome.errno != errno.EAGAIN:
                break
            driver.wake()
        self.tell_loaded()
        if outcome.ok and not driver.demand:
            for first, count in consecutive(indexes):
                self.pages_changed(first, count)
        return outcome

    def load_page(self, address: int) -> Outcome:
        """:meth:`ensure_resident` of one page."""
        return self.ensure_resident((address,))

    def tell_loaded(self) -> None:
        """Pages came back: they appear in all address spaces that map them."""
        with self.mutex:
            loaded = self.paging.take_loaded()
        for first, count in loaded:
            self.pages_changed(first, count)

    # The end.

    def release(self) -> None:
        """The last reference is gone: every page leaves the EPC and the backing file."""
        with self.mutex, self.driver.reclaimer.bringing():
            self._release()

    def _release(self) -> None:
        cpu = self.driver.cpu
        self.driver.reclaimer.forget(self)
        if self.secs is not None:
            mapped = self.store.frame_map
            children = mapped[mapped != 0] - np.uint32(1)
            if len(children):
                eremove.run(cpu, self.secs_address, children)
                cpu.epc.free(children)
            self.driver.free_page(self.secs)
            self.secs = None
        elif self._state is not None:
            cpu.forget_written_out(self._state.eid)
        self.paging.close()
        for frame in self.va_pages:
            self.driver.free_page(frame)
        self.va_pages.clear()
        self.page_count = 0
        self.max_prot = np.empty(0, np.uint8)
        self.page_type = np.empty(0, np.uint8)
        self.created = self.initialised = False
        self._state = None
        if self.security is not None:
            self.security.forget()
        self.driver.ended(self)
