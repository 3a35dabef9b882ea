"""What CPUID and the launch registers say. Real dumps are from published ones of three machines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swsgx.isa import (
    DEFAULT_LAUNCH_SIGNER,
    INTEL_COMPONENTS,
    SGX_LEAF,
    Attributes,
    CpuidResult,
    CpuModel,
    leaf_7_bits,
    leaf_12h,
    lepubkeyhash_digest,
    lepubkeyhash_words,
)
from swsgx.isa.cpuid import overrides

SGX2 = CpuModel.with_sgx2()


def test_the_default_cpu_has_sgx2_kss_exinfo_and_flexible_launch_control() -> None:
    assert leaf_12h(SGX2, 0) == (0x3, 1, 0, 0x381F)
    assert leaf_12h(SGX2, 1) == (0xB6, 0, 0x2E7, 0)
    assert leaf_7_bits(SGX2) == (0, 1 << 2, 1 << 30, 0)


def test_an_sgx1_cpu_says_what_a_xeon_e_2276g_says() -> None:
    model = CpuModel.with_sgx1()
    assert leaf_12h(model, 0) == (1, 0, 0, 0x241F)
    assert leaf_12h(model, 1) == (0x36, 0, 0x1F, 0)


def test_a_cpu_without_flexible_launch_control_does_not_claim_it() -> None:
    assert leaf_7_bits(CpuModel.with_sgx1(flc=False)).ecx == 0


def test_aex_notify_shows_in_both_leaves() -> None:
    model = CpuModel.with_sgx2(aexnotify=True)
    assert leaf_12h(model, 0).eax == 0x803
    assert leaf_12h(model, 1).eax == 0x4B6


def test_a_small_epc_is_told_as_on_a_nuc7() -> None:
    model = CpuModel.with_sgx2(epc_size=0x05E0_0000)
    assert leaf_12h(model, 2) == (0x7020_0001, 0, 0x05E0_0001, 0)


def test_a_large_epc_is_told_as_on_a_xeon_gold_5315y() -> None:
    model = replace(SGX2, epc_base=0x70_1800_0000, epc_size=0xF_E780_0000)
    assert leaf_12h(model, 2) == (0x1800_0001, 0x70, 0xE780_0001, 0xF)


@pytest.mark.parametrize("subleaf", [3, 4, 0xFFFF_FFFF])
def test_subleaves_behind_the_epc_section_are_all_zero(subleaf: int) -> None:
    assert leaf_12h(SGX2, subleaf) == CpuidResult(0, 0, 0, 0)


@given(st.integers(0, (1 << 40) - 1), st.integers(1, 1 << 39))
def test_base_and_size_of_the_section_can_be_read_back(base_page: int, pages: int) -> None:
    model = replace(SGX2, epc_base=base_page << 12, epc_size=min(pages, (1 << 40) - base_page) << 12)
    eax, ebx, ecx, edx = leaf_12h(model, 2)
    assert (eax & 0xFFFFF000) | ebx << 32 == model.epc_base
    assert (ecx & 0xFFFFF000) | edx << 32 == model.epc_size
    assert all(0 <= register < 1 << 32 for register in (eax, ebx, ecx, edx))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epc_size": 0}, "at least one"),
        ({"epc_size": -4096}, "at least one"),
        ({"epc_size": 4097}, "whole pages"),
        ({"epc_base": 0x800}, "EPC base"),
        ({"epc_base": 1 << 52}, "below 2\\^52"),
        ({"attributes_mask": 0xB7}, "INIT"),
        ({"attributes_mask": 0x36}, "KSS"),
        ({"kss": False}, "KSS"),
        ({"attributes_mask": 0xB6 | Attributes.AEXNOTIFY}, "AEXNOTIFY"),
        ({"aexnotify": True}, "AEXNOTIFY"),
        ({"xfrm_mask": 0x2E4}, "bits 1:0"),
        ({"xfrm_mask": 0x2E7, "components": INTEL_COMPONENTS[:6]}, "without a state component"),
    ],
)
def test_a_cpu_that_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SGX2, **change)


def test_the_default_launch_hash_is_what_the_registers_hold_after_reset() -> None:
    words = (0xA6053E051270B7AC, 0x6CFBE8BA8B3B413D, 0xC4916D99F2B3735D, 0xD4F8C05909F9BB3B)
    assert lepubkeyhash_words(DEFAULT_LAUNCH_SIGNER) == words
    assert lepubkeyhash_digest(words) == DEFAULT_LAUNCH_SIGNER


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_launch_hash_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="a digest has 32"):
        lepubkeyhash_words(bytes(size))


@pytest.mark.parametrize("model", [SGX2, CpuModel.with_sgx1(), CpuModel.with_sgx1(flc=False)], ids=str)
@pytest.mark.parametrize("host", [0, 0xFFFF_FFFF], ids=hex)
def test_a_hosts_own_sgx_does_not_shine_through(model: CpuModel, host: int) -> None:
    answers = {
        (change.leaf, change.subleaf): change.apply(CpuidResult(*[host] * 4)) for change in overrides(model)
    }
    assert set(answers) == {(7, 0), (SGX_LEAF, 0), (SGX_LEAF, 1), (SGX_LEAF, 2)}
    for subleaf in range(3):
        assert answers[SGX_LEAF, subleaf] == leaf_12h(model, subleaf)
    eax, ebx, ecx, edx = answers[7, 0]
    assert eax == host
    assert (ebx >> 2 & 1, ecx >> 30 & 1, edx >> 1 & 1) == (1, int(model.flc), 0)
    assert (ebx | 1 << 2, ecx | 1 << 30, edx | 1 << 1) == (host | 1 << 2, host | 1 << 30, host | 1 << 1)
