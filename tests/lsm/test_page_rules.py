"""W or X: every way to have both on one page, in whatever process and order."""

from __future__ import annotations

import errno
import threading

import pytest

from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.leaves import Enclu
from swsgx.linux.access import poke
from swsgx.linux.device import EnclaveFile
from swsgx.linux.outcome import Outcome
from swsgx.linux.security import NO_GRANTS, Grant, PageFlag
from swsgx.linux.syscalls.mremap import MREMAP_FIXED, MREMAP_MAYMOVE
from swsgx.lsm.module import ALLOW, Event, Obligations, Verdict
from swsgx.lsm.page_rules import NAME
from swsgx.lsm.seat import Seat
from swsgx.lsm.stack import Mode
from tests.make.judged import APP, LOADER, Granting, Judged, judged
from tests.make.running import NEW, TO_TCS, Running
from tests.make.world import BASE, REG_RWX, REG_RX, SIZE

W, X, RW, RX, RWX = 2, 4, 3, 5, 7


def with_rwx_page(grants: Grant = NO_GRANTS, mode: Mode = Mode.ENFORCING) -> tuple[Judged, EnclaveFile]:
    """Page 0 is RX, pages 1 and 2 RW, page 3 a TCS, pages 4 to 7 RWX; initialised, mapped nowhere."""
    made = judged(Granting(grants), mode=mode)
    file = made.world.built()
    assert made.world.add(file, 0x4000, bytes(4 * PAGE_SIZE), REG_RWX)[0].ok
    assert made.world.init(file).ok
    return made, file


def test_executable_code_and_writable_data_are_no_business_of_the_rules() -> None:
    made, file = with_rwx_page()
    assert made.map(file, 0, 1, RX).ok
    assert made.map(file, 1, 3, RW).ok
    made.check()
    assert made.log.decisions == []


def test_a_page_that_was_mapped_writable_is_not_executable_afterwards() -> None:
    made, file = with_rwx_page()
    assert made.map(file, 4, 1, RW).ok
    decision = made.refused(lambda: made.protect(4, 1, RX), "execdirty")
    assert (decision.module, decision.call, decision.offset, decision.length) == (
        NAME,
        "mprotect",
        0x4000,
        0x1000,
    )


def test_a_page_that_was_mapped_executable_is_not_writable_afterwards() -> None:
    made, file = with_rwx_page()
    assert made.map(file, 4, 1, RX).ok
    made.refused(lambda: made.protect(4, 1, RW), "execdirty")


@pytest.mark.parametrize(("first", "second"), [(RW, RX), (RX, RW)])
def test_of_two_processes_the_second_is_refused_in_either_order(first: int, second: int) -> None:
    made, file = with_rwx_page()
    other = made.world.mm.fork(subject=APP)
    assert made.map(file, 4, 1, first).ok
    made.refused(lambda: made.map(file, 4, 1, second, other, APP), "execdirty")
    other.exit()


@pytest.mark.parametrize(("first", "second"), [(RW, RX), (RX, RW)])
def test_unmapping_does_not_launder_a_page(first: int, second: int) -> None:
    made, file = with_rwx_page()
    assert made.map(file, 4, 1, first).ok
    assert made.world.mm.munmap(BASE + 0x4000, 0x1000).ok
    made.refused(lambda: made.map(file, 4, 1, second), "execdirty")


def test_fork_does_not_launder_a_page() -> None:
    made, file = with_rwx_page()
    assert made.map(file, 4, 1, RW).ok
    child = made.world.mm.fork(subject=APP)
    made.world.mm.exit()
    made.refused(lambda: made.protect(4, 1, RX, child, APP), "execdirty")
    child.exit()


def test_paging_does_not_launder_a_page() -> None:
    made, file = with_rwx_page()
    assert made.map(file, 4, 1, RW).ok
    made.world.driver.reclaimer.reclaim(64)
    assert not file.encl.store.frame_map[4]
    made.refused(lambda: made.protect(4, 1, RX), "execdirty")
    assert file.encl.load_page(BASE + 0x4000).ok
    made.refused(lambda: made.protect(4, 1, RX), "execdirty")


