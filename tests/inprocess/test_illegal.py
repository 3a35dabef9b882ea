"""Instructions that an enclave may not execute, as far as the coverage table says that they are seen.

Not seen, and so not here: CPUID, what the host's kernel emulates (SGDT and its like under UMIP), and segment loads and
far transfers with a selector that the host takes.
"""

from __future__ import annotations

import signal

import pytest

from swsgx.inprocess import Sgx
from swsgx.isa.ssa import Exitinfo
from swsgx.isa.vectors import Vector
from tests.make.native_enclave import NEEDS_GCC, Block, Loaded, Source
from tests.make.probe import Landed, Probe, pattern_state

pytestmark = NEEDS_GCC

#: Stops at the instruction, with a stack of its own, and with operands that the host does not take.
CODE = """
entry:
	mov	%rcx, data(%rip)
	mov	%rsp, data+8(%rip)
	mov	%rbp, data+16(%rip)
	load	want
	lea	scratch+2048(%rip), %rsp
	lea	operands(%rip), %rbx
	mov	$0xfff8, %ecx
	mov	$20, %eax
stop:	{instruction}
go_on:	nop
	dump	dumped
	mov	data+8(%rip), %rsp
	mov	data+16(%rip), %rbp
	eexit	data(%rip)
"""
BLOCKS = (
    Block("data"),
    Block("scratch"),
    Block("want"),
    Block("dumped"),
    Block("operands", content=b"\xf8\xff" * 64),
)
RF = 0x10000

#: What raises #UD inside, and outside something else, or nothing.
ILLEGAL = {
    "in al, imm8": "in $0x80, %al",
    "in eax, dx": "in %dx, %eax",
    "in ax, dx": "in %dx, %ax",
    "out imm8, al": "out %al, $0x80",
    "out dx, eax": "out %eax, %dx",
    "insb": "insb",
    "rep insl": "rep insl",
    "outsb": "outsb",
    "rep outsw": "rep outsw",
    "int 0x20": "int $0x20",
    "int 0xff": "int $0xff",
    "int 1, two bytes": ".byte 0xcd, 1",
    "int 3, two bytes": ".byte 0xcd, 3",
    "int 4": "int $4",
    "int3": "int3",
    "iretq": "pushq $0\n stop2: iretq",
    "lret": "lretq",
    "lret imm16": "lretq $8",
    "far call": "lcall *(%rbx)",
    "far jmp": "ljmp *(%rbx)",
    "mov to ds": "mov %cx, %ds",
    "mov to es": "mov %cx, %es",
    "mov to fs": "mov %cx, %fs",
    "mov to gs": "mov %cx, %gs",
    "mov to ss": "mov %cx, %ss",
    "mov to ss from memory": "mov (%rbx), %ss",
    "pop fs": "pushq %rcx\n stop2: pop %fs",
    "pop gs": "pushq %rcx\n stop2: pop %gs",
    "lss": "lss (%rbx), %edx",
    "lfs": "lfs (%rbx), %edx",
    "lgs": "lgs (%rbx), %edx",
    "with prefixes": ".byte 0x3e, 0x67\n in %dx, %al",
    "ud2": "ud2",
    "ud1": "ud1 %eax, %ecx",
    "encls": "encls",
    "syscall": "syscall",
    "int 0x80": "int $0x80",
}

#: The same exception as outside.
AS_OUTSIDE = {
    "hlt": "hlt",
    "cli": "cli",
    "wbinvd": "wbinvd",
    "lgdt": "lgdt (%rbx)",
    "mov to cr": "mov %rax, %cr3",
    "rdmsr": "rdmsr",
}


def stopped(sgx: Sgx, instruction: str) -> tuple[Loaded, int]:
    """Loaded and prepared, and where it will stop."""
    loaded = Source(CODE.format(instruction=instruction), blocks=BLOCKS, miscselect=1).build().load(sgx)
    loaded.state("want").buffer[:] = pattern_state(3, 0x20).buffer
    loaded.state("want").rflags = 0x202
    symbol = "stop2" if "stop2" in loaded.built.symbols else "stop"
    return loaded, loaded.address(symbol)


