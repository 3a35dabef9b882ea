"""Every row of the list of attacks on the model: enforcing, permissive, and beside it what the plain driver does."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.flags import PageFaultCode, PageType
from swsgx.isa.leaves import Enclu
from swsgx.isa.structs import Secinfo
from swsgx.linux import uapi
from swsgx.linux.access import poke
from swsgx.linux.device import EnclaveFile
from swsgx.linux.fault import resolve
from swsgx.linux.hooks import page_range
from swsgx.linux.inside import execute
from swsgx.linux.outcome import Outcome
from swsgx.linux.profile import UPSTREAM_6_12, V23
from swsgx.linux.security import Origin, OriginClass, Subject, Vepc
from swsgx.linux.task import READ_IMPLIES_EXEC
from swsgx.lsm.audit import Decision
from swsgx.lsm.measurement_list import replay
from swsgx.lsm.module import Load, Module, Verdict
from swsgx.lsm.stack import Stack
from tests.make.attacks import ROWS, Row, row
from tests.make.enforced import (
    ANON,
    APP,
    BUILDER,
    CODE,
    CODE_PATH,
    GUEST,
    LAB_PATH,
    SIG_PATH,
    STRANGER,
    Enforced,
    enforced,
    from_file,
    must,
)
from tests.make.judged import Log
from tests.make.world import BASE, REG_RW, REG_RWX, REG_RX, TCS, a_tcs

R, W, X, RW, RX, RWX = 1, 2, 4, 3, 5, 7
#: The call that decides, after all that leads to it.
Decisive = Callable[[], Outcome]
Flow = Callable[[Enforced], Decisive]
FLOWS: dict[str, Flow] = {}


def flow(*names: str) -> Callable[[Flow], Flow]:
    """This is the flow of these rows."""

    def named(function: Flow) -> Flow:
        FLOWS.update(dict.fromkeys(names, function))
        return function

    return named


def with_code(m: Enforced, kind: OriginClass = OriginClass.ANON, *, deleted: bool = False) -> Decisive:
    """INIT of an enclave with code from such memory."""
    file = m.filled(m.start())
    origin = ANON
    if kind is not OriginClass.ANON:
        path = CODE_PATH if kind is OriginClass.FILE else "/memfd:code"
        origin = dataclasses.replace(from_file(path), kind=kind, deleted=deleted)
    must(m.add(file, 4, REG_RX, origin))
    return lambda: m.init(file)


FLOWS["A1"] = FLOWS["A5"] = with_code
FLOWS["A7-memfd"] = lambda m: with_code(m, OriginClass.MEMFD)
FLOWS["A7-shm"] = lambda m: with_code(m, OriginClass.SHM)
FLOWS["A7-deleted"] = lambda m: with_code(m, OriginClass.FILE, deleted=True)


@flow("A2")
def a_file_without_the_execute_right(m: Enforced) -> Decisive:
    file = m.start()
    must(m.add(file, 1, REG_RW, from_file(LAB_PATH)))
    return lambda: m.add(file, 0, REG_RX, from_file(LAB_PATH))


@flow("A3")
def a_noexec_mount(m: Enforced) -> Decisive:
    file = m.start()
    return lambda: m.add(file, 0, REG_RX, from_file(noexec=True), may_exec=False)


@flow("A4")
def data_becomes_code(m: Enforced) -> Decisive:
    file = m.running(lambda file: m.add(file, 4, REG_RW, from_file()))
    must(m.map(file, 1, 4, RW))
    file.encl.store.page(PAGE_SIZE)[64:128] = bytes(Secinfo.of(flags=0x207).buffer)
    done = execute(m.space(APP), file.encl, Enclu.EMODPE, BASE + PAGE_SIZE + 64, BASE + 4 * PAGE_SIZE)
    assert done.fault is None
    return lambda: m.protect(4, 1, RX)


@flow("A6")
def a_modified_copy(m: Enforced) -> Decisive:
    file = m.start()
    must(m.add(file, 0, REG_RX, from_file()))
    return lambda: m.add(file, 1, REG_RX, from_file(kind=OriginClass.FILEMOD))


def with_rwx(m: Enforced) -> EnclaveFile:
    """Page 4 may be RWX, and is mapped nowhere."""
    return m.running(lambda file: m.add(file, 4, REG_RWX, from_file()))


@flow("A8")
def written_then_executed(m: Enforced) -> Decisive:
    must(m.map(with_rwx(m), 4, 1, RW))
    return lambda: m.protect(4, 1, RX)


@flow("A9-wx")
def written_here_executed_there(m: Enforced) -> Decisive:
    file = with_rwx(m)
    must(m.map(file, 4, 1, RW, GUEST))
    return lambda: m.map(file, 4, 1, RX)


@flow("A9-xw")
def executed_here_written_there(m: Enforced) -> Decisive:
    file = with_rwx(m)
    must(m.map(file, 4, 1, RX))
    return lambda: m.map(file, 4, 1, RW, GUEST)


@flow("A10")
def both_at_once(m: Enforced) -> Decisive:
    file = with_rwx(m)
    return lambda: m.map(file, 4, 1, RWX)


@flow("A11-munmap")
def laundered_by_munmap(m: Enforced) -> Decisive:
    file = with_rwx(m)
    must(m.map(file, 4, 1, RW))
    must(m.space(APP).munmap(BASE + 4 * PAGE_SIZE, PAGE_SIZE))
    return lambda: m.map(file, 4, 1, RX)


@flow("A11-fork")
def laundered_by_fork(m: Enforced) -> Decisive:
    must(m.map(with_rwx(m), 4, 1, RW))
    child = m.space(APP).fork(subject=APP)
    m.space(APP).exit()
    return lambda: child.mprotect(BASE + 4 * PAGE_SIZE, PAGE_SIZE, RX, subject=APP)


@flow("A11-paging")
def laundered_by_paging(m: Enforced) -> Decisive:
    file = with_rwx(m)
    must(m.map(file, 4, 1, RW))
    m.world.driver.reclaimer.reclaim(64)
    assert not file.encl.store.frame_map[4]
    must(file.encl.load_page(BASE + 4 * PAGE_SIZE))
    return lambda: m.protect(4, 1, RX)


@flow("A12-use", "A13-pidfd")
def sent_to_a_stranger(m: Enforced) -> Decisive:
    file = m.running()
    return lambda: m.map(file, 0, 1, R, STRANGER)


@flow("A12-exec")
def sent_to_one_that_may_not_execute(m: Enforced) -> Decisive:
    file = m.running()
    must(m.map(file, 1, 2, RW, GUEST))
    return lambda: m.map(file, 0, 1, RX, GUEST)


@flow("A13-exec")
def inherited_across_exec(m: Enforced) -> Decisive:
    file = m.running()
    must(m.map(file, 0, 1, RX))
    m.space(APP).exit()
    after = dataclasses.replace(APP, exe=STRANGER.exe)
    return lambda: m.map(file, 0, 1, RX, after)


@flow("A14")
def grown_and_executed(m: Enforced) -> Decisive:
    file = m.running()
    must(m.map(file, 1, 2, RW))
    must(m.map(file, 8, 2, RW))
    m.accept(file, 8)
    return lambda: m.protect(8, 1, RX)


@flow("A15")
def a_hole_is_mapped(m: Enforced) -> Decisive:
    file = m.running()
    must(m.map(file, 8, 4, 0))
    if file.encl.profile.sgx2:
        must(m.map(file, 8, 4, RW))
    return lambda: m.map(file, 8, 1, RWX)


@flow("A16")
def a_page_becomes_a_tcs(m: Enforced) -> Decisive:
    file = m.running()
    request = uapi.EnclaveModifyTypes.of(offset=PAGE_SIZE, length=PAGE_SIZE, page_type=int(PageType.TCS))
    return lambda: m.world.ioctl(file, uapi.SGX_IOC_ENCLAVE_MODIFY_TYPES, request)


@flow("A17")
def the_other_node(m: Enforced) -> Decisive:
    def opened() -> Outcome:
        found = m.world.driver.open(m.world.driver.nodes[1], subject=STRANGER)
        return found if isinstance(found, Outcome) else Outcome()

    return opened


@flow("A18")
def a_sigstruct_without_a_file(m: Enforced) -> Decisive:
    file = m.filled(m.start())
    return lambda: m.init(file, ANON)


@flow("A19")
def a_sigstruct_that_was_changed(m: Enforced) -> Decisive:
    file = m.filled(m.start())
    return lambda: m.init(file, from_file(SIG_PATH, kind=OriginClass.FILEMOD))


@flow("A20", "A20-identity")
def unmeasured_code(m: Enforced) -> Decisive:
    file = m.filled(m.start())
    must(m.add(file, 4, REG_RX, from_file(), measured=False))
    return lambda: m.init(file)


@flow("A21")
def an_unmeasured_tcs(m: Enforced) -> Decisive:
    file = m.filled(m.start(), tcs_measured=False)
    return lambda: m.init(file)


@flow("A22")
def a_file_that_somebody_writes(m: Enforced) -> Decisive:
    file = m.start()
    return lambda: m.add(file, 0, REG_RX, from_file(writers=True))


@flow("A23")
def a_range_over_two_mappings(m: Enforced) -> Decisive:
    file = m.start()
    first = m.put(CODE, from_file())
    m.world.memory.map(CODE, first + PAGE_SIZE)
    m.world.memory.vmas = [
        dataclasses.replace(vma, origin=from_file(LAB_PATH)) if vma.start == first + PAGE_SIZE else vma
        for vma in m.world.memory.vmas
    ]

    def added() -> Outcome:
        outcome, back = m.world.add(file, 0, b"", REG_RX, src=first, length=2 * PAGE_SIZE)
        if file.encl.security is not None and not outcome.ok:
            assert {field.name: value for field, value in back.values()}["count"] == PAGE_SIZE
            assert file.encl.has_page(BASE)
            assert not file.encl.has_page(BASE + PAGE_SIZE)
        return outcome

    return added


@flow("A24")
def two_files_mixed(m: Enforced) -> Decisive:
    file = m.filled(m.start())
    must(m.add(file, 4, REG_RX, from_file("/opt/acme/lib/other.signed.so")))
    # Nobody listed it: its version is one that no rule takes.
    return lambda: m.init(file, svn=2)


@flow("A25")
def read_implies_exec(m: Enforced) -> Decisive:
    file = m.running()
    must(m.map(file, 1, 1, R, GUEST))
    return lambda: m.map(file, 0, 1, R, GUEST, personality=READ_IMPLIES_EXEC)


@flow("A26")
def a_debugger_writes(m: Enforced) -> Decisive:
    file = m.running(debug=True)
    must(m.map(file, 0, 1, RX))
    return lambda: poke(m.space(APP), BASE, bytes(8), APP)


@flow("A27")
def a_range_with_a_bad_page(m: Enforced) -> Decisive:
    file = m.running(lambda file: m.add(file, 4, REG_RWX, from_file(contents=CODE * 3), CODE * 3))
    for page, prot in ((4, R), (5, RW), (6, R)):
        must(m.map(file, page, 1, prot))
    return lambda: m.protect(4, 3, RX)


@flow("A27-mremap")
def a_mapping_grows(m: Enforced) -> Decisive:
    must(m.map(m.running(), 1, 1, RW))
    return lambda: m.space(APP).mremap(BASE + PAGE_SIZE, PAGE_SIZE, 2 * PAGE_SIZE, 1, 0, subject=APP)


@flow("A28")
def entered_without_init(m: Enforced) -> Decisive:
    # What only an initialised enclave can do stands for entering it.
    file = m.start()
    must(m.add(file, 1, REG_RW, ANON, bytes(2 * PAGE_SIZE)))
    request = uapi.EnclaveModifyTypes.of(offset=PAGE_SIZE, length=PAGE_SIZE, page_type=int(PageType.TCS))
    return lambda: m.world.ioctl(file, uapi.SGX_IOC_ENCLAVE_MODIFY_TYPES, request)


@flow("A31")
def executable_before_init(m: Enforced) -> Decisive:
    file = m.start()
    must(m.add(file, 0, REG_RX, ANON))
    return lambda: m.map(file, 0, 1, RX, BUILDER)


@flow("A32")
def a_page_that_is_there(m: Enforced) -> Decisive:
    file = m.filled(m.start())
    return lambda: m.add(file, 0, REG_RX, ANON)


@flow("A33")
def a_file_of_fuse(m: Enforced) -> Decisive:
    file = m.start()
    return lambda: m.add(file, 0, REG_RX, from_file(unwatched=True))


@flow("P1")
def well_behaved(m: Enforced) -> Decisive:
    file = m.running()

    def used() -> Outcome:
        must(m.map(file, 1, 3, RW))
        return m.map(file, 0, 1, RX)

    return used


@flow("P3")
def any_signer(m: Enforced) -> Decisive:
    file = m.filled(m.start())
    must(m.init(file, svn=0))
    return lambda: m.map(file, 0, 1, RX)


#: What has no single call that decides, and so a test of its own below.
OWN = {"A13-relabel", "A29", "A30", "P2"}
PROFILES = {"upstream": UPSTREAM_6_12, "v23": V23}
TABLE = [one for one in ROWS if one.id in FLOWS]


@pytest.fixture
def made(tmp_path: Path, checkout: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Enforced]]:
    """Worlds under Acme's policy, which end with the test."""
    with contextlib.ExitStack() as stack:
        count = 0

        def make(**settings: object) -> Enforced:
            nonlocal count
            count += 1
            folder = tmp_path / str(count)
            folder.mkdir()
            world = enforced(folder, examples=checkout / "examples" / "policies", **settings)  # type: ignore[arg-type]
            stack.callback(world.close)
            return world

        yield make


