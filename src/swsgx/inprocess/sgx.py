"""A machine with SGX in our own process: build enclaves, enter them, look into them.

Example::

    with Sgx() as sgx:
        enclave = sgx.load(plan, sigstruct)
        result = enclave.enter(rdi=1, rsi=20, rdx=22)
"""

from __future__ import annotations

import enum
import os
import weakref
from types import TracebackType
from typing import Self

from swsgx.cpu.machine import Cpu
from swsgx.image.plan import LoadPlan
from swsgx.inprocess.enclave import Enclave
from swsgx.inprocess.engine import NativeEngine
from swsgx.inprocess.errors import DriverError
from swsgx.inprocess.loader import Loader
from swsgx.inprocess.memory import OwnMemory
from swsgx.inprocess.process import process
from swsgx.isa.cpuid import DEFAULT_EPC_SIZE, CpuModel
from swsgx.isa.sigstruct import Sigstruct
from swsgx.linux.device import Driver, EnclaveFile
from swsgx.linux.mm import AddressSpace
from swsgx.linux.outcome import Outcome
from swsgx.linux.profile import UPSTREAM_6_12, Profile
from swsgx.linux.security import SecurityHooks
from swsgx.linux.task import Task
from swsgx.native.host import host_model
from swsgx.native.images import address_of
from swsgx.trace import OFF, Recorder

__all__ = ["Isolation", "Sgx"]


class Isolation(enum.StrEnum):
    """What the host may see of an enclave (docs/isolation.md says what each mode guarantees).

    OFF: everything; an entry costs least. HIDDEN: all ones while no thread is inside, for about a thousand times that
    cost. AUTO: the strictest mode that is exact here, which is HIDDEN; debug enclaves are never hidden.
    """

    AUTO = "auto"
    HIDDEN = "hidden"
    OFF = "off"

    @property
    def hides(self) -> bool:
        """Whether enclaves are moved away while no thread is inside."""
        return self is not Isolation.OFF


class Sgx:
    """One SGX machine, its Linux driver, and this process as its only user.

    Args:
        epc_size: bytes of EPC, whole pages.
        model: the CPU; by default SGX2 with the extended state of the real one.
        profile: which kernel's driver to be.
        trace: where leaves, ioctls, memory calls, entries and exits are recorded.
        patch: whether an exit site may be patched after its first use, which makes it 40 times faster; False leaves
            every byte of enclave code alone.
        isolation: what this process may see of an enclave from outside; see :class:`Isolation` and docs/isolation.md.
        security: security modules, :attr:`swsgx.lsm.assembly.Assembled.stack` say. In one's own process they are
            advice: whatever runs here can get around them. The caller closes them.

    Attributes:
        cpu: the machine.
        driver: its driver; ``driver.open()`` for those who want to do the ioctls themselves.
        mm: this process's enclave mappings.
        task: this process, for ioctls.

    Raises:
        swsgx.native.images.ImageMissing: the C images are not built.
    """

    def __init__(
        self,
        *,
        epc_size: int = DEFAULT_EPC_SIZE,
        model: CpuModel | None = None,
        profile: Profile = UPSTREAM_6_12,
        trace: Recorder = OFF,
        patch: bool = True,
        isolation: Isolation | str = Isolation.AUTO,
        security: SecurityHooks | None = None,
    ) -> None:
        self._process = process()
        self.trace = trace
        self.cpu = Cpu(model or host_model(self._process.monitor, epc_size), random=os.urandom, trace=trace)
        self.driver = Driver(self.cpu, profile, trace=trace, security=security)
        epcm = address_of(self.cpu.epcm.region.view)
        hide = Isolation(isolation).hides
        self._engine = NativeEngine(self._process, epcm, patch=patch, hide=hide)
        self.mm = AddressSpace(self._engine)
        self.task = Task(OwnMemory(), self.mm)
        if security is not None and security.active:
            from swsgx.lsm.process_facts import ProcessMemory, SourceFiles, subject_of

            self.task.subject = subject_of(os.getpid())
            self.task.provenance = ProcessMemory(os.getpid(), SourceFiles())
        self._enclaves: weakref.WeakSet[Enclave] = weakref.WeakSet()
        self._process.open()
        self._open = True

    def load(self, plan: LoadPlan, sigstruct: Sigstruct, *, debug: bool = False) -> Enclave:
        """Build, initialise and map an enclave.

        Args:
            plan: what to add (:mod:`swsgx.image`).
            sigstruct: the signature that EINIT checks.
            debug: make it a debug enclave, if the signature allows that.

        Raises:
            DriverError: a step was refused.
            ValueError: the machine is closed.
        """
        if not self._open:
            raise ValueError("the machine is closed")
        file = self.driver.open(subject=self.task.subject)
        if not isinstance(file, EnclaveFile):
            raise DriverError("open", file if isinstance(file, Outcome) else Outcome(-1))
        try:
            base = self.loader(file).load(plan, sigstruct, debug=debug)
        except BaseException:
            file.close()
            raise
        enclave = self.adopt(file, [base + offset for offset in plan.tcs])
        enclave.owns_range = True
        return enclave

    def loader(self, file: EnclaveFile) -> Loader:
        """The steps of :meth:`load` one by one, for an open node."""
        return Loader(file, self.task, self._engine)

    def adopt(self, file: EnclaveFile, tcs: list[int]) -> Enclave:
        """Make an enclave that was built by hand, through ioctls, enterable.

        Args:
            file: the open node; the enclave closes it.
            tcs: linear addresses of its TCS pages.
        """
        enclave = Enclave(self._process, self._engine, self.mm, file, tcs, self.trace)
        self._enclaves.add(enclave)
        return enclave

    def null_calls(self, count: int) -> None:
        """``count`` system calls that do nothing, in C: what the cost of an entry is compared with."""
        self._process.monitor.null_calls(count)

    def close(self) -> None:
        """End all enclaves and give the process its signals back."""
        if not self._open:
            return
        self._open = False
        for enclave in list(self._enclaves):
            enclave.close()
        self.mm.exit()
        self._process.close()
        self.cpu.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