def test_one_mapping_that_is_both_needs_mapwx_too() -> None:
    made, file = with_rwx_page()
    made.refused(lambda: made.map(file, 4, 1, RWX), "execdirty", "mapwx")
    made, file = with_rwx_page(Grant.EXECDIRTY)
    made.refused(lambda: made.map(file, 4, 1, RWX), "mapwx")
    made, file = with_rwx_page(Grant.EXECDIRTY | Grant.MAPWX)
    assert made.map(file, 4, 1, RWX).ok
    made.check()


def test_execdirty_allows_one_after_the_other() -> None:
    made, file = with_rwx_page(Grant.EXECDIRTY)
    assert made.map(file, 4, 1, RW).ok
    assert made.protect(4, 1, RX).ok
    assert made.protect(4, 1, RW).ok
    made.check()
    assert PageFlag.EVER_W | PageFlag.EVER_X in made.flags(file, 4)


def test_mprotect_over_a_range_with_one_bad_page_changes_nothing() -> None:
    made, file = with_rwx_page()
    for page, prot in ((4, 1), (5, RW), (6, 1)):
        assert made.map(file, page, 1, prot).ok
    decision = made.refused(lambda: made.protect(4, 3, RX), "execdirty")
    assert (decision.offset, decision.length) == (0x5000, 0x1000)


def test_a_fixed_mapping_that_is_refused_leaves_no_hole() -> None:
    made, file = with_rwx_page()
    assert made.map(file, 4, 1, RW).ok
    made.refused(lambda: made.map(file, 4, 1, RX), "execdirty")
    assert [vma.prot for vma in made.world.mm.vmas] == [RW]


def test_mremap_onto_pages_that_were_writable_is_refused() -> None:
    made, file = with_rwx_page()
    assert made.map(file, 0, 1, RX).ok
    assert made.map(file, 4, 1, RW).ok
    fixed = MREMAP_MAYMOVE | MREMAP_FIXED
    made.refused(
        lambda: made.world.mm.mremap(BASE, 0x1000, 0x1000, fixed, BASE + 0x4000, subject=LOADER), "execdirty"
    )
    assert made.world.mm.mremap(BASE, 0x1000, 0x1000, fixed, BASE + 0x5000, subject=LOADER).ok
    assert PageFlag.EVER_X in made.flags(file, 5)
    made.check()


def test_holes_are_reserved_and_written_freely_and_executed_with_augexec_only() -> None:
    made, file = with_rwx_page()
    assert made.map(file, 8, 4, 0).ok
    assert made.map(file, 8, 4, RW).ok
    decision = made.refused(lambda: made.map(file, 7, 3, RX), "execdirty", "augexec")
    assert (decision.offset, decision.length) == (0x8000, 0x2000)
    made.refused(lambda: made.map(file, 8, 1, RWX), "execdirty", "mapwx", "augexec")


def test_an_empty_enclave_is_mapped_executable_as_long_as_nothing_wrong_appears_there() -> None:
    made = judged(Granting())
    file = made.world.open()
    made.refused(lambda: made.map(file, 0, 16, RWX), "execdirty", "mapwx")
    assert made.map(file, 0, 16, RX).ok
    assert made.world.create(file).ok
    assert made.world.add(file, 0, bytes(PAGE_SIZE), REG_RWX)[0].ok
    assert PageFlag.EVER_X in made.flags(file, 0)
    made.refused(lambda: made.map(file, 0, 1, RW), "execdirty")
    made.check()


class _Owing(Granting):
    """All pages owe something."""

    name = "owing"

    def load(self, event: Event) -> Verdict:
        return Obligations(Grant.EXECANON)


def test_a_page_that_owes_something_does_not_appear_where_it_is_executable() -> None:
    made = judged(_Owing())
    file = made.world.open()
    assert made.map(file, 0, 1, RX).ok
    assert made.world.create(file).ok
    made.refused(lambda: made.world.add(file, 0, bytes(PAGE_SIZE), REG_RX)[0], "execanon")
    assert made.world.add(file, PAGE_SIZE, bytes(PAGE_SIZE), REG_RX)[0].ok
    made.check()


