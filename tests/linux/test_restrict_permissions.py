"""RESTRICT_PERMISSIONS, row by row, and what all three SGX2 ioctls share: linux-driver.md 6.1 and 6.2."""

from __future__ import annotations

import errno

import pytest

from swsgx.cpu.tracking import CountedThreads
from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.cpuid import CpuModel
from swsgx.isa.flags import PageType
from swsgx.isa.layout import Layout
from swsgx.isa.leaves import Enclu
from swsgx.linux import uapi
from swsgx.linux.engine import MappedRun, ModelOnly
from swsgx.linux.failures import FailurePoint
from swsgx.linux.mm import AddressSpace
from swsgx.linux.profile import LINUX_6_1, UPSTREAM_6_12, V23
from swsgx.native.abi import EpcmState
from tests.make.running import CODES, NEW, RESTRICTED, Running
from tests.make.world import SIZE, World, make_world

PR = EpcmState.VALID | EpcmState.PR
#: An argument of each that would be good but for the test's own fault.
FIELDS: dict[type[Layout], dict[str, int]] = {
    uapi.EnclaveRestrictPermissions: {"permissions": 1},
    uapi.EnclaveModifyTypes: {"page_type": PageType.TRIM},
    uapi.EnclaveRemovePages: {},
}
ALL = pytest.mark.parametrize("layout", FIELDS, ids=lambda layout: layout.__name__)


# What all three share.


@ALL
def test_without_sgx2_there_is_no_device_for_it_whatever_the_state(layout: type[Layout]) -> None:
    world = make_world(model=CpuModel.with_sgx1(epc_size=64 * PAGE_SIZE))
    for file in (world.open(), world.built(), world.initialised()):
        world.refused(
            file.ioctl(world.task, CODES[layout], 0xDEAD_0000), errno.ENODEV, "the processor has SGX2"
        )


@ALL
def test_the_enclave_is_initialised_which_comes_before_the_argument(
    world: World, layout: type[Layout]
) -> None:
    for file in (world.open(), world.built()):
        world.refused(file.ioctl(world.task, CODES[layout], 0xDEAD_0000), errno.EINVAL, "INIT was done")


@ALL
def test_a_probe_with_zeroes_is_einval(running: Running, layout: type[Layout]) -> None:
    world = running.world
    world.refused(world.ioctl(running.file, CODES[layout], layout()), errno.EINVAL, "length is not 0")


@ALL
def test_v23_does_not_know_them(layout: type[Layout]) -> None:
    world = make_world(V23)
    outcome = world.ioctl(world.initialised(), CODES[layout], layout())
    world.refused(outcome, errno.ENOTTY, "the driver knows the ioctl")


@ALL
def test_the_argument_is_readable(running: Running, layout: type[Layout]) -> None:
    outcome = running.file.ioctl(running.world.task, CODES[layout], 0xDEAD_0000)
    running.world.refused(outcome, errno.EFAULT, "the argument is readable")


@ALL
@pytest.mark.parametrize(
    ("offset", "length", "rule"),
    [
        (8, PAGE_SIZE, "offset is page aligned"),
        (8, 0, "offset is page aligned"),
        (0x1000, 0, "length is not 0"),
        (0x1000, 100, "length is page aligned"),
        ((1 << 64) - PAGE_SIZE, PAGE_SIZE, "offset + length does not wrap"),
        ((1 << 64) - PAGE_SIZE, 2 * PAGE_SIZE, "offset + length does not wrap"),
        (0x1000, SIZE, "the last page is inside the enclave"),
        (SIZE, PAGE_SIZE, "the last page is inside the enclave"),
    ],
)
def test_the_range_is_pages_of_the_enclave(
    running: Running, layout: type[Layout], offset: int, length: int, rule: str
) -> None:
    # The range is looked at before fields that are wrong, too.
    before = running.state()
    outcome, _ = running.change(
        layout, 1, 1, **(FIELDS[layout] | {"offset": offset, "length": length, "count": 1})
    )
    running.world.refused(outcome, errno.EINVAL, rule)
    assert running.state() == before


@ALL
@pytest.mark.parametrize("field", ["result", "count"])
def test_outputs_are_zero_on_entry(running: Running, layout: type[Layout], field: str) -> None:
    if field == "result" and layout is uapi.EnclaveRemovePages:
        return
    outcome, back = running.change(layout, 1, 1, **(FIELDS[layout] | {field: 1}))
    running.world.refused(outcome, errno.EINVAL, f"{field} is 0 on entry")
    assert back[field] == 1


