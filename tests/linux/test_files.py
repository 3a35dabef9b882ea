"""Nodes, open files, and how long an enclave lives."""

from __future__ import annotations

import errno
import os

import pytest

from swsgx.cpu.faults import InternalError
from swsgx.isa.cpuid import CpuModel
from swsgx.isa.msr import FeatureControl
from swsgx.linux import uapi
from swsgx.linux.device import EnclaveFile
from swsgx.linux.failures import FailurePoint
from swsgx.linux.mm import MAP_SHARED, PROT_NONE, PROT_READ, AddressSpace
from swsgx.linux.outcome import Outcome, errno_name
from swsgx.linux.profile import PROFILES, Profile
from swsgx.linux.provision import ProvisionFile
from tests.make.world import BASE, World, make_world

# 1.1, 1.2: nodes and operations.


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_every_node_opens_under_every_profile(name: str) -> None:
    world = make_world(PROFILES[name])
    for node in ("/dev/sgx_enclave", "/dev/sgx/enclave"):
        assert isinstance(world.driver.open(node), EnclaveFile)
    for node in ("/dev/sgx_provision", "/dev/sgx/provision"):
        assert isinstance(world.driver.open(node), ProvisionFile)
    assert world.events[-1].name == "open"


def test_another_path_does_not_exist(world: World) -> None:
    opened = world.driver.open("/dev/sgx_vepc")
    assert isinstance(opened, Outcome)
    world.refused(opened, errno.ENOENT, "the node exists")


def test_without_flexible_launch_control_there_are_no_nodes() -> None:
    world = make_world(model=CpuModel.with_sgx1(epc_size=1 << 20, flc=False))
    assert world.driver.nodes == ()
    opened = world.driver.open()
    assert isinstance(opened, Outcome)
    world.refused(opened, errno.ENOENT, "the node exists")


def test_without_firmware_support_there_are_no_nodes(world: World) -> None:
    for left in (FeatureControl.SGX_ENABLE, FeatureControl.LOCK | FeatureControl.SGX_ENABLE):
        world.cpu.msrs.feature_control = left
        assert world.driver.nodes == ()


def test_every_open_makes_a_new_enclave(world: World) -> None:
    first, second = world.open(), world.open()
    assert first.encl is not second.encl
    assert first.encl.number != second.encl.number


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR | os.O_CREAT | os.O_EXCL])
def test_open_looks_at_no_flag(world: World, flags: int) -> None:
    file = world.driver.open(None, flags)
    assert isinstance(file, EnclaveFile)
    assert world.create(file).ok


def test_open_without_memory_is_enomem(world: World) -> None:
    world.driver.failures.arm(FailurePoint.OPEN, errno.ENOMEM)
    opened = world.driver.open()
    assert isinstance(opened, Outcome)
    world.refused(opened, errno.ENOMEM, "memory for the enclave object")
    assert isinstance(world.driver.open(), EnclaveFile)


def test_open_enclave_raises_what_open_returns(world: World) -> None:
    world.driver.failures.arm(FailurePoint.OPEN, errno.ENOMEM)
    with pytest.raises(OSError, match="memory for the enclave object") as caught:
        world.driver.open_enclave()
    assert caught.value.errno == errno.ENOMEM


def test_nodes_cannot_be_read_written_or_seeked(world: World) -> None:
    provision = world.driver.open("/dev/sgx_provision")
    assert isinstance(provision, ProvisionFile)
    for file in (world.open(), provision):
        assert file.read(8).errno == errno.EINVAL
        assert file.write(b"x").errno == errno.EINVAL
        assert file.lseek(0, 0).errno == errno.ESPIPE


def test_the_provision_node_has_neither_ioctls_nor_mappings(world: World) -> None:
    file = world.driver.open("/dev/sgx_provision")
    assert isinstance(file, ProvisionFile)
    assert file.ioctl(world.task, uapi.SGX_IOC_ENCLAVE_CREATE, 0).errno == errno.ENOTTY
    assert file.mmap().errno == errno.ENODEV
    assert file.dup().descriptors == 2
    file.close()


