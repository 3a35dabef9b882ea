"""What the host, its system calls and other enclaves see of an enclave's memory."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from swsgx.inprocess import Isolation, Sgx
from swsgx.isa.flags import Attributes
from swsgx.isa.vectors import Vector
from swsgx.native.mappings import mappings
from tests.make.forked import forked
from tests.make.native_enclave import NEEDS_GCC, RW, SCRATCH, Block, Loaded, Source, Thread
from tests.make.storm import Storm, mixer

pytestmark = [NEEDS_GCC, pytest.mark.timeout(60)]

ONES = (1 << 64) - 1
SECRET = 0x1122_3344_5566_7788
#: By RDI: 0 reads the word at RSI into RDX; 1 writes RDX there; 2 copies RDX bytes from RSI to R8; 3 #UD once.
CODE = """
entry:	test	%eax, %eax
	jnz	repair
	mov	%rcx, %r9
	cmp	$1, %rdi
	jb	1f
	je	2f
	cmp	$3, %rdi
	je	3f
	mov	%rdx, %rcx
	mov	%r8, %rdi
	cld
	rep movsb
	jmp	4f
1:	mov	(%rsi), %rdx
	jmp	4f
2:	mov	%rdx, (%rsi)
	jmp	4f
3:	ud2
	mov	data(%rip), %rdx
4:	eexit	%r9
repair:	addq	$2, 0x2000 + 0x1000 - SIZEOF_GPRSGX + GPRSGX_RIP(%rbx)
	eexit
