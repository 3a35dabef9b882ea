"""EEXIT: its one check, what it changes, what it leaves alone; and the patch that makes it cheap.

First exits of a site trap, later ones run the patched code; a TCS whose FS and GS cannot tell it from another's, and
code of another shape, trap each time. All of them must leave the same.
"""

from __future__ import annotations

import ctypes
import signal

import pytest

from swsgx.inprocess import Sgx
from swsgx.isa.leaves import Enclu
from swsgx.isa.vectors import Vector
from tests.make.native_enclave import NEEDS_GCC, RX, Block, Loaded, Source, Thread
from tests.make.probe import Landed, Probe, pattern_state
from tests.make.refused import FAR

pytestmark = NEEDS_GCC

#: Loads what it is told and leaves to RBX.
LEAVER = """
entry:
	load	leave
	{exit}
"""
BLOCKS = (Block("data"), Block("scratch"), Block("leave"))

#: Ways to write an exit: what the patch expects; what it must cope with.
EXITS = {
    "mov imm32": ".balign 8\n mov $4, %eax\n enclu",
    "mov with REX.W": ".balign 8\n mov $4, %rax\n enclu",
    "misaligned by 3": ".balign 8\n .skip 3, 0x90\n mov $4, %eax\n enclu",
    "misaligned by 4": ".balign 8\n .skip 4, 0x90\n mov $4, %eax\n enclu",
    "misaligned by 7": ".balign 8\n .skip 7, 0x90\n mov $4, %eax\n enclu",
    "no mov in front": "mov $4, %eax\n jmp 1f\n 1: enclu",
    "a gap": ".balign 8\n mov $4, %eax\n nop\n enclu",
    "prefixed": ".balign 8\n mov $4, %eax\n .byte 0x65, 0x4f\n enclu",
    "across pages": ".balign 4096\n .skip 4089, 0x90\n mov $4, %eax\n enclu",
    "mov across pages": ".balign 4096\n .skip 4093, 0x90\n mov $4, %eax\n enclu",
}


def built(exit_code: str) -> Source:
    return Source(LEAVER.format(exit=exit_code), blocks=BLOCKS, code_pages=3)


def leave(loaded: Loaded, probe: Probe, way: str = "enclu", **registers: int) -> None:
    """One round trip that ends at the probe, with these registers at the exit."""
    state = loaded.state("leave")
    state.buffer[:] = pattern_state(3, 0x50).buffer
    state.rbx = probe.address("probe_exit")
    for name, value in registers.items():
        setattr(state, name, value)
    landed = probe.raw(loaded) if way == "enclu" else probe.vdso(loaded)
    assert landed == Landed.EXIT


@pytest.mark.parametrize("way", ["enclu", "vdso"])
@pytest.mark.parametrize("name", EXITS)
def test_every_register_but_rcx_is_left_alone(each_sgx: Sgx, probe: Probe, name: str, way: str) -> None:
    loaded = built(EXITS[name]).build().load(each_sgx)
    for _ in range(4):
        probe.prepare()
        leave(loaded, probe, way)
        expected = loaded.state("leave").gprs() | {"rax": Enclu.EEXIT, "rcx": loaded.tcs().aep}
        assert probe.out.gprs() == expected
        if way == "enclu":
            assert probe.out.rcx == probe.address("probe_aep")


def test_rax_keeps_its_upper_half(each_sgx: Sgx, probe: Probe) -> None:
    loaded = built("movabs $0xdeadbeef00000004, %rax\n enclu").build().load(each_sgx)
    for _ in range(3):
        probe.prepare()
        leave(loaded, probe)
        assert probe.out.rax == 0xDEADBEEF_00000004


@pytest.mark.parametrize(
    ("code", "register", "value"),
    [
        ("mov $4, %eax\n .balign 8\n .skip 2, 0x90\n mov $4, %r8d\n enclu", "r8", 4),
        (
            "mov $4, %eax\n .balign 8\n .skip 6, 0x90\n movabs $0x4b8000000, %rdx\n nop\n enclu",
            "rdx",
            0x4B8000000,
        ),
    ],
)
def test_an_instruction_that_only_looks_like_the_mov_is_not_patched(
    sgx: Sgx, probe: Probe, code: str, register: str, value: int
) -> None:
    loaded = built(code).build().load(sgx)
    for _ in range(3):
        probe.prepare()
        leave(loaded, probe)
        assert getattr(probe.out, register) == value