Make = Callable[..., Enforced]


def ends(outcome: Outcome, wanted: str) -> None:
    found = errno.errorcode[outcome.errno] if outcome.errno else "ok"
    assert found == wanted, str(outcome.reason)


def refusals(m: Enforced) -> list[Decision]:
    return [decision for decision in m.records() if decision.denied]


def test_each_row_is_tried() -> None:
    assert {one.id for one in ROWS} == FLOWS.keys() | OWN


@pytest.mark.parametrize("one", TABLE, ids=lambda one: one.id)
def test_enforcing_it_ends_as_expected_without_a_trace(one: Row, made: Make) -> None:
    m = made(identity=one.identity, profile=PROFILES[one.profile])
    decisive = FLOWS[one.id](m)
    assert refusals(m) == []
    before = m.books()
    outcome = decisive()
    ends(outcome, one.expected)
    found = refusals(m)
    if one.hook:
        [decision] = found
        assert (decision.hook, decision.permissions) == (one.hook, one.lacking)
        assert not decision.permissive
        # A range that is refused half way has its first half.
        assert m.books() == before or one.id == "A23"
    else:
        assert found == []
    m.check()


@pytest.mark.parametrize("one", TABLE, ids=lambda one: one.id)
def test_permissive_it_ends_as_with_the_plain_driver_and_is_recorded(one: Row, made: Make) -> None:
    m = made(identity=one.identity, enforcing=False, profile=PROFILES[one.profile])
    outcome = FLOWS[one.id](m)()
    ends(outcome, one.v23 if one.profile == "v23" else one.plain)
    found = refusals(m)
    assert all(decision.permissive for decision in found)
    told = {(decision.hook, decision.permissions) for decision in found}
    assert not one.hook or (one.hook, one.lacking) in told


