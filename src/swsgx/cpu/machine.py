"""The processor with its EPC: everything that leaf functions change.

No leaf is a method here; each has a module in :mod:`swsgx.cpu.encls`. Leaves run one at a time. The machine
reads no file, no clock and no environment: randomness and secrets come in as arguments.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from swsgx.cpu.epc import Epc
from swsgx.cpu.epcm import HOME_EPC, Epcm
from swsgx.cpu.faults import invariant
from swsgx.cpu.keys import Secrets
from swsgx.cpu.msr import Msrs
from swsgx.cpu.pager import BLOCK, ROW_SIZE, Pager
from swsgx.cpu.scratch import Scratch
from swsgx.cpu.store import EnclaveStore
from swsgx.cpu.tracking import CountedThreads, Tracker
from swsgx.identity.measure import Measurement
from swsgx.isa.address import EpcAddr
from swsgx.isa.cpuid import CpuModel
from swsgx.isa.flags import Attributes, PageType
from swsgx.isa.structs import Secs
from swsgx.trace import OFF, Recorder

__all__ = ["Cpu", "SecsState"]


@dataclass(slots=True)
class SecsState:
    """What a SECS page holds beyond its architectural fields.

    Attributes:
        frame: the SECS's EPC frame.
        eid: unique number of the enclave on this machine, never reused.
        store: where the contents of the enclave's pages are.
        measurement: the running MRENCLAVE.
        children: enclave pages in the EPC.
        tcs: frames of pages that are, or were until they were trimmed, usable TCSs.
        epoch: tracking epoch, from 1; see :mod:`swsgx.cpu.tracking`.
        previous: threads that entered before the present epoch and are still inside, if they are counted here.
        isvfamilyid, isvextprodid: from SIGSTRUCT, 16 bytes each.
        padding: 352 bytes of the verified signature's encoding.
    """

    frame: int
    eid: int
    store: EnclaveStore
    measurement: Measurement
    children: int = 0
    tcs: set[int] = field(default_factory=set)
    epoch: int = 1
    previous: int = 0
    isvfamilyid: bytes = bytes(16)
    isvextprodid: bytes = bytes(16)
    padding: bytes = field(default=bytes(352), repr=False)


class Cpu:
    """One machine.

    Args:
        model: what CPUID says of it.
        random: makes random bytes; ``os.urandom`` unless runs must repeat.
        secrets: fused keys; fresh ones by default, so that sealed data do not outlive the machine.
        trace: where leaves are recorded.

    Attributes:
        epc, epcm: the pages and the map of them.
        msrs: registers, among them the launch hash.
        cpusvn: security version, 16 bytes.
        enclaves: what each SECS holds, by EPC frame.
        written_out: what each SECS holds that EWB has written out, by EID.
        pager: the paging key and the versions.
        scratch: memory for the pages that it works on.
        serial: held by a running leaf.
        tracker: knows which threads have left their enclave since an epoch began.
        unmasked_event: asked once by each EINIT: is an interrupt pending that EINIT must make way for?
    """

    def __init__(
        self,
        model: CpuModel,
        *,
        random: Callable[[int], bytes],
        secrets: Secrets | None = None,
        trace: Recorder = OFF,
    ) -> None:
        self.model = model
        self.random = random
        self.secrets = secrets if secrets is not None else Secrets.generate(random)
        self.trace = trace
        self.epc = Epc(model)
        self.epcm = Epcm(self.epc.frames)
        self.msrs = Msrs()
        self.cpusvn = bytes(16)
        self.enclaves: dict[int, SecsState] = {}
        self.written_out: dict[int, SecsState] = {}
        self.pager = Pager(random)
        self.scratch = Scratch(BLOCK * ROW_SIZE)
        self.serial = threading.RLock()
        self.tracker: Tracker = CountedThreads(self.threads_inside)
        self.unmasked_event: Callable[[], bool] = lambda: False
        self._locked: dict[int, int] = {}
        self._changing: dict[int, int] = {}
        self._measuring: dict[int, int] = {}
        self._last_eid = 0
        self._closed = False

    # Who uses what. Leaves are serialised, so conflicts come only from tests and from a model of more processors.

    @contextlib.contextmanager
    def lock(self, page: EpcAddr) -> Iterator[None]:
        """While open, leaves find the page in use by another logical processor."""
        with self._counted(self._locked, self.epc.frame(page)):
            yield

    @contextlib.contextmanager
    def lock_sgx2(self, page: EpcAddr) -> Iterator[None]:
        """While open, leaves find the page being changed by an SGX2 leaf of another logical processor."""
        with self._counted(self._changing, self.epc.frame(page)):
            yield

    @contextlib.contextmanager
    def lock_measurement(self, secs: EpcAddr) -> Iterator[None]:
        """While open, leaves find the enclave's measurement being extended by another logical processor."""
        with self._counted(self._measuring, self.epc.frame(secs)):
            yield

    @staticmethod
    @contextlib.contextmanager
    def _counted(held: dict[int, int], frame: int) -> Iterator[None]:
        held[frame] = held.get(frame, 0) + 1
        try:
            yield
        finally:
            held[frame] -= 1
            if not held[frame]:
                del held[frame]

    def is_locked(self, frame: int) -> bool:
        """Whether another logical processor is using the page."""
        return frame in self._locked

    def is_changing(self, frame: int) -> bool:
        """Whether another logical processor is changing the page by an SGX2 leaf."""
        return frame in self._changing

    def any_locked(self) -> bool:
        """Whether any page at all is in use by another logical processor."""
        return bool(self._locked or self._changing)

    def is_measuring(self, frame: int) -> bool:
        """Whether another logical processor is extending the measurement of the enclave with this SECS."""
        return frame in self._measuring

    # What is where.

    def page(self, frame: int) -> memoryview:
        """The 4096 bytes of a valid page."""
        entry = self.epcm[frame]
        if entry.home == HOME_EPC:
            return self.epc.page(frame)
        state = self.enclaves[entry.secs]
        return state.store.page(entry.enclaveaddress - state.store.head.baseaddr)

    def secs(self, frame: int) -> Secs:
        """A SECS page, as a view."""
        return Secs(self.epc.page(frame))

    def is_secs(self, frame: int) -> bool:
        """Whether the frame is a valid SECS page."""
        return self.epcm.valid(frame) and self.epcm[frame].pt == PageType.SECS

    def initialised(self, frame: int) -> bool:
        """Whether the enclave with this SECS went through EINIT."""
        return bool(self.secs(frame).attributes & Attributes.INIT)

    def next_eid(self) -> int:
        """A number that no enclave of this machine had before."""
        self._last_eid += 1
        return self._last_eid

    def threads_inside(self, secs: int) -> int:
        """How many logical processors are inside the enclave: its TCS pages whose STATE is active."""
        return sum(any(self.page(frame)[:8]) for frame in self.enclaves[secs].tcs)

    def owner(self, frame: int) -> SecsState:
        """The enclave that owns a REG, TCS or TRIM page."""
        secs = self.epcm[frame].secs
        invariant(secs in self.enclaves, "EPCM: an enclave page has a valid SECS", frame=frame, secs=secs)
        return self.enclaves[secs]

    def offset_of(self, frame: int) -> int:
        """Bytes from BASEADDR to an enclave page."""
        entry = self.epcm[frame]
        return entry.enclaveaddress - self.enclaves[entry.secs].store.head.baseaddr

    def forget_written_out(self, eid: int) -> None:
        """A SECS that EWB has written out will never come back: give its enclave's memory back."""
        state = self.written_out.pop(eid, None)
        if state is not None:
            state.store.close()

    def close(self) -> None:
        """Give all memory back; the machine is of no use afterwards. Enclave files should be closed before."""
        if self._closed:
            return
        self._closed = True
        for state in (*self.enclaves.values(), *self.written_out.values()):
            state.store.close()
        self.enclaves.clear()
        self.written_out.clear()
        self.epcm.close()
        self.epc.close()
