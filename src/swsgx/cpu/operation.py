"""How a leaf says no: the checks that many leaves share, and the words for the others.

Every leaf owns one :class:`Operation`; its methods build faults and results that name the leaf, the rule,
what was expected and what was found.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import numpy as np

from swsgx.cpu.faults import Fault, GeneralProtection, LeafResult, PageFault
from swsgx.isa.address import EpcAddr, Linaddr, is_aligned
from swsgx.isa.errors import SgxError
from swsgx.isa.flags import PageFaultCode
from swsgx.isa.layout import SDM, Layout
from swsgx.isa.leaves import Encls, Enclu
from swsgx.trace import Reason, hexed

if TYPE_CHECKING:
    from swsgx.cpu.machine import Cpu
    from swsgx.cpu.memory import LinearMemory

__all__ = ["Operation", "encls_leaf", "enclu_leaf"]

#: Codes that a leaf reports with CF=1 and ZF=0: they inform, nothing failed.
_INFORMING = frozenset(
    {SgxError.BLKSTATE, SgxError.NOTBLOCKABLE, SgxError.PG_IS_SECS, SgxError.VA_SLOT_OCCUPIED}
)


@dataclass(frozen=True, slots=True)
class Operation:
    """One leaf, as the one who refuses.

    Attributes:
        leaf: the leaf function.
    """

    leaf: Encls | Enclu

    @property
    def name(self) -> str:
        """``"EADD"``."""
        return self.leaf.name

    @property
    def source(self) -> str:
        """The manual's section, by title."""
        return f"{SDM}, '{self.leaf.name}'"

    def reason(
        self, rule: str, expected: object, found: object, *, remedy: str = "", cause: Reason | None = None
    ) -> Reason:
        """A refusal of this leaf; integers are told in hexadecimal."""
        return Reason(self.name, rule, hexed(expected), hexed(found), self.source, remedy, cause)

    def gp(self, rule: str, expected: object, found: object, *, remedy: str = "") -> GeneralProtection:
        """#GP(0) with its reason; the caller raises it."""
        return GeneralProtection(self.reason(rule, expected, found, remedy=remedy))

    def pf(
        self,
        address: int,
        rule: str,
        expected: object,
        found: object,
        *,
        remedy: str = "",
        write: bool | None = None,
    ) -> PageFault:
        """#PF at ``address`` with the SGX bit and its reason; the caller raises it.

        The manual leaves W open. By default it is set for a leaf of ENCLS, as KVM injects it, and clear for one of
        ENCLU, which also has U; ``write`` says that the leaf writes to the page.
        """
        user = isinstance(self.leaf, Enclu)
        code = PageFaultCode.P | PageFaultCode.SGX
        if user:
            code |= PageFaultCode.U
        if not user if write is None else write:
            code |= PageFaultCode.W
        return PageFault(Linaddr(address), self.reason(rule, expected, found, remedy=remedy), code)

    def code(
        self, error: SgxError, rule: str, expected: object, found: object, *, remedy: str = ""
    ) -> LeafResult:
        """An error code as the leaf's result, with ZF or CF as the manual has it."""
        informs = error in _INFORMING
        reason = self.reason(rule, expected, found, remedy=remedy)
        return LeafResult(int(error), zf=not informs, cf=informs, reason=reason)

    def aligned(self, operand: str, address: int, alignment: int) -> None:
        """Insist that an operand is a multiple of ``alignment`` bytes; else #GP(0)."""
        if not is_aligned(address, alignment):
            raise self.gp(f"{operand} is a multiple of {alignment}", f"a multiple of {alignment}", address)

    def in_epc(self, cpu: Cpu, operand: str, address: EpcAddr) -> int:
        """The frame that holds ``address``; #PF if it is not in the EPC."""
        if not cpu.epc.contains(address):
            section = f"{cpu.epc.base:#x}-{cpu.epc.base + cpu.epc.size:#x}"
            raise self.pf(address, f"{operand} is in the EPC", section, address)
        return cpu.epc.frame(address)

    def valid(self, cpu: Cpu, operand: str, address: EpcAddr, frame: int) -> None:
        """Insist that a page is valid; else #PF."""
        if not cpu.epcm.valid(frame):
            raise self.pf(address, f"EPCM({operand}).VALID is 1", "a valid page", "a free page")

    def unlocked(self, cpu: Cpu, operand: str, frame: int) -> None:
        """Insist that no other leaf is using the page; else #GP(0)."""
        if cpu.is_locked(frame):
            raise self.gp(
                f"{operand} is not in use by another leaf",
                "a page that no logical processor works on",
                f"EPC page {cpu.epc.address(frame):#x} is locked",
                remedy="try again",
            )

    def read(self, memory: LinearMemory, operand: str, address: Linaddr, size: int) -> bytes:
        """Copy an operand from ordinary memory; its page fault is told in this leaf's name."""
        try:
            return memory.read(address, size)
        except PageFault as fault:
            rule = f"{operand} is readable"
            told = self.reason(
                rule, f"{size} mapped bytes at {address:#x}", "a page fault", cause=fault.reason
            )
            raise PageFault(Linaddr(fault.address or address), told, fault.error_code) from fault

    def write(self, memory: LinearMemory, operand: str, address: Linaddr, data: bytes) -> None:
        """Store an operand in ordinary memory; its page fault is told in this leaf's name."""
        try:
            memory.write(address, data)
        except PageFault as fault:
            rule = f"{operand} is writable"
            expected = f"{len(data)} writable bytes at {address:#x}"
            told = self.reason(rule, expected, "a page fault", cause=fault.reason)
            raise PageFault(Linaddr(fault.address or address), told, fault.error_code) from fault