def test_no_page_appears_where_two_processes_write_and_execute() -> None:
    made = judged(Granting())
    file = made.world.open()
    assert made.map(file, 0, 1, RX).ok
    other = made.world.mm.fork(subject=APP)
    assert other.mprotect(BASE, PAGE_SIZE, RW, subject=LOADER).ok
    assert made.world.create(file).ok
    made.refused(lambda: made.world.add(file, 0, bytes(PAGE_SIZE), REG_RX)[0], "execdirty", "mapwx")


def test_a_page_added_under_a_writable_mapping_was_writable() -> None:
    made = judged(Granting())
    file = made.world.open()
    assert made.map(file, 0, 16, RW).ok
    assert made.world.create(file).ok
    assert made.world.add(file, 0, bytes(PAGE_SIZE), REG_RX)[0].ok
    assert made.world.mm.munmap(BASE, SIZE).ok
    made.refused(lambda: made.map(file, 0, 1, RX), "execdirty")


def running(grants: Grant, mode: Mode = Mode.ENFORCING) -> tuple[Judged, Running]:
    made = judged(Granting(grants), mode=mode)
    return made, Running(made.world)


def test_a_page_of_eaug_was_writable_from_birth_and_needs_augexec() -> None:
    made, one = running(NO_GRANTS)
    assert one.accept(NEW, 9) == 0
    assert made.flags(one.file, 9) == PageFlag.ADMITTED | PageFlag.AUGMENTED | PageFlag.EVER_W
    made.refused(lambda: made.protect(9, 1, RX), "execdirty", "augexec")
    made, one = running(Grant.AUGEXEC | Grant.EXECDIRTY)
    assert one.accept(NEW, 9) == 0
    assert made.protect(9, 1, RX).ok
    made.check()


def test_a_page_that_is_removed_and_comes_back_starts_anew() -> None:
    made, one = running(Grant.AUGEXEC | Grant.EXECDIRTY)
    assert one.accept(NEW, 9) == 0
    assert made.protect(9, 1, RX).ok
    assert one.modify(9, 1, 4)[0].ok
    assert one.accept(0x410, 9) == 0
    assert one.remove(9, 1)[0].ok
    assert made.flags(one.file, 9) == PageFlag(0)
    assert made.protect(9, 1, RW).ok
    assert one.accept(NEW, 9) == 0
    assert made.flags(one.file, 9) == PageFlag.ADMITTED | PageFlag.AUGMENTED | PageFlag.EVER_W


def test_eaug_adds_no_page_under_an_executable_mapping_without_the_grant() -> None:
    made, one = running(Grant.AUGEXEC | Grant.EXECDIRTY)
    assert made.protect(9, 1, RX).ok
    security = one.encl.security
    assert security is not None
    security.grants = NO_GRANTS
    free = made.world.cpu.epc.free_count
    assert one.accept(NEW, 9) is None
    decision = made.log.one()
    assert (decision.hook, decision.permissions) == ("augment", ("execdirty", "augexec"))
    assert made.world.cpu.epc.free_count == free
    assert not one.encl.has_page(BASE + 0x9000)


def test_a_page_becomes_a_tcs_with_modtype_only() -> None:
    made, one = running(NO_GRANTS)
    before = made.books()
    outcome, back = one.modify(2, 2, TO_TCS >> 8)
    assert (outcome.errno, back["count"]) == (errno.EACCES, 0)
    assert made.log.one().permissions == ("modtype",)
    assert made.books() == before
    assert one.modify(2, 1, 4)[0].ok
    made, one = running(Grant.MODTYPE)
    assert one.modify(2, 2, TO_TCS >> 8)[0].ok


def test_a_debugger_that_writes_makes_a_page_dirty() -> None:
    made, file = with_rwx_page()
    assert made.map(file, 4, 1, 1).ok
    assert poke(made.world.mm, BASE + 0x4000, bytes(8), LOADER).ok
    made.refused(lambda: made.protect(4, 1, RX), "execdirty")


def test_a_debugger_writes_into_no_page_that_was_executable() -> None:
    made, file = with_rwx_page()
    assert made.map(file, 0, 1, RX).ok
    made.refused(lambda: poke(made.world.mm, BASE, bytes(8), LOADER), "execdirty", number=errno.EIO)