@pytest.mark.parametrize("one", TABLE, ids=lambda one: one.id)
def test_the_plain_driver_does_what_the_row_says(one: Row, made: Make) -> None:
    m = made(enforcing=None)
    ends(FLOWS[one.id](m)(), one.plain)


@pytest.mark.parametrize("one", [one for one in TABLE if one.v23 != "n/a"], ids=lambda one: one.id)
def test_so_does_the_driver_of_the_2019_series(one: Row, made: Make) -> None:
    m = made(enforcing=None, profile=V23)
    ends(FLOWS[one.id](m)(), one.v23)


# What a row says besides.


def fetched(m: Enforced, page: int, subject: Subject = APP) -> bool:
    """A thread executes from a page: whether it can, once the fault is resolved."""
    address, space = BASE + page * PAGE_SIZE, m.space(subject)
    resolved = resolve(space, address, PageFaultCode.U | PageFaultCode.I).resolved
    vma = space.vma_at(address)
    return resolved and vma is not None and bool(vma.prot & X)


def mrenclave(made: Make, fill: Callable[[Enforced, EnclaveFile], None]) -> bytes:
    """What an enclave that is filled so measures."""
    m = made(enforcing=None)
    file = m.start()
    fill(m, file)
    return m.world.cpu.enclaves[m.world.cpu.epc.frame(file.encl.secs_address)].measurement.digest()


