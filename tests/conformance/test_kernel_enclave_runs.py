"""The kernel's test enclave, with the kernel's own SIGSTRUCT, loaded through our ioctls and entered."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum

import pytest

from swsgx.image.enclave import load_plan
from swsgx.inprocess import DriverError, Enclave, Sgx
from swsgx.isa.sigstruct import Sigstruct
from swsgx.isa.vectors import Vector
from tests.conformance.kernel_build import Built

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(1800)]

MAGIC = 0x1122334455667788
#: Where the data segment starts: an 8192-byte buffer; the value of PUT_TO_BUFFER is its first 8 bytes.
DATA = 2


class Operation(IntEnum):
    """What the test enclave can be asked; the operation struct is the number, then 8-byte fields."""

    PUT_TO_BUFFER = 0
    GET_FROM_BUFFER = 1
    PUT_TO_ADDRESS = 2
    GET_FROM_ADDRESS = 3
    NOP = 4


def _ask(enclave: Enclave, tcs: int, operation: Operation, *fields: int) -> int:
    """Enter through one TCS with an operation in our own memory; the first field afterwards."""
    memory = bytearray(struct.pack("<8Q", operation, *fields, *([0] * (7 - len(fields)))))
    enclave.enter(tcs=tcs, rdi=memory).check()
    first: int = struct.unpack_from("<Q", memory, 8)[0]
    return first


@pytest.fixture
def enclave(kernel: Built) -> Iterator[Enclave]:
    """The test enclave, initialised and mapped as the selftest does it."""
    plan = load_plan(kernel.enclave)
    with Sgx() as sgx, sgx.load(plan, Sigstruct.copy_of(kernel.measured.sigstruct)) as loaded:
        yield loaded


def test_machine_measured_what_the_kernels_code_measured(enclave: Enclave, kernel: Built) -> None:
    assert enclave.mrenclave == kernel.measured.mrenclave


def test_value_put_through_the_first_tcs_is_got_through_the_second(enclave: Enclave) -> None:
    _ask(enclave, 0, Operation.PUT_TO_BUFFER, MAGIC)
    assert _ask(enclave, 1, Operation.GET_FROM_BUFFER) == MAGIC


def test_value_put_through_the_second_tcs_is_got_through_the_first(enclave: Enclave) -> None:
    _ask(enclave, 1, Operation.PUT_TO_BUFFER, ~MAGIC & (1 << 64) - 1)
    assert _ask(enclave, 0, Operation.GET_FROM_BUFFER) == ~MAGIC & (1 << 64) - 1


def test_nothing_happens_in_a_nop_through_either_tcs(enclave: Enclave) -> None:
    assert _ask(enclave, 0, Operation.NOP, MAGIC) == MAGIC
    assert _ask(enclave, 1, Operation.NOP, MAGIC) == MAGIC


def test_second_page_of_the_buffer_can_be_written_and_read_by_address(
    enclave: Enclave, kernel: Built
) -> None:
    address = enclave.base + kernel.measured.segments[DATA].offset + 4096
    _ask(enclave, 0, Operation.PUT_TO_ADDRESS, MAGIC, address)
    assert _ask(enclave, 1, Operation.GET_FROM_ADDRESS, 0, address) == MAGIC


def test_heap_page_that_was_not_measured_is_zero_and_writable(enclave: Enclave, kernel: Built) -> None:
    address = enclave.base + kernel.measured.segments[-1].offset
    assert _ask(enclave, 0, Operation.GET_FROM_ADDRESS, MAGIC, address) == 0
    _ask(enclave, 0, Operation.PUT_TO_ADDRESS, MAGIC, address)
    assert _ask(enclave, 1, Operation.GET_FROM_ADDRESS, 0, address) == MAGIC


def test_write_to_the_code_is_a_page_fault_at_that_address(enclave: Enclave, kernel: Built) -> None:
    address = enclave.base + kernel.measured.segments[1].offset
    memory = bytearray(struct.pack("<8Q", Operation.PUT_TO_ADDRESS, MAGIC, address, *([0] * 5)))
    left = enclave.enter(tcs=0, rdi=memory)
    assert left.exception is not None
    assert (left.exception.vector, left.exception.address) == (Vector.PF, address)


def test_init_refuses_a_sigstruct_with_another_measurement(kernel: Built) -> None:
    changed = bytearray(kernel.measured.sigstruct)
    changed[960] ^= 1
    with Sgx() as sgx, pytest.raises(DriverError, match="EPERM"):
        sgx.load(load_plan(kernel.enclave), Sigstruct.copy_of(changed))