def test_obligations_are_discharged_by_init_and_until_then_pages_are_not_executable() -> None:
    made = judged(Granting(Grant.EXECANON, owes=Grant.EXECANON))
    file = made.world.built()
    made.refused(lambda: made.map(file, 0, 1, RX), "execanon")
    assert made.map(file, 0, 1, 1).ok
    assert made.world.init(file).ok
    assert made.map(file, 0, 1, RX).ok
    made.check()


def test_init_fails_unless_all_obligations_are_granted() -> None:
    owes = Grant.EXECANON | Grant.EXECUNMR
    made = judged(Granting(Grant.EXECANON, owes=owes))
    file = made.world.built()
    decision = made.refused(lambda: made.world.init(file), "execunmr")
    assert (decision.hook, decision.module) == ("init", NAME)
    assert decision.mrenclave == made.world.sigstruct(file).enclavehash
    assert not file.encl.initialised
    made.stack.mode = Mode.PERMISSIVE
    assert made.world.init(file).ok
    assert made.log.one().permissive


def test_a_mapping_that_the_host_cannot_make_leaves_no_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    made, file = with_rwx_page()

    def fails(*args: object) -> None:
        raise OSError(errno.ENOMEM, "no")

    monkeypatch.setattr(made.world.mm.engine, "map", fails)
    assert made.map(file, 4, 1, RX).errno == errno.ENOMEM
    assert made.flags(file, 4) == PageFlag.ADMITTED | PageFlag.MEASURED
    monkeypatch.undo()
    assert made.map(file, 4, 1, RW).ok


def test_in_permissive_mode_all_of_it_is_recorded_and_happens() -> None:
    made, file = with_rwx_page(mode=Mode.PERMISSIVE)
    assert made.map(file, 4, 1, RW).ok
    assert made.protect(4, 1, RX).ok
    decision = made.log.one()
    assert (decision.permissions, decision.permissive) == (("execdirty",), True)
    assert made.map(file, 5, 1, RWX).ok
    assert made.log.one().permissions == ("execdirty", "mapwx")
    assert made.map(file, 9, 1, RX).ok
    assert made.log.one().permissions == ("execdirty", "augexec")


def test_what_only_a_permissive_module_withholds_is_tolerated_and_recorded() -> None:
    class Other(Granting):
        name = "other"

    made = judged(Granting(NO_GRANTS), Other(Grant.EXECDIRTY), permissive=("granting",))
    file = made.world.open()
    assert made.world.create(file).ok
    assert made.world.add(file, 0, bytes(PAGE_SIZE), REG_RWX)[0].ok
    assert made.world.init(file).ok
    assert made.map(file, 0, 1, RW).ok
    assert made.protect(0, 1, RX).ok
    assert made.log.one().permissive
    made.log.decisions.clear()
    assert made.map(file, 0, 1, RWX).errno == errno.EACCES
    assert not made.log.one().permissive


def test_accepting_a_copy_into_a_new_page_does_not_make_it_executable() -> None:
    made, one = running(NO_GRANTS)
    assert one.execute(Enclu.EACCEPTCOPY, 0x207, 9, 0).fault is None
    made.refused(lambda: made.protect(9, 1, RX), "execdirty", "augexec")


def test_two_processes_that_ask_at_once_are_not_both_allowed() -> None:
    made, file = with_rwx_page()
    other = made.world.mm.fork(subject=APP)
    second: list[Outcome] = []
    thread = threading.Thread(target=lambda: second.append(made.map(file, 4, 1, RX, other, APP)))

    class Slow(Granting):
        """Lets the other one ask while this one is being decided."""

        name = "slow"
        hands_out_grants = False

        def init(self, event: Event) -> Verdict:
            return ALLOW

        def map(self, event: Event) -> Verdict:
            if not thread.ident:
                thread.start()
                thread.join(0.1)
                assert not second
            return ALLOW

    # As one of the package it is called by whoever asks, so that only the driver keeps the two apart.
    Slow.__module__ = "swsgx.lsm.slow"
    made.stack._seats = (*made.stack._seats, Seat(Slow(), 60))
    assert made.map(file, 4, 1, RW).ok
    thread.join()
    assert [outcome.errno for outcome in second] == [errno.EACCES]
    made.check()
    other.exit()
