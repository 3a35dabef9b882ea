"""What a loader does with a plan: CREATE, ADD_PAGES, INIT, mmap, in the way of the kernel's own selftest.

It speaks to the driver as a program does, through ioctls with pointers into memory; nothing here knows how the
driver works.
"""

from __future__ import annotations

from swsgx.image.plan import LoadPlan, PageRun
from swsgx.inprocess.errors import DriverError
from swsgx.inprocess.memory import aligned_buffer
from swsgx.isa.address import PAGE_SIZE, Linaddr
from swsgx.isa.flags import Attributes, PageType
from swsgx.isa.layout import Layout
from swsgx.isa.sigstruct import Sigstruct
from swsgx.isa.structs import Secinfo, Secs
from swsgx.linux.device import EnclaveFile
from swsgx.linux.engine import Engine
from swsgx.linux.outcome import Outcome
from swsgx.linux.task import Task
from swsgx.linux.uapi import (
    PAGE_MEASURE,
    SGX_IOC_ENCLAVE_ADD_PAGES,
    SGX_IOC_ENCLAVE_ADD_PAGES_V23,
    SGX_IOC_ENCLAVE_CREATE,
    SGX_IOC_ENCLAVE_INIT,
    EnclaveAddPages,
    EnclaveAddPagesV23,
    EnclaveCreate,
    EnclaveInit,
    ioctl_name,
)

__all__ = ["PROT_READ", "PROT_WRITE", "Loader"]

PROT_READ = 1
PROT_WRITE = 2
_MAP_SHARED = 1
_MAP_FIXED = 0x10
#: Bytes that are copied to page-aligned memory at a time.
_BOUNCE = 1 << 20
#: x87 and SSE, what every enclave has.
_XFRM_LEGACY = 3


class Loader:
    """Builds one enclave through an open enclave file.

    Args:
        file: the open node.
        task: who calls.
        engine: finds free address space, and takes it back if loading fails.

    Raises:
        DriverError: a call was refused; it says which, with its errno and reason.
    """

    def __init__(self, file: EnclaveFile, task: Task, engine: Engine) -> None:
        self._file = file
        self._task = task
        self._engine = engine

    def load(self, plan: LoadPlan, sigstruct: Sigstruct, *, debug: bool = False) -> Linaddr:
        """All of it: returns the enclave's base, page runs mapped with their own permissions.

        SECS.ATTRIBUTES are what the plan asks for, else what SIGSTRUCT demands; DEBUG only if ``debug``.

        Raises:
            swsgx.image.errors.ImageError: the plan measures pages in part, which Linux cannot do.
            DriverError: a call was refused.
        """
        plan.require_loadable()
        base = self._engine.reserve(plan.size, plan.size)
        try:
            self.create(self._secs(plan, sigstruct, base, debug=debug))
            for run in plan.entries:
                self.add(run)
            self.init(sigstruct)
            for run in plan.entries:
                self.map(base, run)
        except BaseException:
            self._task.mm.munmap(base, plan.size)
            self._engine.unmap(None, base, plan.size)
            raise
        return base

    def _secs(self, plan: LoadPlan, sigstruct: Sigstruct, base: int, *, debug: bool) -> Secs:
        attributes = sigstruct.attributes if plan.attributes is None else plan.attributes
        # int(): the complement of a Flag knows only the named bits, and reserved ones must reach ECREATE as they are.
        attributes = attributes & ~int(Attributes.INIT | Attributes.DEBUG) | Attributes.MODE64BIT
        attributes |= Attributes.DEBUG if debug else 0
        return Secs.of(
            size=plan.size,
            baseaddr=base,
            ssaframesize=plan.ssaframesize,
            attributes=attributes,
            xfrm=(sigstruct.xfrm if plan.xfrm is None else plan.xfrm) | _XFRM_LEGACY,
            miscselect=sigstruct.miscselect if plan.miscselect is None else plan.miscselect,
        )

    def create(self, secs: Secs) -> None:
        """SGX_IOC_ENCLAVE_CREATE."""
        with aligned_buffer(PAGE_SIZE) as (page, address):
            page[:] = secs.buffer
            self._ioctl(SGX_IOC_ENCLAVE_CREATE, EnclaveCreate.of(src=address))

    def add(self, run: PageRun) -> None:
        """SGX_IOC_ENCLAVE_ADD_PAGES, as often as a run needs.

        Raises:
            DriverError: also where a page is measured in part, which Linux cannot express.
        """
        run_flags = PAGE_MEASURE if run.measured else 0
        size = min(_BOUNCE, run.count * PAGE_SIZE)
        with aligned_buffer(size) as (buffer, source), aligned_buffer(PAGE_SIZE) as (page, secinfo):
            page[: Secinfo.size_of] = Secinfo.of(flags=run.secinfo_flags).buffer
            done = 0
            while done < run.count * PAGE_SIZE:
                length = min(size, run.count * PAGE_SIZE - done)
                if run.content is not None:
                    buffer[:length] = run.content[done : done + length]
                done += self._add(run.offset + done, length, source, secinfo, run_flags)

    def _add(self, offset: int, length: int, source: int, secinfo: int, flags: int) -> int:
        if not self._file.encl.profile.count_ioctl:
            older = EnclaveAddPagesV23.of(
                src=source, offset=offset, length=length, secinfo=secinfo, flags=flags
            )
            self._ioctl(SGX_IOC_ENCLAVE_ADD_PAGES_V23, older)
            return length - older.length
        argument = EnclaveAddPages.of(src=source, offset=offset, length=length, secinfo=secinfo, flags=flags)
        self._ioctl(SGX_IOC_ENCLAVE_ADD_PAGES, argument)
        # 0 need not mean that all is done: a signal leaves a short count (uapi asm/sgx.h).
        return argument.count

    def init(self, sigstruct: Sigstruct) -> None:
        """SGX_IOC_ENCLAVE_INIT."""
        with aligned_buffer(PAGE_SIZE) as (page, address):
            page[: Sigstruct.size_of] = sigstruct.buffer
            self._ioctl(SGX_IOC_ENCLAVE_INIT, EnclaveInit.of(sigstruct=address))

    def map(self, base: int, run: PageRun) -> None:
        """Map a run at its place, with the permissions it was added with; TCS pages readable and writable."""
        tcs = run.page_type == PageType.TCS
        prot = PROT_READ | PROT_WRITE if tcs else run.secinfo_flags & 7
        outcome = self._task.mm.mmap(
            base + run.offset,
            run.count * PAGE_SIZE,
            prot,
            _MAP_SHARED | _MAP_FIXED,
            self._file,
            0,
            subject=self._task.subject,
        )
        self._check("mmap", outcome)

    def _ioctl(self, code: int, argument: Layout) -> None:
        with aligned_buffer(PAGE_SIZE) as (page, address):
            page[: argument.size_of] = argument.buffer
            outcome = self._file.ioctl(self._task, code, address)
            argument.buffer[:] = page[: argument.size_of]
        self._check(ioctl_name(code), outcome)

    @staticmethod
    def _check(call: str, outcome: Outcome) -> None:
        if not outcome.ok:
            raise DriverError(call, outcome)
