"""Our loader's MRENCLAVE and segments for the kernel's test enclave, against what the kernel's own code prints."""

from __future__ import annotations

import pytest

from swsgx.identity.signer import mrsigner, verify
from swsgx.image.enclave import load_plan
from swsgx.isa.sigstruct import Sigstruct
from tests.conformance.kernel_build import Built

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(1800)]


def test_our_mrenclave_equals_the_kernels(kernel: Built) -> None:
    plan = load_plan(kernel.enclave)
    assert plan.measure().digest().hex() == kernel.measured.mrenclave.hex()


def test_our_plan_has_the_kernels_segments(kernel: Built) -> None:
    plan = load_plan(kernel.enclave)
    ours = [(run.offset, run.count * 4096, run.secinfo_flags, run.measured) for run in plan.entries]
    theirs = [(s.offset, s.size, s.flags, s.measured) for s in kernel.measured.segments]
    assert ours == theirs
    assert plan.size == kernel.measured.size
    assert plan.tcs == (0, 0x1000)


def test_the_kernels_sigstruct_verifies(kernel: Built) -> None:
    sigstruct = Sigstruct.copy_of(kernel.measured.sigstruct)
    verdict = verify(sigstruct)
    assert verdict.rsa
    assert verdict.q1q2
    assert verdict.header
    assert len(mrsigner(sigstruct)) == 32


def test_a_kernel_sigstruct_with_one_bit_changed_does_not_verify(kernel: Built) -> None:
    changed = bytearray(kernel.measured.sigstruct)
    changed[960] ^= 1
    verdict = verify(Sigstruct.copy_of(changed))
    assert not verdict.rsa
