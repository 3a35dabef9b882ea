"""SGX_IOC_ENCLAVE_INIT. Read from ioctl.c, sgx_ioc_enclave_init and sgx_encl_init, of Linux 6.1 and 6.12 (same)."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from swsgx.cpu.encls.einit import einit
from swsgx.cpu.faults import Fault, LeafResult
from swsgx.cpu.memory import ScratchMemory
from swsgx.identity.signature import mrsigner
from swsgx.isa.address import PAGE_SIZE, TargetAddr
from swsgx.isa.errors import SgxError
from swsgx.isa.msr import Msr, lepubkeyhash_words
from swsgx.isa.sigstruct import SIGSTRUCT_VENDORS, Einittoken, Sigstruct
from swsgx.linux import hooks
from swsgx.linux.failures import FailurePoint
from swsgx.linux.outcome import ERESTARTSYS, OK, Outcome, Refuser
from swsgx.linux.profile import InitCheck
from swsgx.linux.security import Answer
from swsgx.linux.sticky import Identity
from swsgx.linux.task import BadAddress, Task
from swsgx.linux.uapi import EnclaveInit
from swsgx.trace import Reason

if TYPE_CHECKING:
    from swsgx.linux.encl import Encl

__all__ = ["SLEEP_SECONDS", "SLEEP_TRIES", "SPIN_TRIES", "init"]

_BITS_64 = (1 << 64) - 1
#: MISCSELECT bits that the kernel calls reserved: all but EXINFO.
_MISC_RESERVED = 0xFFFF_FFFE

#: EINITs back to back while an event is pending, rounds of them, and the nap between two rounds.
SPIN_TRIES = 20
SLEEP_TRIES = 50
SLEEP_SECONDS = 0.020


@dataclass
class _Request:
    encl: Encl
    task: Task
    arg: TargetAddr
    address: TargetAddr = TargetAddr(0)
    sigstruct: Sigstruct = field(default_factory=Sigstruct)


class _Refused(Exception):
    """A security module said no at the last moment."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(str(reason))
        self.reason = reason


_refuse = Refuser("SGX_IOC_ENCLAVE_INIT", "ioctl.c", "sgx_encl_init")


def init(encl: Encl, task: Task, arg: int) -> Outcome:
    """Check a SIGSTRUCT against the enclave that was built, and make it enterable. A failed INIT can be repeated.

    Returns: 0; -EINVAL not created, or initialised, or SIGSTRUCT requires what the machine lacks; -EFAULT the
        argument or SIGSTRUCT cannot be read; -ENOMEM no memory; -EACCES an attribute is not allowed, or a
        security module refused; -EPERM EINIT returned an error code, any; -EIO EINIT faults; -ERESTARTSYS a
        signal between two tries.
    """
    request = _Request(encl, task, TargetAddr(arg))
    for check in encl.profile.init.checks:
        refused = _CHECKS[check](request)
        if refused is not None:
            return refused
    with encl.guard, encl.mutex:
        outcome = _einit(request)
    if outcome.ok and encl.security is not None:
        hooks.initialised(encl)
    return outcome


def _created(request: _Request) -> Outcome | None:
    if not request.encl.created:
        return _refuse(
            request.encl, errno.EINVAL, "CREATE was done", "a created enclave", "an empty one",
            function="sgx_ioc_enclave_init",
        )  # fmt: skip
    return None


def _not_initialised(request: _Request) -> Outcome | None:
    if request.encl.initialised:
        return _refuse(
            request.encl, request.encl.profile.init.again, "INIT was not done before", "a created enclave",
            "an initialised one", function="sgx_ioc_enclave_init",
        )  # fmt: skip
    return None


def _building(request: _Request) -> Outcome | None:
    return _created(request) or _not_initialised(request)


def _argument(request: _Request) -> Outcome | None:
    try:
        data = request.task.memory.read(request.arg, EnclaveInit.size_of)
    except BadAddress as bad:
        return _refuse(
            request.encl, errno.EFAULT, "the argument is readable", "8 readable bytes", bad.address,
            function="sgx_ioc_enclave_init",
        )  # fmt: skip
    request.address = TargetAddr(EnclaveInit(data).sigstruct)
    return None


def _buffer(request: _Request) -> Outcome | None:
    failure = request.encl.driver.failures.hit(FailurePoint.COPY_BUFFER)
    if failure:
        return _refuse(
            request.encl, failure, "memory for a copy of the SIGSTRUCT", "a page", "none",
            function="sgx_ioc_enclave_init",
        )  # fmt: skip
    return None


def _sigstruct(request: _Request) -> Outcome | None:
    try:
        request.sigstruct = Sigstruct(bytearray(request.task.memory.read(request.address, Sigstruct.size_of)))
    except BadAddress as bad:
        return _refuse(
            request.encl, errno.EFAULT, "the SIGSTRUCT is readable", "1808 readable bytes", bad.address,
            function="sgx_ioc_enclave_init",
        )  # fmt: skip
    return None


def _vendor(request: _Request) -> Outcome | None:
    if request.sigstruct.vendor not in SIGSTRUCT_VENDORS:
        return _refuse(
            request.encl, errno.EINVAL, "SIGSTRUCT.VENDOR is 0 or 0x8086", "0 or 0x8086", request.sigstruct.vendor,
            function="sgx_ioc_enclave_init",
        )  # fmt: skip
    return None