"""
#: Two pages of data, since words may lie across their border; one that nobody may write.
PLAIN = Source(
    CODE,
    threads=(Thread(), Thread()),
    blocks=(
        Block("data", 2, RW, SECRET.to_bytes(8, "little") * 1024),
        Block("fixed", 1, 1, b"\x55" * 4096),
        SCRATCH,
    ),
)


@pytest.fixture
def hidden() -> Iterator[Sgx]:
    """A machine as it is by default."""
    with Sgx() as made:
        yield made


@pytest.fixture
def loaded(hidden: Sgx) -> Loaded:
    return PLAIN.build().load(hidden)


def word(address: int) -> int:
    return ctypes.c_uint64.from_address(address).value


def octet(address: int) -> int:
    return ctypes.c_uint8.from_address(address).value


def put_word(address: int, value: int) -> None:
    ctypes.c_uint64.from_address(address).value = value


def inside(loaded: Loaded, address: int, thread: int = 0) -> int:
    """The word as code in the enclave reads it."""
    return loaded.enclave.enter(thread, rdi=0, rsi=address).check().rdx


def libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


# Loads.


def test_hiding_is_the_default() -> None:
    assert Isolation.AUTO.hides
    assert Isolation.HIDDEN.hides
    assert not Isolation.OFF.hides
    with pytest.raises(ValueError, match="nothing"):
        Sgx(isolation="nothing")


@pytest.mark.parametrize("symbol", ["data", "fixed", "code", "tcs0", "ssa0"])
def test_the_host_reads_all_ones_before_and_after_a_call(loaded: Loaded, symbol: str) -> None:
    at = loaded.enclave.base if symbol == "code" else loaded.address(symbol)
    for _ in range(3):
        assert word(at) == ONES
        assert octet(at + 4095) == 0xFF
        assert inside(loaded, loaded.address("data")) == SECRET


@pytest.mark.parametrize("offset", [0, 1, 7, 4088, 4089, 4092, 4095, 4096, 8184])
def test_any_word_is_all_ones_also_over_the_border_of_two_pages(loaded: Loaded, offset: int) -> None:
    assert word(loaded.address("data", offset)) == ONES
    assert octet(loaded.address("data", offset)) == 0xFF


def test_bulk_reads_are_all_ones(loaded: Loaded) -> None:
    array = np.ctypeslib.as_array((ctypes.c_uint8 * 8192).from_address(loaded.address("data")))
    for _ in range(3):
        assert bool((array == 0xFF).all())
        assert ctypes.string_at(loaded.address("data"), 8192) == b"\xff" * 8192
        assert inside(loaded, loaded.address("data")) == SECRET


def test_a_load_that_faults_first_gives_no_other_register_or_flag(loaded: Loaded) -> None:
    # The value of a comparison with it, which is flags.
    array = np.ctypeslib.as_array((ctypes.c_uint64 * 1024).from_address(loaded.address("data")))
    assert int(array.min()) == ONES
    assert int(np.bitwise_and.reduce(array)) == ONES


# Stores.


@pytest.mark.parametrize("offset", [0, 1, 4089, 4095, 4096])
def test_a_store_is_dropped_and_the_next_load_gives_ones(loaded: Loaded, offset: int) -> None:
    before = bytes(loaded.memory("data", 8192))
    for _ in range(3):
        put_word(loaded.address("data", offset), 0x4242)
        assert word(loaded.address("data", offset)) == ONES
        assert bytes(loaded.memory("data", 8192)) == before
        assert inside(loaded, loaded.address("data")) == SECRET


def test_bulk_stores_are_dropped(loaded: Loaded) -> None:
    before = bytes(loaded.memory("data", 8192))
    array = np.ctypeslib.as_array((ctypes.c_uint8 * 8192).from_address(loaded.address("data")))
    array[:] = 7
    ctypes.memset(loaded.address("data"), 9, 8192)
    assert bytes(loaded.memory("data", 8192)) == before
    assert bool((array == 0xFF).all())
    assert inside(loaded, loaded.address("data")) == SECRET


def test_a_load_between_two_stores_to_one_page_gives_ones(loaded: Loaded) -> None:
    at = loaded.address("data")
    array = (ctypes.c_uint64 * 512).from_address(at)
    for number in range(0, 512, 37):
        assert array[number] == ONES
        array[number] = number
        assert array[number] == ONES


def test_copying_within_the_hidden_range_copies_ones_and_drops_them(loaded: Loaded) -> None:
    # One instruction that loads from one hidden page and stores to another one.
    before = bytes(loaded.memory("data", 8192))
    ctypes.memmove(loaded.address("data"), loaded.address("data", 4096), 4096)
    assert bytes(loaded.memory("data", 8192)) == before
    assert word(loaded.address("data")) == ONES
    assert word(loaded.address("data", 4096)) == ONES


def test_a_store_by_a_thread_that_never_entered_does_not_reach_the_enclave(loaded: Loaded) -> None:
    thread = threading.Thread(target=put_word, args=(loaded.address("data"), 0x4242))
    thread.start()
    thread.join()
    assert loaded.word("data") == SECRET
    assert inside(loaded, loaded.address("data")) == SECRET
    assert word(loaded.address("data")) == ONES


def test_threads_that_look_and_store_while_another_one_calls_change_nothing_they_may_not(hidden: Sgx) -> None:
    # While somebody is inside a store gets through (docs/isolation.md): so these only load.
    loaded = mixer(2).load(hidden)
    storm = Storm(loaded, faults=7)
    seen: set[int] = set()
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            seen.add(word(loaded.address("data")))

    lookers = [threading.Thread(target=look) for _ in range(2)]
    for looker in lookers:
        looker.start()
    for _ in range(10):
        storm.run(100)
        storm.check_counts()
    stop.set()
    for looker in lookers:
        looker.join()
    assert seen <= {0, ONES}
    assert word(loaded.address("data")) == ONES


# What the process's own mappings forbid.


def unmapped_load(loaded: Loaded, sgx: Sgx) -> None:
    assert sgx.mm.munmap(loaded.address("data"), 4096).ok
    word(loaded.address("data"))


def forbidden_load(loaded: Loaded, sgx: Sgx) -> None:
    assert sgx.mm.mprotect(loaded.address("data"), 4096, 0).ok
    word(loaded.address("data"))


FORBIDDEN: dict[str, Callable[[Loaded, Sgx], object]] = {
    "a load where nothing is mapped": lambda loaded, sgx: word(loaded.address("tls1", 4096)),
    "a load behind an unmapping": unmapped_load,
    "a load behind a protection": forbidden_load,
    "a store to a page for reading": lambda loaded, sgx: put_word(loaded.address("fixed"), 1),
    "a store to code": lambda loaded, sgx: put_word(loaded.enclave.base, 1),
    "a jump to data": lambda loaded, sgx: ctypes.CFUNCTYPE(None)(loaded.address("data"))(),
}


@pytest.mark.parametrize("entered", [False, True])
@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_the_mapping_forbids_is_a_segmentation_fault(name: str, entered: bool) -> None:
    def act() -> None:
        with Sgx() as sgx:
            loaded = PLAIN.build().load(sgx)
            if entered:
                loaded.enclave.enter(rdi=4).check()
            os.write(1, b"so far")
            FORBIDDEN[name](loaded, sgx)

    done = forked(act)
    assert (done.status, done.out) == (-signal.SIGSEGV, "so far"), done.err


@pytest.mark.parametrize("entered", [False, True])
def test_a_system_call_with_a_hidden_pointer_is_efault(loaded: Loaded, entered: bool) -> None:
    if entered:
        loaded.enclave.enter(rdi=0, rsi=loaded.address("data")).check()
    reader, writer = os.pipe()
    try:
        assert libc().write(writer, ctypes.c_void_p(loaded.address("data")), 8) == -1
        assert ctypes.get_errno() == errno.EFAULT
        os.write(writer, b"12345678")
        assert libc().read(reader, ctypes.c_void_p(loaded.address("data")), 8) == -1
        assert ctypes.get_errno() == errno.EFAULT
    finally:
        os.close(reader)
        os.close(writer)
    assert loaded.word("data") == SECRET


# What the enclave sees.


def test_the_enclave_reads_and_writes_the_hosts_memory(loaded: Loaded) -> None:
    outside = bytearray(range(64))
    target = np.zeros(64, np.uint8)
    loaded.enclave.enter(rdi=2, rsi=outside, rdx=64, r8=target).check()
    assert bytes(target) == bytes(range(64))
    loaded.enclave.enter(rdi=2, rsi=outside, rdx=64, r8=loaded.address("data", 512)).check()
    assert bytes(loaded.memory("data", 64, 512)) == bytes(range(64))
    loaded.enclave.enter(rdi=1, rsi=outside, rdx=ONES).check()
    assert outside[:9] == b"\xff" * 8 + b"\x08"


@pytest.mark.parametrize("offset", [0, 4089])
def test_another_enclaves_memory_is_all_ones_and_cannot_be_written(
    hidden: Sgx, loaded: Loaded, offset: int
) -> None:
    other = PLAIN.build().load(hidden)
    before = bytes(loaded.memory("data", 8192))
    for _ in range(2):
        at = loaded.address("data", offset)
        assert inside(other, at) == ONES
        other.enclave.enter(rdi=1, rsi=at, rdx=0x4242).check()
        assert inside(other, at) == ONES
        assert bytes(loaded.memory("data", 8192)) == before
        assert inside(loaded, loaded.address("data")) == SECRET


def test_an_enclave_that_another_one_looks_at_is_as_before_for_its_host(hidden: Sgx, loaded: Loaded) -> None:
    other = PLAIN.build().load(hidden)
    target = bytearray(8192)
    other.enclave.enter(rdi=2, rsi=loaded.address("data"), rdx=8192, r8=target).check()
    assert target == b"\xff" * 8192
    assert word(loaded.address("data")) == ONES
    other.enclave.enter(rdi=2, rsi=target, rdx=8192, r8=loaded.address("data")).check()
    assert bytes(loaded.memory("data", 8)) == SECRET.to_bytes(8, "little")


# Exceptions.


def test_between_an_exception_and_eresume_the_enclave_is_hidden(loaded: Loaded) -> None:
    for _ in range(5):
        stopped = loaded.enclave.enter(rdi=3).exception
        assert stopped is not None
        assert stopped.vector == Vector.UD
        assert word(loaded.address("data")) == ONES
        put_word(loaded.address("ssa0"), 0)
        loaded.enclave.enter().check()
        assert word(loaded.address("ssa0")) == ONES
        assert loaded.enclave.resume().check().rdx == SECRET


def test_a_single_step_of_the_hosts_own_store_does_not_stay_pending(loaded: Loaded) -> None:
    put_word(loaded.address("data"), 1)
    # A second fault of another kind on the same instruction would show as a trap here.
    for _ in range(100):
        put_word(loaded.address("data", 4092), 2)
        loaded.enclave.enter(rdi=4).check()


# Who is not hidden.


def test_a_debug_enclave_is_visible(hidden: Sgx) -> None:
    source = Source(CODE, blocks=PLAIN.blocks, attributes=Attributes.MODE64BIT | Attributes.DEBUG)
    loaded = source.build().load(hidden)
    assert word(loaded.address("data")) == SECRET
    loaded.enclave.enter(rdi=1, rsi=loaded.address("data"), rdx=5).check()
    assert word(loaded.address("data")) == 5


def test_without_isolation_the_host_sees_and_changes_memory(sgx: Sgx) -> None:
    loaded = PLAIN.build().load(sgx)
    assert word(loaded.address("data")) == SECRET
    put_word(loaded.address("data"), 77)
    assert inside(loaded, loaded.address("data")) == 77


def test_a_debug_and_a_production_enclave_live_side_by_side(hidden: Sgx, loaded: Loaded) -> None:
    debug = (
        Source(CODE, blocks=PLAIN.blocks, attributes=Attributes.MODE64BIT | Attributes.DEBUG)
        .build()
        .load(hidden)
    )
    assert inside(loaded, debug.address("data")) == SECRET
    assert inside(debug, loaded.address("data")) == ONES


# Mappings that change.


def test_a_part_that_is_unmapped_and_mapped_again_has_its_contents(hidden: Sgx, loaded: Loaded) -> None:
    at = loaded.address("data", 4096)
    assert hidden.mm.munmap(at, 4096).ok
    assert word(loaded.address("data")) == ONES
    fault = loaded.enclave.enter(rdi=0, rsi=at).exception
    assert fault is not None
    assert fault.vector == Vector.PF
    # The mapping comes back while the frame waits; the same instruction then succeeds.
    outcome = hidden.mm.mmap(at, 4096, 3, mmap.MAP_SHARED | 0x10, loaded.enclave.file, 0)
    assert outcome.ok
    assert loaded.enclave.resume().check().rdx == SECRET
    assert word(at) == ONES


def test_a_part_that_is_made_read_only_stays_hidden_and_refuses_the_enclaves_store(
    hidden: Sgx, loaded: Loaded
) -> None:
    at = loaded.address("data", 4096)
    assert hidden.mm.mprotect(at, 4096, 1).ok
    assert word(at) == ONES
    assert inside(loaded, at) == SECRET
    fault = loaded.enclave.enter(rdi=1, rsi=at, rdx=1).exception
    assert fault is not None
    assert (fault.vector, fault.address) == (Vector.PF, at)
    assert hidden.mm.mprotect(at, 4096, 3).ok
    loaded.enclave.resume().check()
    assert loaded.word("data", 4096) == 1
    assert word(at) == ONES


def test_mappings_may_change_while_another_thread_is_in_and_out(hidden: Sgx) -> None:
    loaded = mixer(1).load(hidden)
    storm = Storm(loaded, faults=5)
    runner = threading.Thread(target=storm.run, args=(2000,))
    runner.start()
    at = loaded.address("data")
    while runner.is_alive():
        for prot in (1, 3):
            assert hidden.mm.mprotect(at, 4096, prot).ok
    runner.join()
    assert not storm.problem
    assert storm.c.calls == 2000
    assert word(at) == ONES


# Nothing stays behind.


@pytest.mark.parametrize("isolation", ["hidden", "off"])
def test_fifty_loads_leave_no_mapping_and_no_file_behind(isolation: str) -> None:
    def cycle(sgx: Sgx) -> None:
        loaded = PLAIN.build().load(sgx)
        word(loaded.address("data"))
        put_word(loaded.address("data"), SECRET)
        loaded.enclave.enter(rdi=3)
        loaded.enclave.close()

    def used() -> tuple[int, int, int]:
        maps = list(mappings(os.getpid()))
        return len(maps), sum(found.end - found.start for found in maps), len(os.listdir("/proc/self/fd"))

    with Sgx(isolation=isolation) as sgx:
        for _ in range(5):
            cycle(sgx)
        before = used()
        for _ in range(50):
            cycle(sgx)
        after = used()
    # The allocator's arenas come and go; an enclave's own mappings would be hundreds.
    assert after[2] == before[2]
    assert after[0] - before[0] < 25
    assert after[1] - before[1] < 50 * loaded_size()


def loaded_size() -> int:
    return PLAIN.build().size


@pytest.mark.timeout(300)
def test_fifty_machines_leave_no_file_behind() -> None:
    def cycle() -> None:
        with Sgx(epc_size=1 << 20) as sgx:
            PLAIN.build().load(sgx).enclave.enter(rdi=4).check()

    cycle()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        cycle()
    assert len(os.listdir("/proc/self/fd")) == before
