"""SGX2 in our own process: pages appear, are accepted, change permissions and type, and go."""

from __future__ import annotations

import pytest

from swsgx.inprocess import RESUME, Exit, Sgx
from swsgx.inprocess.memory import aligned_buffer
from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.errors import SgxError
from swsgx.isa.flags import Miscselect, PageType, SecinfoFlags, secinfo_flags
from swsgx.isa.layout import Layout
from swsgx.isa.leaves import Enclu
from swsgx.isa.ssa import Exitinfo, ExitType
from swsgx.isa.structs import Secinfo, Tcs
from swsgx.isa.vectors import Vector
from swsgx.linux.uapi import (
    SGX_IOC_ENCLAVE_MODIFY_TYPES,
    SGX_IOC_ENCLAVE_REMOVE_PAGES,
    SGX_IOC_ENCLAVE_RESTRICT_PERMISSIONS,
    EnclaveModifyTypes,
    EnclaveRemovePages,
    EnclaveRestrictPermissions,
)
from swsgx.native.host import host_model
from swsgx.native.images import Monitor
from tests.make.native_enclave import DATA, NEEDS_GCC, RW, SCRATCH, Block, Loaded, Source, Thread

pytestmark = [NEEDS_GCC, pytest.mark.timeout(100)]

STORE, LOAD, CALL = 0x100, 0x101, 0x102
STATUS = 0x8D5
ZF = 0x40
SHARED_FIXED = 0x11
PENDING, MODIFIED, PR = SecinfoFlags.PENDING, SecinfoFlags.MODIFIED, SecinfoFlags.PR

#: RDI: a leaf, with RBX, RCX and RDX from RSI, RDX and R8 and all status flags set: RAX goes to R13, flags to R14.
#: STORE: RDX to RSI; LOAD: from RSI to R13; CALL: RSI, whose RAX goes to R13.
CODE = """
entry:	mov	%rcx, %r12
	cmp	$0x100, %rdi
	jb	leaf
	je	store
	cmp	$0x102, %rdi
	je	call
	mov	(%rsi), %r13
	jmp	out
store:	mov	%rdx, (%rsi)
	jmp	out
call:	call	*%rsi
	mov	%rax, %r13
	jmp	out
leaf:	mov	%rdi, %rax
	mov	%rsi, %rbx
	mov	%rdx, %rcx
	mov	%r8, %rdx
	pushq	$0x8d5
	popfq
enclu:	enclu
	pushfq
	popq	%r14
	mov	%rax, %r13
out:	eexit	%r12
"""
#: A function of 6 bytes: returns 42.
FUNCTION = b"\xb8\x2a\x00\x00\x00\xc3"


class World:
    """A loaded enclave, with a page of a hole mapped RWX."""

    def __init__(self, sgx: Sgx, source: Source) -> None:
        self.sgx = sgx
        self.loaded: Loaded = source.build().load(sgx)
        self.enclave = self.loaded.enclave
        self.hole = self.loaded.address(f"tls{len(source.threads) - 1}", PAGE_SIZE)
        self.map(self.hole)

    def map(self, address: int, prot: int = 7, pages: int = 1) -> None:
        self.sgx.mm.munmap(address, pages * PAGE_SIZE)
        done = self.sgx.mm.mmap(address, pages * PAGE_SIZE, prot, SHARED_FIXED, self.enclave.file)
        assert done.ok, done

    def leaf(self, leaf: Enclu, page: int, flags: int, source: int = 0, tcs: int = 0) -> Exit:
        self.loaded.memory("data")[: Secinfo.size_of] = bytes(Secinfo.of(flags=flags).buffer)
        return self.enclave.enter(tcs, rdi=leaf, rsi=self.loaded.address("data"), rdx=page, r8=source)

    def accept(self, page: int, flags: int, tcs: int = 0) -> int:
        return self.leaf(Enclu.EACCEPT, page, flags, tcs=tcs).check().r13

    def store(self, address: int, value: int, tcs: int = 0) -> Exit:
        return self.enclave.enter(tcs, rdi=STORE, rsi=address, rdx=value)

    def load(self, address: int) -> int:
        return self.enclave.enter(rdi=LOAD, rsi=address).check().r13

    def ioctl(self, code: int, argument: Layout) -> int:
        with aligned_buffer(PAGE_SIZE) as (page, address):
            page[: argument.size_of] = argument.buffer
            outcome = self.enclave.file.ioctl(self.sgx.task, code, address)
            argument.buffer[:] = page[: argument.size_of]
        return -outcome.errno

    def modify(self, address: int, page_type: PageType) -> None:
        argument = EnclaveModifyTypes.of(
            offset=address - self.enclave.base, length=PAGE_SIZE, page_type=page_type
        )
        assert (self.ioctl(SGX_IOC_ENCLAVE_MODIFY_TYPES, argument), argument.count) == (0, PAGE_SIZE)


