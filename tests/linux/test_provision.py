"""PROVISION, row by row: linux-driver.md 2.6."""

from __future__ import annotations

import errno

import pytest

from swsgx.isa.flags import Attributes
from swsgx.linux import uapi
from swsgx.linux.device import EnclaveFile
from swsgx.linux.outcome import Outcome
from swsgx.linux.profile import PROFILES
from swsgx.linux.provision import ProvisionFile
from tests.make.world import World, a_secs, make_world

ALL = pytest.mark.parametrize("name", ["6.12", "6.1", "v23"])
NOWHERE = 0xDEAD_0000
DEBUG64 = Attributes.MODE64BIT | Attributes.DEBUG


def provision(world: World, file: EnclaveFile, fd: int) -> Outcome:
    argument = uapi.EnclaveProvision.of(fd=fd)
    return world.ioctl(file, uapi.SGX_IOC_ENCLAVE_PROVISION, argument)


def with_provision_fd(world: World, fd: int = 5) -> ProvisionFile:
    opened = world.driver.open("/dev/sgx_provision")
    assert isinstance(opened, ProvisionFile)
    world.files[fd] = opened
    return opened


@ALL
def test_provision_between_create_and_init_allows_the_key(name: str) -> None:
    world = make_world(PROFILES[name])
    with_provision_fd(world)
    file = world.built(a_secs(attributes=DEBUG64 | Attributes.PROVISIONKEY))
    assert provision(world, file, 5).value == 0
    assert file.encl.allowed & Attributes.PROVISIONKEY
    world.files.clear()
    assert world.init(file).ok


@pytest.mark.parametrize(("name", "kept"), [("6.12", False), ("6.1", False), ("v23", True)])
def test_provision_before_create_is_lost_upstream(name: str, kept: bool) -> None:
    world = make_world(PROFILES[name])
    with_provision_fd(world)
    file = world.open()
    assert provision(world, file, 5).value == 0
    world.create(file)
    assert bool(file.encl.allowed & Attributes.PROVISIONKEY) == kept


@ALL
def test_provision_after_init_is_accepted_and_has_no_effect(name: str) -> None:
    world = make_world(PROFILES[name])
    with_provision_fd(world)
    assert provision(world, world.initialised(), 5).value == 0


@ALL
def test_provision_with_an_unreadable_argument_is_efault(name: str) -> None:
    world = make_world(PROFILES[name])
    outcome = world.open().ioctl(world.task, uapi.SGX_IOC_ENCLAVE_PROVISION, NOWHERE)
    world.refused(outcome, errno.EFAULT, "the argument is readable")


@ALL
@pytest.mark.parametrize("fd", [6, 1 << 31, (1 << 64) - 1])
def test_provision_with_no_open_file_is_einval(name: str, fd: int) -> None:
    world = make_world(PROFILES[name])
    with_provision_fd(world)
    world.refused(provision(world, world.open(), fd), errno.EINVAL, "fd is an open file")


@ALL
def test_provision_with_another_file_is_einval(name: str) -> None:
    world = make_world(PROFILES[name])
    file = world.open()
    world.files[7], world.files[8] = file, object()
    for fd in (7, 8):
        world.refused(provision(world, file, fd), errno.EINVAL, "fd is the provision node")


def test_provision_looks_at_the_low_32_bits_of_the_descriptor(world: World) -> None:
    with_provision_fd(world)
    assert provision(world, world.open(), 5 | 7 << 32).value == 0