@pytest.mark.parametrize(
    "code",
    [
        0,
        0xA404,
        uapi.SGX_IOC_ENCLAVE_CREATE + 1,
        0x4008_A500,
        0xC030_A402,
        uapi.SGX_IOC_ENCLAVE_CREATE | 1 << 32 | 8,
    ],
)
def test_an_unknown_ioctl_is_enotty(world: World, code: int) -> None:
    world.refused(world.ioctl(world.open(), code, bytes(8)), errno.ENOTTY, "the driver knows the ioctl")


def test_the_ioctl_code_has_32_bits(world: World) -> None:
    file = world.open()
    code = uapi.SGX_IOC_ENCLAVE_PROVISION | 1 << 32
    world.refused(world.ioctl(file, code, bytes(8)), errno.EINVAL, "fd is an open file")


def test_ioctls_of_a_read_only_descriptor_work(world: World) -> None:
    file = world.driver.open(None, os.O_RDONLY)
    assert isinstance(file, EnclaveFile)
    assert world.create(file).ok


def test_one_ioctl_at_a_time_whatever_the_code(world: World) -> None:
    file = world.open()
    with file.encl.ioctl_bit:
        for code in (uapi.SGX_IOC_ENCLAVE_CREATE, uapi.SGX_IOC_ENCLAVE_INIT, 0xDEAD):
            world.refused(world.ioctl(file, code, bytes(48)), errno.EBUSY, "one ioctl at a time")
        assert world.create(world.open()).ok
    assert world.create(file).ok


def test_the_busy_bit_is_given_back_after_an_error(world: World) -> None:
    file = world.open()
    assert not world.ioctl(file, 0xDEAD, b"").ok
    assert not world.ioctl(file, uapi.SGX_IOC_ENCLAVE_INIT, bytes(8)).ok
    assert world.create(file).ok


def test_the_numbers_of_the_interface() -> None:
    assert uapi.SGX_IOC_ENCLAVE_CREATE == 0x4008_A400
    assert uapi.SGX_IOC_ENCLAVE_ADD_PAGES == 0xC030_A401
    assert uapi.SGX_IOC_ENCLAVE_ADD_PAGES_V23 == 0xC028_A401
    assert uapi.SGX_IOC_ENCLAVE_INIT == 0x4008_A402
    assert uapi.SGX_IOC_ENCLAVE_PROVISION == 0x4008_A403
    assert uapi.SGX_IOC_ENCLAVE_RESTRICT_PERMISSIONS == 0xC028_A405
    assert uapi.SGX_IOC_ENCLAVE_MODIFY_TYPES == 0xC028_A406
    assert uapi.SGX_IOC_ENCLAVE_REMOVE_PAGES == 0xC018_A407
    assert uapi.ioctl_name(0xC030_A401) == "SGX_IOC_ENCLAVE_ADD_PAGES"
    assert uapi.ioctl_name(0x1234) == "ioctl 0x1234"


def test_outcomes_read_like_errno_names() -> None:
    assert str(Outcome(-errno.EINVAL)) == "EINVAL"
    assert str(Outcome(-512)) == "ERESTARTSYS"
    assert str(Outcome()) == "ok"
    assert str(Outcome(0x7000)) == "0x7000"
    assert errno_name(9999) == "9999"


# 1.2, 1.3: lifetime.


def test_close_of_the_only_descriptor_ends_an_unmapped_enclave(world: World) -> None:
    file = world.built()
    assert world.cpu.enclaves
    file.close()
    assert file.released
    assert not world.cpu.enclaves
    assert world.cpu.epc.free_count == world.cpu.epc.frames
    assert not world.cpu.epcm.children(0).size


def test_dup_shares_the_enclave_and_the_last_close_ends_it(world: World) -> None:
    file = world.built()
    again = file.dup()
    file.close()
    assert world.cpu.enclaves
    assert world.init(again).ok
    again.close()
    assert not world.cpu.enclaves


