"""Enclaves that do not fit into the EPC, run for real: what is touched comes back by the page fault."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from swsgx.inprocess import Sgx
from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.vectors import Vector
from tests.inprocess.conftest import MODES
from tests.make.native_enclave import NEEDS_GCC, SCRATCH, Block, Loaded, Source, Thread

pytestmark = [NEEDS_GCC, pytest.mark.timeout(100)]

EPC_PAGES = 64
DATA_PAGES = 160
#: Every word of the data tells where it is.
CONTENT = (np.arange(DATA_PAGES * 512, dtype=np.uint64) * np.uint64(0x9E37_79B9_7F4A_7C15)).tobytes()

#: RDI: 0 sums all words into RSI; 1 adds RDX to each word. R8: bytes from one word to the next.
WORKER = f"""
entry:	lea	data(%rip), %r10
	lea	data+{DATA_PAGES * PAGE_SIZE}(%rip), %r11
	xor	%esi, %esi
	test	%rdi, %rdi
	jnz	2f
1:	add	(%r10), %rsi
	add	%r8, %r10
	cmp	%r11, %r10
	jb	1b
	eexit
2:	add	%rdx, (%r10)
	add	%r8, %r10
	cmp	%r11, %r10
	jb	2b
	eexit
"""


def source(threads: int = 1) -> Source:
    return Source(
        WORKER, blocks=(Block("data", DATA_PAGES, content=CONTENT), SCRATCH), threads=(Thread(),) * threads
    )


def expected(step: int = 8, added: int = 0) -> int:
    words = np.frombuffer(CONTENT, np.uint64)[:: step // 8]
    return int((words + np.uint64(added)).sum(dtype=np.uint64))


@pytest.fixture(params=MODES)
def small(request: pytest.FixtureRequest) -> Iterator[Sgx]:
    """A machine with 256 KiB of EPC, in each of the ways it can run."""
    options: dict[str, Any] = MODES[request.param]
    with Sgx(epc_size=EPC_PAGES * PAGE_SIZE, **options) as made:
        yield made


def test_an_enclave_larger_than_the_epc_sums_its_data(small: Sgx) -> None:
    loaded = source().build().load(small)
    before = small.driver.figures()
    assert before.enclaves[0].evicted > DATA_PAGES - EPC_PAGES
    assert loaded.enclave.enter(rdi=0, r8=8).check().rsi == expected()
    after = small.driver.figures()
    assert after.eldu - before.eldu > DATA_PAGES - EPC_PAGES
    assert after.faults > before.faults


def test_what_it_writes_is_there_after_a_round_through_the_backing_file(small: Sgx) -> None:
    loaded = source().build().load(small)
    for number in range(1, 4):
        loaded.enclave.enter(rdi=1, rdx=1, r8=8).check()
        assert loaded.enclave.enter(rdi=0, r8=8).check().rsi == expected(8, number)


def test_all_that_an_entry_needs_comes_back(small: Sgx) -> None:
    loaded = source().build().load(small)
    for _ in range(5):
        small.driver.reclaimer.reclaim(1000)
        assert small.driver.figures().enclaves[0].resident == 0
        assert loaded.enclave.file.encl.secs is None
        assert loaded.enclave.enter(rdi=0, r8=PAGE_SIZE).check().rsi == expected(PAGE_SIZE)


def test_an_enclave_can_be_resumed_after_all_of_it_was_out(small: Sgx) -> None:
    loaded = (
        Source(
            "entry:	mov	$7, %r12d\n	ud2\n	mov	%r12, %rsi\n	eexit",
        )
        .build()
        .load(small)
    )
    stopped = loaded.enclave.enter()
    assert stopped.exception is not None
    assert stopped.exception.vector == Vector.UD
    frame = loaded.gpr()
    frame.rip += 2
    small.driver.reclaimer.reclaim(1000)
    assert loaded.enclave.file.encl.secs is None
    assert loaded.enclave.resume().check().rsi == 7


def test_mrenclave_is_known_though_the_secs_is_out(small: Sgx) -> None:
    loaded = source().build().load(small)
    before = loaded.enclave.mrenclave
    small.driver.reclaimer.reclaim(1000)
    assert loaded.enclave.mrenclave == before


def test_a_page_that_was_changed_outside_is_a_fault_of_the_enclave_and_of_no_other(small: Sgx) -> None:
    good, bad = source().build().load(small), source().build().load(small)
    small.driver.reclaimer.reclaim(1000)
    backing = bad.enclave.file.encl.paging.backing
    assert backing is not None
    index = (bad.built.symbols["data"] + 5 * PAGE_SIZE) // PAGE_SIZE
    backing.page(index)[100] ^= 1
    stopped = bad.enclave.enter(rdi=0, r8=8)
    assert stopped.exception is not None
    assert stopped.exception.vector == Vector.PF
    assert stopped.exception.address == bad.enclave.base + index * PAGE_SIZE
    assert good.enclave.enter(rdi=0, r8=8).check().rsi == expected()


def test_a_hole_is_a_fault_as_before(small: Sgx) -> None:
    loaded: Loaded = Source("entry:	mov	(%rdi), %rsi\n	eexit").build().load(small)
    stopped = loaded.enclave.enter(rdi=loaded.enclave.base + loaded.enclave.size - PAGE_SIZE)
    assert stopped.exception is not None
    assert stopped.exception.vector == Vector.PF
