"""A small machine with its driver and one program, all in Python: what most tests stand on."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache

from cryptography.hazmat.primitives.asymmetric import rsa

from swsgx.cpu.machine import Cpu
from swsgx.identity.signer import generate_key, sign
from swsgx.identity.sigstruct import SigstructOptions, unsigned
from swsgx.isa.address import PAGE_SIZE, TargetAddr
from swsgx.isa.cpuid import CpuModel
from swsgx.isa.flags import Attributes, PageType, secinfo_flags
from swsgx.isa.layout import Layout
from swsgx.isa.sigstruct import Sigstruct
from swsgx.isa.structs import Secinfo, Secs, Tcs
from swsgx.linux import uapi
from swsgx.linux.device import Driver, EnclaveFile
from swsgx.linux.mm import MAP_FIXED, MAP_SHARED, AddressSpace
from swsgx.linux.outcome import Outcome
from swsgx.linux.profile import UPSTREAM_6_12, Profile
from swsgx.linux.task import BadAddress, SourceVma, Task
from swsgx.trace import Event, Recorder

#: ELRANGE of the enclaves that tests build: 16 pages.
BASE, SIZE = 0x7000_0000_0000, 0x10000

REG_R = secinfo_flags(PageType.REG, 1)
REG_RW = secinfo_flags(PageType.REG, 3)
REG_RX = secinfo_flags(PageType.REG, 5)
REG_RWX = secinfo_flags(PageType.REG, 7)
TCS = secinfo_flags(PageType.TCS)


@cache
def signing_key() -> rsa.RSAPrivateKey:
    """One key for all tests of a run."""
    return generate_key()


def repeatable(seed: int = 1) -> random.Random:
    return random.Random(seed)


class FakeMemory:
    """A program's memory: pages by address, and mappings with the flag that ADD_PAGES looks at."""

    def __init__(self) -> None:
        self.pages: dict[int, bytearray] = {}
        self.vmas: list[SourceVma] = []
        self.read_only: set[int] = set()
        self._next = 0x1000_0000

    def map(
        self, data: bytes, address: int | None = None, *, may_exec: bool = True, pinnable: bool = True
    ) -> TargetAddr:
        """Make a mapping that starts with ``data``, page aligned, with a hole behind it."""
        size = max(PAGE_SIZE, -(-len(data) // PAGE_SIZE) * PAGE_SIZE)
        if address is None:
            address = self._next
            self._next += size + PAGE_SIZE
        padded = data.ljust(size, b"\0")
        for at in range(0, size, PAGE_SIZE):
            self.pages[address + at] = bytearray(padded[at : at + PAGE_SIZE])
        self.vmas.append(SourceVma(address, address + size, may_exec=may_exec, pinnable=pinnable))
        self.vmas.sort(key=lambda vma: vma.start)
        return TargetAddr(address)

    def put(self, data: bytes | Layout) -> TargetAddr:
        """A buffer with ``data``, alone in its mapping."""
        return self.map(bytes(data))

    def spans(self, address: int, size: int) -> Iterable[tuple[int, int, int]]:
        """(page, offset, length) of each page of a range, up to the first that is missing."""
        while size:
            page, offset = address & ~(PAGE_SIZE - 1), address % PAGE_SIZE
            length = min(size, PAGE_SIZE - offset)
            yield page, offset, length
            address, size = address + length, size - length

    def read(self, address: TargetAddr, size: int) -> bytes:
        parts = []
        for page, offset, length in self.spans(address, size):
            if page not in self.pages:
                raise BadAddress(max(page, address))
            parts.append(self.pages[page][offset : offset + length])
        return b"".join(parts)

    def write(self, address: TargetAddr, data: bytes) -> None:
        at = 0
        for page, offset, length in self.spans(address, len(data)):
            if page not in self.pages or page in self.read_only:
                raise BadAddress(max(page, address))
            self.pages[page][offset : offset + length] = data[at : at + length]
            at += length

    def copy_to_file(self, fd: int, file_offset: int, address: TargetAddr, size: int) -> int:
        readable = bytearray()
        for page, offset, length in self.spans(address, size):
            if page not in self.pages:
                break
            readable += self.pages[page][offset : offset + length]
        return os.pwrite(fd, readable, file_offset)

    def find_vma(self, address: TargetAddr) -> SourceVma | None:
        return next((vma for vma in self.vmas if vma.end > address), None)


@dataclass
class World:
    """Machine, driver, and a program with one address space."""

    cpu: Cpu
    driver: Driver
    memory: FakeMemory
    mm: AddressSpace
    task: Task
    events: list[Event]
    files: dict[int, object] = field(default_factory=dict)

    def open(self) -> EnclaveFile:
        return self.driver.open_enclave()

    def ioctl(self, file: EnclaveFile, code: int, argument: bytes | Layout) -> Outcome:
        """An ioctl whose argument lies in the program's memory."""
        return file.ioctl(self.task, code, self.memory.put(argument))

    def create(self, file: EnclaveFile, secs: Secs | None = None) -> Outcome:
        src = self.memory.put(secs if secs is not None else a_secs())
        return self.ioctl(file, uapi.SGX_IOC_ENCLAVE_CREATE, uapi.EnclaveCreate.of(src=src))

    def add(
        self,
        file: EnclaveFile,
        offset: int,
        contents: bytes,
        flags: int = REG_RW,
        *,
        measured: bool = True,
        src: int | None = None,
        length: int | None = None,
    ) -> tuple[Outcome, Layout]:
        """ADD_PAGES; the outcome and the structure as it was written back."""
        values = {
            "src": self.memory.put(contents) if src is None else src,
            "offset": offset,
            "length": len(contents) if length is None else length,
            "secinfo": self.memory.put(Secinfo.of(flags=flags)),
            "flags": uapi.PAGE_MEASURE if measured else 0,
        }
        layout: type[Layout] = uapi.EnclaveAddPages
        code = uapi.SGX_IOC_ENCLAVE_ADD_PAGES
        if not file.encl.profile.count_ioctl:
            layout, code = uapi.EnclaveAddPagesV23, uapi.SGX_IOC_ENCLAVE_ADD_PAGES_V23
        arg = self.memory.put(layout.of(**values))
        outcome = file.ioctl(self.task, code, arg)
        return outcome, layout(self.memory.read(arg, layout.size_of))

    def sigstruct(self, file: EnclaveFile, options: SigstructOptions | None = None) -> Sigstruct:
        """A good SIGSTRUCT for what was built so far."""
        encl = file.encl
        state = self.cpu.enclaves[self.cpu.epc.frame(encl.secs_address)]
        chosen = options or SigstructOptions(
            attributes=encl.attributes, xfrm=encl.xfrm, miscselect=encl.miscselect
        )
        return sign(unsigned(state.measurement.digest(), chosen), signing_key())

    def init(self, file: EnclaveFile, sigstruct: Sigstruct | None = None) -> Outcome:
        sig = self.sigstruct(file) if sigstruct is None else sigstruct
        argument = uapi.EnclaveInit.of(sigstruct=self.memory.put(sig))
        return self.ioctl(file, uapi.SGX_IOC_ENCLAVE_INIT, argument)

    def built(self, secs: Secs | None = None) -> EnclaveFile:
        """A created enclave: page 0 RX, pages 1 and 2 RW, page 3 a TCS."""
        file = self.open()
        for outcome in (
            self.create(file, secs),
            self.add(file, 0, b"\x90" * PAGE_SIZE, REG_RX)[0],
            self.add(file, 0x1000, bytes(2 * PAGE_SIZE), REG_RW)[0],
            self.add(file, 0x3000, bytes(a_tcs()), TCS)[0],
        ):
            if outcome.value:
                raise AssertionError(str(outcome.reason))
        return file

    def initialised(self, secs: Secs | None = None) -> EnclaveFile:
        file = self.built(secs)
        outcome = self.init(file)
        if outcome.value:
            raise AssertionError(str(outcome.reason))
        return file

    def refused(self, outcome: Outcome, number: int, rule: str) -> None:
        """The outcome is this errno, for a rule with these words, and the trace says the same."""
        assert outcome.errno == number, str(outcome.reason)
        assert outcome.reason is not None
        assert rule in outcome.reason.rule, outcome.reason.rule
        assert self.events[-1].reason == outcome.reason

    def snapshot(self) -> tuple[int, bytes, dict[int, tuple[bytes, int, bytes]]]:
        """All that a refused call must leave alone, in the machine."""
        cpu = self.cpu
        enclaves = {
            frame: (state.measurement.digest(), state.children, bytes(state.store.contents.view))
            for frame, state in cpu.enclaves.items()
        }
        return cpu.epc.free_count, bytes(cpu.epcm.region.view), enclaves

    def map(self, file: EnclaveFile, offset: int, length: int, prot: int, personality: int = 0) -> Outcome:
        """Map a part of ELRANGE, with MAP_FIXED."""
        return self.mm.mmap(
            BASE + offset, length, prot, MAP_SHARED | MAP_FIXED, file, personality=personality
        )


def a_secs(**values: object) -> Secs:
    """A good SECS for a debug enclave of 16 pages."""
    given: dict[str, object] = {
        "size": SIZE,
        "baseaddr": BASE,
        "ssaframesize": 1,
        "attributes": Attributes.MODE64BIT | Attributes.DEBUG,
        "xfrm": 3,
    }
    return Secs.of(**(given | values))


def a_tcs(**values: object) -> Tcs:
    given: dict[str, object] = {"ossa": 0x1000, "nssa": 1, "fslimit": 0xFFF, "gslimit": 0xFFF}
    return Tcs.of(**(given | values))


def make_world(
    profile: Profile = UPSTREAM_6_12,
    model: CpuModel | None = None,
    *,
    epc_pages: int = 1024,
    seed: int = 1,
    backing_pages: int = 1 << 20,
) -> World:
    """A machine with a small EPC, its driver, and a program that has done nothing yet."""
    events: list[Event] = []
    trace = Recorder([events.append])
    chosen = model if model is not None else CpuModel.with_sgx2(epc_size=epc_pages * PAGE_SIZE)
    cpu = Cpu(chosen, random=repeatable(seed).randbytes, trace=trace)
    driver = Driver(cpu, profile, trace=trace, sleep=lambda seconds: None, backing_pages=backing_pages)
    memory, mm, files = FakeMemory(), AddressSpace(), dict[int, object]()
    return World(cpu, driver, memory, mm, Task(memory, mm, files=files), events, files)
