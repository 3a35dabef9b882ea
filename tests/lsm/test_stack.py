"""How verdicts combine: a refusal wins, grants are intersected, obligations united, and no answer is a refusal."""

from __future__ import annotations

import errno
import itertools
import threading
from collections.abc import Callable

import pytest

from swsgx.isa.address import PAGE_SIZE
from swsgx.linux import uapi
from swsgx.linux.access import peek
from swsgx.linux.device import EnclaveFile
from swsgx.linux.outcome import Outcome
from swsgx.linux.security import Grant
from swsgx.lsm.capability import Capability
from swsgx.lsm.module import (
    ALLOW,
    Allow,
    CommitFailed,
    Deny,
    Event,
    Init,
    Label,
    Load,
    Map,
    Module,
    Obligations,
)
from swsgx.lsm.no_unmeasured_exec import NoUnmeasuredExec
from swsgx.lsm.page_rules import NAME
from swsgx.lsm.stack import Mode, Stack
from tests.make.judged import APP, LOADER, Granting, Judged, Recording, Told, judged, no
from tests.make.running import Running
from tests.make.world import BASE, REG_RW, REG_RWX, REG_RX


class First(Told):
    name = "first"


class Second(Told):
    name = "second"


class Third(Granting):
    name = "third"


def opened(made: Judged) -> Outcome:
    file = made.world.driver.open(subject=LOADER)
    return file if isinstance(file, Outcome) else Outcome()


def test_capability_is_always_there_and_first() -> None:
    assert Stack([]).modules == ("capability",)
    assert Stack([First(), Second()]).modules == ("capability", "first", "second")
    assert Stack([First(), Capability()]).modules == ("first", "capability")


def test_two_modules_of_one_name_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="names of their own"):
        Stack([First(), First()])
    with pytest.raises(ValueError, match="no module is called nobody"):
        Stack([First()], permissive=("nobody",))


def test_the_first_that_refuses_is_recorded_and_nobody_is_asked_after_it() -> None:
    first, second = First(open=no("because")), Second(open=no("likewise"))
    made = judged(first, second)
    outcome = opened(made)
    assert outcome.errno == errno.EACCES
    assert outcome.reason is not None
    assert (outcome.reason.operation, outcome.reason.rule, outcome.reason.source) == (
        "open hook",
        "because",
        "security module first",
    )
    decision = made.log.one()
    assert (decision.module, decision.reason, decision.permissions, decision.node) == (
        "first",
        "because",
        ("open",),
        "/dev/sgx_enclave",
    )
    assert second.heard == []


def test_the_order_of_modules_decides_only_whose_name_is_recorded() -> None:
    for modules in itertools.permutations((First(), Second(open=no()), Third(Grant.MAPWX))):
        made = judged(*modules)
        assert opened(made).errno == errno.EACCES
        assert made.log.one().module == "second"


def test_in_permissive_mode_a_refusal_is_recorded_and_everybody_is_asked() -> None:
    second = Second(open=no("likewise"))
    made = judged(First(open=no("because")), second, mode=Mode.PERMISSIVE)
    assert opened(made).ok
    assert [(d.module, d.permissive) for d in made.log.decisions] == [("first", True), ("second", True)]


def test_one_module_can_be_permissive_alone() -> None:
    made = judged(First(open=no("because")), Second(), permissive=("first",))
    assert opened(made).ok
    assert made.log.one().permissive
    made = judged(First(open=no("because")), Second(open=no()), permissive=("first",))
    assert opened(made).errno == errno.EACCES
    assert [(d.module, d.permissive) for d in made.log.decisions] == [("first", True), ("second", False)]


def test_dontaudit_refuses_without_a_record_and_auditallow_records_what_is_allowed() -> None:
    made = judged(First(open=Deny("quiet", audited=False)))
    assert opened(made).errno == errno.EACCES
    assert made.log.decisions == []
    made = judged(First(open=Allow(audited=True, permissions=("open",), rule="te:3")))
    assert opened(made).ok
    decision = made.log.one()
    assert (decision.denied, decision.permissions, decision.rule) == (False, ("open",), "te:3")
    made = judged(First(open=Allow(audited=True)), Second(open=no()))
    assert opened(made).errno == errno.EACCES
    assert made.log.one().denied


