"""INIT, row by row: linux-driver.md 2.5 and 2.7."""

from __future__ import annotations

import errno

import pytest

from swsgx.identity.signer import sign
from swsgx.identity.sigstruct import SigstructOptions
from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.cpuid import CpuModel
from swsgx.isa.errors import SgxError
from swsgx.isa.flags import Attributes
from swsgx.isa.sigstruct import Sigstruct
from swsgx.linux import uapi
from swsgx.linux.device import EnclaveFile
from swsgx.linux.failures import FailurePoint
from swsgx.linux.ioctl.init import SLEEP_SECONDS, SLEEP_TRIES, SPIN_TRIES
from swsgx.linux.outcome import ERESTARTSYS, Outcome
from swsgx.linux.profile import LINUX_6_1, PROFILES, UPSTREAM_6_12, V23, Profile
from tests.make.world import World, a_secs, make_world, signing_key

ALL = pytest.mark.parametrize("name", ["6.12", "6.1", "v23"])
UPSTREAM = pytest.mark.parametrize("name", ["6.12", "6.1"])
NOWHERE = 0xDEAD_0000
DEBUG64 = Attributes.MODE64BIT | Attributes.DEBUG


def changed(sigstruct: Sigstruct, **values: object) -> Sigstruct:
    made = Sigstruct.copy_of(bytes(sigstruct))
    for name, value in values.items():
        setattr(made, name, value)
    return made


def refuses(world: World, file: EnclaveFile, number: int, rule: str, sig: Sigstruct | None = None) -> Outcome:
    """INIT fails so, and changes nothing."""
    sigstruct = sig if sig is not None else world.sigstruct(file)
    before = world.snapshot()
    outcome = world.init(file, sigstruct)
    world.refused(outcome, number, rule)
    assert world.snapshot() == before
    return outcome


@ALL
def test_a_good_sigstruct_initialises_whoever_signed_it(name: str) -> None:
    world = make_world(PROFILES[name])
    file = world.built()
    assert world.init(file).value == 0
    assert file.encl.initialised
    assert world.cpu.secs(file.encl.secs or 0).attributes & Attributes.INIT
    assert file.encl.store.head.attributes & Attributes.INIT


def test_the_sigstruct_may_lie_at_any_address_and_across_pages(world: World) -> None:
    file = world.built()
    src = world.memory.map(bytes(PAGE_SIZE - 100) + bytes(world.sigstruct(file))) + PAGE_SIZE - 100
    argument = uapi.EnclaveInit.of(sigstruct=src)
    assert world.ioctl(file, uapi.SGX_IOC_ENCLAVE_INIT, argument).value == 0


@ALL
def test_a_failed_init_can_be_repeated_and_pages_added_in_between(name: str) -> None:
    world = make_world(PROFILES[name])
    file = world.built()
    stale = world.sigstruct(file)
    assert world.add(file, 0x8000, bytes(PAGE_SIZE))[0].ok
    refuses(world, file, errno.EPERM, "EINIT accepts", stale)
    assert world.add(file, 0x9000, bytes(PAGE_SIZE))[0].ok
    assert world.init(file).ok


@ALL
def test_row_1_not_created_is_einval(name: str) -> None:
    world = make_world(PROFILES[name])
    outcome = world.open().ioctl(world.task, uapi.SGX_IOC_ENCLAVE_INIT, NOWHERE)
    world.refused(outcome, errno.EINVAL, "CREATE was done")


@UPSTREAM
def test_row_1_initialised_is_einval_before_the_pointer_is_looked_at(name: str) -> None:
    world = make_world(PROFILES[name])
    file = world.initialised()
    outcome = file.ioctl(world.task, uapi.SGX_IOC_ENCLAVE_INIT, NOWHERE)
    world.refused(outcome, errno.EINVAL, "INIT was not done before")


@ALL
def test_row_2_an_unreadable_argument_is_efault(name: str) -> None:
    world = make_world(PROFILES[name])
    outcome = world.built().ioctl(world.task, uapi.SGX_IOC_ENCLAVE_INIT, NOWHERE)
    world.refused(outcome, errno.EFAULT, "the argument is readable")


@ALL
def test_row_3_without_memory_for_the_copy_is_enomem(name: str) -> None:
    world = make_world(PROFILES[name])
    file = world.built()
    world.driver.failures.arm(FailurePoint.COPY_BUFFER, errno.ENOMEM)
    outcome = world.ioctl(file, uapi.SGX_IOC_ENCLAVE_INIT, uapi.EnclaveInit.of(sigstruct=NOWHERE))
    world.refused(outcome, errno.ENOMEM, "memory for a copy of the SIGSTRUCT")


