"""ADD_PAGES, row by row: linux-driver.md 2.4, 3.1, 3.2; what series v23 does differently is in test_v23.py."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from swsgx.cpu.encls.eextend import extend_page
from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.flags import PageType, secinfo_flags
from swsgx.isa.structs import Secinfo
from swsgx.linux import uapi
from swsgx.linux.device import EnclaveFile
from swsgx.linux.failures import FailurePoint
from swsgx.linux.mm import MAP_SHARED, PROT_NONE, PROT_READ
from swsgx.linux.outcome import ERESTARTSYS, Outcome
from swsgx.linux.profile import Profile
from swsgx.linux.task import SourceVma
from swsgx.native.abi import EpcmState
from tests.make.leaves import Bench
from tests.make.world import BASE, REG_R, REG_RW, REG_RWX, REG_RX, SIZE, TCS, World, a_secs, a_tcs, make_world

NOWHERE = 0xDEAD_0000


@pytest.fixture
def world(upstream: Profile) -> Iterator[World]:
    """Each upstream kernel in turn."""
    made = make_world(upstream)
    yield made
    made.cpu.close()


@pytest.fixture
def file(world: World) -> EnclaveFile:
    """A created enclave without pages."""
    opened = world.open()
    assert world.create(opened).ok
    return opened


def raw(world: World, file: EnclaveFile, **values: int) -> tuple[Outcome, uapi.EnclaveAddPages]:
    """The ioctl with a good argument, but for ``values``."""
    good = {
        "src": world.memory.put(bytes(PAGE_SIZE)),
        "offset": 0,
        "length": PAGE_SIZE,
        "secinfo": world.memory.put(Secinfo.of(flags=REG_RW)),
        "flags": 0,
    }
    arg = world.memory.put(uapi.EnclaveAddPages.of(**(good | values)))
    outcome = file.ioctl(world.task, uapi.SGX_IOC_ENCLAVE_ADD_PAGES, arg)
    return outcome, uapi.EnclaveAddPages(world.memory.read(arg, 48))


def measured(world: World, file: EnclaveFile) -> bytes:
    return world.cpu.enclaves[file.encl.secs or 0].measurement.digest()


def test_pages_are_added_and_counted(world: World, file: EnclaveFile) -> None:
    outcome, back = world.add(file, 0x1000, b"a" * PAGE_SIZE + b"b" * PAGE_SIZE, REG_RX)
    assert outcome.value == 0
    assert isinstance(back, uapi.EnclaveAddPages)
    assert (back.count, back.offset, back.length) == (0x2000, 0x1000, 0x2000)
    encl = file.encl
    assert encl.page_type[:4].tolist() == [0, 2, 2, 0]
    assert encl.max_prot[:4].tolist() == [0, 5, 5, 0]
    assert bytes(encl.store.page(0x2000)) == b"b" * PAGE_SIZE
    frame = int(encl.store.frame_map[2]) - 1
    entry = world.cpu.epcm[frame]
    assert (entry.pt, entry.perm, entry.state) == (PageType.REG, 5, EpcmState.VALID)
    assert entry.enclaveaddress == BASE + 0x2000


@pytest.mark.parametrize("measure", [False, True])
def test_it_is_eadd_and_eextend_page_after_page(world: World, file: EnclaveFile, measure: bool) -> None:
    bench = Bench()
    secs = bench.ecreate()
    contents = bytes(range(256)) * 16 + b"z" * PAGE_SIZE
    world.add(file, 0x2000, contents, REG_RW, measured=measure)
    world.add(file, 0x5000, bytes(a_tcs()), TCS, measured=measure)
    for offset, flags, data in (
        (0x2000, REG_RW, contents[:PAGE_SIZE]),
        (0x3000, REG_RW, contents[PAGE_SIZE:]),
        (0x5000, TCS, bytes(a_tcs())),
    ):
        page = bench.eadd(secs, offset, flags, data)
        if measure:
            extend_page(bench.cpu, secs, page)
    assert measured(world, file) == bench.cpu.enclaves[bench.cpu.epc.frame(secs)].measurement.digest()


@pytest.mark.parametrize(
    ("flags", "ceiling"),
    [(REG_R, 1), (REG_RW, 3), (REG_RX, 5), (REG_RWX, 7), (0x200, 0), (0x204, 4), (TCS, 3)],
)
def test_the_ceiling_is_secinfo_and_of_a_tcs_read_write(
    world: World, file: EnclaveFile, flags: int, ceiling: int
) -> None:
    contents = bytes(a_tcs()) if flags == TCS else bytes(PAGE_SIZE)
    assert world.add(file, 0, contents, flags)[0].ok
    assert file.encl.max_prot[0] == ceiling


@pytest.mark.parametrize("extra", [2, 0x10, 1 << 63])
def test_unknown_flags_are_ignored(world: World, file: EnclaveFile, extra: int) -> None:
    plain = world.open()
    world.create(plain)
    assert raw(world, file, flags=1 | extra)[0].ok
    assert raw(world, plain, flags=1)[0].ok
    assert measured(world, file) == measured(world, plain)


def test_count_on_entry_is_ignored(world: World, file: EnclaveFile) -> None:
    outcome, back = raw(world, file, count=77)
    assert (outcome.value, back.count) == (0, PAGE_SIZE)


def test_secinfo_may_lie_at_any_address(world: World, file: EnclaveFile) -> None:
    at = world.memory.map(b"\xff\xff\xff" + bytes(Secinfo.of(flags=REG_RX)))
    assert raw(world, file, secinfo=at + 3)[0].ok
    assert file.encl.max_prot[0] == 5


def test_another_process_may_add_pages_from_its_own_memory(world: World, file: EnclaveFile) -> None:
    other = make_world(world.driver.profile)
    outcome = file.ioctl(
        other.task,
        uapi.SGX_IOC_ENCLAVE_ADD_PAGES,
        other.memory.put(
            uapi.EnclaveAddPages.of(
                src=other.memory.put(b"o" * PAGE_SIZE),
                length=PAGE_SIZE,
                secinfo=other.memory.put(Secinfo.of(flags=REG_RW)),
            )
        ),
    )
    assert outcome.ok
    assert bytes(file.encl.store.page(0)) == b"o" * PAGE_SIZE


# Rows 1 to 9: before the loop. Nothing is written back.


def check(world: World, file: EnclaveFile, number: int, rule: str, **values: int) -> None:
    """The ioctl fails so, before its loop."""
    before = world.snapshot()
    outcome, back = raw(world, file, count=55, **values)
    world.refused(outcome, number, rule)
    assert world.snapshot() == before
    assert back.count == 55


def test_row_1_not_created_is_einval(world: World) -> None:
    check(world, world.open(), errno.EINVAL, "CREATE was done")


def test_row_1_initialised_is_einval(world: World) -> None:
    check(world, world.initialised(), errno.EINVAL, "INIT was not done")


def test_row_1_comes_before_the_pointer(world: World) -> None:
    outcome = world.open().ioctl(world.task, uapi.SGX_IOC_ENCLAVE_ADD_PAGES, NOWHERE)
    world.refused(outcome, errno.EINVAL, "CREATE was done")


def test_row_2_an_unreadable_argument_is_efault(world: World, file: EnclaveFile) -> None:
    outcome = file.ioctl(world.task, uapi.SGX_IOC_ENCLAVE_ADD_PAGES, NOWHERE)
    world.refused(outcome, errno.EFAULT, "the argument is readable")
    cut = world.memory.map(bytes(PAGE_SIZE)) + PAGE_SIZE - 47
    outcome = file.ioctl(world.task, uapi.SGX_IOC_ENCLAVE_ADD_PAGES, cut)
    world.refused(outcome, errno.EFAULT, "the argument is readable")


@pytest.mark.parametrize("src", [1, 0x800, NOWHERE + 8])
def test_row_3_a_misaligned_src_is_einval(world: World, file: EnclaveFile, src: int) -> None:
    check(world, file, errno.EINVAL, "src is page aligned", src=src)


@pytest.mark.parametrize("offset", [1, 0x1800])
def test_row_4_a_misaligned_offset_is_einval(world: World, file: EnclaveFile, offset: int) -> None:
    check(world, file, errno.EINVAL, "offset is page aligned", offset=offset)


def test_row_5_a_length_of_0_is_einval(world: World, file: EnclaveFile) -> None:
    check(world, file, errno.EINVAL, "length is not 0", length=0)


@pytest.mark.parametrize("length", [1, 0x1001])
def test_row_5_a_length_of_no_whole_pages_is_einval(world: World, file: EnclaveFile, length: int) -> None:
    check(world, file, errno.EINVAL, "length is page aligned", length=length)


def test_row_6_a_range_that_wraps_is_einval(world: World, file: EnclaveFile) -> None:
    check(world, file, errno.EINVAL, "does not wrap", offset=(1 << 64) - PAGE_SIZE, length=PAGE_SIZE)


@pytest.mark.parametrize(
    ("offset", "length"), [(SIZE, PAGE_SIZE), (SIZE - PAGE_SIZE, 2 * PAGE_SIZE), (0, SIZE + PAGE_SIZE)]
)
def test_row_7_a_range_beyond_the_enclave_is_einval(
    world: World, file: EnclaveFile, offset: int, length: int
) -> None:
    check(world, file, errno.EINVAL, "the last page is inside the enclave", offset=offset, length=length)


def test_row_8_an_unreadable_secinfo_is_efault(world: World, file: EnclaveFile) -> None:
    check(world, file, errno.EFAULT, "the SECINFO is readable", secinfo=NOWHERE)


@pytest.mark.parametrize(
    ("flags", "rule"),
    [
        (secinfo_flags(PageType.SECS, 3), "SECINFO's page type is TCS or REG"),
        (secinfo_flags(PageType.VA, 3), "SECINFO's page type is TCS or REG"),
        (secinfo_flags(PageType.TRIM, 3), "SECINFO's page type is TCS or REG"),
        (0xFF03, "SECINFO's page type is TCS or REG"),
        (secinfo_flags(PageType.REG, 2), "SECINFO.W comes with SECINFO.R"),
        (secinfo_flags(PageType.REG, 6), "SECINFO.W comes with SECINFO.R"),
        (TCS | 1, "a TCS has no permissions"),
        (TCS | 4, "a TCS has no permissions"),
        (TCS | 7, "a TCS has no permissions"),
        *((REG_RW | 1 << bit, "SECINFO.FLAGS reserved bits are zero") for bit in (3, 4, 5, 6, 7, 16, 31, 63)),
    ],
)
def test_row_9_rules_for_secinfo(world: World, file: EnclaveFile, flags: int, rule: str) -> None:
    secinfo = world.memory.put(Secinfo.of(flags=flags))
    check(world, file, errno.EINVAL, rule, secinfo=secinfo)


@pytest.mark.parametrize("at", [0, 55])
def test_row_9_reserved_bytes_of_secinfo_are_zero(world: World, file: EnclaveFile, at: int) -> None:
    reserved = bytearray(56)
    reserved[at] = 1
    secinfo = world.memory.put(Secinfo.of(flags=REG_RW, reserved_8=bytes(reserved)))
    check(world, file, errno.EINVAL, "SECINFO reserved bytes are zero", secinfo=secinfo)


def test_row_9_is_in_this_order(world: World, file: EnclaveFile) -> None:
    steps = [
        (1 << 63 | 2, "page type"),
        (1 << 63 | TCS | 2, "SECINFO.W"),
        (1 << 63 | TCS | 1, "a TCS has no permissions"),
        (1 << 63 | TCS, "FLAGS reserved"),
        (TCS, "reserved bytes"),
    ]
    for flags, rule in steps:
        secinfo = world.memory.put(Secinfo.of(flags=flags, reserved_8=b"\1" * 56))
        check(world, file, errno.EINVAL, rule, secinfo=secinfo)


def test_rows_2_to_9_are_in_this_order(world: World, file: EnclaveFile) -> None:
    bad = world.memory.put(Secinfo.of(flags=0))
    top = (1 << 64) - PAGE_SIZE
    steps: list[tuple[dict[str, int], int, str]] = [
        ({"src": 1, "offset": 1, "length": 0, "secinfo": NOWHERE}, errno.EINVAL, "src is page aligned"),
        ({"offset": top + 1, "length": 0, "secinfo": NOWHERE}, errno.EINVAL, "offset is page aligned"),
        ({"offset": top, "length": 0, "secinfo": NOWHERE}, errno.EINVAL, "length is not 0"),
        ({"offset": top, "length": 1, "secinfo": NOWHERE}, errno.EINVAL, "length is page aligned"),
        ({"offset": top, "length": PAGE_SIZE, "secinfo": NOWHERE}, errno.EINVAL, "wrap"),
        ({"offset": SIZE, "secinfo": NOWHERE}, errno.EINVAL, "inside the enclave"),
        ({"secinfo": NOWHERE}, errno.EFAULT, "SECINFO is readable"),
        ({"secinfo": bad, "src": NOWHERE}, errno.EINVAL, "page type"),
    ]
    for values, number, rule in steps:
        check(world, file, number, rule, **values)


# Rows a to j: page after page. The count is written back.


def stops(world: World, file: EnclaveFile, number: int, rule: str, count: int = 0, **values: int) -> Outcome:
    """The ioctl fails so, after ``count`` bytes."""
    epc, children = world.cpu.epc, world.cpu.enclaves[file.encl.secs or 0].children
    free, before = epc.free_count, file.encl.page_count
    outcome, back = raw(world, file, **({"length": count + PAGE_SIZE} | values))
    assert outcome.errno == number, str(outcome.reason)
    assert outcome.reason is not None
    assert rule in outcome.reason.rule
    assert back.count == count
    pages = count // PAGE_SIZE
    assert epc.free_count == free - pages
    assert file.encl.page_count == before + pages
    assert world.cpu.enclaves[file.encl.secs or 0].children == children + pages
    return outcome


def test_row_a_a_signal_before_the_first_page_is_erestartsys(world: World, file: EnclaveFile) -> None:
    world.task.signal_pending = lambda: True
    stops(world, file, ERESTARTSYS, "no signal arrives")


def test_row_a_a_signal_after_some_pages_is_success_with_a_short_count(world: World) -> None:
    world.cpu.close()
    world = make_world(world.driver.profile, epc_pages=4096)
    file = world.open()
    world.create(file, None)
    pending = [False, True]
    world.task.signal_pending = lambda: pending.pop(0)
    world.driver.failures.arm(FailurePoint.PAGE_BOOKKEEPING, errno.ENOMEM, after=9)
    outcome, back = world.add(file, 0, bytes(4 * PAGE_SIZE))
    assert isinstance(back, uapi.EnclaveAddPages)
    assert (outcome.value, back.count) == (0, PAGE_SIZE)
    assert outcome.reason is not None
    assert "no signal" in outcome.reason.rule


def test_row_b_without_memory_for_the_record_is_enomem(world: World, file: EnclaveFile) -> None:
    world.driver.failures.arm(FailurePoint.PAGE_BOOKKEEPING, errno.ENOMEM, after=2)
    src = world.memory.put(bytes(3 * PAGE_SIZE))
    stops(world, file, errno.ENOMEM, "memory for the record of a page", 2 * PAGE_SIZE, src=src)


@pytest.mark.parametrize("number", [errno.ENOMEM, ERESTARTSYS])
def test_row_c_without_an_epc_page_is_its_errno(world: World, file: EnclaveFile, number: int) -> None:
    world.driver.failures.arm(FailurePoint.EPC_PAGE, number, after=1)
    src = world.memory.put(bytes(2 * PAGE_SIZE))
    stops(world, file, number, "an EPC page is free", PAGE_SIZE, src=src)


def test_row_c_an_epc_that_is_full_is_enomem(world: World, file: EnclaveFile) -> None:
    epc = world.cpu.epc
    world.driver.reclaimer.backing_pages = 0  # nothing can be evicted
    epc.allocate_run(epc.free_count - 2)
    src = world.memory.put(bytes(3 * PAGE_SIZE))
    outcome = stops(world, file, errno.ENOMEM, "an EPC page is free", 2 * PAGE_SIZE, src=src)
    assert outcome.reason is not None
    assert outcome.reason.remedy == "make the EPC larger"


@pytest.mark.parametrize("point", [FailurePoint.VA_BOOKKEEPING, FailurePoint.VA_PAGE])
@pytest.mark.parametrize("number", [errno.ENOMEM, ERESTARTSYS])
def test_row_d_without_a_va_page_is_its_errno(
    world: World, file: EnclaveFile, point: FailurePoint, number: int
) -> None:
    file.encl.page_count = 512
    world.driver.failures.arm(point, number)
    stops(world, file, number, "")
    assert len(file.encl.va_pages) == 1


def test_row_d_a_fault_of_epa_is_efault(world: World, file: EnclaveFile) -> None:
    file.encl.page_count = 1024
    second = world.cpu.epc.address(3)
    with world.cpu.lock(second):
        stops(world, file, errno.EFAULT, "EPA makes a VA page")


def test_row_d_every_512_pages_take_a_va_page(world: World) -> None:
    world.cpu.close()
    world = make_world(world.driver.profile, epc_pages=4096)
    file = world.open()
    world.create(file, a_secs(size=0x1000000))
    for pages, va in ((510, 1), (1, 1), (1, 2), (511, 2), (1, 3), (1024, 5)):
        offset = int(file.encl.page_type.nonzero()[0].size) * PAGE_SIZE
        outcome, back = world.add(file, offset, bytes(pages * PAGE_SIZE), measured=False)
        assert isinstance(back, uapi.EnclaveAddPages)
        assert (outcome.value, back.count) == (0, pages * PAGE_SIZE)
        assert len(file.encl.va_pages) == va
    assert world.cpu.epc.free_count == 4096 - 1 - 5 - 2048


def test_row_e_an_offset_with_a_page_is_ebusy(world: World, file: EnclaveFile) -> None:
    world.add(file, 0x2000, bytes(PAGE_SIZE))
    digest = measured(world, file)
    stops(world, file, errno.EBUSY, "no page was added at the offset", offset=0x2000)
    assert measured(world, file) == digest
    src = world.memory.put(bytes(4 * PAGE_SIZE))
    stops(
        world,
        file,
        errno.EBUSY,
        "no page was added at the offset",
        2 * PAGE_SIZE,
        src=src,
        length=4 * PAGE_SIZE,
    )


def test_row_f_no_mapping_at_or_above_src_is_efault(world: World, file: EnclaveFile) -> None:
    stops(world, file, errno.EFAULT, "a mapping lies at or above src", src=0x7000_0000_0000)


@pytest.mark.parametrize("flags", [REG_R, REG_RW, REG_RX, TCS])
def test_row_g_a_noexec_source_is_eacces_for_every_page(world: World, file: EnclaveFile, flags: int) -> None:
    src = world.memory.map(bytes(a_tcs()), may_exec=False)
    secinfo = world.memory.put(Secinfo.of(flags=flags))
    stops(world, file, errno.EACCES, "may become executable", src=src, secinfo=secinfo)


def test_row_g_looks_at_the_mapping_above_a_hole(world: World, file: EnclaveFile) -> None:
    """find_vma gives the first mapping that ends above the address, even if it starts above it, too."""
    world.memory.map(bytes(PAGE_SIZE), 0x6000_0000, may_exec=False)
    stops(world, file, errno.EACCES, "may become executable", src=0x5FFF_0000)
    world.memory.map(bytes(PAGE_SIZE), 0x5FFF_8000)
    stops(world, file, errno.EFAULT, "the source page can be pinned", src=0x5FFF_0000)


def test_row_g_stops_where_a_noexec_mapping_starts(world: World, file: EnclaveFile) -> None:
    world.memory.map(bytes(2 * PAGE_SIZE), 0x6000_0000)
    world.memory.map(bytes(PAGE_SIZE), 0x6000_2000, may_exec=False)
    stops(world, file, errno.EACCES, "may become executable", 2 * PAGE_SIZE, src=0x6000_0000)


def test_row_h_a_hole_in_the_source_is_efault(world: World, file: EnclaveFile) -> None:
    src = world.memory.map(bytes(4 * PAGE_SIZE))
    del world.memory.pages[src + 2 * PAGE_SIZE]
    stops(
        world, file, errno.EFAULT, "the source page is readable", 2 * PAGE_SIZE, src=src, length=4 * PAGE_SIZE
    )
    assert file.encl.page_type[:4].tolist() == [2, 2, 0, 0]
    assert not any(file.encl.store.page(2 * PAGE_SIZE))


def test_row_h_a_tcs_that_cannot_be_read_is_efault(world: World, file: EnclaveFile) -> None:
    src = world.memory.map(bytes(a_tcs()) * 2)
    del world.memory.pages[src + PAGE_SIZE]
    secinfo = world.memory.put(Secinfo.of(flags=TCS))
    stops(world, file, errno.EFAULT, "the source page is readable", PAGE_SIZE, src=src, secinfo=secinfo)


def test_row_h_the_end_of_the_source_is_efault(world: World, file: EnclaveFile) -> None:
    src = world.memory.map(bytes(2 * PAGE_SIZE))
    world.memory.map(bytes(PAGE_SIZE), 0x7000_0000)
    stops(
        world,
        file,
        errno.EFAULT,
        "the source page can be pinned",
        2 * PAGE_SIZE,
        src=src,
        length=4 * PAGE_SIZE,
    )


def test_row_h_device_memory_is_efault(world: World, file: EnclaveFile) -> None:
    src = world.memory.map(bytes(PAGE_SIZE), pinnable=False)
    stops(world, file, errno.EFAULT, "the source page can be pinned", src=src)


def test_row_h_another_enclave_is_efault(world: World, file: EnclaveFile) -> None:
    other = world.initialised()
    mapped = world.mm.mmap(BASE, 0x1000, PROT_READ, MAP_SHARED | 0x10, other)
    assert mapped.ok
    # The host's own list of mappings shows the same addresses.
    world.memory.map(bytes(PAGE_SIZE), BASE)
    stops(world, file, errno.EFAULT, "the source page can be pinned", src=BASE)


def test_rows_c_to_i_are_in_this_order(world: World, file: EnclaveFile) -> None:
    world.add(file, 0, bytes(PAGE_SIZE))
    epc = world.cpu.epc
    noexec = world.memory.map(bytes(PAGE_SIZE), may_exec=False)
    world.driver.reclaimer.backing_pages = 0  # nothing can be evicted
    held = epc.allocate_run(epc.free_count)
    file.encl.page_count = 512
    world.driver.failures.arm(FailurePoint.PAGE_BOOKKEEPING, errno.EDOM)
    stops(world, file, errno.EDOM, "memory for the record", src=noexec)
    stops(world, file, errno.ENOMEM, "an EPC page is free", src=noexec)
    epc.free(held[:1])
    stops(world, file, errno.ENOMEM, "an EPC page is free", src=noexec)
    file.encl.page_count = 513
    stops(world, file, errno.EBUSY, "no page was added", src=noexec)
    stops(world, file, errno.EFAULT, "a mapping lies at or above", src=0x7000_0000_0000, offset=0x1000)
    del world.memory.pages[noexec]
    stops(world, file, errno.EACCES, "may become executable", src=noexec, offset=0x1000)
    world.memory.vmas = [SourceVma(v.start, v.end) if v.start == noexec else v for v in world.memory.vmas]
    with world.cpu.lock(epc.address(int(held[0]))):
        stops(world, file, errno.EFAULT, "the source page is readable", src=noexec, offset=0x1000)
        world.memory.pages[noexec] = bytearray(PAGE_SIZE)
        stops(world, file, errno.EIO, "EADD does not fault", src=noexec, offset=0x1000)


def test_row_i_a_fault_of_eadd_is_eio(world: World, file: EnclaveFile) -> None:
    third = world.cpu.epc.address(4)
    src = world.memory.put(bytes(4 * PAGE_SIZE))
    with world.cpu.lock(third):
        outcome = stops(
            world, file, errno.EIO, "EADD does not fault", 2 * PAGE_SIZE, src=src, length=4 * PAGE_SIZE
        )
    assert outcome.reason is not None
    assert outcome.reason.cause is not None
    assert outcome.reason.cause.operation == "EADD"


def test_row_i_a_tcs_that_the_processor_refuses_is_eio(world: World, file: EnclaveFile) -> None:
    src = world.memory.put(a_tcs(reserved_88=b"\1" + bytes(4007)))
    secinfo = world.memory.put(Secinfo.of(flags=TCS))
    outcome = stops(world, file, errno.EIO, "EADD does not fault", src=src, secinfo=secinfo)
    assert outcome.reason is not None
    assert outcome.reason.cause is not None
    assert "TCS reserved bytes" in outcome.reason.cause.rule


def test_row_j_a_fault_of_eextend_is_eio_and_the_eadd_stays_measured(world: World, file: EnclaveFile) -> None:
    encl = file.encl
    plain = world.open()
    world.create(plain)
    world.add(plain, 0, bytes(PAGE_SIZE), measured=False)
    state, calls = world.cpu.enclaves[encl.secs or 0], [0]
    secs_frame, is_measuring = encl.secs, world.cpu.is_measuring

    def busy_at_the_second_look(frame: int) -> bool:
        calls[0] += frame == secs_frame
        return is_measuring(frame) or calls[0] > 1

    world.cpu.is_measuring = busy_at_the_second_look  # type: ignore[method-assign]
    with world.cpu.lock(world.cpu.epc.address(1000)):
        outcome = stops(world, file, errno.EIO, "EEXTEND does not fault", flags=1)
    assert outcome.reason is not None
    assert outcome.reason.cause is not None
    assert outcome.reason.cause.operation == "EEXTEND"
    assert state.measurement.digest() == measured(world, plain)
    assert not encl.page_type.any()
    world.cpu.is_measuring = is_measuring  # type: ignore[method-assign]
    assert raw(world, file)[0].ok


def test_pages_before_an_error_stay_added_and_measured(world: World, file: EnclaveFile) -> None:
    whole, part = b"p" * 2 * PAGE_SIZE, world.open()
    world.create(part)
    world.add(part, 0, whole)
    src = world.memory.map(whole)
    outcome, back = raw(world, file, src=src, length=3 * PAGE_SIZE, flags=1)
    assert (outcome.errno, back.count) == (errno.EFAULT, 2 * PAGE_SIZE)
    assert measured(world, file) == measured(world, part)


# Copy back.


def test_an_argument_that_cannot_be_written_is_efault_and_the_pages_stay(
    world: World, file: EnclaveFile
) -> None:
    arg = world.memory.put(
        uapi.EnclaveAddPages.of(
            src=world.memory.put(bytes(PAGE_SIZE)),
            length=PAGE_SIZE,
            secinfo=world.memory.put(Secinfo.of(flags=REG_RW)),
        )
    )
    world.memory.read_only.add(int(arg))
    outcome = file.ioctl(world.task, uapi.SGX_IOC_ENCLAVE_ADD_PAGES, arg)
    world.refused(outcome, errno.EFAULT, "the argument is writable")
    assert file.encl.page_type[0] == PageType.REG


def test_the_caller_goes_on_from_count(world: World, file: EnclaveFile) -> None:
    world.driver.failures.arm(FailurePoint.EPC_PAGE, errno.ENOMEM, after=3)
    src = world.memory.put(bytes(range(256)) * 16 * 8)
    first, back = raw(world, file, src=src, length=8 * PAGE_SIZE, flags=1)
    assert (first.errno, back.count) == (errno.ENOMEM, 3 * PAGE_SIZE)
    second, back = raw(
        world,
        file,
        src=src + back.count,
        offset=back.count,
        length=8 * PAGE_SIZE - back.count,
        flags=1,
    )
    assert (second.value, back.count) == (0, 5 * PAGE_SIZE)
    once = world.open()
    world.create(once)
    raw(world, once, src=src, length=8 * PAGE_SIZE, flags=1)
    assert measured(world, file) == measured(world, once)


# Mappings that are there already.


def test_pages_added_under_a_mapping_get_what_it_grants(world: World, file: EnclaveFile) -> None:
    assert world.map(file, 0, 0x4000, PROT_READ).ok
    world.add(file, 0x1000, bytes(PAGE_SIZE), REG_RW)
    runs = [(run.address - BASE, run.length, run.prot) for run in file.encl.runs(BASE, BASE + 0x4000, 1)]
    assert runs == [(0, 0x1000, 0), (0x1000, 0x1000, 1), (0x2000, 0x2000, 0)]


def test_pages_added_under_a_mapping_that_is_wider_get_nothing(world: World, file: EnclaveFile) -> None:
    assert world.map(file, 0, 0x4000, 7).ok
    world.add(file, 0, bytes(PAGE_SIZE), REG_RW)
    assert [run.prot for run in file.encl.runs(BASE, BASE + 0x4000, 7)] == [0]
    assert world.mm.mprotect(BASE, 0x4000, PROT_NONE).ok