def test_a_mapping_keeps_the_enclave_after_close(world: World) -> None:
    file = world.initialised()
    assert world.map(file, 0, 0x2000, PROT_READ).ok
    file.close()
    assert not file.released
    assert world.mm.mprotect(BASE, 0x1000, PROT_NONE).ok
    assert world.mm.munmap(BASE, 0x1000).ok
    assert world.cpu.enclaves
    assert world.mm.munmap(BASE + 0x1000, 0x1000).ok
    assert file.released
    assert not world.cpu.enclaves
    assert not world.mm.mappings


def test_unmapping_all_keeps_the_enclave_of_an_open_file(world: World) -> None:
    file = world.initialised()
    assert world.map(file, 0, 0x2000, PROT_READ).ok
    assert world.mm.munmap(BASE, 0x2000).ok
    assert world.cpu.enclaves
    assert world.map(file, 0, 0x1000, PROT_READ).ok


def test_a_closed_descriptor_is_not_closed_again(world: World) -> None:
    file = world.open()
    file.close()
    with pytest.raises(InternalError, match="only an open descriptor"):
        file.close()
    with pytest.raises(InternalError, match="from an open one"):
        file.dup()


def test_an_empty_enclave_ends_without_a_trace(world: World) -> None:
    world.open().close()
    assert world.cpu.epc.free_count == world.cpu.epc.frames


def test_the_enclave_of_a_process_that_exits_ends_with_its_last_holder(world: World) -> None:
    file = world.initialised()
    assert world.map(file, 0, 0x2000, PROT_READ).ok
    child = world.mm.fork()
    file.close()
    world.mm.exit()
    assert not file.released
    assert len(file.encl.mappings) == 1
    child.exit()
    assert file.released
    assert not world.cpu.enclaves


def test_fork_inherits_mappings_and_touched_pages(world: World) -> None:
    file = world.initialised()
    assert world.map(file, 0, 0x2000, PROT_READ).ok
    world.mm.mappings[file.encl].bits[0] |= 16
    child = world.mm.fork()
    assert [(v.start, v.end, v.prot) for v in child.vmas] == [(BASE, BASE + 0x2000, PROT_READ)]
    assert child.mappings[file.encl].bits[:3].tolist() == [0x19, 0x09, 0]
    assert child.munmap(BASE, 0x1000).ok
    assert world.mm.mappings[file.encl].bits[:3].tolist() == [0x19, 0x09, 0]
    assert len(file.encl.mappings) == 2


def test_fork_without_memory_leaves_a_mapping_without_enclave(world: World) -> None:
    file = world.initialised()
    assert world.map(file, 0, 0x2000, PROT_READ).ok
    world.driver.failures.arm(FailurePoint.MM_LIST, errno.ENOMEM)
    child = world.mm.fork()
    assert [vma.mapping for vma in child.vmas] == [None]
    assert not child.mappings
    assert child.mprotect(BASE, 0x1000, PROT_NONE).ok
    assert child.munmap(BASE, 0x1000).ok
    child.exit()
    assert not file.released


def test_an_address_space_is_on_the_list_once_and_munmap_does_not_remove_it(world: World) -> None:
    file = world.initialised()
    for offset in (0, 0x1000, 0x4000):
        assert world.map(file, offset, 0x1000, PROT_NONE).ok
    assert len(file.encl.mappings) == 1
    assert world.mm.munmap(BASE, 0x10000).ok
    assert len(file.encl.mappings) == 1


def test_mappings_before_create_get_their_bytes_at_create(world: World, upstream: Profile) -> None:
    world = make_world(upstream)
    file = world.open()
    reserved = world.mm.mmap(BASE, 0x20000, PROT_NONE, MAP_SHARED | 0x10, file)
    assert reserved.value == BASE
    mapping = world.mm.mappings[file.encl]
    assert mapping.vma_bits is None
    assert world.create(file).ok
    assert mapping.vma_bits is not None
    assert mapping.bits.tolist() == [8] * 16


def test_another_address_space_of_the_same_program_maps_it_too(world: World) -> None:
    file = world.initialised()
    other = AddressSpace()
    for mm in (world.mm, other):
        assert mm.mmap(BASE, 0x1000, PROT_READ, MAP_SHARED | 0x10, file).ok
    world.mm.exit()
    assert other.mappings[file.encl].bits[0] == 9