FLAGS = [1 << bit for bit in (0, 2, 4, 6, 7, 10, 11, 14, 18, 21)]


@pytest.mark.parametrize("name", ["mov imm32", "no mov in front"])
def test_flags_are_left_alone(each_sgx: Sgx, probe: Probe, name: str) -> None:
    loaded = built(EXITS[name]).build().load(each_sgx)
    for flags in [0, *FLAGS, sum(FLAGS)] * 2:
        probe.prepare()
        leave(loaded, probe, rflags=0x202 | flags)
        assert probe.out.rflags == 0x202 | flags


@pytest.mark.parametrize("name", ["mov imm32", "no mov in front"])
def test_vector_state_is_left_alone(each_sgx: Sgx, probe: Probe, name: str) -> None:
    loaded = built(EXITS[name]).build().load(each_sgx)
    for _ in range(3):
        probe.prepare()
        leave(loaded, probe)
        found, given = probe.out.xsave, loaded.state("leave").xsave
        assert found[:28] == given[:28]
        assert found[32:416] == given[32:416]


@pytest.mark.parametrize("name", ["mov imm32", "no mov in front"])
def test_fs_and_gs_are_as_they_were_at_the_entry(each_sgx: Sgx, probe: Probe, name: str) -> None:
    loaded = built(EXITS[name]).build().load(each_sgx)
    fs = None
    for gsbase in (0, 0x1234_5000, 0x7FFF_FFFF_E000, 0x1000):
        probe.prepare()
        probe.into.gsbase = gsbase
        leave(loaded, probe)
        assert probe.out.gsbase == gsbase
        assert fs in (None, probe.out.fsbase)
        fs = probe.out.fsbase


@pytest.mark.parametrize("base", ["wrgsbase", "wrfsbase"])
@pytest.mark.parametrize("value", [0, 0x1000, 0x7FFF_FFFF_F000, 0xFFFF_FFFF_FFFF_FFFF])
def test_an_enclave_may_set_its_bases_and_leave_all_the_same(
    each_sgx: Sgx, probe: Probe, base: str, value: int
) -> None:
    code = f"mov ${value}, %rax\n {base} %rax\n .balign 8\n mov $4, %eax\n enclu"
    loaded = built(code).build().load(each_sgx)
    for _ in range(3):
        probe.prepare()
        probe.into.gsbase = 0x5000
        leave(loaded, probe)
        assert probe.out.gsbase == 0x5000
        assert loaded.tcs().state == 0


def test_threads_with_one_gs_base_leave_as_themselves(each_sgx: Sgx, probe: Probe) -> None:
    fields = {"ofsbase": 0x2000, "ogsbase": 0x2000}
    source = Source(
        LEAVER.format(exit=EXITS["mov imm32"]),
        threads=(Thread(fields=fields), Thread(fields=fields)),
        blocks=BLOCKS,
    )
    loaded = source.build().load(each_sgx)
    for thread in (0, 1, 0, 1, 1, 0):
        probe.prepare()
        state = loaded.state("leave")
        state.buffer[:] = pattern_state(3, 0x50).buffer
        state.rbx = probe.address("probe_exit")
        assert probe.raw(loaded, aep="probe_aep" if thread else "probe_exit", thread=thread) == Landed.EXIT
        assert probe.out.rcx == probe.address("probe_aep" if thread else "probe_exit")
        assert (loaded.tcs(0).state, loaded.tcs(1).state) == (0, 0)


@pytest.mark.parametrize("target", [1 << 47, FAR, 0xFFFF_7FFF_FFFF_F000])
def test_a_target_that_is_not_canonical_is_gp_inside(each_sgx: Sgx, target: int) -> None:
    loaded = (
        Source("entry: mov %rdi, %rbx\nsite: mov $4, %eax\nexit: enclu", miscselect=1).build().load(each_sgx)
    )
    for frame in range(2):
        fault = loaded.enclave.enter(rdi=target).exception
        assert fault is not None
        assert (fault.vector, fault.error_code, fault.inside) == (Vector.GP, 0, True)
        assert fault.reason.operation == "EEXIT"
        assert "RBX is canonical" in fault.reason.rule
        assert loaded.gpr(frame).rip == loaded.address("exit")
        assert (loaded.exinfo(frame).maddr, loaded.exinfo(frame).errcd) == (0, 0)


