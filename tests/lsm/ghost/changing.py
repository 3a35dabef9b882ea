"""Rules about enclaves that run: SGX2, debuggers, paging; and about policies that change."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable

from swsgx.cpu.enclu.eaccept import eaccept
from swsgx.cpu.enclu.eacceptcopy import eacceptcopy
from swsgx.cpu.enclu.emodpe import emodpe
from swsgx.cpu.enclu.operands import EveryPage, Inside
from swsgx.cpu.faults import Fault
from swsgx.isa.address import PAGE_SIZE, Linaddr
from swsgx.isa.flags import PageType, secinfo_flags
from swsgx.isa.layout import Layout
from swsgx.isa.structs import Secinfo
from swsgx.linux import hooks, uapi
from swsgx.linux.access import read_memory, write_memory
from swsgx.linux.fault import augment
from swsgx.linux.outcome import Outcome
from tests.lsm.ghost.base import LABELS, must
from tests.lsm.ghost.book import EXECDIRTY, MODTYPE, PAGES, SPARE, Area, Enclave, Process, R, W, X, union
from tests.lsm.ghost.mapping import Mapping, new_page
from tests.make.running import CODES
from tests.make.world import BASE

__all__ = ["Changing"]

_ACCEPT_NEW = secinfo_flags(PageType.REG, R | W) | 0x8
_ACCEPT_TRIM = secinfo_flags(PageType.TRIM) | 0x10


class Changing(Mapping):
    """EAUG, EMODT, EMODPR, EREMOVE, EMODPE, EACCEPTCOPY, EDBGWR, EWB, ELD."""

    # What the enclave does by itself: nobody is asked, and no mapping may change.

    def inside(self, encl: Enclave, flags: int, *indexes: int) -> Inside:
        """A thread inside, with a SECINFO in the enclave's spare page, and pages that are in the EPC."""
        self.with_room(4)
        for index in (SPARE, *indexes):
            outcome = encl.file.encl.load_page(BASE + index * PAGE_SIZE)
            if not outcome.ok:
                raise RuntimeError(str(outcome.reason))
        known = encl.file.encl
        known.store.page(SPARE * PAGE_SIZE)[:64] = bytes(Secinfo.of(flags=flags).buffer)
        return Inside(known.secs or 0, EveryPage(self.world.cpu, known.state))

    def leaf(self, run: Callable[..., object], encl: Enclave, flags: int, *indexes: int) -> bool:
        """A leaf with SECINFO and pages as operands: whether it did it. Address spaces are told."""
        thread = self.inside(encl, flags, *indexes)
        where = [Linaddr(BASE + index * PAGE_SIZE) for index in (SPARE, *indexes)]
        try:
            result = run(self.world.cpu, thread, *where)
        except Fault:
            return False
        encl.file.encl.pages_changed(indexes[0], 1)
        return result is None or bool(getattr(result, "ok", False))

    def accept_new(self, encl: Enclave, index: int) -> None:
        if self.leaf(eaccept, encl, _ACCEPT_NEW, index):
            encl.pages[index].settled = True

    def emodpe(self, dice: random.Random) -> None:
        got = self.some_page(dice, lambda page: True)
        if got is not None:
            self.call(lambda: self.leaf(emodpe, got[0], dice.choice([R, R | W, R | X, R | W | X]), got[1]))

    def eacceptcopy(self, dice: random.Random) -> None:
        got = self.some_page(dice, lambda page: page.augmented and not page.settled)
        if got is not None:
            encl, index = got
            others = [i for i, page in encl.pages.items() if page.settled and page.kind == "REG"]
            flags = secinfo_flags(PageType.REG, dice.choice([R | W, R | X, R | W | X]))
            if self.call(lambda: self.leaf(eacceptcopy, encl, flags, index, dice.choice(others))):
                encl.pages[index].settled = True

    def some_page(self, dice: random.Random, fits: Callable[..., bool]) -> tuple[Enclave, int] | None:
        """A page of an enclave that runs."""
        found = [
            (encl, index)
            for encl in self.enclaves
            if encl.initialised
            for index, page in encl.pages.items()
            if index != SPARE and fits(page)
        ]
        return dice.choice(found) if found else None

    def holder(self, dice: random.Random, encl: Enclave) -> Process | None:
        found = [process for process in self.processes if encl in process.files]
        return dice.choice(found) if found else None

    # What it asks the kernel for.

    def eaug(self, dice: random.Random) -> None:
        running = [encl for encl in self.enclaves if encl.initialised]
        if not running:
            return
        encl = dice.choice(running)
        holes = [index for index in range(6) if index not in encl.pages]
        waiting = [i for i in holes if union(self.processes, encl, i, i + 1) & X]
        if not holes:
            return
        first = dice.choice(waiting or holes)
        count = dice.choice([1, 1, 2])
        if any(index in encl.pages for index in range(first, first + count)):
            count = 1
        self.do_eaug(encl, first, count, dice)

    def do_eaug(self, encl: Enclave, first: int, count: int, dice: random.Random) -> None:
        process = self.holder(dice, encl)
        subject = process.subject if process is not None else None
        self.with_room(count + 5)
        allowed = self._augment_asked(encl, subject, first, count, explicit=True)
        self.outcome(lambda: augment(encl.file.encl, first, count, subject)[1])
        if allowed:
            for index in range(first, first + count):
                self.appear(encl, index, new_page())
                if dice.random() < 0.8:
                    self.accept_new(encl, index)

    def change(
        self,
        process: Process,
        encl: Enclave,
        layout: type[Layout],
        index: int,
        *,
        lacks: int = 0,
        kind: str = "",
        permissions: int | None = None,
        number: int = 0,
    ) -> bool:
        """One of the three ioctls, of one page that it fits; ``number``: the driver's own refusal."""
        self.with_room(6)
        encl.file.encl.load_page(BASE + index * PAGE_SIZE)
        self.acting(process)
        values: dict[str, int] = {"offset": index * PAGE_SIZE, "length": PAGE_SIZE}
        if kind:
            values["page_type"] = int(PageType[kind])
        if permissions is not None:
            values["permissions"] = permissions
        leaf = {
            uapi.EnclaveModifyTypes: "EMODT",
            uapi.EnclaveRestrictPermissions: "EMODPR",
            uapi.EnclaveRemovePages: "EREMOVE",
        }[layout]
        if self.first_use(encl, process.subject):
            asked = self.pages_question("modify", process, encl, index, index + 1)
            self.ask(asked._replace(call=leaf, what=(kind, permissions)), lacks)
        denied = bool(self.denials)

        def call() -> Outcome:
            arg = self.memory.put(layout.of(**values))
            return encl.file.ioctl(process.task, CODES[layout], arg)

        found = self.call(call)
        expected = errno.EACCES if denied else number
        must(found.errno == expected, leaf, "gave", found, found.reason)
        return found.ok

    def trim_and_remove(self, dice: random.Random) -> None:
        """EMODT, EACCEPT, EREMOVE, mostly of a page that somebody has mapped; then, maybe, there is a new one."""
        got = self.some_page(dice, lambda page: page.settled)
        process = self.holder(dice, got[0]) if got is not None else None
        if got is None or process is None:
            return
        encl, index = got
        mapped = [
            i
            for i, page in encl.pages.items()
            if i != SPARE and page.settled and union(self.processes, encl, i, i + 1) & X
        ]
        if mapped and dice.random() < 0.8:
            index = dice.choice(mapped)
        self.do_remove(process, encl, index)

    def do_remove(self, process: Process, encl: Enclave, index: int) -> bool:
        page = encl.pages[index]
        if page.kind != "TRIM":
            if not self.change(process, encl, uapi.EnclaveModifyTypes, index, kind="TRIM"):
                return False
            page.kind = "TRIM"
            must(self.leaf(eaccept, encl, _ACCEPT_TRIM, index), "EACCEPT of a trimmed page")
        if not self.change(process, encl, uapi.EnclaveRemovePages, index):
            return False
        del encl.pages[index]
        return True

    def replace(self, dice: random.Random) -> None:
        """What an executable mapping shows goes, and there is another page behind it: several calls in one step."""
        got = self.some_page(dice, lambda page: page.settled and page.ceiling & X)
        if got is None:
            return
        encl, index = got
        holders = [process for process in self.processes if encl in process.files]
        if not holders:
            return
        for prot in dice.choice([(R | X,), (R | X, R | W), (R | W, R | X)]):
            self.do_mmap(dice.choice(holders), encl, index, index + 1, prot & encl.pages[index].ceiling)
        if not self.do_remove(dice.choice(holders), encl, index):
            return
        mapped = [process for process in self.processes if (a := process.at(index)) and a.encl is encl]
        if mapped and dice.random() < 0.3:
            self.do_fault(dice.choice(mapped), index, write=False)
        else:
            self.do_eaug(encl, index, 1, dice)

    def to_tcs(self, dice: random.Random) -> None:
        got = self.some_page(dice, lambda page: page.settled and page.kind == "REG")
        process = self.holder(dice, got[0]) if got is not None else None
        if got is not None and process is not None:
            encl, index = got
            page = encl.pages[index]
            number = 0 if page.ceiling & (R | W) == R | W else errno.EPERM
            lacks = MODTYPE & ~encl.grants
            layout = uapi.EnclaveModifyTypes
            if self.change(process, encl, layout, index, kind="TCS", lacks=lacks, number=number):
                page.kind, page.ceiling, page.settled = "TCS", R | W, False

    def restrict(self, dice: random.Random) -> None:
        got = self.some_page(dice, lambda page: page.settled and page.kind == "REG")
        process = self.holder(dice, got[0]) if got is not None else None
        if got is not None and process is not None:
            encl, index = got
            keep = dice.choice([R, R | W, R | X, R | W | X])
            if self.change(process, encl, uapi.EnclaveRestrictPermissions, index, permissions=keep):
                entry = self.world.cpu.epcm[int(encl.file.encl.store.frame_map[index]) - 1]
                self.leaf(eaccept, encl, secinfo_flags(PageType.REG, int(entry.perm)) | 0x20, index)

    def debug(self, dice: random.Random) -> None:
        """A tracer looks at a page, or writes into it; mostly where that matters."""
        process = dice.choice(self.processes)
        if not process.areas:
            return
        executed = [area for area in process.areas if area.prot & X]
        area: Area = dice.choice(executed or process.areas)
        index, write = dice.randrange(area.start, area.end), dice.random() < 0.7
        encl = area.encl
        page = encl.at(index, index + 1)[0]
        if index >= PAGES - 1 or (page is not None and page.kind == "TCS"):
            return
        tracer = dice.choice(self.processes).subject
        length, address = 8, BASE + index * PAGE_SIZE + 64
        self.with_room(4)
        reached = area.alive and encl.debug and encl.created
        if reached:
            lacks = EXECDIRTY & ~encl.grants if write and page is not None and page.ever_x else 0
            asked = self.question("debug", tracer, encl)._replace(
                offset=address - BASE, length=length, what=(write,)
            )
            reached = self.ask(asked, lacks)
        denied = not reached
        if write:
            found = self.call(lambda: write_memory(process.mm, address, b"debugger", tracer)).ok
        else:
            found = isinstance(self.call(lambda: read_memory(process.mm, address, length, tracer)), bytes)
        must(not (found and denied), "a debugger was refused, and got through")
        if reached and write and page is not None:
            page.ever_w = True

    # Paging, and policies.

    def swap_out(self, dice: random.Random) -> None:
        count = dice.choice([2, 8, 40])
        self.call(lambda: self.world.driver.reclaimer.reclaim(count))

    def swap_in(self, dice: random.Random) -> None:
        got = self.some_page(dice, lambda page: True)
        if got is not None:
            self.with_room(4)
            outcome = self.call(lambda: got[0].file.encl.load_page(BASE + got[1] * PAGE_SIZE))
            must(outcome.ok, "a page does not come back:", outcome.reason)

    def reload(self, dice: random.Random) -> None:
        """Another policy: mappings stay as they are until somebody touches them."""
        self.judge.reload(dice, self.stack)
        self.generation += 1
        for encl in self.enclaves:
            del encl.users[1:]
        self.call(lambda: hooks.policy_changed(self.world.driver))
        for process in self.processes:
            for area in process.areas:
                if area.prot & X and dice.random() < 0.7:
                    self.do_fault(process, area.start, write=False)

    def relabel(self, dice: random.Random) -> None:
        """A program changes its label: what it has mapped is judged again when it is touched."""
        process = dice.choice(self.processes)
        process.subject = self.subject(dice.choice(LABELS), process.subject.pid)
        process.task.subject = process.subject
        self.call(lambda: hooks.relabelled(process.mm, process.subject))
        for area in process.areas:
            area.subject, area.generation = process.subject, -1