def all_anonymous(m: Enforced, file: EnclaveFile) -> None:
    must(m.add(file, 0, REG_RX, ANON))
    must(m.add(file, 1, REG_RW, ANON, bytes(2 * PAGE_SIZE)))
    must(m.add(file, 3, TCS, ANON, bytes(a_tcs())))
    must(m.add(file, 4, REG_RWX, ANON))


def test_p1_a_well_behaved_enclave_is_measured_and_nothing_is_recorded(made: Make) -> None:
    m = made()
    ends(FLOWS["P1"](m)(), "ok")
    assert m.records() == []
    assert m.templates() == [("encl-load", False), ("encl-init", False)]
    m.check()


def test_p2_a_listed_enclave_may_come_from_anonymous_memory_even_its_sigstruct(made: Make) -> None:
    m = made(mrenclave=mrenclave(made, all_anonymous))
    file = m.start()
    all_anonymous(m, file)
    must(m.init(file, ANON))
    assert file.encl.security is not None
    assert file.encl.security.label == "jit_encl_t"
    assert file.encl.security.grants.permissions == ("execdirty", "execanon")
    must(m.map(file, 0, 1, RX))
    must(m.map(file, 4, 1, RW))
    must(m.protect(4, 1, RX))
    ends(m.protect(4, 1, RWX), "EACCES")
    [decision] = m.records()
    assert decision.permissions == ("mapwx",)
    m.check()


