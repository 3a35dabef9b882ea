"""The parts of the machine that no single leaf owns: EPC, registers, memory, faults, keys, the record."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swsgx.cpu.encls.epa import epa
from swsgx.cpu.epc import Epc
from swsgx.cpu.faults import (
    GeneralProtection,
    InternalError,
    LeafResult,
    PageFault,
    UndefinedOpcode,
    invariant,
)
from swsgx.cpu.keys import Dependencies, Secrets, cmac, derive
from swsgx.cpu.machine import Cpu
from swsgx.cpu.memory import ScratchMemory
from swsgx.cpu.msr import Msrs
from swsgx.isa.address import PAGE_SIZE, EpcAddr, Linaddr
from swsgx.isa.cpuid import CpuModel
from swsgx.isa.errors import SgxError
from swsgx.isa.flags import KeyName, PageType
from swsgx.isa.msr import DEFAULT_LAUNCH_SIGNER, FeatureControl, Msr
from swsgx.trace import Reason
from tests.make.leaves import Bench
from tests.make.world import repeatable

REASON = Reason("EADD", "LINADDR lies inside ELRANGE", "0x1000-0x3000", "0x3000", "SDM, 'EADD'")


# Leaves in general.


@pytest.mark.parametrize("feature_control", [FeatureControl.SGX_ENABLE, FeatureControl.LOCK])
def test_leaves_fault_where_firmware_has_not_enabled_sgx(
    bench: Bench, feature_control: FeatureControl
) -> None:
    page = bench.page()
    bench.cpu.msrs.feature_control = feature_control
    with pytest.raises(GeneralProtection, match="IA32_FEATURE_CONTROL is locked with SGX_ENABLE"):
        epa(bench.cpu, PageType.VA, page)


def test_a_leaf_is_recorded_with_its_operands_and_result(bench: Bench) -> None:
    page = bench.page()
    epa(bench.cpu, PageType.VA, page)
    event = bench.events[-1]
    assert (event.kind, event.name, event.result) == ("leaf", "EPA", "ok")
    assert event.args == {"page_type": 3, "page": page}


def test_nothing_is_recorded_when_nobody_listens() -> None:
    cpu = Cpu(CpuModel.with_sgx2(epc_size=8 * PAGE_SIZE), random=repeatable().randbytes)
    epa(cpu, PageType.VA, cpu.epc.address(0))
    cpu.close()


def test_a_lock_ends_with_its_block_and_counts(bench: Bench) -> None:
    page = bench.page()
    frame = bench.cpu.epc.frame(page)
    with bench.cpu.lock(page):
        with bench.cpu.lock(page):
            assert bench.cpu.is_locked(frame)
        assert bench.cpu.is_locked(frame)
    assert not bench.cpu.any_locked()


# Faults and results.


def test_a_fault_says_leaf_vector_rule_and_values() -> None:
    text = str(GeneralProtection(REASON))
    assert text == "EADD #GP(0): LINADDR lies inside ELRANGE: expected 0x1000-0x3000, found 0x3000"
    assert str(PageFault(Linaddr(0x5000), REASON)).startswith("EADD #PF(0x8003) at 0x5000: ")
    assert str(UndefinedOpcode(REASON)).startswith("EADD #UD: ")


def test_results_read_like_the_manual() -> None:
    assert str(LeafResult()) == "ok"
    assert str(LeafResult(SgxError.CHILD_PRESENT, zf=True)) == "SGX_CHILD_PRESENT (13)"
    assert LeafResult().ok
    assert LeafResult().code is None


def test_a_broken_invariant_is_our_own_bug() -> None:
    invariant(True, "EPCM: fine")
    with pytest.raises(InternalError, match=r"EPCM: a REG page has a valid SECS \(frame=3\)"):
        invariant(False, "EPCM: a REG page has a valid SECS", frame=3)


# The EPC.


def test_frames_are_handed_out_in_the_order_in_which_they_became_free() -> None:
    epc = Epc(CpuModel.with_sgx2(epc_size=8 * PAGE_SIZE))
    assert epc.allocate_run(3).tolist() == [0, 1, 2]
    epc.free(1)
    epc.free(np.array([0, 2], np.uint32))
    assert epc.allocate_run(7).tolist() == [3, 4, 5, 6, 7, 1, 0]
    assert epc.allocate() == 2
    assert epc.allocate() is None
    epc.close()


def test_frames_that_were_not_needed_go_back_to_the_head() -> None:
    epc = Epc(CpuModel.with_sgx2(epc_size=8 * PAGE_SIZE))
    epc.unread(epc.allocate_run(4)[2:])
    assert epc.allocate_run(3).tolist() == [2, 3, 4]
    assert epc.free_count == 3
    epc.close()


def test_taking_more_frames_than_there_are_is_our_own_bug() -> None:
    epc = Epc(CpuModel.with_sgx2(epc_size=2 * PAGE_SIZE))
    with pytest.raises(InternalError, match="enough frames"):
        epc.allocate_run(3)
    epc.close()


@given(st.lists(st.tuples(st.sampled_from(["take", "free", "unread"]), st.integers(0, 9)), max_size=30))
def test_a_frame_is_never_in_two_places(steps: list[tuple[str, int]]) -> None:
    epc = Epc(CpuModel.with_sgx2(epc_size=16 * PAGE_SIZE))
    free, held = list(range(16)), list[int]()
    for step, number in steps:
        if step == "take":
            count = min(number, len(free))
            taken = epc.allocate_run(count).tolist()
            assert taken == free[:count]
            free, held = free[count:], held + taken
        else:
            given_back, held = held[:number], held[number:]
            frames = np.array(given_back, np.uint32)
            if step == "free":
                epc.free(frames)
                free += given_back
            else:
                epc.unread(frames)
                free = given_back + free
        assert epc.free_count == len(free)
    epc.close()


def test_addresses_and_frames_correspond() -> None:
    epc = Epc(CpuModel.with_sgx2(epc_size=4 * PAGE_SIZE))
    assert epc.address(3) == epc.base + 0x3000
    assert epc.frame(EpcAddr(epc.base + 0x3FFF)) == 3
    assert epc.contains(epc.base)
    assert not epc.contains(epc.base + epc.size)
    assert not epc.contains(epc.base - 1)
    with pytest.raises(InternalError):
        epc.frame(EpcAddr(epc.base + epc.size))
    epc.close()


# Registers.


def test_the_launch_hash_starts_as_intels() -> None:
    msrs = Msrs()
    assert msrs.lepubkeyhash == DEFAULT_LAUNCH_SIGNER
    assert [msrs.read(Msr.SGXLEPUBKEYHASH0 + i) for i in range(4)] == [
        0xA6053E051270B7AC,
        0x6CFBE8BA8B3B413D,
        0xC4916D99F2B3735D,
        0xD4F8C05909F9BB3B,
    ]


def test_the_launch_hash_is_written_word_by_word() -> None:
    msrs = Msrs()
    for index in range(4):
        msrs.write(Msr.SGXLEPUBKEYHASH0 + index, 0x0101_0101_0101_0101 * (index + 1))
    assert msrs.lepubkeyhash == b"\1" * 8 + b"\2" * 8 + b"\3" * 8 + b"\4" * 8


def test_without_launch_control_the_launch_hash_is_read_only() -> None:
    msrs = Msrs(FeatureControl.LOCK | FeatureControl.SGX_ENABLE)
    with pytest.raises(GeneralProtection, match="IA32_SGXLEPUBKEYHASHn is writable"):
        msrs.write(Msr.SGXLEPUBKEYHASH0, 0)


def test_feature_control_is_written_until_it_is_locked() -> None:
    msrs = Msrs(FeatureControl(0))
    msrs.write(Msr.FEATURE_CONTROL, FeatureControl.LOCK | FeatureControl.SGX_ENABLE)
    assert msrs.sgx_enabled
    assert msrs.read(Msr.FEATURE_CONTROL) == 0x40001
    with pytest.raises(GeneralProtection, match="is not locked"):
        msrs.write(Msr.FEATURE_CONTROL, 0)


@pytest.mark.parametrize("register", [0x8B, 0x90, 0])
def test_other_registers_are_not_here(register: int) -> None:
    with pytest.raises(GeneralProtection, match="the register exists"):
        Msrs().read(register)
    with pytest.raises(GeneralProtection, match="the register exists"):
        Msrs().write(register, 0)


# Memory.


def test_buffers_are_aligned_and_apart() -> None:
    memory = ScratchMemory()
    first, second = memory.place(b"a" * 100, 4096), memory.place(b"b" * 32, 32)
    assert (first % 4096, second % 32) == (0, 0)
    assert memory.read(first, 100) == b"a" * 100
    assert memory.read(Linaddr(first + 99), 1) == b"a"
    memory.write(Linaddr(second + 30), b"xy")
    assert memory.read(second, 32) == b"b" * 30 + b"xy"


def test_reading_and_writing_past_a_buffer_is_a_page_fault() -> None:
    memory = ScratchMemory()
    at = memory.place(b"a" * 32, 32)
    for address, size in ((at, 33), (at + 32, 1), (at - 1, 1)):
        with pytest.raises(PageFault) as caught:
            memory.read(Linaddr(address), size)
        assert caught.value.error_code == 0
        with pytest.raises(PageFault) as caught:
            memory.write(Linaddr(address), b"x" * size)
        assert caught.value.error_code == 2


# Keys.


def test_cmac_is_rfc_4493() -> None:
    key = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
    assert cmac(key, b"").hex() == "bb1d6929e95937287fa37d129b756746"


def test_same_inputs_same_key_other_inputs_another() -> None:
    secrets, others = Secrets.generate(repeatable(1).randbytes), Secrets.generate(repeatable(2).randbytes)
    base = {"keyname": KeyName.SEAL}
    changes: list[dict[str, object]] = [
        {},
        {"keyname": KeyName.PROVISION},
        {"owner_epoch": b"\1" * 16},
        {"attributes": b"\1" * 16},
        {"attributemask": b"\1" * 16},
        {"miscselect": 1},
        {"miscmask": 1},
        {"cpusvn": b"\1" * 16},
        {"isvsvn": 1},
        {"isvprodid": 1},
        {"mrenclave": b"\1" * 32},
        {"mrsigner": b"\1" * 32},
        {"isvfamilyid": b"\1" * 16},
        {"isvextprodid": b"\1" * 16},
        {"configid": b"\1" * 64},
        {"configsvn": 1},
        {"keypolicy": 1},
        {"keyid": b"\1" * 32},
        {"padding": b"\1" * 352},
    ]
    keys = [derive(secrets, Dependencies(**(base | change))) for change in changes]  # type: ignore[arg-type]
    keys.append(derive(others, Dependencies(keyname=KeyName.SEAL)))
    assert len(set(keys)) == len(keys)
    assert derive(secrets, Dependencies(keyname=KeyName.SEAL)) == keys[0]