@ALL
def test_a_hole_is_a_fault_and_count_says_where(running: Running, layout: type[Layout]) -> None:
    outcome, back = running.change(layout, running.holes, 1, **FIELDS[layout])
    running.world.refused(outcome, errno.EFAULT, "a page was added at the offset")
    assert (back["count"], back.get("result", 0)) == (0, 0)


@ALL
@pytest.mark.parametrize(("failure", "expected"), [(errno.EBUSY, errno.EAGAIN), (errno.EIO, errno.EFAULT)])
def test_a_page_that_cannot_be_had(
    running: Running, layout: type[Layout], failure: int, expected: int
) -> None:
    before = running.state()
    running.world.driver.failures.arm(FailurePoint.LOAD_PAGE, failure)
    outcome, back = running.change(layout, 1, 1, **FIELDS[layout])
    running.world.refused(
        outcome, expected, "the page is in the EPC" if expected == errno.EAGAIN else "a page was added"
    )
    assert back["count"] == 0
    assert running.state() == before


@ALL
def test_an_argument_that_cannot_be_written_is_a_fault_after_the_work(
    running: Running, layout: type[Layout]
) -> None:
    world = running.world
    if layout is uapi.EnclaveRemovePages:
        running.modify(1, 1, PageType.TRIM)
        running.accept(0x410, 1)
    arg = world.memory.put(layout.of(offset=PAGE_SIZE, length=PAGE_SIZE, **FIELDS[layout]))
    world.memory.read_only.add(arg)
    before = running.state()
    world.refused(
        running.file.ioctl(world.task, CODES[layout], arg), errno.EFAULT, "the argument is writable"
    )
    assert running.state() != before


def test_signals_do_not_stop_it(running: Running) -> None:
    running.world.task.signal_pending = lambda: True
    outcome, back = running.restrict(1, 5, 1)
    assert (outcome.value, back["count"]) == (0, 5 * PAGE_SIZE)


# RESTRICT_PERMISSIONS.


@pytest.mark.parametrize("perm", [0, 1, 3, 4, 5, 7])
def test_epcm_permissions_are_taken_and_ceilings_stay(running: Running, perm: int) -> None:
    ceilings = running.encl.max_prot.tolist()
    outcome, back = running.restrict(1, 3, perm)
    assert (outcome.value, back["result"], back["count"]) == (0, 0, 3 * PAGE_SIZE)
    for page in (1, 2, 3):
        assert running.entry(page) == (PageType.REG, perm & 3, PR)
        assert running.effective(page) == perm & 3
        assert running.accept(RESTRICTED | perm & 3, page) == 0
        assert running.entry(page) == (PageType.REG, perm & 3, EpcmState.VALID)
        assert running.effective(page) == perm & 3
    assert running.encl.max_prot.tolist() == ceilings


@pytest.mark.parametrize(
    ("permissions", "rule"),
    [
        (8, "permissions has R, W and X only"),
        (1 << 63 | 1, "R, W and X only"),
        (2, "W comes with R"),
        (6, "W comes"),
    ],
)
def test_permissions_are_those_of_a_page(running: Running, permissions: int, rule: str) -> None:
    # Looked at before outputs.
    outcome, _ = running.restrict(1, 1, permissions, count=1)
    running.world.refused(outcome, errno.EINVAL, rule)


def test_only_regular_pages_are_restricted(running: Running) -> None:
    outcome, back = running.restrict(7, 1, 1)
    running.world.refused(outcome, errno.EINVAL, "the page is a regular one")
    assert (back["result"], back["count"]) == (0, 0)


def test_pages_before_the_one_that_stops_it_stay_restricted(running: Running) -> None:
    outcome, back = running.restrict(4, 4, 1)
    running.world.refused(outcome, errno.EINVAL, "the page is a regular one")
    assert back["count"] == 3 * PAGE_SIZE
    assert [running.entry(page) for page in (4, 5, 6)] == [(PageType.REG, 1, PR)] * 3