def test_a18_only_the_rules_grants_are_there_for_a_sigstruct_without_a_file(made: Make) -> None:
    # An enclave that Acme's signer rule takes, but does not name, has no label: it is no answer to the question.
    m = made()
    file = m.filled(m.start())
    outcome = m.init(file, ANON)
    ends(outcome, "EACCES")
    assert outcome.reason is not None
    assert "identity" in outcome.reason.rule


@pytest.mark.parametrize("name", ["A8", "A9-wx", "A9-xw", "A10"])
def test_p3_write_or_execute_is_enforced_whoever_signed(name: str, made: Make) -> None:
    m = made(identity=False)
    ends(FLOWS[name](m)(), "EACCES")


@pytest.mark.parametrize("measured", ["code", "tcs"])
def test_a20_and_a21_are_refused_at_once_in_strict_mode(measured: str, made: Make) -> None:
    m = made(modules=["no_unmeasured_exec"])
    file = m.start()
    flags, contents = (REG_RX, CODE) if measured == "code" else (TCS, bytes(a_tcs()))
    ends(m.add(file, 0, flags, from_file(), contents, measured=False), "EACCES")
    [decision] = m.records()
    assert (decision.hook, decision.lsm, decision.permissions) == (
        "load",
        "no_unmeasured_exec",
        ("execunmr",),
    )


