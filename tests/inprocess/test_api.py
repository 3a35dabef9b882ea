"""The Python interface: sessions, enclaves, entries, buffers, events and errors."""

from __future__ import annotations

import ctypes
import errno
import gc
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swsgx.cpu.encls.edbgrd import edbgrd
from swsgx.identity.signer import generate_key, sign
from swsgx.identity.sigstruct import SigstructOptions, unsigned
from swsgx.inprocess import RESUME, DriverError, EnclaveFault, Exit, Reentry, Sgx, reenter
from swsgx.inprocess.process import process
from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.cpuid import CpuModel
from swsgx.isa.flags import Attributes, Miscselect
from swsgx.isa.leaves import Enclu
from swsgx.isa.ssa import INTEL_COMPONENTS
from swsgx.isa.vectors import Vector
from swsgx.linux.device import EnclaveFile
from swsgx.linux.profile import LINUX_6_1, UPSTREAM_6_12, V23, Profile
from swsgx.native.host import host_model
from swsgx.trace import Event, Recorder
from tests.make.native_enclave import NEEDS_GCC, SCRATCH, Block, Built, Loaded, Source, Thread
from tests.make.storm import mixer

pytestmark = [NEEDS_GCC, pytest.mark.timeout(60)]

PASSED = ("rdi", "rsi", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15")
#: By RDI: 0 adds RDX to each of RSI bytes at R8; 1 divides RSI by RDX; 2 reads address 0; 3 asks for an ocall: leaves
#: with RSI = 30H, and the next entry with RDI = 4 brings R8, of which it returns the double. 5: reads RSI.
CODE = """
entry:	test	%eax, %eax
	jnz	handler
	mov	%rcx, %r9
	cmp	$1, %rdi
	jb	1f
	je	2f
	cmp	$3, %rdi
	jb	3f
	je	4f
	cmp	$5, %rdi
	je	6f
	lea	(%r8,%r8), %rsi
	jmp	9f
1:	test	%rsi, %rsi
	jz	9f
	add	%dl, (%r8)
	inc	%r8
	dec	%rsi
	jmp	1b
2:	mov	%rsi, %rax
	mov	%rdx, %rdi
	xor	%edx, %edx
trap:	div	%rdi
	mov	%rax, %rsi
	jmp	9f
3:	mov	0, %rax
	jmp	9f
4:	mov	$0x30, %esi
	jmp	9f
6:	mov	(%rsi), %rsi
9:	xor	%edi, %edi
	eexit	%r9
handler:
	mov	0x2000 + 0x1000 - SIZEOF_GPRSGX + GPRSGX_EXITINFO(%rbx), %esi
	mov	%r8, 0x2000 + 0x1000 - SIZEOF_GPRSGX + GPRSGX_RDI(%rbx)
	mov	$0x77, %edi
	eexit
"""
CALLEE = Source(CODE, miscselect=Miscselect.EXINFO)


@pytest.fixture
def loaded(sgx: Sgx) -> Loaded:
    return CALLEE.build().load(sgx)


# Registers and buffers.


@pytest.mark.parametrize("name", PASSED)
def test_each_register_goes_in_and_comes_out_by_its_name(sgx: Sgx, name: str) -> None:
    loaded = mixer().load(sgx)
    value = 0xF00D_0000_0000_0000
    exited = loaded.enclave.enter(**{name: value})
    step = 0x1111 * (PASSED.index(name) + 1)
    assert getattr(exited, name) == value + step
    others = {other: 0x1111 * (PASSED.index(other) + 1) for other in PASSED if other != name}
    assert {other: getattr(exited, other) for other in others} == others
    assert exited.registers[name] == value + step
    assert set(exited.registers) == {*PASSED, "rcx", "rsp", "rflags"}


def test_registers_have_64_bits(sgx: Sgx) -> None:
    loaded = mixer().load(sgx)
    exited = loaded.enclave.enter(rdi=-1, rsi=1 << 64, rdx=(1 << 64) + 5)
    assert (exited.rdi, exited.rsi, exited.rdx) == (0x1110, 0x2222, 5 + 0x3333)


def test_registers_that_are_not_given_are_zero(sgx: Sgx) -> None:
    loaded = mixer().load(sgx)
    loaded.enclave.enter(**dict.fromkeys(PASSED, 98))
    assert loaded.enclave.enter().registers["r8"] == 0x4444


@pytest.mark.parametrize("name", ["rax", "rbx", "rcx", "rsp", "rip", "RDI", "eax"])
def test_a_register_that_a_call_does_not_pass_is_a_type_error_that_says_which_there_are(
    loaded: Loaded, name: str
) -> None:
    with pytest.raises(TypeError, match=f"rdi, rsi, rdx.*not {name}"):
        loaded.enclave.enter(**{name: 1})
    loaded.enclave.enter(rdi=4).check()


@pytest.mark.parametrize("value", [1.5, "text", None, object()])
def test_what_is_neither_a_number_nor_a_buffer_is_a_type_error(loaded: Loaded, value: object) -> None:
    with pytest.raises(TypeError):
        loaded.enclave.enter(rdi=value)
    loaded.enclave.enter(rdi=4).check()


def test_a_bytearray_is_changed_where_it_is(loaded: Loaded) -> None:
    data = bytearray(range(100))
    loaded.enclave.enter(rdi=0, rsi=100, rdx=3, r8=data).check()
    assert data == bytes(range(3, 103))


@pytest.mark.parametrize("kind", [np.uint8, np.float64])
def test_an_array_is_passed_without_a_copy(loaded: Loaded, kind: Any) -> None:
    array = np.zeros(64, kind)
    loaded.enclave.enter(rdi=0, rsi=array.nbytes, rdx=0x3F, r8=array).check()
    assert bytes(array) == b"\x3f" * array.nbytes


def test_bytes_a_memoryview_and_a_ctypes_array_are_read_where_they_are(loaded: Loaded) -> None:
    for buffer in (b"12345678", memoryview(bytearray(b"12345678")), (ctypes.c_uint8 * 8)(*b"12345678")):
        assert loaded.enclave.enter(rdi=5, rsi=buffer).check().rsi == int.from_bytes(b"12345678", "little")


def test_a_part_of_an_array_is_passed_by_its_own_address(loaded: Loaded) -> None:
    array = np.zeros(64, np.uint8)
    loaded.enclave.enter(rdi=0, rsi=4, rdx=1, r8=array[10:]).check()
    assert array.nonzero()[0].tolist() == [10, 11, 12, 13]


def test_an_array_with_gaps_is_refused(loaded: Loaded) -> None:
    with pytest.raises((ValueError, BufferError)):
        loaded.enclave.enter(rdi=0, rsi=4, r8=np.zeros(64, np.uint8)[::2])


def test_a_buffer_may_be_resized_after_the_call(loaded: Loaded) -> None:
    data = bytearray(8)
    loaded.enclave.enter(rdi=0, rsi=8, rdx=1, r8=data).check()
    gc.collect()
    data.extend(b"more")
    assert len(data) == 12


# Exits and exceptions.


def test_an_exit_without_exception_is_its_own_check(loaded: Loaded) -> None:
    exited = loaded.enclave.enter(rdi=1, rsi=100, rdx=4)
    assert exited.exception is None
    assert exited.check() is exited
    assert exited.rsi == 25


def test_an_exception_is_told_with_vector_place_and_rule(loaded: Loaded) -> None:
    exited = loaded.enclave.enter(rdi=1, rsi=100, rdx=0)
    fault = exited.exception
    assert fault is not None
    assert (fault.vector, fault.error_code, fault.address, fault.inside) == (Vector.DE, 0, 0, True)
    assert fault.offset == loaded.built.symbols["trap"]
    assert str(fault).startswith(f"#DE at offset {fault.offset:#x} of the enclave: ")
    assert (exited.rdi, exited.rsi, exited.rdx) == (Vector.DE, 0, 0)
    with pytest.raises(EnclaveFault) as raised:
        exited.check()
    assert raised.value is fault


def test_a_page_fault_is_told_with_its_page(loaded: Loaded) -> None:
    fault = loaded.enclave.enter(rdi=5, rsi=0x123).exception
    assert fault is not None
    assert str(fault).startswith("#PF at 0x0, error code 0x4 at offset ")
    assert (fault.vector, fault.error_code, fault.address) == (Vector.PF, 4, 0)


def test_a_refused_entry_is_told_as_such(loaded: Loaded) -> None:
    loaded.tcs().state = 1
    fault = loaded.enclave.enter().exception
    assert fault is not None
    assert str(fault).startswith("#GP(0) at the entry: EENTER: ")
    assert (fault.inside, fault.offset) == (False, None)
    loaded.tcs().state = 0


def test_resume_without_anything_to_resume_is_refused(loaded: Loaded) -> None:
    fault = loaded.enclave.resume().exception
    assert fault is not None
    assert not fault.inside
    assert fault.reason.operation == "ERESUME"


def test_a_tcs_that_is_not_there_is_an_index_error(loaded: Loaded) -> None:
    with pytest.raises(IndexError):
        loaded.enclave.enter(5)
    assert len(loaded.enclave.tcs) == 1


def test_enter_with_answers_ocalls_until_it_is_done(loaded: Loaded) -> None:
    seen: list[Exit] = []

    def answer(exited: Exit) -> Reentry | None:
        seen.append(exited)
        return reenter(rdi=4, r8=21) if exited.rsi == 0x30 else None

    done = loaded.enclave.enter_with(answer, rdi=3)
    assert done.rsi == 42
    assert len(seen) == 2


def test_enter_with_repairs_an_exception_and_resumes(loaded: Loaded) -> None:
    def repair(exited: Exit) -> Reentry | None:
        if exited.exception is not None:
            return reenter(r8=5)
        return RESUME if exited.rdi == 0x77 else None

    assert loaded.enclave.enter_with(repair, rdi=1, rsi=100, rdx=0).check().rsi == 20


def test_enter_with_that_raises_leaves_the_frame_for_later(loaded: Loaded) -> None:
    def no(exited: Exit) -> Reentry | None:
        raise KeyError(exited.rdi)

    with pytest.raises(KeyError):
        loaded.enclave.enter_with(no, rdi=1, rsi=100, rdx=0)
    assert loaded.tcs().cssa == 1
    loaded.enclave.enter(r8=10).check()
    assert loaded.enclave.resume().check().rsi == 10


def test_an_on_exit_may_enter_another_tcs(sgx: Sgx) -> None:
    loaded = Source(CODE, threads=(Thread(), Thread())).build().load(sgx)

    def answer(exited: Exit) -> Reentry | None:
        if exited.rsi != 0x30:
            return None
        return reenter(rdi=4, r8=loaded.enclave.enter(1, rdi=1, rsi=100, rdx=4).check().rsi)

    assert loaded.enclave.enter_with(answer, rdi=3).rsi == 50


def test_resume_and_reenter_say_what_they_are() -> None:
    assert RESUME.leaf == Enclu.ERESUME
    assert (reenter(rdi=1).leaf, dict(reenter(rdi=1).registers)) == (Enclu.EENTER, {"rdi": 1})
    with pytest.raises(AttributeError):
        RESUME.leaf = Enclu.EENTER  # type: ignore[misc]


def test_a_prepared_call_is_made_as_often_as_asked(sgx: Sgx) -> None:
    loaded = Source("entry: add %rdx, %gs:8\n test %rdi, %rdi\n jz 1f\n ud2\n 1: eexit").build().load(sgx)
    with loaded.enclave.prepared(rdx=3) as call:
        call.repeat(1000)
        call.repeat(0)
        # An ENCLU of its own; RDI is 0 there, and RDX whatever it was.
        call.repeat(10, raw=True)
    loaded.set_word("tls0", 0, 8)
    with loaded.enclave.prepared(rdx=3) as call:
        call.repeat(1000)
    assert loaded.word("tls0", 8) == 3000
    with loaded.enclave.prepared(rdi=1) as call, pytest.raises(RuntimeError, match="did not exit"):
        call.repeat(10)
    with pytest.raises(TypeError, match="rdi, rsi, rdx, r8, r9; not r10"), loaded.enclave.prepared(r10=1):
        pass


# Sessions.


def test_a_machine_can_be_closed_twice_and_by_leaving_the_block() -> None:
    with Sgx() as sgx:
        enclave = CALLEE.build().load(sgx).enclave
        enclave.enter(rdi=4).check()
    sgx.close()
    enclave.close()


def test_an_enclave_can_be_closed_twice_and_the_machine_goes_on(sgx: Sgx) -> None:
    built = CALLEE.build()
    with built.load(sgx).enclave as enclave:
        base = enclave.base
    enclave.close()
    with built.load(sgx).enclave as enclave:
        enclave.enter(rdi=4).check()
        assert enclave.base == base


def test_an_enclave_that_is_closed_cannot_be_entered(sgx: Sgx) -> None:
    enclave = CALLEE.build().load(sgx).enclave
    enclave.enter(rdi=4).check()
    enclave.close()
    for act in (enclave.enter, enclave.resume):
        with pytest.raises(ValueError, match="closed"):
            act()
    with pytest.raises(ValueError, match="closed"), enclave.prepared():
        pass


def test_two_machines_live_side_by_side(sgx: Sgx) -> None:
    first = CALLEE.build().load(sgx)
    with Sgx() as other:
        second = CALLEE.build().load(other)
        assert first.enclave.enter(rdi=1, rsi=9, rdx=3).check().rsi == 3
        assert second.enclave.enter(rdi=1, rsi=9, rdx=3).check().rsi == 3
        assert first.enclave.mrenclave == second.enclave.mrenclave
    assert first.enclave.enter(rdi=1, rsi=9, rdx=3).check().rsi == 3


def test_one_measurement_whatever_the_options(sgx: Sgx) -> None:
    built = CALLEE.build()
    assert built.load(sgx).enclave.mrenclave == built.plan.measure().digest()


@pytest.mark.parametrize("profile", [UPSTREAM_6_12, LINUX_6_1, V23])
def test_each_profile_loads_and_enters(profile: Profile) -> None:
    with Sgx(profile=profile) as sgx:
        assert CALLEE.build().load(sgx).enclave.enter(rdi=1, rsi=9, rdx=3).check().rsi == 3


def test_a_model_of_ones_own_is_used() -> None:
    model = CpuModel.with_sgx2(epc_size=1 << 20, components=INTEL_COMPONENTS)
    with Sgx(model=model) as sgx:
        assert sgx.cpu.model is model
        CALLEE.build().load(sgx).enclave.enter(rdi=4).check()
    assert host_model(process().monitor, 1 << 20).epc_size == 1 << 20


def test_an_epc_that_is_too_small_is_enomem_with_a_remedy() -> None:
    with Sgx(epc_size=2 * PAGE_SIZE) as sgx:  # SECS and VA page, which never leave
        with pytest.raises(DriverError) as refused:
            CALLEE.build().load(sgx)
        assert refused.value.errno == errno.ENOMEM
        assert "ENOMEM" in str(refused.value)
        assert refused.value.reason is not None
        assert "make the EPC larger" in str(refused.value)
        # All frames are free again.
        with pytest.raises(DriverError, match="ENOMEM"):
            CALLEE.build().load(sgx)


@pytest.mark.parametrize("size", [0, -4096, 4095])
def test_an_epc_of_no_whole_pages_is_a_value_error(size: int) -> None:
    with pytest.raises(ValueError, match="EPC size"):
        Sgx(epc_size=size)


def test_a_refused_load_leaves_nothing_reserved(sgx: Sgx) -> None:
    built = CALLEE.build()
    with built.load(sgx).enclave as enclave:
        base = enclave.base
    wrong = sign(unsigned(bytes(32), SigstructOptions(miscselect=1)), generate_key())
    with pytest.raises(DriverError) as refused:
        sgx.load(built.plan, wrong)
    assert refused.value.errno == errno.EPERM
    assert refused.value.call == "SGX_IOC_ENCLAVE_INIT"
    assert str(refused.value).startswith("SGX_IOC_ENCLAVE_INIT gave EPERM: ")
    assert refused.value.reason is not None
    assert refused.value.reason.cause is not None
    assert "ENCLAVEHASH" in refused.value.reason.cause.rule
    assert isinstance(refused.value, OSError)
    assert built.load(sgx).enclave.base == base


def test_an_open_node_that_is_not_used_can_be_closed(sgx: Sgx) -> None:
    file = sgx.driver.open()
    assert isinstance(file, EnclaveFile)
    file.close()


def test_opening_a_second_machine_in_a_thread_is_fine(sgx: Sgx) -> None:
    found: list[int] = []

    def other() -> None:
        with Sgx() as mine:
            found.append(CALLEE.build().load(mine).enclave.enter(rdi=1, rsi=8, rdx=2).check().rsi)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert found == [4]
    CALLEE.build().load(sgx).enclave.enter(rdi=4).check()


def test_a_process_that_forgets_to_close_ends_quietly(checkout: Path) -> None:
    script = (
        "from swsgx.inprocess import Sgx\nfrom tests.inprocess.test_api import CALLEE\n"
        "sgx = Sgx()\nprint(CALLEE.build().load(sgx).enclave.enter(rdi=1, rsi=9, rdx=3).rsi)"
    )
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error::ResourceWarning", "-c", script],
        cwd=checkout,
        env={"PYTHONPATH": f"{checkout}/src:{checkout}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "3\n", "")


# Events.


@pytest.fixture
def events() -> Iterator[tuple[list[Event], Loaded]]:
    """What a machine with a trace recorded, from the load on."""
    recorder, seen = Recorder(), list[Event]()
    recorder.sinks.append(seen.append)
    with Sgx(trace=recorder, isolation="off") as sgx:
        loaded = CALLEE.build().load(sgx)
        yield seen, loaded


def test_a_load_is_traced_in_order(events: tuple[list[Event], Loaded]) -> None:
    seen, _ = events
    names = [event.name for event in seen]
    order = ["SGX_IOC_ENCLAVE_CREATE", "SGX_IOC_ENCLAVE_ADD_PAGES", "SGX_IOC_ENCLAVE_INIT", "mmap"]
    places = [names.index(name) for name in order]
    assert places == sorted(places)
    assert all(event.result == "ok" for event in seen if event.name == "EADD")


def test_an_entry_and_its_exit_are_traced(events: tuple[list[Event], Loaded]) -> None:
    seen, loaded = events
    seen.clear()
    loaded.enclave.enter(rdi=1, rsi=9, rdx=3)
    assert [(event.kind, event.name, event.result) for event in seen] == [
        ("enter", "EENTER", "ok"),
        ("exit", "EEXIT", "ok"),
    ]
    assert seen[0].args == {"tcs": loaded.enclave.tcs[0], "rdi": 1, "rsi": 9, "rdx": 3}
    assert seen[1].args["rsi"] == 3


def test_an_exception_a_repair_and_a_resume_are_traced(events: tuple[list[Event], Loaded]) -> None:
    seen, loaded = events
    seen.clear()
    loaded.enclave.enter(rdi=1, rsi=9, rdx=0)
    loaded.enclave.enter(r8=3)
    loaded.enclave.resume()
    assert [(event.kind, event.name, event.result) for event in seen] == [
        ("enter", "EENTER", "ok"),
        ("exit", "AEX", "#DE"),
        ("enter", "EENTER", "ok"),
        ("exit", "EEXIT", "ok"),
        ("enter", "ERESUME", "ok"),
        ("exit", "EEXIT", "ok"),
    ]
    assert seen[1].reason is not None
    assert "#DE" in str(seen[1])


def test_a_refused_entry_is_traced_with_its_reason(events: tuple[list[Event], Loaded]) -> None:
    seen, loaded = events
    seen.clear()
    loaded.enclave.resume()
    assert (seen[-1].kind, seen[-1].name, seen[-1].result) == ("exit", "ERESUME", "#GP")
    assert seen[-1].reason is not None


# Patches.

#: Two exit sites: one that can hold a jump, one that becomes a HLT.
SITES = Source(
    """
entry:	mov	%rcx, %rbx
	test	%rdi, %rdi
	jnz	2f
	.balign	8
	mov	$4, %eax
	enclu
2:	mov	$4, %eax
	jmp	3f
3:	enclu
"""
)


def seen_by_host(loaded: Loaded) -> bytes:
    return ctypes.string_at(loaded.enclave.base, PAGE_SIZE)


def used(built: Built, sgx: Sgx) -> Loaded:
    loaded = built.load(sgx)
    for number in range(6):
        loaded.enclave.enter(rdi=number % 2).check()
    return loaded


def test_without_patching_every_byte_of_code_stays() -> None:
    with Sgx(patch=False, isolation="off") as sgx:
        loaded = used(SITES.build(), sgx)
        assert seen_by_host(loaded) == loaded.built.text.ljust(PAGE_SIZE, b"\0")


def test_patched_code_is_in_a_copy_that_the_machine_does_not_see(sgx: Sgx) -> None:
    loaded = used(SITES.build(), sgx)
    plain = loaded.built.text.ljust(PAGE_SIZE, b"\0")
    assert seen_by_host(loaded) != plain
    assert bytes(loaded.memory("entry", PAGE_SIZE)) == plain
    frame = int(loaded.enclave.file.encl.store.frame_map[0]) - 1
    assert bytes(sgx.cpu.page(frame)) == plain


def test_a_debugger_reads_the_code_as_it_was_added(sgx: Sgx) -> None:
    source = Source(SITES.code, attributes=Attributes.MODE64BIT | Attributes.DEBUG)
    loaded = used(source.build(), sgx)
    plain = loaded.built.text.ljust(PAGE_SIZE, b"\0")
    assert seen_by_host(loaded) != plain
    frame = int(loaded.enclave.file.encl.store.frame_map[0]) - 1
    address = sgx.cpu.epc.address(frame)
    for at in range(0, PAGE_SIZE, 8):
        assert edbgrd(sgx.cpu, type(address)(address + at)) == int.from_bytes(plain[at : at + 8], "little")


def test_the_enclave_itself_reads_what_it_was_added_with_where_nothing_was_patched(sgx: Sgx) -> None:
    # And a page that is never used for an exit is not copied at all.
    source = Source(
        "entry: mov far(%rip), %rsi\n eexit\n .balign 4096\nfar: .quad 0x1234567890", code_pages=2
    )
    loaded = used(source.build(), sgx)
    assert loaded.enclave.enter().check().rsi == 0x1234567890


def test_the_second_load_of_an_enclave_is_not_patched_by_the_first(sgx: Sgx) -> None:
    built = SITES.build()
    used(built, sgx)
    fresh = built.load(sgx)
    assert seen_by_host(fresh) == built.text.ljust(PAGE_SIZE, b"\0")


@pytest.mark.parametrize(("patch", "slow"), [(True, 1), (False, 1)])
def test_counters_tell_slow_entries_and_asynchronous_exits(patch: bool, slow: int) -> None:
    with Sgx(patch=patch, isolation="off") as sgx:
        loaded = CALLEE.build().load(sgx)
        for _ in range(5):
            loaded.enclave.enter(rdi=4).check()
        assert loaded.enclave.counters == {"eenter_slow": slow, "aex": 0}
        loaded.enclave.enter(rdi=1)
        assert loaded.enclave.counters == {"eenter_slow": slow, "aex": 1}


def test_blocks_are_what_the_plan_says(sgx: Sgx) -> None:
    loaded = (
        Source("entry: mov data(%rip), %rsi\n eexit", blocks=(Block("data", 1, 1, b"abcdefgh"), SCRATCH))
        .build()
        .load(sgx)
    )
    assert loaded.enclave.enter().check().rsi == int.from_bytes(b"abcdefgh", "little")
