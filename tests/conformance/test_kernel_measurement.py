"""The kernel's measuring code, run as a program, against the manual's words and against our loader."""

from __future__ import annotations

import hashlib
import struct

import pytest
from elftools.elf.elffile import ELFFile

from tests.conformance.kernel_build import Built

# The first test fetches 300 MB and unpacks it.
pytestmark = [pytest.mark.conformance, pytest.mark.timeout(1800)]

PAGE = 4096
CHUNK = 256


def _measure_by_the_manual(kernel: Built) -> bytes:
    """MRENCLAVE by the SDM's sections ECREATE, EADD, EEXTEND, and nothing of swsgx."""
    with kernel.enclave.open("rb") as file:
        loads = [s for s in ELFFile(file).iter_segments() if s["p_type"] == "PT_LOAD"]
        first = loads[0]["p_offset"] & -PAGE
        image = kernel.enclave.read_bytes()[first:]
    hashed = hashlib.sha256()
    hashed.update(struct.pack("<8sIQ44x", b"ECREATE", 1, kernel.measured.size))
    for segment in kernel.measured.segments:
        for page in range(segment.offset, segment.offset + segment.size, PAGE):
            hashed.update(struct.pack("<8sQQ40x", b"EADD", page, segment.flags))
            if segment.measured:
                for chunk in range(page, page + PAGE, CHUNK):
                    hashed.update(struct.pack("<8sQ48x", b"EEXTEND", chunk))
                    hashed.update(image[chunk : chunk + CHUNK])
    return hashed.digest()


def test_kernel_measures_as_the_manual_says(kernel: Built) -> None:
    assert kernel.measured.mrenclave == _measure_by_the_manual(kernel)


def test_kernel_sigstruct_holds_the_measurement_that_was_printed(kernel: Built) -> None:
    assert len(kernel.measured.sigstruct) == 1808
    assert kernel.measured.sigstruct[960:992] == kernel.measured.mrenclave


def test_test_enclave_has_two_tcs_then_code_then_data_then_an_unmeasured_heap_page(kernel: Built) -> None:
    tcs, text, data, heap = kernel.measured.segments
    assert (tcs.offset, tcs.size, tcs.flags) == (0, 2 * PAGE, 0x100)
    assert (text.flags, data.flags, heap.flags) == (0x205, 0x203, 0x203)
    assert [s.measured for s in kernel.measured.segments] == [True, True, True, False]
    assert (heap.size, kernel.measured.size) == (PAGE, 0x10000)