THREADS = (Thread(), Thread())
REG_RW = secinfo_flags(PageType.REG, RW)


@pytest.fixture
def world(each_sgx: Sgx) -> World:
    return World(each_sgx, Source(CODE, threads=THREADS))


def test_touched_hole_becomes_a_page_that_waits_for_its_eaccept(world: World) -> None:
    fault = world.store(world.hole, 0x1234).exception
    assert fault is not None
    assert (fault.vector, fault.error_code, fault.address) == (Vector.PF, 0x8007, world.hole)
    assert world.accept(world.hole, REG_RW | PENDING, tcs=1) == 0
    world.enclave.resume().check()
    assert world.load(world.hole) == 0x1234


def test_read_of_a_hole_is_a_fault_of_a_read(world: World) -> None:
    fault = world.enclave.enter(rdi=LOAD, rsi=world.hole + 8).exception
    assert fault is not None
    assert (fault.error_code, fault.address) == (0x8005, world.hole)


def test_eaccept_makes_the_page_itself_and_clears_the_status_flags(world: World) -> None:
    done = world.leaf(Enclu.EACCEPT, world.hole, REG_RW | PENDING).check()
    assert (done.r13, done.r14 & STATUS) == (0, 0)
    assert world.load(world.hole) == 0


def test_eaccept_of_something_else_sets_zf_and_an_error_code(world: World) -> None:
    done = world.leaf(Enclu.EACCEPT, world.hole, REG_RW | SecinfoFlags.X | PENDING).check()
    assert (done.r13, done.r14 & STATUS) == (SgxError.PAGE_ATTRIBUTES_MISMATCH, ZF)


def test_many_pages_are_accepted_one_by_one_and_keep_what_is_written(each_sgx: Sgx) -> None:
    world = World(each_sgx, Source(CODE, threads=THREADS, blocks=(DATA, SCRATCH, Block("big", 60))))
    first = world.hole
    count = (world.enclave.base + world.enclave.size - first) // PAGE_SIZE
    world.map(first, 3, count)
    for index in range(count):
        assert world.accept(first + index * PAGE_SIZE, REG_RW | PENDING) == 0
        world.store(first + index * PAGE_SIZE, index).check()
    assert [world.load(first + index * PAGE_SIZE) for index in range(count)] == list(range(count))


def test_emodpe_extends_and_touches_neither_rax_nor_flags(world: World) -> None:
    assert world.accept(world.hole, REG_RW | PENDING) == 0
    done = world.leaf(Enclu.EMODPE, world.hole, REG_RW | SecinfoFlags.X).check()
    assert (done.r13, done.r14 & STATUS) == (Enclu.EMODPE, STATUS)
    world.store(world.hole, int.from_bytes(FUNCTION, "little")).check()
    assert world.enclave.enter(rdi=CALL, rsi=world.hole).check().r13 == 42


def test_restricted_page_faults_by_the_epcm_until_it_is_extended(world: World) -> None:
    assert world.accept(world.hole, REG_RW | PENDING) == 0
    world.store(world.hole, 1).check()
    argument = EnclaveRestrictPermissions.of(
        offset=world.hole - world.enclave.base, length=PAGE_SIZE, permissions=1
    )
    assert world.ioctl(SGX_IOC_ENCLAVE_RESTRICT_PERMISSIONS, argument) == 0
    assert world.load(world.hole) == 1  # with the restriction still to be accepted
    assert world.accept(world.hole, secinfo_flags(PageType.REG, 1) | PR) == 0
    fault = world.store(world.hole, 2).exception
    assert fault is not None
    assert (fault.error_code, fault.address) == (0x8007, world.hole)
    world.leaf(Enclu.EMODPE, world.hole, REG_RW, tcs=1).check()
    world.enclave.resume().check()
    assert world.load(world.hole) == 2


def test_page_with_code_by_eacceptcopy_can_be_executed_and_again_with_other_code(world: World) -> None:
    code = world.loaded.address("scratch")
    for value in (42, 43):
        world.loaded.memory("scratch")[:6] = bytes([0xB8, value, 0, 0, 0, 0xC3])
        world.store(world.hole, 0)  # makes the page
        done = world.leaf(Enclu.EACCEPTCOPY, world.hole, secinfo_flags(PageType.REG, 5), code).check()
        assert done.r13 == 0
        assert world.enclave.enter(rdi=CALL, rsi=world.hole).check().r13 == value
        world.enclave.resume()  # of the store: RX pages are not written to
        world.loaded.tcs().cssa = 0
        remove(world, world.hole)


