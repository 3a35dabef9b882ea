"""native/supervised/cpuid.c, hosted: the answer is the host's, changed by the table, as Python says it."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swsgx.isa.cpuid import SGX_LEAF, CpuidOverride, CpuidResult, CpuModel, leaf_12h, overrides
from swsgx.supervisor.cpuid_sites import pack_overrides

# fmt: off
REGISTERS = (
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rdi", "rsi", "rbp", "rbx", "rdx", "rax", "rcx", "rsp",
    "rip", "rflags",
)
# fmt: on
HOST = """
#include <stdint.h>
void host(uint32_t leaf, uint32_t subleaf, uint32_t *out)
{
	__asm__ volatile("cpuid" : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3]) : "0"(leaf), "2"(subleaf));
}
"""
SITES = (0x1000, 0x1002, 0x7F00_0000_0000, 0xFFFF_FFFF_FFFF_FFFE)
ANY_SUBLEAF = 0xFFFF_FFFF
ALL = CpuidResult(*[0xFFFF_FFFF] * 4)
FILLER = 0x1111_1111_1111_1111


class Registers(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in REGISTERS)


class Code:
    """The compiled C, with a table that lives as long."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        library.cpuid_emulate.restype = ctypes.c_bool
        self._table = ctypes.addressof(ctypes.c_char.in_dll(library, "swsgx_cpuid_table"))
        self._sites = (ctypes.c_uint64 * 100)()

    def patch(self, sites: tuple[int, ...]) -> None:
        self._sites[: len(sites) + 1] = [len(sites), *sites]
        ctypes.c_uint64.from_address(self._table).value = ctypes.addressof(self._sites)

    def unpatch(self) -> None:
        ctypes.c_uint64.from_address(self._table).value = 0

    def answer(self, maximum: int, changes: tuple[CpuidOverride, ...]) -> None:
        packed = pack_overrides(maximum, changes)
        ctypes.memmove(self._table + 8, packed, len(packed))

    def emulate(self, rip: int, rax: int = 0, rcx: int = 0) -> Registers | None:
        """The registers behind it; None: not ours, and nothing was touched."""
        values = dict.fromkeys(REGISTERS, FILLER) | {"rip": rip, "rax": rax, "rcx": rcx, "rflags": 0x10246}
        registers = Registers(**values)
        before = bytes(registers)
        if self._library.cpuid_emulate(ctypes.byref(registers)):
            return registers
        assert bytes(registers) == before
        return None

    def host(self, leaf: int, subleaf: int = 0) -> CpuidResult:
        out = (ctypes.c_uint32 * 4)()
        self._library.host(ctypes.c_uint32(leaf), ctypes.c_uint32(subleaf), out)
        return CpuidResult(*out)

    def cpuid(self, leaf: int, subleaf: int = 0) -> CpuidResult:
        after = self.emulate(SITES[0], leaf, subleaf)
        assert after is not None
        return CpuidResult(after.rax, after.rbx, after.rcx, after.rdx)