def test_a_listener_that_fails_changes_no_verdict() -> None:
    class Broken:
        def record(self, decision: object) -> None:
            raise OSError("disk full")

    made = judged(First(open=no()))
    made.stack._audit = Broken()
    assert opened(made).errno == errno.EACCES
    assert made.stack.lost == 1


# Grants, obligations, labels.


def granted(*modules: Module) -> tuple[Judged, EnclaveFile]:
    made = judged(*modules)
    file = made.world.built()
    return made, file


def test_grants_are_what_all_modules_that_hand_them_out_have_given() -> None:
    made, file = granted(
        Granting(Grant.EXECDIRTY | Grant.MAPWX), First(), Third(Grant.EXECDIRTY | Grant.MODTYPE)
    )
    assert made.world.init(file).ok
    assert file.encl.security is not None
    assert file.encl.security.grants == Grant.EXECDIRTY


def test_without_a_module_that_hands_out_grants_nobody_has_any() -> None:
    made, file = granted(First())
    assert made.world.init(file).ok
    assert file.encl.security is not None
    assert (file.encl.security.grants, made.stack.write_execute) == (Grant(0), False)


def test_obligations_of_several_modules_add_up() -> None:
    made, file = granted(
        Granting(Grant.EXECANON, owes=Grant.EXECANON), Third(Grant.EXECANON, owes=Grant.EXECUNMR)
    )
    made.refused(lambda: made.map(file, 0, 1, 5), "execanon", "execunmr")
    made.refused(lambda: made.world.init(file), "execunmr")


def test_an_enclave_is_called_what_modules_agree_on() -> None:
    class Named(Told):
        def __init__(self, label: Label | None) -> None:
            super().__init__()
            self.gives = label

        def label(self, event: Init) -> Label | None:
            return self.gives

    class A(Named):
        name = "a"

    class B(Named):
        name = "b"

    for one, other, expected in (
        (Label("x_t"), None, "x_t"),
        (Label("x_t", default=True), None, "x_t"),
        (Label("x_t", default=True), Label("y_t"), "y_t"),
        (Label("x_t"), Label("x_t"), "x_t"),
        (None, None, ""),
    ):
        for modules in ((A(one), B(other)), (A(other), B(one))):
            made, file = granted(*modules)
            assert made.world.init(file).ok
            assert file.encl.security is not None
            assert file.encl.security.label == expected
            [heard] = [event for event in modules[0].heard if isinstance(event, Init)]
            assert heard.label == expected
    made, file = granted(A(Label("x_t")), B(Label("y_t")))
    decision = made.refused(lambda: made.world.init(file), "init")
    assert (decision.module, decision.found) == ("b", "x_t and y_t")


# No answer.


def raises(event: Event) -> object:
    raise RuntimeError("oops")


@pytest.mark.parametrize(
    "says",
    [
        raises,
        lambda event: None,
        lambda event: True,
        lambda event: Allow,
        lambda event: Allow(grants=Grant.EXECDIRTY),
        lambda event: Obligations(Grant.EXECANON),
    ],
)
@pytest.mark.parametrize("hook", ["create", "load", "init", "map"])
def test_a_module_that_raises_or_returns_nonsense_has_refused(
    says: Callable[[Event], object], hook: str
) -> None:
    made = judged(First(**{hook: says}))
    file = made.world.open()
    calls: dict[str, Callable[[], Outcome]] = {
        "create": lambda: made.world.create(file),
        "load": lambda: made.world.add(file, 0, bytes(PAGE_SIZE), REG_RX)[0],
        "init": lambda: made.world.init(file),
        "map": lambda: made.map(file, 0, 1, 1),
    }
    for name, call in calls.items():
        if name == hook:
            before = made.books()
            made.log.decisions.clear()
            assert call().errno == errno.EACCES
            assert made.log.one().reason == "module-failure"
            assert made.books() == before
            return
        assert call().ok


def test_a_module_that_hangs_has_refused_and_goes_on_refusing_until_it_answers() -> None:
    go = threading.Event()

    def hangs(event: Event) -> object:
        go.wait(60)
        return ALLOW

    module = First(open=hangs)
    made = judged(module, timeout=0.02)
    assert opened(made).errno == errno.EACCES
    decision = made.log.one()
    assert (decision.reason, decision.found) == ("module-failure", "none")
    assert opened(made).errno == errno.EACCES
    assert len(module.heard) == 1
    made.log.decisions.clear()
    go.set()
    while not opened(made).ok:
        pass
    made.stack.close()


