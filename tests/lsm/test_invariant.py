"""The checker of I0 finds what it is there to find: each breach is made behind the driver's back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from swsgx.cpu.faults import InternalError
from swsgx.isa.flags import PageFaultCode
from swsgx.linux.encl import Encl
from swsgx.linux.fault import FaultAction, resolve
from swsgx.linux.hooks import policy_changed, relabelled
from swsgx.linux.security import NO_GRANTS, Grant, PageFlag, Subject
from swsgx.linux.sticky import EnclaveSecurity
from swsgx.lsm.invariant import check, every_executable_page_is_allowed, flags_only_grow, keep_flags
from swsgx.lsm.module import Event
from swsgx.lsm.stack import Mode
from swsgx.native.abi import VmaBits
from tests.make.judged import Granting, Judged, judged, no
from tests.make.world import BASE


def mapped() -> tuple[Judged, Encl, EnclaveSecurity]:
    made = judged(Granting(Grant.EXECANON))
    file = made.world.initialised()
    assert made.map(file, 0, 1, 5).ok
    assert made.map(file, 1, 3, 3).ok
    made.check()
    assert file.encl.security is not None
    return made, file.encl, file.encl.security


def flag(page: int, flags: PageFlag) -> Callable[[Judged, Encl, EnclaveSecurity], None]:
    def spoil(made: Judged, encl: Encl, security: EnclaveSecurity) -> None:
        security.pages.flags[page] = int(flags)

    return spoil


def owe(made: Judged, encl: Encl, security: EnclaveSecurity) -> None:
    security.pages.obligations[0] = int(Grant.EXECUNMR)


def owe_early(made: Judged, encl: Encl, security: EnclaveSecurity) -> None:
    security.pages.obligations[0] = int(Grant.EXECANON)
    encl.initialised = False


def widen(made: Judged, encl: Encl, security: EnclaveSecurity) -> None:
    made.world.mm.vmas[1].prot = 7


def byte(made: Judged, encl: Encl, security: EnclaveSecurity) -> None:
    encl.mappings[0].bits[3] |= 4


def unasked(made: Judged, encl: Encl, security: EnclaveSecurity) -> None:
    security.identity = None


_X = PageFlag.ADMITTED | PageFlag.EVER_X | PageFlag.MEASURED


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (flag(0, _X | PageFlag.EVER_W), "was writable"),
        (flag(0, _X & ~PageFlag.EVER_X), "mapped executable, and its flags do not know"),
        (flag(1, PageFlag.ADMITTED), "mapped writable, and its flags do not know"),
        (flag(0, _X & ~PageFlag.ADMITTED), "no module let it in"),
        (flag(0, _X | PageFlag.AUGMENTED), "was added by EAUG"),
        (owe, "owes what its enclave was not granted"),
        (owe_early, "INIT was not done"),
        (widen, "was allowed rw-"),
        (byte, "the byte says"),
        (unasked, "without being asked for"),
    ],
)
def test_a_breach_is_found(spoil: Callable[[Judged, Encl, EnclaveSecurity], None], words: str) -> None:
    made, encl, security = mapped()
    spoil(made, encl, security)
    assert any(words in breach for breach in every_executable_page_is_allowed(made.world.driver, made.stack))
    with pytest.raises(InternalError, match="I0"):
        check(made.world.driver, made.stack)
    made.stack.mode = Mode.PERMISSIVE
    check(made.world.driver, made.stack)


def test_flags_that_vanish_are_found_unless_the_page_was_removed() -> None:
    made, _, security = mapped()
    before = keep_flags(made.world.driver)
    assert flags_only_grow(before, keep_flags(made.world.driver)) == []
    security.pages.flags[0] = 0
    assert flags_only_grow(before, keep_flags(made.world.driver)) != []
    security.pages.removed(0, 1)
    assert flags_only_grow(before, keep_flags(made.world.driver)) == []


def test_a_mapping_that_lost_its_right_loses_x_at_the_next_fault() -> None:
    made, encl, _ = mapped()
    granting = Granting(NO_GRANTS)

    def no_exec(event: Event) -> object:
        return no("not any more", "map_exec") if getattr(event, "prot", 0) & 4 else granting._say(event)

    module = next(seat.module for seat in made.stack._seats if seat.name == "granting")
    assert isinstance(module, Granting)
    module.says["map"] = no_exec
    assert resolve(made.world.mm, BASE, PageFaultCode.U).action is FaultAction.RETRY
    assert made.world.mm.vmas[0].prot == 5
    made.stack.policy_changed()
    policy_changed(made.world.driver)
    assert not int(encl.mappings[0].bits[0]) & VmaBits.PRESENT
    assert resolve(made.world.mm, BASE, PageFaultCode.U).action is FaultAction.RETRY
    assert [vma.prot for vma in made.world.mm.vmas] == [1, 3]
    decision = made.log.one()
    assert (decision.call, decision.permissions) == ("fault", ("map_exec",))
    assert resolve(made.world.mm, BASE, PageFaultCode.U).action is FaultAction.RETRY
    assert made.log.decisions == []
    made.check()


def test_a_program_that_changes_its_label_is_judged_as_what_it_is_now() -> None:
    """Flow A13. The ghost found that a mapping stayed its old subject's, even for policies that came later."""
    made, _, _ = mapped()
    module = next(seat.module for seat in made.stack._seats if seat.name == "granting")
    assert isinstance(module, Granting)

    def only_as_loader(event: Event) -> object:
        return (
            no("another label")
            if event.subject is not None and event.subject.label
            else Granting()._say(event)
        )

    module.says["map"] = only_as_loader
    relabelled(made.world.mm, Subject(1, 1000, "/bin/loader", "other_t"))
    assert [vma.prot for vma in made.world.mm.vmas] == [5, 3]
    assert resolve(made.world.mm, BASE, PageFaultCode.U).action is FaultAction.RETRY
    assert [vma.prot for vma in made.world.mm.vmas] == [1, 3]
    decision = made.log.one()
    assert (decision.call, decision.subject) == ("fault", Subject(1, 1000, "/bin/loader", "other_t"))
    made.check()