@pytest.fixture(scope="module")
def code(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Code:
    folder = tmp_path_factory.mktemp("cpuid")
    (folder / "host.c").write_text(HOST)
    native = checkout / "native"
    subprocess.run(
        [
            *("gcc", "-std=gnu11", "-O2", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-mfsgsbase"),
            *(f"-I{native}/include", f"-I{native}/monitor", "-o", f"{folder}/cpuid.so"),
            *(f"{native}/supervised/cpuid.c", f"{folder}/host.c"),
        ],
        check=True,
    )
    made = Code(ctypes.CDLL(str(folder / "cpuid.so")))
    made.patch(SITES)
    return made


@pytest.fixture(scope="module")
def sgx2(code: Code) -> Callable[[], Code]:
    def ready() -> Code:
        code.answer(SGX_LEAF, overrides(CpuModel.with_sgx2()))
        return code

    return ready


def test_only_sites_are_emulated(code: Code) -> None:
    assert all(code.emulate(site) for site in SITES)
    for rip in (0, 0xFFE, 0xFFF, 0x1001, 0x1003, 0x1004, 0x7F00_0000_0001, 0xFFFF_FFFF_FFFF_FFFF):
        assert code.emulate(rip) is None
    code.unpatch()
    assert code.emulate(SITES[0]) is None
    code.patch(())
    assert code.emulate(SITES[0]) is None
    code.patch(SITES)


@given(st.sets(st.integers(0, (1 << 64) - 1), max_size=60), st.integers(0, (1 << 64) - 1))
def test_every_site_is_found_in_any_table(code: Code, sites: set[int], other: int) -> None:
    code.patch(tuple(sorted(sites)))
    assert all(code.emulate(site) is not None for site in sites)
    assert (code.emulate(other) is not None) == (other in sites)
    code.patch(SITES)


def test_what_cpuid_leaves_alone_is_left_alone(sgx2: Callable[[], Code]) -> None:
    after = sgx2().emulate(SITES[2], 0xFFFF_FFFF_0000_0012, 0xFFFF_FFFF_0000_0001)
    assert after is not None
    assert (after.rax, after.rbx, after.rcx, after.rdx) == leaf_12h(CpuModel.with_sgx2(), 1)
    assert after.rip == SITES[2] + 2
    assert after.rflags == 0x246  # RF is gone
    kept = set(REGISTERS) - {"rax", "rbx", "rcx", "rdx", "rip", "rflags"}
    assert {getattr(after, name) for name in kept} == {FILLER}


def test_the_features_of_sgx_are_added(sgx2: Callable[[], Code]) -> None:
    code = sgx2()
    host = code.host(7)
    assert code.cpuid(7) == overrides(CpuModel.with_sgx2())[0].apply(host)
    assert code.cpuid(7).ebx & 4
    assert code.cpuid(7).ecx >> 30 & 1
    assert code.cpuid(7, 1) == code.host(7, 1)


@pytest.mark.parametrize("model", [CpuModel.with_sgx1(), CpuModel.with_sgx2(epc_size=1 << 40)], ids=str)
@pytest.mark.parametrize("subleaf", [0, 1, 2, 3, 4, 9, 0xFFFF_FFFF])
def test_the_leaf_of_sgx_is_the_models(code: Code, model: CpuModel, subleaf: int) -> None:
    code.answer(SGX_LEAF, overrides(model))
    assert code.cpuid(SGX_LEAF, subleaf) == leaf_12h(model, subleaf)


def test_leaves_up_to_that_of_sgx_exist(sgx2: Callable[[], Code]) -> None:
    code = sgx2()
    last = code.host(0).eax
    assert code.cpuid(0) == code.host(0)._replace(eax=max(last, SGX_LEAF))
    for leaf in range(last + 1, SGX_LEAF):
        assert code.cpuid(leaf) == CpuidResult()


def test_other_leaves_are_the_hosts(sgx2: Callable[[], Code]) -> None:
    code = sgx2()
    for leaf in (2, 4, 5, 0x40000000, 0x80000000, 0x80000002, 0x80000003, 0x80000004, 0x80000006):
        assert code.cpuid(leaf, 1) == code.host(leaf, 1)


def test_a_leaf_without_subleaves_is_changed_whatever_ecx_is(code: Code) -> None:
    name = CpuidResult(0, *(int.from_bytes(part, "little") for part in (b"Genu", b"ntel", b"ineI")))
    code.answer(SGX_LEAF, (CpuidOverride(0, ANY_SUBLEAF, CpuidResult(eax=0xFFFF_FFFF), name),))
    for subleaf in (0, 1, 0xFFFF_FFFF):
        answer = code.cpuid(0, subleaf)
        assert answer[1:] == name[1:]
        assert answer.eax >= SGX_LEAF


def test_without_a_table_the_host_speaks(code: Code) -> None:
    code.answer(0, ())
    for leaf in (0, 1, 7, 0x80000001):
        got, host = code.cpuid(leaf), code.host(leaf)
        if leaf == 1:  # EBX 31:24 is the CPU that happens to run this
            got, host = got._replace(ebx=0), host._replace(ebx=0)
        assert got == host


def test_more_overrides_than_there_is_room_for_are_not_followed(code: Code) -> None:
    """A count that somebody spoilt must not lead out of the table."""
    code.answer(SGX_LEAF, (CpuidOverride(0x80000002, ANY_SUBLEAF, CpuidResult(), ALL),))
    ctypes.c_uint32.from_address(code._table + 12).value = 0xFFFF_FFFF
    assert code.cpuid(0x80000002) == ALL
    assert code.cpuid(0x80000003) == code.host(0x80000003)