def remove(world: World, address: int) -> None:
    world.modify(address, PageType.TRIM)
    assert world.accept(address, secinfo_flags(PageType.TRIM) | MODIFIED) == 0
    argument = EnclaveRemovePages.of(offset=address - world.enclave.base, length=PAGE_SIZE)
    assert world.ioctl(SGX_IOC_ENCLAVE_REMOVE_PAGES, argument) == 0


def test_removed_page_is_a_hole_again(world: World) -> None:
    assert world.accept(world.hole, REG_RW | PENDING) == 0
    world.store(world.hole, 7).check()
    remove(world, world.hole)
    assert world.accept(world.hole, REG_RW | PENDING) == 0
    assert world.load(world.hole) == 0


def test_page_becomes_a_tcs_by_which_the_enclave_is_entered_until_it_is_trimmed(world: World) -> None:
    world.map(world.hole, RW)  # a mapping that is wider than a TCS may have would be in the way
    assert world.accept(world.hole, REG_RW | PENDING) == 0
    tcs = Tcs(bytearray(world.loaded.tcs(1).buffer))
    offset = world.hole - world.enclave.base
    world.loaded.contents[offset : offset + PAGE_SIZE] = tcs.buffer
    world.modify(world.hole, PageType.TCS)
    world.enclave.tcs.append(world.hole)
    refused = world.enclave.enter(2, rdi=LOAD, rsi=world.loaded.address("data")).exception
    assert refused is not None
    assert (refused.error_code, refused.inside) == (0x8007, False)
    assert world.accept(world.hole, secinfo_flags(PageType.TCS) | MODIFIED) == 0
    world.enclave.enter(2, rdi=LOAD, rsi=world.loaded.address("data")).check()
    world.modify(world.hole, PageType.TRIM)
    refused = world.enclave.enter(2, rdi=LOAD, rsi=world.loaded.address("data")).exception
    assert refused is not None
    assert (refused.error_code, refused.address) == (0x8007, world.hole)


@pytest.mark.parametrize("miscselect", [0, Miscselect.EXINFO])
def test_fault_of_a_leaf_leaves_by_an_aex_at_the_enclu(each_sgx: Sgx, miscselect: int) -> None:
    world = World(each_sgx, Source(CODE, threads=THREADS, miscselect=miscselect))
    done = world.leaf(Enclu.EACCEPT, world.hole + 8, REG_RW | PENDING)
    fault = done.exception
    assert fault is not None
    assert (fault.vector, fault.error_code, fault.address) == (Vector.GP, 0, 0)
    assert fault.offset == world.loaded.built.symbols["enclu"]
    assert fault.reason.operation == "EACCEPT"
    assert (done.rdi, done.rsi, done.rdx) == (Vector.GP, 0, 0)
    gpr = world.loaded.gpr()
    assert gpr.rip == world.loaded.address("enclu")
    assert gpr.rax == Enclu.EACCEPT
    shown = int(Exitinfo(Vector.GP, ExitType.HARDWARE, valid=True)) if miscselect else 0
    assert gpr.exitinfo == shown


def test_fault_of_an_operand_that_is_not_mapped_is_a_page_fault_without_the_sgx_bit(world: World) -> None:
    world.sgx.mm.munmap(world.hole, PAGE_SIZE)
    fault = world.leaf(Enclu.EACCEPT, world.hole, REG_RW | PENDING).exception
    assert fault is not None
    assert (fault.vector, fault.error_code, fault.address) == (Vector.PF, 0x4, world.hole)


def test_mended_leaf_is_executed_again_by_eresume(world: World) -> None:
    world.sgx.mm.munmap(world.hole, PAGE_SIZE)
    seen: list[int] = []

    def mend(exited: Exit) -> object:
        if exited.exception is None:
            return None
        seen.append(exited.exception.error_code)
        world.map(world.hole)
        return RESUME

    world.loaded.memory("data")[: Secinfo.size_of] = bytes(Secinfo.of(flags=REG_RW | PENDING).buffer)
    done = world.enclave.enter_with(
        mend,  # type: ignore[arg-type]
        rdi=Enclu.EACCEPT,
        rsi=world.loaded.address("data"),
        rdx=world.hole,
    )
    assert (done.check().r13, seen) == (0, [0x4])


def test_processor_without_sgx2_has_neither_the_leaves_nor_new_pages() -> None:
    with Sgx(model=host_model(Monitor(), 1 << 24, sgx2=False), isolation="off") as sgx:
        world = World(sgx, Source(CODE, threads=THREADS))
        for leaf in (Enclu.EACCEPT, Enclu.EMODPE, Enclu.EACCEPTCOPY):
            fault = world.leaf(leaf, world.hole, REG_RW | PENDING).exception
            assert fault is not None
            assert (fault.vector, fault.inside) == (Vector.GP, True)
            world.loaded.tcs().cssa = 0
        fault = world.store(world.hole, 1).exception
        assert fault is not None
        assert (fault.error_code, fault.address) == (0x6, world.hole)