@ALL
def test_row_4_an_unreadable_sigstruct_is_efault(name: str) -> None:
    world = make_world(PROFILES[name])
    file = world.built()
    cut = world.memory.map(bytes(PAGE_SIZE)) + PAGE_SIZE - 1807
    for src in (NOWHERE, cut):
        outcome = world.ioctl(file, uapi.SGX_IOC_ENCLAVE_INIT, uapi.EnclaveInit.of(sigstruct=src))
        world.refused(outcome, errno.EFAULT, "the SIGSTRUCT is readable")


@UPSTREAM
@pytest.mark.parametrize("vendor", [1, 0x8087, 0x8086_0000])
def test_row_5_another_vendor_is_einval(name: str, vendor: int) -> None:
    world = make_world(PROFILES[name])
    file = world.built()
    sig = changed(world.sigstruct(file), vendor=vendor)
    refuses(world, file, errno.EINVAL, "SIGSTRUCT.VENDOR is 0 or 0x8086", sig)


def test_v23_leaves_the_vendor_to_einit() -> None:
    world = make_world(V23)
    file = world.built()
    outcome = refuses(world, file, errno.EPERM, "EINIT accepts", changed(world.sigstruct(file), vendor=1))
    assert outcome.reason is not None
    assert outcome.reason.found == "SGX_INVALID_SIG_STRUCT"


@UPSTREAM
@pytest.mark.parametrize("attribute", [Attributes.PROVISIONKEY, Attributes.EINITTOKEN_KEY])
def test_row_6_an_attribute_that_is_not_allowed_is_eacces(name: str, attribute: Attributes) -> None:
    world = make_world(PROFILES[name])
    file = world.built(a_secs(attributes=DEBUG64 | attribute))
    outcome = refuses(world, file, errno.EACCES, "SECS.ATTRIBUTES has only allowed bits")
    assert outcome.reason is not None
    assert bool(outcome.reason.remedy) == (attribute is Attributes.PROVISIONKEY)


def test_row_6_of_v23_is_einval() -> None:
    world = make_world(V23)
    file = world.built(a_secs(attributes=DEBUG64 | Attributes.PROVISIONKEY))
    refuses(world, file, errno.EINVAL, "SECS.ATTRIBUTES has only allowed bits")


@pytest.mark.parametrize(("profile", "allowed"), [(UPSTREAM_6_12, True), (LINUX_6_1, False)])
def test_row_6_aex_notify_is_allowed_from_6_2_on(profile: Profile, allowed: bool) -> None:
    model = CpuModel.with_sgx2(epc_size=64 * PAGE_SIZE, aexnotify=True)
    world = make_world(profile, model)
    file = world.built(a_secs(attributes=DEBUG64 | Attributes.AEXNOTIFY))
    if allowed:
        assert world.init(file).ok
    else:
        refuses(world, file, errno.EACCES, "SECS.ATTRIBUTES has only allowed bits")


def test_kss_is_allowed(upstream: Profile) -> None:
    world = make_world(upstream)
    file = world.initialised(a_secs(attributes=DEBUG64 | Attributes.KSS, configsvn=3))
    assert file.encl.initialised


@UPSTREAM
@pytest.mark.parametrize("bit", [3, 6, 8, 11, 40, 63])
def test_row_7_an_attribute_that_is_required_and_reserved_is_einval(name: str, bit: int) -> None:
    world = make_world(PROFILES[name])
    file = world.built()
    options = SigstructOptions(attributes=DEBUG64 | 1 << bit, attributemask=(1 << 64) - 1)
    rule = "SIGSTRUCT requires no ATTRIBUTES bit that is reserved here"
    refuses(world, file, errno.EINVAL, rule, world.sigstruct(file, options))
    options = SigstructOptions(attributes=DEBUG64 | 1 << bit, attributemask=0xFF & ~(1 << bit))
    assert world.init(file, world.sigstruct(file, options)).ok


