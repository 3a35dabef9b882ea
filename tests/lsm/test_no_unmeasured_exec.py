"""Neither code nor entry point that MRENCLAVE does not stand for."""

from __future__ import annotations

import errno

from swsgx.isa.address import PAGE_SIZE
from swsgx.linux.access import peek, poke
from swsgx.linux.security import Grant
from swsgx.lsm.no_unmeasured_exec import NoUnmeasuredExec
from swsgx.lsm.stack import Mode
from tests.make.judged import LOADER, judged
from tests.make.running import NEW, Running
from tests.make.world import BASE, REG_RW, REG_RWX, REG_RX, TCS, a_tcs


def test_a_well_behaved_enclave_notices_nothing() -> None:
    made = judged(NoUnmeasuredExec())
    file = made.world.built()
    assert made.world.add(file, 0x4000, bytes(PAGE_SIZE), REG_RW, measured=False)[0].ok
    assert made.world.init(file).ok
    assert made.map(file, 0, 1, 5).ok
    assert made.map(file, 1, 15, 3).ok
    assert made.log.decisions == []
    made.check()


def test_code_is_measured() -> None:
    made = judged(NoUnmeasuredExec())
    file = made.world.built()
    made.refused(
        lambda: made.world.add(file, 0x4000, bytes(PAGE_SIZE), REG_RX, measured=False)[0], "execunmr"
    )
    assert made.world.add(file, 0x4000, bytes(PAGE_SIZE), REG_RX)[0].ok


def test_a_tcs_is_measured() -> None:
    made = judged(NoUnmeasuredExec())
    file = made.world.built()
    made.refused(lambda: made.world.add(file, 0x4000, bytes(a_tcs()), TCS, measured=False)[0], "execunmr")
    assert made.world.add(file, 0x4000, bytes(a_tcs()), TCS)[0].ok


def test_code_stays_what_was_measured() -> None:
    made = judged(NoUnmeasuredExec())
    file = made.world.built()
    assert made.world.add(file, 0x4000, bytes(PAGE_SIZE), REG_RWX)[0].ok
    assert made.world.init(file).ok
    assert made.map(file, 4, 1, 3).ok
    made.refused(lambda: made.protect(4, 1, 5), "execdirty")


def test_eaug_brings_data_and_no_code() -> None:
    made = judged(NoUnmeasuredExec())
    one = Running(made.world)
    assert one.accept(NEW, 9) == 0
    made.refused(lambda: made.protect(9, 1, 5), "execunmr")
    made.refused(lambda: made.map(one.file, 10, 1, 5), "execdirty", "augexec")


def test_no_page_becomes_a_tcs() -> None:
    made = judged(NoUnmeasuredExec())
    one = Running(made.world)
    assert one.modify(2, 1, 1)[0].errno == errno.EACCES
    assert made.log.one().permissions == ("modtype",)
    assert one.modify(2, 1, 4)[0].ok


def test_debuggers_read_and_do_not_write() -> None:
    made = judged(NoUnmeasuredExec())
    file = made.world.built()
    assert made.map(file, 0, 1, 1).ok
    assert peek(made.world.mm, BASE, LOADER) == b"\x90" * 8
    made.refused(lambda: poke(made.world.mm, BASE, bytes(8), LOADER), "debug", number=errno.EIO)


def test_where_code_comes_from_does_not_matter() -> None:
    made = judged(NoUnmeasuredExec())
    file = made.world.initialised()
    assert file.encl.security is not None
    assert file.encl.security.grants == Grant.EXECANON


def test_in_permissive_mode_it_only_says_so() -> None:
    made = judged(NoUnmeasuredExec(), mode=Mode.PERMISSIVE)
    file = made.world.built()
    assert made.world.add(file, 0x4000, bytes(PAGE_SIZE), REG_RX, measured=False)[0].ok
    assert made.log.one().permissive
    assert made.world.init(file).ok
    assert made.map(file, 4, 1, 5).ok
    assert made.log.one().permissive