@pytest.mark.parametrize(
    "origin", [from_file(writers=True), from_file(unwatched=True)], ids=["writers", "fuse"]
)
def test_a22_and_a33_what_is_only_measured_is_a_violation(origin: Origin, made: Make) -> None:
    m = made(integrity=False, integrity_text="measure func=ENCLAVE_LOAD mask=MAY_EXEC\n")
    file = m.start()
    must(m.add(file, 0, REG_RX, origin))
    assert m.templates() == [("encl-load", True)]


@pytest.mark.parametrize("appraised", [True, False])
def test_a22_a_file_that_changes_while_its_code_is_added_is_told_at_init(made: Make, appraised: bool) -> None:
    text = "measure func=ENCLAVE_LOAD mask=MAY_EXEC\n"
    m = made() if appraised else made(integrity=False, integrity_text=text)
    file, origin = m.start(), from_file()
    must(m.add(file, 0, REG_RX, origin))
    assert origin.file is not None
    origin.file.contents = CODE + b"more"  # type: ignore[attr-defined]
    must(m.add(file, 4, REG_RX, origin))
    outcome = m.init(file)
    if appraised:
        ends(outcome, "EACCES")
        assert [decision.lsm for decision in m.records()] == ["integrity"]
    else:
        must(outcome)
        assert m.templates() == [("encl-load", False), ("ima-sig", True)]


def test_a32_the_provenance_of_a_page_stays(made: Make) -> None:
    m = made()
    file = m.filled(m.start())
    ends(m.add(file, 0, REG_RX, ANON), "EBUSY")
    pages = page_range(file.encl, BASE, BASE + PAGE_SIZE)
    origin = pages.origin(0)
    assert origin is not None
    assert origin.path == CODE_PATH


def test_a28_a_refused_init_is_judged_afresh_with_another_sigstruct(made: Make) -> None:
    m = made()
    file = m.filled(m.start())
    ends(m.init(file, svn=2), "EACCES")
    assert not file.encl.initialised
    ends(m.init(file, ANON), "EACCES")
    must(m.add(file, 5, REG_RW, ANON))
    must(m.init(file))
    must(m.map(file, 0, 1, RX))


def test_a14_a_heap_grows_as_before(made: Make) -> None:
    m = made()
    file = m.running()
    must(m.map(file, 1, 2, RW))
    must(m.map(file, 8, 4, RW))
    m.accept(file, 9)
    assert m.records() == []


def test_a17_virtual_epc_is_refused_by_default_and_every_node_alike(made: Make) -> None:
    m = made()
    assert m.made is not None
    assert m.made.stack.decide(Vepc(subject=BUILDER, prot=RW)).reason is not None
    assert [decision.permissions for decision in m.records()] == [("vepc",)]
    for node in m.world.driver.nodes:
        assert isinstance(m.world.driver.open(node, subject=STRANGER), Outcome)
    assert [decision.permissions for decision in m.records()] == [("open",)] * len(m.world.driver.nodes)


class Broken(Module):
    """Does something else than answering."""

    name = "broken"

    def __init__(self, does: Callable[[], object]) -> None:
        self.does = does

    def load(self, event: Load) -> Verdict:
        return self.does()  # type: ignore[return-value]  # that is the point


def _raises() -> object:
    raise KeyError("no")


@pytest.mark.parametrize("does", [_raises, lambda: None, lambda: True], ids=["raises", "nothing", "nonsense"])
def test_a29_a_module_that_does_not_answer_has_refused(made: Make, does: Callable[[], object]) -> None:
    m, log = made(enforcing=None), Log()
    m.world.driver.security = Stack([Broken(does)], audit=log)
    file = m.start()
    ends(m.add(file, 0, REG_RX, from_file()), "EACCES")
    decision = log.one()
    assert (decision.hook, decision.permissions, decision.reason) == (
        row("A29").hook,
        ("load", "execute"),
        "module-failure",
    )