def test_row_7_aex_notify_is_reserved_in_6_1() -> None:
    model = CpuModel.with_sgx2(epc_size=64 * PAGE_SIZE, aexnotify=True)
    options = SigstructOptions(attributes=DEBUG64 | Attributes.AEXNOTIFY)
    for profile, number in ((LINUX_6_1, errno.EINVAL), (UPSTREAM_6_12, errno.EPERM)):
        world = make_world(profile, model)
        file = world.built()
        assert world.init(file, world.sigstruct(file, options)).errno == number


@UPSTREAM
def test_row_7_an_attribute_that_the_machine_lacks_is_einval(name: str) -> None:
    world = make_world(PROFILES[name], CpuModel.with_sgx1(epc_size=64 * PAGE_SIZE))
    file = world.built()
    options = SigstructOptions(attributes=DEBUG64 | Attributes.KSS)
    refuses(world, file, errno.EINVAL, "requires no ATTRIBUTES bit", world.sigstruct(file, options))


@UPSTREAM
@pytest.mark.parametrize("bit", [1, 2, 31])
def test_row_8_a_misc_bit_that_is_required_and_reserved_is_einval(name: str, bit: int) -> None:
    world = make_world(PROFILES[name])
    file = world.built()
    options = SigstructOptions(attributes=DEBUG64, miscselect=1 << bit)
    refuses(world, file, errno.EINVAL, "requires no MISCSELECT bit", world.sigstruct(file, options))
    options = SigstructOptions(attributes=DEBUG64, miscselect=1 << bit, miscmask=1)
    assert world.init(file, world.sigstruct(file, options)).ok


@UPSTREAM
def test_row_8_exinfo_that_the_machine_lacks_is_einval(name: str) -> None:
    world = make_world(PROFILES[name], CpuModel.with_sgx1(epc_size=64 * PAGE_SIZE))
    file = world.built()
    options = SigstructOptions(attributes=DEBUG64, miscselect=1)
    refuses(world, file, errno.EINVAL, "requires no MISCSELECT bit", world.sigstruct(file, options))


@UPSTREAM
@pytest.mark.parametrize("bit", [3, 10, 17, 63])
def test_row_9_an_xfrm_bit_that_is_required_and_reserved_is_einval(name: str, bit: int) -> None:
    world = make_world(PROFILES[name])
    file = world.built()
    options = SigstructOptions(attributes=DEBUG64, xfrm=3 | 1 << bit)
    refuses(world, file, errno.EINVAL, "requires no XFRM bit", world.sigstruct(file, options))
    options = SigstructOptions(attributes=DEBUG64, xfrm=3 | 1 << bit, xfrmmask=3)
    assert world.init(file, world.sigstruct(file, options)).ok


@pytest.mark.parametrize(
    "options",
    [
        SigstructOptions(attributes=DEBUG64 | 1 << 40),
        SigstructOptions(attributes=DEBUG64, miscselect=2),
        SigstructOptions(attributes=DEBUG64, xfrm=3 | 1 << 63),
    ],
)
def test_rows_7_to_9_do_not_exist_in_v23(options: SigstructOptions) -> None:
    world = make_world(V23)
    file = world.built()
    outcome = refuses(world, file, errno.EPERM, "EINIT accepts", world.sigstruct(file, options))
    assert outcome.reason is not None
    assert outcome.reason.found == "SGX_INVALID_ATTRIBUTE"


@ALL
def test_row_10_without_a_hash_is_its_errno(name: str) -> None:
    world = make_world(PROFILES[name])
    file = world.built()
    world.driver.failures.arm(FailurePoint.CRYPTO, errno.ENOENT)
    refuses(world, file, errno.ENOENT, "the modulus can be hashed")
    assert world.init(file).ok


@ALL
@pytest.mark.parametrize(
    ("options", "code"),
    [
        (SigstructOptions(attributes=DEBUG64, xfrm=7), SgxError.INVALID_ATTRIBUTE),
        (SigstructOptions(attributes=DEBUG64, isvfamilyid=b"f" * 16), SgxError.INVALID_SIG_STRUCT),
    ],
)
def test_row_11_any_error_code_of_einit_is_eperm(
    name: str, options: SigstructOptions, code: SgxError
) -> None:
    world = make_world(PROFILES[name])
    file = world.built()
    outcome = refuses(world, file, errno.EPERM, "EINIT accepts", world.sigstruct(file, options))
    assert outcome.reason is not None
    assert outcome.reason.found == code.symbol
    assert outcome.reason.cause is not None
    assert outcome.reason.cause.operation == "EINIT"