@pytest.mark.parametrize("target", [1 << 47, FAR])
def test_a_target_that_is_not_canonical_is_gp_at_a_site_that_was_patched(
    each_sgx: Sgx, probe: Probe, target: int
) -> None:
    loaded = built(EXITS["mov imm32"]).build().load(each_sgx)
    for _ in range(3):
        probe.prepare()
        leave(loaded, probe)
    state = loaded.state("leave")
    state.rbx = target
    fault = loaded.enclave.enter().exception
    assert fault is not None
    assert (fault.vector, fault.inside, fault.reason.operation) == (Vector.GP, True, "EEXIT")
    assert loaded.gpr().rbx == target
    assert (loaded.gpr().rcx, loaded.gpr().rax) == (state.rcx, Enclu.EEXIT)


def test_cssa_and_the_frames_are_left_alone(each_sgx: Sgx, probe: Probe) -> None:
    loaded = built(EXITS["mov imm32"]).build().load(each_sgx)
    for cssa in (0, 1, 1, 0):
        loaded.tcs().cssa = cssa
        loaded.memory("ssa0", 8192)[:] = b"\x5a" * 8192
        probe.prepare()
        leave(loaded, probe)
        left = bytearray(loaded.memory("ssa0", 8192))
        at = 4096 * (cssa + 1) - 184 + 144
        left[at : at + 16] = b"\x5a" * 16
        assert left == b"\x5a" * 8192
        assert loaded.tcs().cssa == cssa


@pytest.mark.parametrize("leaf", [Enclu.EENTER, Enclu.ERESUME])
def test_entering_from_inside_is_gp(each_sgx: Sgx, leaf: Enclu) -> None:
    loaded = Source(f"entry: mov ${int(leaf)}, %eax\nsite: enclu").build().load(each_sgx)
    fault = loaded.enclave.enter().exception
    assert fault is not None
    assert (fault.vector, fault.error_code, fault.inside) == (Vector.GP, 0, True)
    assert "for outside" in fault.reason.rule
    assert loaded.gpr().rip == loaded.address("site")


def test_gp_of_an_enclu_inside_is_sigsegv_though_the_host_says_sigill(each_sgx: Sgx, probe: Probe) -> None:
    loaded = Source("entry: mov $2, %eax\nsite: enclu").build().load(each_sgx)
    with probe.catching(signal.SIGSEGV, signal.SIGILL):
        probe.prepare()
        assert probe.raw(loaded) == Landed.AEP
        told = probe.caught
    assert (told.signal, told.code, told.address) == (signal.SIGSEGV, 0x80, 0)
    assert (told.registers["trap"], told.registers["error"]) == (Vector.GP, 0)


@pytest.mark.parametrize("leaf", [8, 9, 0x10, 0xFFFF_FFFF])
def test_an_unknown_leaf_is_gp_inside(each_sgx: Sgx, leaf: int) -> None:
    loaded = Source(f"entry: mov ${leaf}, %eax\nsite: enclu").build().load(each_sgx)
    fault = loaded.enclave.enter().exception
    assert fault is not None
    assert (fault.vector, fault.inside) == (Vector.GP, True)
    assert "the leaf exists" in fault.reason.rule


# The patch.


def test_the_measured_contents_are_not_patched(each_sgx: Sgx, probe: Probe) -> None:
    for name in EXITS:
        made = built(EXITS[name]).build()
        loaded = made.load(each_sgx)
        for _ in range(3):
            probe.prepare()
            leave(loaded, probe)
        code = bytes(loaded.contents[: 3 * 4096])
        assert code == made.text.ljust(3 * 4096, b"\0"), name


