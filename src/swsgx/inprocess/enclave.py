"""An enclave that this process can enter."""

from __future__ import annotations

import contextlib
import errno
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import Any, Self

import numpy as np

from swsgx.cpu.enclu.refusals import reason_of
from swsgx.cpu.faults import Fault, InternalError
from swsgx.inprocess.engine import NativeEngine
from swsgx.inprocess.errors import EnclaveFault
from swsgx.inprocess.leaves import carry_out
from swsgx.inprocess.process import Process
from swsgx.isa.address import PAGE_SIZE, Linaddr
from swsgx.isa.flags import PageFaultCode
from swsgx.isa.leaves import Enclu
from swsgx.isa.structs import Tcs
from swsgx.isa.vectors import Vector
from swsgx.linux.device import EnclaveFile
from swsgx.linux.fault import resolve
from swsgx.linux.mm import AddressSpace
from swsgx.native.abi import (
    Check,
    EnclaveCall,
    EnclaveRun,
    EpcmState,
    LogicalProcessor,
    Registers,
    VmaBits,
)
from swsgx.native.images import address_of
from swsgx.native.shm import PrivateRegion
from swsgx.trace import Reason, Recorder

__all__ = ["RESUME", "Enclave", "Exit", "OnExit", "PreparedCall", "Reentry", "reenter"]