def test_a_module_that_hangs_keeps_nothing_of_the_drivers() -> None:
    kept: list[Event] = []

    def keeps(event: Event) -> object:
        kept.append(event)
        return ALLOW

    module = First(load=keeps, map=keeps)
    made = judged(module)
    file = made.world.built()
    assert made.map(file, 0, 1, 5).ok
    load, mapping = kept[0], kept[-1]
    assert isinstance(load, Load)
    assert isinstance(mapping, Map)
    made.world.mm.exit()
    file.close()
    assert bytes(load.contents) == b"\x90" * PAGE_SIZE
    assert mapping.pages.types.tolist() == [2]


# The second phase.


def test_what_happens_is_committed_after_all_have_allowed_and_before_it_happens() -> None:
    recording, refusing = Recording(), Second()
    made = judged(recording, refusing)
    file = made.world.built()
    loads = [event for event, _ in recording.entries if isinstance(event, Load)]
    assert [event.offset for event in loads] == [0, 0x1000, 0x3000]
    refusing.says["load"] = no()
    assert made.world.add(file, 0x4000, bytes(PAGE_SIZE), REG_RW)[0].errno == errno.EACCES
    assert len([event for event, _ in recording.entries if isinstance(event, Load)]) == 3


@pytest.mark.parametrize(
    ("failure", "reason"),
    [(CommitFailed("log is full"), "what happens is recorded first"), (OSError("disk"), "module-failure")],
)
def test_a_commit_that_fails_is_a_refusal_without_a_trace(failure: Exception, reason: str) -> None:
    recording = Recording()
    made = judged(recording)
    file = made.world.built()
    assert made.map(file, 1, 1, 3).ok
    recording.fails = failure
    for call, permission in (
        (lambda: made.world.add(file, 0x4000, bytes(PAGE_SIZE), REG_RX)[0], ("load", "execute")),
        (lambda: made.world.init(file), ("init",)),
        (lambda: made.map(file, 0, 1, 5), ("map_read", "map_exec")),
        (lambda: made.protect(1, 1, 1), ("map_read",)),
    ):
        assert made.refused(call, *permission).reason == reason


def test_a_commit_of_init_knows_grants_and_label() -> None:
    recording = Recording()
    made = judged(Granting(Grant.EXECDIRTY), recording)
    file = made.world.initialised()
    event, answer = recording.entries[-1]
    assert isinstance(event, Init)
    assert answer.grants == Grant.EXECDIRTY
    assert event.enclave.number == file.encl.number


# The hooks that little else reaches.


def test_a_refused_child_has_mappings_without_an_enclave() -> None:
    first = First()
    made = judged(first)
    file = made.world.built()
    assert made.map(file, 0, 1, 5).ok
    first.says["receive"] = no()
    child = made.world.mm.fork(subject=APP)
    assert [vma.mapping for vma in child.vmas] == [None]
    assert made.log.one().permissions == ("use",)
    assert child not in [mapping.mm for mapping in file.encl.mappings]
    made.check()


def test_a_descriptor_that_reaches_somebody_new_is_asked_for_at_its_first_use() -> None:
    first = First(receive=no())
    made = judged(first)
    file = made.world.driver.open(subject=LOADER)
    assert isinstance(file, EnclaveFile)
    made.refused(lambda: made.map(file, 0, 1, 1, subject=APP), "use")
    assert made.map(file, 0, 1, 1).ok
    made.refused(lambda: made.protect(0, 1, 0, subject=APP), "use")


def test_debug_provision_and_augment_can_be_refused() -> None:
    first = First(debug=no(), provision=no(), augment=no())
    made = judged(first)
    one = Running(made.world)
    outcome = peek(made.world.mm, BASE, LOADER)
    assert isinstance(outcome, Outcome)
    assert outcome.errno == errno.EIO
    assert made.log.one().permissions == ("debug",)
    made.world.files[4] = made.world.driver.open("/dev/sgx_provision", subject=LOADER)
    argument = uapi.EnclaveProvision.of(fd=4)
    made.refused(lambda: made.world.ioctl(one.file, uapi.SGX_IOC_ENCLAVE_PROVISION, argument), "provision")
    assert one.accept(0x20B, 9) is None
    made.log.decisions.clear()
    before = made.books()
    assert one.accept(0x20B, 9) is None
    assert made.log.one().hook == "augment"
    assert made.books() == before