def test_a_page_that_waits_stops_it_with_the_leafs_code(running: Running) -> None:
    assert running.accept(NEW, 8) == 0
    assert running.accept(NEW, 9) == 0
    running.world.driver.cpu.epcm[int(running.encl.store.frame_map[9]) - 1].state |= EpcmState.PENDING
    outcome, back = running.restrict(8, 2, 1)
    running.world.refused(outcome, errno.EFAULT, "EMODPR gives no error code")
    assert outcome.reason is not None
    assert outcome.reason.cause is not None
    assert (back["result"], back["count"]) == (20, PAGE_SIZE)


def test_a_conflict_is_code_7_and_a_fault_has_no_code(running: Running) -> None:
    page = running.cpu.epc.address(int(running.encl.store.frame_map[1]) - 1)
    with running.cpu.lock_sgx2(page):
        outcome, back = running.restrict(1, 1, 1)
    running.world.refused(outcome, errno.EFAULT, "EMODPR gives no error code")
    assert back["result"] == 7
    with running.cpu.lock(page):
        outcome, back = running.restrict(1, 1, 1)
    running.world.refused(outcome, errno.EFAULT, "EMODPR does not fault")
    assert back["result"] == 0


@pytest.mark.parametrize("inside", [0, 1])
def test_what_it_did_is_always_tracked(running: Running, inside: int) -> None:
    running.enter(inside)
    state = running.cpu.enclaves[running.encl.secs or 0]
    state.previous = inside
    epoch = state.epoch
    assert running.restrict(1, 4, 1)[0].value == 0
    assert state.epoch == epoch + 4
    assert [running.accept(RESTRICTED | 1, page) for page in (1, 2, 3, 4)] == [0] * 4


def test_etrack_that_fails_twice_is_a_fault_and_the_page_is_restricted_all_the_same(running: Running) -> None:
    class Deaf(CountedThreads):
        def interrupt(self, state: object) -> None:
            pass

    running.enter()
    running.cpu.tracker = Deaf(running.cpu.threads_inside)
    outcome, back = running.restrict(1, 3, 1)
    running.world.refused(outcome, errno.EFAULT, "ETRACK succeeds behind an interrupt")
    assert (back["result"], back["count"]) == (0, PAGE_SIZE)
    assert running.entry(2) == (PageType.REG, 1, PR)
    assert running.accept(RESTRICTED | 1, 2) == 11


def test_one_by_one_and_all_at_once_leave_the_same(world: World) -> None:
    states = []
    for count in (1, 4):
        running = Running(make_world(world.driver.profile))
        for first in range(1, 5, count):
            assert running.restrict(first, count, 1)[0].value == 0
        states.append(running.state()[1:])
        states[-1] = (*states[-1], bytes(running.cpu.epcm.region.view))
    assert states[0] == states[1]


class Heard(ModelOnly):
    """An engine that remembers what it was told to protect."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: list[tuple[int, int, int]] = []

    def protect(self, encl: object, runs: object) -> None:
        self.runs += [(run.address, run.length, run.prot) for run in runs if isinstance(run, MappedRun)]  # type: ignore[attr-defined]


def test_every_address_space_is_told_at_once_of_pages_that_changed(running: Running) -> None:
    engine = Heard()
    other = AddressSpace(engine)
    running.map(other)
    running.restrict(1, 3, 1)
    base = running.encl.base
    assert engine.runs == [(base + 0x1000, 0x3000, 1)]
    engine.runs.clear()
    assert running.execute(Enclu.EMODPE, 0x203, 2).result is None
    assert engine.runs == [(base + 0x2000, 0x1000, 3)]
    other.exit()


def test_a_host_that_cannot_protect_is_out_of_memory(running: Running) -> None:
    class Full(ModelOnly):
        def protect(self, encl: object, runs: object) -> None:
            raise OSError(errno.ENOMEM, "no maps left")

    running.world.mm.engine = Full()
    running.world.refused(running.restrict(1, 1, 1)[0], errno.ENOMEM, "the host can protect the pages")


@pytest.mark.parametrize("profile", [UPSTREAM_6_12, LINUX_6_1])
def test_sources_name_the_kernel(profile: object) -> None:
    running = Running(make_world(profile))  # type: ignore[arg-type]
    reason = running.restrict(7, 1, 1)[0].reason
    assert reason is not None
    assert reason.source.endswith("sgx/ioctl.c: sgx_enclave_restrict_permissions")
    assert profile.kernel in reason.source  # type: ignore[attr-defined]