@pytest.mark.parametrize("name", ILLEGAL)
def test_it_is_ud_inside(sgx: Sgx, name: str) -> None:
    loaded, where = stopped(sgx, ILLEGAL[name])
    for frame in range(2):
        fault = loaded.enclave.enter().exception
        assert fault is not None
        assert (fault.vector, fault.error_code, fault.address, fault.inside) == (Vector.UD, 0, 0, True)
        gpr = loaded.gpr(frame)
        assert gpr.rip == where
        assert gpr.exitinfo == int(Exitinfo(Vector.UD, 3, valid=True))
        assert gpr.rflags & RF
        if name != "syscall":
            assert gpr.rcx == 0xFFF8
            assert gpr.r11 == loaded.state("want").r11
        assert gpr.rax == 20


@pytest.mark.parametrize("name", ["in al, imm8", "syscall", "int 0x80", "int3", "mov to ss", "int 0x20"])
def test_a_program_with_its_own_aep_gets_sigill(each_sgx: Sgx, probe: Probe, name: str) -> None:
    loaded, _ = stopped(each_sgx, ILLEGAL[name])
    with probe.catching(signal.SIGILL, signal.SIGSEGV, signal.SIGTRAP, signal.SIGSYS):
        probe.prepare()
        assert probe.raw(loaded) == Landed.AEP
        told = probe.caught
    assert (told.count, told.signal, told.code) == (1, signal.SIGILL, 2)
    assert told.address == probe.address("probe_aep")
    assert (told.registers["trap"], told.registers["error"]) == (Vector.UD, 0)


@pytest.mark.parametrize("name", AS_OUTSIDE)
def test_privileged_instructions_are_gp_as_outside(sgx: Sgx, name: str) -> None:
    loaded, where = stopped(sgx, AS_OUTSIDE[name])
    fault = loaded.enclave.enter().exception
    assert fault is not None
    assert (fault.vector, fault.error_code) == (Vector.GP, 0)
    assert loaded.gpr().rip == where


@pytest.mark.parametrize("name", ["in al, imm8", "syscall", "int 0x80", "int3", "ud2", "mov to ss", "hlt"])
def test_the_enclave_can_step_over_it(each_sgx: Sgx, name: str) -> None:
    loaded, _ = stopped(each_sgx, (ILLEGAL | AS_OUTSIDE)[name])
    for _ in range(3):
        assert loaded.enclave.enter().exception is not None
        loaded.gpr().rip = loaded.address("go_on")
        loaded.enclave.resume().check()
        found, want = loaded.state("dumped"), loaded.state("want")
        assert (found.rsi, found.r15, found.rax) == (want.rsi, want.r15, 20)


def test_a_system_call_outside_is_none_of_the_monitors_business(each_sgx: Sgx) -> None:
    loaded, _ = stopped(each_sgx, "syscall")
    for _ in range(3):
        assert loaded.enclave.enter().exception is not None
        loaded.gpr().rip = loaded.address("go_on")
        with open("/proc/self/stat", "rb") as file:
            assert file.read()
        loaded.enclave.resume().check()


ALLOWED = {
    "rdtsc": "rdtsc",
    "rdtscp": "rdtscp",
    "pause": "pause",
    "xgetbv": "xor %ecx, %ecx\n xgetbv",
    "rdfsbase": "rdfsbase %rax",
    "wrfsbase": "rdfsbase %rax\n wrfsbase %rax",
    "wrgsbase": "rdgsbase %rax\n wrgsbase %rax",
    "fxsave": "fxsave scratch(%rip)",
    "lfence": "lfence",
    "cld": "std\n cld",
}


@pytest.mark.parametrize("name", ALLOWED)
def test_what_is_allowed_runs(sgx: Sgx, name: str) -> None:
    loaded, _ = stopped(sgx, ALLOWED[name])
    loaded.enclave.enter().check()


@pytest.mark.parametrize("base", ["fs", "gs"])
def test_bases_that_the_enclave_wrote_are_saved_and_restored(each_sgx: Sgx, base: str) -> None:
    loaded, _ = stopped(each_sgx, f"lea data(%rip), %rdx\n wr{base}base %rdx\n stop2: ud2")
    for _ in range(3):
        assert loaded.enclave.enter().exception is not None
        saved = {"fs": loaded.gpr().fsbase, "gs": loaded.gpr().gsbase}
        other = "gs" if base == "fs" else "fs"
        assert saved == {base: loaded.address("data"), other: loaded.address("tls0")}
        loaded.gpr().rip = loaded.address("go_on")
        loaded.enclave.resume().check()
        found = loaded.state("dumped")
        assert {"fs": found.fsbase, "gs": found.gsbase} == saved