P = ParamSpec("P")
R = TypeVar("R")


def _shown(names: list[str], values: tuple[object, ...]) -> dict[str, object]:
    """Operands worth recording: addresses, numbers, structures, and how many frames."""
    shown: dict[str, object] = {}
    for name, value in zip(names, values, strict=False):
        if isinstance(value, int | Layout):
            shown[name] = value if isinstance(value, int) else str(value)
        elif isinstance(value, np.ndarray):
            shown[name] = len(value)
    return shown


def _preamble(operation: Operation, cpu: Cpu) -> None:
    """What the instruction itself checks before any leaf."""
    if not cpu.msrs.sgx_enabled:
        raise operation.gp(
            "IA32_FEATURE_CONTROL is locked with SGX_ENABLE",
            "bits 0 and 18 set",
            cpu.msrs.feature_control,
            remedy="enable SGX in the machine's configuration",
        )
    if operation.leaf.sgx2 and not cpu.model.sgx2:
        raise operation.gp(
            "the processor has SGX2",
            "CPUID.12H.0:EAX bit 1",
            cpu.model.name,
            remedy="choose a CPU model with SGX2",
        )


def encls_leaf(
    operation: Operation,
) -> Callable[[Callable[Concatenate[Cpu, P], R]], Callable[Concatenate[Cpu, P], R]]:
    """Make a function a leaf of ENCLS: one at a time, only where SGX is enabled, and recorded if anybody listens."""

    def decorate(body: Callable[Concatenate[Cpu, P], R]) -> Callable[Concatenate[Cpu, P], R]:
        names = list(inspect.signature(body).parameters)[1:]

        @functools.wraps(body)
        def leaf(cpu: Cpu, /, *args: P.args, **kwargs: P.kwargs) -> R:
            with cpu.serial:
                if not cpu.trace.on:
                    _preamble(operation, cpu)
                    return body(cpu, *args, **kwargs)
                shown = _shown(names, args)
                try:
                    _preamble(operation, cpu)
                    result = body(cpu, *args, **kwargs)
                except Fault as fault:
                    cpu.trace.event("leaf", operation.name, shown, fault.mnemonic, fault.reason)
                    raise
                if isinstance(result, LeafResult):
                    cpu.trace.event("leaf", operation.name, shown, str(result), result.reason)
                else:
                    cpu.trace.event("leaf", operation.name, shown)
                return result

        return leaf

    return decorate


#: The same for a leaf of ENCLU; which side of the enclave boundary it is on, its caller knows.
enclu_leaf = encls_leaf