def test_without_patching_not_a_byte_of_the_code_changes(probe: Probe) -> None:
    with Sgx(isolation="off", patch=False) as sgx:
        loaded = Source(LEAVER.format(exit=EXITS["mov imm32"]) + "\nend:", blocks=BLOCKS).build().load(sgx)
        reader = (
            Source(
                "entry: mov %rdx, %r8\n mov %rcx, %rdx\n mov %r8, %rcx\n rep movsb\n mov %rdx, %rcx\n eexit"
            )
            .build()
            .load(sgx)
        )
        for _ in range(3):
            probe.prepare()
            leave(loaded, probe)
        length = loaded.built.symbols["end"]
        copy = bytearray(length)
        reader.enclave.enter(rdi=copy, rsi=loaded.enclave.base, rdx=length).check()
        assert bytes(copy) == loaded.built.text[:length]


def test_code_in_a_page_that_is_writable_is_never_patched(sgx: Sgx, probe: Probe) -> None:
    code = Block("code", perm=7)
    source = Source(
        "entry: lea code(%rip), %rax\n jmp *%rax",
        blocks=(*BLOCKS, code),
    )
    # mov %rcx, %rbx; mov $4, %eax; enclu
    bytes_of_exit = bytes.fromhex("4889cb 90909090 90 b804000000 0f01d7")
    source = Source(source.code, blocks=(*BLOCKS, Block("code", perm=7, content=bytes_of_exit)))
    loaded = source.build().load(sgx)
    for _ in range(3):
        loaded.enclave.enter().check()
    assert bytes(loaded.memory("code", len(bytes_of_exit))) == bytes_of_exit


def test_an_exit_from_a_page_that_can_only_be_executed(each_sgx: Sgx) -> None:
    bytes_of_exit = bytes.fromhex("4889cb 90909090 90 b804000000 0f01d7")
    source = Source(
        "entry: lea hidden(%rip), %rax\n jmp *%rax",
        blocks=(*BLOCKS, Block("hidden", perm=4, content=bytes_of_exit)),
    )
    loaded = source.build().load(each_sgx)
    for _ in range(3):
        loaded.enclave.enter().check()


def test_a_jump_to_the_enclu_itself_leaves_like_any_other(each_sgx: Sgx, probe: Probe) -> None:
    """The patch replaces the mov in front: the instruction itself must still be there."""
    loaded = built("mov $4, %eax\n jmp 1f\n .balign 8\n mov $4, %eax\n1: enclu").build().load(each_sgx)
    for _ in range(3):
        probe.prepare()
        leave(loaded, probe)
    both = built("test %rdi, %rdi\n mov $4, %eax\n jnz 1f\n .balign 8\n mov $4, %eax\n1: enclu").build()
    loaded = both.load(each_sgx)
    for rdi in (0, 1, 0, 1, 1, 0):
        probe.prepare()
        leave(loaded, probe, rdi=rdi)
        assert probe.out.rdi == rdi


def test_a_site_is_patched_at_its_first_use_and_its_enclu_stays(sgx: Sgx) -> None:
    loaded = Source("entry: eexit").build().load(sgx)
    at = loaded.built.text.index(b"\xb8\x04\x00\x00\x00\x0f\x01\xd7")
    assert own_code(loaded)[at] == 0xB8
    for _ in range(3):
        loaded.enclave.enter().check()
        code = own_code(loaded)
        assert code[at] == 0xE9  # a jump
        assert code[at + 5 : at + 8] == b"\x0f\x01\xd7"


def test_more_sites_than_the_stub_has_places_for_leave_all_the_same(sgx: Sgx, probe: Probe) -> None:
    exits = "\n".join(f"{n}: .balign 8\n mov $4, %eax\n enclu" for n in range(300))
    table = "\n".join(f" cmp ${n}, %rdi\n je {n}f" for n in range(300))
    made = Source(f"entry:\n mov %rcx, %rbx\n{table}\n ud2\n{exits}", code_pages=3).build()
    loaded = made.load(sgx)
    for _ in range(2):
        for number in range(300):
            assert loaded.enclave.enter(rdi=number).check().rdi == number


def own_code(loaded: Loaded) -> bytes:
    """The code page as this process has it mapped."""
    assert loaded.built.plan.entries[0].secinfo_flags & 7 == RX
    return ctypes.string_at(loaded.enclave.base, 4096)