#: A signal of the process waits to be handled in Python; the enclave is resumed afterwards.
_INTERRUPTED = -4
#: Bytes of untrusted stack for one activation; an enclave may use it.
_STACK = 1 << 18
_PASSED = ("rdi", "rsi", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15")
#: What the vDSO function passes on by the C calling convention.
_ARGUMENTS = ("rdi", "rsi", "rdx", "r8", "r9")
_MASK = (1 << 64) - 1
#: Refusals of an entry for a page that is not there, and for one that the EPCM forbids.
_ENTRY_PAGES = (Check.TCS_IN_EPC, Check.SSA_PAGING, Check.GPR_PAGING)
_ENTRY_EPCM = (Check.SSA_EPCM, Check.GPR_EPCM)
#: How often, and after how many seconds, a page is asked for again that cannot be loaded now.
_LOAD_TRIES, _LOAD_PAUSE = 500, 0.001


@dataclass(frozen=True, slots=True)
class Exit:
    """How a call into an enclave ended.

    Attributes:
        rdi, rsi, rdx, r8, r9, r10, r11, r12, r13, r14, r15: as the enclave left them at EEXIT; after an
            exception RDI, RSI and RDX are its vector, error code and address, the others are synthetic.
        rcx, rsp, rflags: likewise.
        exception: what happened instead of an EEXIT, or None.
    """

    rdi: int
    rsi: int
    rdx: int
    rcx: int
    rsp: int
    rflags: int
    r8: int
    r9: int
    r10: int
    r11: int
    r12: int
    r13: int
    r14: int
    r15: int
    exception: EnclaveFault | None = None

    @property
    def registers(self) -> dict[str, int]:
        """All of them, by name."""
        return {name: getattr(self, name) for name in ("rcx", "rsp", "rflags", *_PASSED)}

    def check(self) -> Self:
        """This exit, if it was an EEXIT.

        Raises:
            EnclaveFault: it was an exception.
        """
        if self.exception is not None:
            raise self.exception
        return self


@dataclass(frozen=True, slots=True)
class Reentry:
    """What an ``on_exit`` wants: go in again. Made by :func:`reenter`; :data:`RESUME` is one.

    Attributes:
        leaf: EENTER or ERESUME.
        registers: as for :meth:`Enclave.enter`.
    """

    leaf: Enclu
    registers: Mapping[str, Any]


#: Continue the interrupted code with ERESUME.
RESUME = Reentry(Enclu.ERESUME, MappingProxyType({}))


def reenter(**registers: Any) -> Reentry:
    """Go in by EENTER, with these registers."""
    return Reentry(Enclu.EENTER, registers)


#: Looks at an exit and may go in again.
OnExit = Callable[[Exit], Reentry | None]


class _Call:
    """One EnclaveCall with its views."""

    def __init__(self) -> None:
        self._region = PrivateRegion(EnclaveCall.size_of)
        self.call = EnclaveCall(self._region.view)
        self.run = EnclaveRun(self.call.buffer[: EnclaveRun.size_of])
        at = EnclaveCall.registers.offset
        self.registers = Registers(self.call.buffer[at : at + Registers.size_of])
        self.address = address_of(self.call.buffer)
        self._spare: PrivateRegion | None = None

    def spare_stack(self) -> int:
        """Top of a stack that belongs to no TCS."""
        if self._spare is None:
            self._spare = PrivateRegion(_STACK)
        return address_of(self._spare.view) + _STACK


class _Calls(threading.local):
    """A thread's unused calls; a call made inside a callback takes another one."""

    def __init__(self) -> None:
        self.free: list[_Call] = []


_calls = _Calls()


class _Activations:
    """The untrusted stacks of one TCS, one for each level of CSSA.

    An enclave returns on the stack it was entered with, whoever resumed it (native/inprocess/call.S): EENTER with
    CSSA = n and ERESUME back to frame n use stack n.
    """

    def __init__(self, contents: memoryview) -> None:
        # Whatever the address of the "TCS" is: the machine has the last word on it.
        self._cssa = contents[Tcs.cssa.offset : Tcs.cssa.end]
        self._stacks: dict[int, PrivateRegion] = {}
        # A handler of a signal may enter again, one level up, while its thread is between two steps of a call.
        self._lock = threading.RLock()

    def close(self) -> None:
        """Give the stacks back."""
        self._cssa.release()
        for stack in self._stacks.values():
            stack.close()

    @contextlib.contextmanager
    def taken(self, call: _Call, leaf: Enclu) -> Iterator[None]:
        """While open, ``call`` has the stack that the next activation needs, and no other thread's call has it."""
        mine = False
        try:
            mine = self._lock.acquire(blocking=False)
            # Where another thread is inside, the machine will refuse; its stack must not be touched for that.
            call.call.stack = self._stack(leaf) if mine else call.spare_stack()
            yield
        finally:
            if mine:
                self._lock.release()

    def _stack(self, leaf: Enclu) -> int:
        """Top of the stack for the next call."""
        cssa = int.from_bytes(self._cssa, "little")
        level = cssa - (leaf == Enclu.ERESUME and cssa > 0)
        region = self._stacks.get(level)
        if region is None:
            region = self._stacks[level] = PrivateRegion(_STACK)
        return address_of(region.view) + _STACK


class PreparedCall:
    """A call that can be repeated; made by :meth:`Enclave.prepared`."""

    def __init__(self, process: Process, call: _Call, activations: _Activations) -> None:
        self._process = process
        self._call = call
        self._activations = activations

    def repeat(self, count: int, *, raw: bool = False) -> None:
        """Enter ``count`` times, through the vDSO function. The enclave must keep to the C calling convention.

        Args:
            count: how often.
            raw: through an ENCLU instruction instead, as hand-written stubs do; exceptions are then signals.

        Raises:
            RuntimeError: a call ended in an exception or was interrupted; it can be resumed.
        """
        lp = self._process.attach()
        self._call.call.count = count
        if raw:
            self._process.monitor.raw_round_trips(self._call.address)
            return
        self._call.run.function = Enclu.EEXIT
        with self._activations.taken(self._call, Enclu.EENTER):
            failed = self._process.monitor.round_trips(self._call.address)
        if failed == _INTERRUPTED and lp.leaf:
            raise RuntimeError("the enclave executed a leaf that Python carries out: use enter()")
        if failed == _INTERRUPTED:
            raise RuntimeError("a signal interrupted the call; resume() goes on with it")
        if failed or self._call.run.function != Enclu.EEXIT:
            raise RuntimeError(f"the enclave did not exit: {reason_of(lp)}")


class Enclave:
    """A built, initialised, mapped enclave. Made by :meth:`swsgx.inprocess.Sgx.load`.

    Attributes:
        base: linear address of ELRANGE.
        size: bytes.
        tcs: linear addresses of the TCS pages.
        file: the open node.
        owns_range: all of ELRANGE was reserved for the enclave, and :meth:`close` gives it back.
    """

    def __init__(
        self,
        process: Process,
        engine: NativeEngine,
        mm: AddressSpace,
        file: EnclaveFile,
        tcs: list[int],
        trace: Recorder,
    ) -> None:
        self._process = process
        self._engine = engine
        self._mm = mm
        self.file = file
        self.base = file.encl.base
        self.size = file.encl.size
        self.tcs = list(tcs)
        self.owns_range = False
        self._trace = trace
        self._open = True
        self._activations: dict[int, _Activations] = {}

    @property
    def mrenclave(self) -> bytes:
        """The measurement that EINIT stored, 32 bytes."""
        self._must_be_open()
        self.file.encl.ensure_resident(())
        secs = self.file.encl.secs
        if secs is None:
            raise InternalError("enclave: a created enclave has a SECS")
        return self.file.driver.cpu.secs(secs).mrenclave

    @property
    def counters(self) -> dict[str, int]:
        """``eenter_slow``: entries that ran all checks (the others reuse their result); ``aex``: asynchronous exits."""
        self._must_be_open()
        return self._engine.counters(self.file.encl)

    def enter(self, tcs: int = 0, **registers: Any) -> Exit:
        """EENTER, until the enclave exits or an exception ends it.

        Signals of the process are handled while the enclave runs, and the enclave goes on afterwards, unless a
        Python handler raises (Ctrl-C): then the thread's state stays in the enclave, for :meth:`resume`.

        Args:
            tcs: which TCS, as an index of :attr:`tcs`.
            registers: RDI, RSI, RDX, R8 to R15 by their lower-case names. An int, or any object with a buffer
                (bytes, bytearray, numpy array): its address is passed, nothing is copied.

        Returns:
            The registers at the exit, and the exception if there was one; ``.check()`` raises it.

        Raises:
            TypeError: another register, or a value that is neither.
            ValueError: the enclave is closed; a buffer with gaps.
        """
        return self._run(Enclu.EENTER, tcs, registers)

    def enter_with(self, on_exit: OnExit, /, tcs: int = 0, **registers: Any) -> Exit:
        """:meth:`enter`, and again, as long as ``on_exit`` says so; what the vDSO function calls a user handler.

        Args:
            on_exit: asked after each exit and each exception. It goes in again with :func:`reenter` (the answer to an
                ocall, the enclave's own exception handler) or :data:`RESUME`, and ends the call with None.
            tcs: as for :meth:`enter`.
            registers: as for :meth:`enter`.
        """
        exited = self._run(Enclu.EENTER, tcs, registers)
        while (again := on_exit(exited)) is not None:
            exited = self._run(again.leaf, tcs, dict(again.registers))
        return exited

    @contextlib.contextmanager
    def prepared(self, tcs: int = 0, **registers: int) -> Iterator[PreparedCall]:
        """A call that is then made many times, without Python in between; of registers only RDI, RSI, RDX, R8, R9."""
        self._must_be_open()
        if unknown := set(registers) - set(_ARGUMENTS):
            raise TypeError(f"prepared() passes {', '.join(_ARGUMENTS)}; not {', '.join(sorted(unknown))}")
        self._process.attach()
        call = _Call()
        call.run.tcs = self.tcs[tcs]
        call.call.function = Enclu.EENTER
        for name, value in registers.items():
            setattr(call.registers, name, value & _MASK)
        yield PreparedCall(self._process, call, self._activations_of(self.tcs[tcs]))

    def resume(self, tcs: int = 0) -> Exit:
        """ERESUME: continue where the last exception or interruption on this TCS stopped it."""
        return self._run(Enclu.ERESUME, tcs, {})

    def _must_be_open(self) -> None:
        if not self._open:
            raise ValueError("the enclave is closed")

    def _run(self, leaf: Enclu, tcs: int, registers: dict[str, Any]) -> Exit:
        self._must_be_open()
        lp = self._process.attach()
        call = _calls.free.pop() if _calls.free else _Call()
        if self.file.encl.paging.evicted:
            self.file.encl.load_page(self.tcs[tcs])  # its CSSA says which stack is next
        try:
            with self._activations_of(self.tcs[tcs]).taken(call, leaf):
                return self._enter(lp, call, leaf, self.tcs[tcs], registers)
        finally:
            _calls.free.append(call)

    def _activations_of(self, tcs: int) -> _Activations:
        found = self._activations.get(tcs)
        if found is None:
            page = self.file.encl.store.page(tcs - self.base)
            found = self._activations.setdefault(tcs, _Activations(page))
        return found

    def _enter(
        self, lp: LogicalProcessor, call: _Call, leaf: Enclu, tcs: int, registers: dict[str, Any]
    ) -> Exit:
        kept = []
        regs, run = call.registers, call.run
        for name in _PASSED:
            value = registers.pop(name, 0)
            if isinstance(value, np.integer):
                value = int(value)  # numpy's numbers have a buffer, too
            if not isinstance(value, int):
                view = np.frombuffer(value, np.uint8)
                kept.append(view)
                value = view.ctypes.data
            setattr(regs, name, value & _MASK)
        if registers:
            raise TypeError(f"enter() passes {', '.join(_PASSED)}; not {', '.join(registers)}")
        run.tcs = tcs
        if self._trace.on:
            self._trace.event(
                "enter", leaf.name, {"tcs": tcs, "rdi": regs.rdi, "rsi": regs.rsi, "rdx": regs.rdx}
            )
        given = bytes(regs.buffer)
        call.call.function = leaf
        raised: Fault | None = None
        while True:
            if self._process.monitor.call(call.address) == _INTERRUPTED:
                # Python's own handlers have run before this line, and may have raised.
                call.call.function = Enclu.ERESUME
                if lp.leaf:
                    raised = carry_out(self._mm, self.file.encl, lp, tcs)
                if raised is not None:
                    break
            elif run.function == Enclu.EEXIT or not self._loaded(lp, run):
                break
            elif lp.rip:
                call.call.function = Enclu.ERESUME
            else:
                # The entry was refused, and is tried again as if nothing had been.
                regs.buffer[:] = given
        if raised is not None:
            run.function = Enclu.ERESUME
            run.exception_vector, run.exception_error_code = raised.vector, raised.error_code
            run.exception_addr = (raised.address or 0) & -PAGE_SIZE
            regs.rdi, regs.rsi, regs.rdx = raised.vector, raised.error_code, run.exception_addr
        exception = (
            None if run.function == Enclu.EEXIT else self._fault(lp, run, raised.reason if raised else None)
        )
        if self._trace.on:
            name = "EEXIT" if exception is None else "AEX" if exception.inside else leaf.name
            result = "ok" if exception is None else exception.vector.mnemonic
            args = {"tcs": tcs, "rdi": regs.rdi, "rsi": regs.rsi}
            self._trace.event("exit", name, args, result, exception.reason if exception is not None else None)
        values = {name: getattr(regs, name) for name in ("rcx", "rsp", "rflags", *_PASSED)}
        return Exit(**values, exception=exception)

    def _loaded(self, lp: LogicalProcessor, run: EnclaveRun) -> bool:
        """Whether the exception was of a page that was not in the EPC, or on its way, and is there now."""
        encl, address = self.file.encl, run.exception_addr & ~(PAGE_SIZE - 1)
        if run.exception_vector != Vector.PF or not self._was_out(lp, address):
            return False
        if not encl.has_page(address):
            return resolve(self._mm, address, PageFaultCode(run.exception_error_code)).resolved
        for _ in range(_LOAD_TRIES):
            outcome = encl.load_page(address)
            if outcome.errno != errno.EAGAIN:
                return outcome.ok and bool(encl.store.frame_map[(address - self.base) // PAGE_SIZE])
            time.sleep(_LOAD_PAUSE)
        return False

    def _was_out(self, lp: LogicalProcessor, address: int) -> bool:
        """Whether paging can have been the cause of the monitor's last page fault."""
        if lp.check == Check.PAGE_ABSENT:
            return True
        if lp.check in _ENTRY_PAGES:
            # Found are the bits of the mapping: where they forbid the access, the page does not matter.
            needed = VmaBits.R if lp.check == Check.TCS_IN_EPC else VmaBits.R | VmaBits.W
            return lp.found & needed == needed
        if lp.check in _ENTRY_EPCM or lp.check == Check.PAGE_EPCM:
            return bool(lp.found >> 16 & EpcmState.BLOCKED)
        if lp.check == Check.TCS_EPCM_BLOCKED:
            return True
        if lp.check != Check.PAGE_CEILING:
            return False
        # Another thread has brought it back already, and had not shown it yet.
        vma, index = self._mm.vma_at(address), (address - self.base) // PAGE_SIZE
        return vma is not None and bool(self.file.encl.effective(index, index + 1, vma.prot).any())

    def _fault(self, lp: LogicalProcessor, run: EnclaveRun, reason: Reason | None) -> EnclaveFault:
        inside = lp.rip != 0
        return EnclaveFault(
            run.exception_vector,
            run.exception_error_code,
            run.exception_addr,
            inside=inside,
            offset=lp.rip - self.base if inside else None,
            reason=reason or reason_of(lp),
        )

    def close(self) -> None:
        """Unmap the enclave and close its file. No thread may be inside."""
        if self._open:
            self._open = False
            self._mm.munmap(self.base, self.size)
            if self.owns_range:
                # Between the enclave's mappings lie holes that were reserved with them.
                self._engine.unmap(None, Linaddr(self.base), self.size)
            self.file.close()
            for activations in self._activations.values():
                activations.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