@ALL
def test_row_11_a_bad_signature_and_a_bad_measurement_are_eperm(name: str) -> None:
    world = make_world(PROFILES[name])
    file = world.built()
    good = world.sigstruct(file)
    for sig, code in (
        (changed(good, q1=bytes(384)), SgxError.INVALID_SIGNATURE),
        (sign(changed(good, enclavehash=bytes(32)), signing_key()), SgxError.INVALID_MEASUREMENT),
    ):
        outcome = refuses(world, file, errno.EPERM, "EINIT accepts", sig)
        assert outcome.reason is not None
        assert outcome.reason.found == code.symbol
    assert world.init(file, good).ok


@UPSTREAM
def test_row_11_a_fault_of_einit_is_eio_and_the_enclave_lives(name: str) -> None:
    world = make_world(PROFILES[name])
    file = world.built()
    with world.cpu.lock(file.encl.secs_address):
        outcome = refuses(world, file, errno.EIO, "EINIT does not fault")
    assert outcome.reason is not None
    assert outcome.reason.cause is not None
    assert outcome.reason.cause.operation == "EINIT"
    assert world.init(file).ok


def test_the_launch_registers_follow_the_sigstruct(world: World) -> None:
    world.cpu.msrs.lepubkeyhash = bytes(32)
    world.initialised()
    first = world.cpu.msrs.lepubkeyhash
    assert first != bytes(32)
    world.cpu.msrs.lepubkeyhash = bytes(32)
    world.initialised()
    assert world.cpu.msrs.lepubkeyhash == first


@ALL
def test_an_event_that_is_pending_makes_einit_try_again(name: str) -> None:
    world = make_world(PROFILES[name])
    file = world.built()
    left, naps = [SPIN_TRIES + 5], list[float]()

    def pending() -> bool:
        left[0] -= 1
        return left[0] >= 0

    world.cpu.unmasked_event = pending
    world.driver.sleep = naps.append
    assert world.init(file).ok
    assert naps == [SLEEP_SECONDS]


@ALL
def test_an_event_that_never_ends_is_eperm_after_all_rounds(name: str) -> None:
    world = make_world(PROFILES[name])
    world.driver.trace.sinks.clear()
    file = world.built()
    tries, naps = [0], list[float]()

    def pending() -> bool:
        tries[0] += 1
        return True

    world.cpu.unmasked_event = pending
    world.driver.sleep = naps.append
    outcome = world.init(file)
    assert outcome.errno == errno.EPERM
    assert outcome.reason is not None
    assert outcome.reason.found == "SGX_UNMASKED_EVENT"
    assert (tries[0], len(naps)) == (SPIN_TRIES * SLEEP_TRIES, SLEEP_TRIES)


@ALL
def test_a_signal_between_two_rounds_is_erestartsys(name: str) -> None:
    world = make_world(PROFILES[name])
    file = world.built()
    world.cpu.unmasked_event = lambda: True
    world.task.signal_pending = lambda: True
    world.refused(world.init(file), ERESTARTSYS, "no signal arrives while EINIT is repeated")
    world.cpu.unmasked_event = lambda: False
    assert world.init(file).ok


@UPSTREAM
def test_upstream_checks_in_this_order(name: str) -> None:
    world = make_world(PROFILES[name])
    file = world.built(a_secs(attributes=DEBUG64 | Attributes.PROVISIONKEY))
    bad = {
        "vendor": 1,
        "attributes": 1 << 40,
        "attributemask": 1 << 40,
        "miscselect": 2,
        "miscmask": 2,
        "xfrm": 1 << 63,
        "xfrmmask": 1 << 63,
    }
    failures = world.driver.failures
    for mend, number, rule in (
        ("vendor", errno.EINVAL, "VENDOR"),
        ("provision", errno.EACCES, "only allowed bits"),
        ("attributemask", errno.EINVAL, "ATTRIBUTES bit"),
        ("miscmask", errno.EINVAL, "MISCSELECT bit"),
        ("xfrmmask", errno.EINVAL, "XFRM bit"),
        ("", errno.EDOM, "hashed"),
    ):
        if not mend:
            failures.arm(FailurePoint.CRYPTO, errno.EDOM)
        refuses(world, file, number, rule, changed(world.sigstruct(file), **bad))
        if mend == "provision":
            file.encl.allowed |= Attributes.PROVISIONKEY
        elif mend:
            bad[mend] = 0
    refuses(world, file, errno.EPERM, "EINIT accepts", changed(world.sigstruct(file), **bad))