@pytest.mark.parametrize(
    ("leaf", "call"), [("EMODT", "modify"), ("EMODPR", "restrict"), ("EREMOVE", "remove")]
)
def test_changes_of_pages_can_be_refused_and_nothing_is_done(leaf: str, call: str) -> None:
    made = judged(First(modify=no()))
    one = Running(made.world)
    before = one.state()
    outcome, back = {
        "modify": lambda: one.modify(2, 2, 4),
        "restrict": lambda: one.restrict(2, 2, 1),
        "remove": lambda: one.remove(2, 2),
    }[call]()
    assert (outcome.errno, back["count"]) == (errno.EACCES, 0)
    assert one.state() == before
    assert made.log.one().call == leaf


def test_page_rules_can_be_permissive_alone() -> None:
    made = judged(Granting(), permissive=(NAME,))
    file = made.world.built()
    assert made.world.init(file).ok
    assert made.map(file, 8, 1, 5).ok
    assert made.log.one().permissive


def test_built_in_modules_see_the_driver_s_own_memory_and_others_a_copy() -> None:
    stack = Stack([NoUnmeasuredExec(), First()])
    assert [seat.runs_directly for seat in stack._seats] == [True, True, False]


# Refusals that have no effect by themselves, and modules that are exchanged.


def test_a_permissive_refusal_is_recorded_and_says_what_it_would_have_said_otherwise() -> None:
    told = Deny("no", ("load",), permissive=True, otherwise=Obligations(Grant.EXECANON))
    made = judged(Granting(load=told))
    file = made.world.open()
    assert made.world.create(file).ok
    assert made.world.add(file, 0, bytes(PAGE_SIZE), REG_RX)[0].ok
    assert made.log.one().permissive
    made.refused(lambda: made.world.init(file), "execanon")


def test_so_does_a_refusal_of_a_module_that_is_permissive() -> None:
    told = Deny("no", ("load",), otherwise=Obligations(Grant.EXECANON))
    made = judged(Granting(load=told), permissive=("granting",))
    file = made.world.open()
    assert made.world.create(file).ok
    assert made.world.add(file, 0, bytes(PAGE_SIZE), REG_RX)[0].ok
    security = file.encl.security
    assert security is not None
    assert security.pages.obligations[0] == Grant.EXECANON


@pytest.mark.parametrize("otherwise", [Allow(grants=Grant.MAPWX), Allow(tolerated=Grant.MAPWX)])
def test_what_a_module_may_not_say_it_may_not_say_otherwise(otherwise: Allow) -> None:
    made = judged(First(init=Deny("no", permissive=True, otherwise=otherwise)))
    file = made.world.built()
    made.refused(lambda: made.world.init(file), "init")


def test_a_grant_that_is_withheld_and_tolerated_is_recorded_where_it_is_used() -> None:
    class Lending(Granting):
        name = "lending"

        def init(self, event: Event) -> Allow:
            return Allow(tolerated=Grant.EXECDIRTY)

    made = judged(Lending())
    file = made.world.open()
    assert made.world.create(file).ok
    assert made.world.add(file, 0, bytes(PAGE_SIZE), REG_RWX)[0].ok
    assert made.world.init(file).ok
    assert made.map(file, 0, 1, 3).ok
    assert made.protect(0, 1, 5).ok
    decision = made.log.one()
    assert (decision.permissions, decision.permissive) == (("execdirty",), True)
    made.refused(lambda: made.map(file, 0, 1, 7), "execdirty", "mapwx")


def test_modules_are_exchanged_in_their_places_and_mappings_are_judged_again() -> None:
    made = judged(First(), Second())
    assert opened(made).ok
    generation = made.stack.generation
    made.stack.replace([First(open=no())])
    assert made.stack.modules == ("capability", "first", "second")
    assert made.stack.generation == generation + 1
    assert opened(made).errno == errno.EACCES
    with pytest.raises(ValueError, match="no module is called third"):
        made.stack.replace([Third()])