def test_a30_a_reload_that_withdraws_map_exec_takes_executable_mappings_at_their_next_fault(
    made: Make,
) -> None:
    m = made(te="allow guest_t acme_encl_t : enclave map_exec;\n")
    file = m.running()
    for subject in (APP, GUEST):
        must(m.map(file, 0, 1, RX, subject))
        assert fetched(m, 0, subject)
    assert m.made is not None
    site = m.audit.parent / "site.te"
    site.write_text(site.read_text().replace("enclave map_exec", "enclave map_read"))
    m.made.reload(m.world.driver)
    assert not fetched(m, 0, GUEST)
    assert [vma.prot for vma in m.space(GUEST).vmas] == [R]
    assert fetched(m, 0, APP)
    ends(m.map(file, 0, 1, RX, GUEST), "EACCES")
    assert {decision.permissions for decision in m.records()} == {("map_exec",)}
    m.check()


def test_a30_a_reload_that_withdraws_use_is_felt_by_who_has_the_descriptor(made: Make) -> None:
    m = made()
    file = m.running()
    for subject in (APP, GUEST):
        must(m.map(file, 1, 1, R, subject))
    assert m.made is not None
    site = m.audit.parent / "site.te"
    site.write_text(site.read_text().replace("{ use map_read map_write }", "{ map_read map_write }"))
    m.made.reload(m.world.driver)
    assert file.encl.used_by(BUILDER) is None
    assert file.encl.used_by(APP) is None
    assert file.encl.used_by(GUEST) is not None
    assert [decision.permissions for decision in refusals(m)] == [("use",)]


def test_a_run_that_becomes_enforcing_takes_what_was_only_tolerated(made: Make) -> None:
    m = made(enforcing=False)
    file = m.running()
    must(m.map(file, 0, 1, RX, GUEST))
    assert fetched(m, 0, GUEST)
    assert m.made is not None
    m.made.enforce(True, m.world.driver)
    assert not fetched(m, 0, GUEST)


def test_a13_a_process_that_is_relabelled_loses_its_executable_mapping_at_the_next_fault(made: Make) -> None:
    m = made(te='type other_t;\nsubjcon label "job" app_t\n')
    file, job = m.running(), dataclasses.replace(APP, label="job")
    must(m.map(file, 0, 1, RX, job))
    assert fetched(m, 0, job)
    assert m.made is not None
    site = m.audit.parent / "site.te"
    site.write_text(site.read_text().replace('"job" app_t', '"job" other_t'))
    m.made.reload(m.world.driver)
    assert not fetched(m, 0, job)
    assert [(decision.scontext, decision.hook) for decision in refusals(m)] == [("other_t", "map")]
    m.check()


def test_a_mapping_from_before_init_is_judged_by_what_the_enclave_has_become(made: Make) -> None:
    m = made()
    file = m.filled(m.start())
    must(m.map(file, 0, 1, RX, BUILDER))
    must(m.init(file))
    assert m.records() == []
    assert not fetched(m, 0, BUILDER)
    assert [decision.permissions for decision in refusals(m)] == [("map_exec",)]
    assert [vma.prot for vma in m.space(BUILDER).vmas] == [R]


def test_who_may_not_create_enclaves_does_not_touch_one_that_is_being_built(made: Make) -> None:
    m = made()
    file = m.filled(m.start())
    ends(m.map(file, 1, 1, RW), "EACCES")
    assert [decision.permissions for decision in refusals(m)] == [("create",)]


def test_i5_replaying_the_list_gives_the_pcrs(made: Make) -> None:
    m = made()
    for _ in range(3):
        m.running(lambda file: m.add(file, 4, REG_RWX, from_file("/opt/acme/lib/b.signed.so")))
    assert m.made is not None
    assert m.made.measurements is not None
    pcrs, entries = m.made.measurements.pcrs, m.made.measurements.entries
    assert len(entries) == 9
    for algorithm in pcrs.algorithms:
        assert replay(entries, pcrs.algorithms).read(algorithm, 10) == pcrs.read(algorithm, 10)