def _attributes_allowed(request: _Request) -> Outcome | None:
    encl = request.encl
    refused = encl.attributes & ~encl.allowed
    if refused:
        return _refuse(
            encl,
            encl.profile.init.attribute_refused,
            "SECS.ATTRIBUTES has only allowed bits",
            f"no bit outside {encl.allowed:#x}",
            encl.attributes,
            remedy="PROVISIONKEY (0x10) is allowed by SGX_IOC_ENCLAVE_PROVISION after CREATE"
            if refused & 0x10
            else "",
        )
    return None


def _required(request: _Request, name: str, required: int, reserved: int) -> Outcome | None:
    if required & reserved:
        return _refuse(
            request.encl,
            errno.EINVAL,
            f"SIGSTRUCT requires no {name} bit that is reserved here",
            f"no bit of {reserved:#x} in value and mask",
            required,
            remedy="clear the bit in the mask to make it optional",
        )
    return None


def _attributes_reserved(request: _Request) -> Outcome | None:
    sig, encl = request.sigstruct, request.encl
    reserved = ~encl.driver.cpu.model.attributes_mask & _BITS_64 | encl.profile.static_reserved_attributes
    return _required(request, "ATTRIBUTES", sig.attributes & sig.attributemask, reserved)


def _misc_reserved(request: _Request) -> Outcome | None:
    sig = request.sigstruct
    reserved = ~request.encl.driver.cpu.model.exinfo & 0xFFFF_FFFF | _MISC_RESERVED
    return _required(request, "MISCSELECT", sig.miscselect & sig.miscmask, reserved)


def _xfrm_reserved(request: _Request) -> Outcome | None:
    sig = request.sigstruct
    reserved = ~request.encl.driver.cpu.model.xfrm_mask & _BITS_64
    return _required(request, "XFRM", sig.xfrm & sig.xfrmmask, reserved)


def _key_hash(request: _Request) -> Outcome | None:
    failure = request.encl.driver.failures.hit(FailurePoint.CRYPTO)
    if failure:
        return _refuse(request.encl, failure, "the modulus can be hashed", "a working sha256", "none")
    return None


_CHECKS: dict[InitCheck, Callable[[_Request], Outcome | None]] = {
    InitCheck.BUILDING: _building,
    InitCheck.CREATED: _created,
    InitCheck.NOT_INITIALISED: _not_initialised,
    InitCheck.ARGUMENT: _argument,
    InitCheck.BUFFER: _buffer,
    InitCheck.SIGSTRUCT: _sigstruct,
    InitCheck.VENDOR: _vendor,
    InitCheck.ATTRIBUTES_ALLOWED: _attributes_allowed,
    InitCheck.ATTRIBUTES_RESERVED: _attributes_reserved,
    InitCheck.MISC_RESERVED: _misc_reserved,
    InitCheck.XFRM_RESERVED: _xfrm_reserved,
    InitCheck.KEY_HASH: _key_hash,
}


def _einit(request: _Request) -> Outcome:
    """The loop around EINIT: an event that is pending makes it give way."""
    encl, task, cpu = request.encl, request.task, request.encl.driver.cpu
    rules = encl.profile.init
    memory = ScratchMemory()
    sigstruct = memory.place(request.sigstruct.buffer, PAGE_SIZE)
    token = memory.place(bytes(Einittoken.size_of), 512)
    hash_words = lepubkeyhash_words(mrsigner(request.sigstruct))

    answers: list[tuple[Answer, Identity]] = []

    def ask(mrenclave: bytes, signer: bytes) -> None:
        answer, identity = hooks.initialising(encl, task, request.address, request.sigstruct, mrenclave)
        if answer.reason is not None:
            raise _Refused(answer.reason)
        answers.append((answer, identity))

    result = LeafResult()
    try:
        for round_ in range(SLEEP_TRIES):
            for _ in range(SPIN_TRIES):
                for register, word in enumerate(hash_words):
                    cpu.msrs.write(Msr.SGXLEPUBKEYHASH0 + register, word)
                result = einit(
                    cpu,
                    memory,
                    sigstruct,
                    encl.secs_address,
                    token,
                    ask if encl.security is not None else None,
                )
                if result.code is not SgxError.UNMASKED_EVENT:
                    break
            if result.code is not SgxError.UNMASKED_EVENT:
                break
            encl.driver.sleep(SLEEP_SECONDS)
            if task.signal_pending():
                return _refuse(
                    encl,
                    ERESTARTSYS,
                    "no signal arrives while EINIT is repeated",
                    "none",
                    f"one in round {round_ + 1}",
                )
    except Fault as fault:
        encl.dead = rules.einit_fault_kills
        return _refuse(
            encl, rules.einit_fault, "EINIT does not fault", "success", fault.mnemonic, cause=fault.reason
        )
    except _Refused as refused:
        return hooks.denied(refused.reason)
    if result.code is not None:
        return _refuse(
            encl,
            errno.EPERM,
            "EINIT accepts the SIGSTRUCT",
            "success",
            result.code.symbol,
            cause=result.reason,
        )
    encl.initialised = True
    if encl.security is not None and answers:
        answer, encl.security.identity = answers[-1]
        encl.security.label = answer.label
        encl.security.grants, encl.security.tolerated = answer.grants, answer.tolerated
    return OK
