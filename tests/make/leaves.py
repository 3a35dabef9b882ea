"""Running leaves by hand: a machine, buffers for operands, and what a good call of each leaf looks like."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from swsgx.cpu.encls.eadd import eadd
from swsgx.cpu.encls.eaug import eaug
from swsgx.cpu.encls.eblock import eblock
from swsgx.cpu.encls.ecreate import ecreate
from swsgx.cpu.encls.eextend import extend_page
from swsgx.cpu.encls.einit import einit
from swsgx.cpu.encls.emodpr import emodpr
from swsgx.cpu.encls.emodt import emodt
from swsgx.cpu.encls.epa import epa
from swsgx.cpu.encls.etrack import etrack
from swsgx.cpu.encls.ewb import ewb
from swsgx.cpu.enclu.operands import EveryPage, Inside
from swsgx.cpu.faults import Fault, GeneralProtection, LeafResult, PageFault
from swsgx.cpu.machine import Cpu
from swsgx.cpu.memory import ScratchMemory
from swsgx.identity.signer import mrsigner, sign
from swsgx.identity.sigstruct import SigstructOptions, unsigned
from swsgx.isa.address import PAGE_SIZE, EpcAddr, Linaddr
from swsgx.isa.cpuid import CpuModel
from swsgx.isa.errors import SgxError
from swsgx.isa.flags import PageType, secinfo_flags
from swsgx.isa.sigstruct import Einittoken, Sigstruct
from swsgx.isa.structs import Pageinfo, Pcmd, Secinfo, Secs
from swsgx.native.abi import EpcmState
from swsgx.trace import Event, Recorder
from tests.make.world import BASE, REG_RW, TCS, a_secs, a_tcs, repeatable, signing_key

#: The page-fault code that an ENCLS leaf gets from the EPCM.
EPCM_CODE = 0x8003


@dataclass
class Evicted:
    """A page as EWB wrote it: where it and its PCMD are, its version slot, and its address."""

    page: Linaddr
    pcmd: Linaddr
    slot: EpcAddr
    linaddr: int = 0


class Bench:
    """A machine with 64 EPC pages, and a kernel's buffers."""

    def __init__(self, model: CpuModel | None = None) -> None:
        self.events: list[Event] = []
        chosen = model if model is not None else CpuModel.with_sgx2(epc_size=64 * PAGE_SIZE)
        self.cpu = Cpu(chosen, random=repeatable().randbytes, trace=Recorder([self.events.append]))
        self.memory = ScratchMemory()
        #: Addresses that an operand may wrongly have.
        self.outside = EpcAddr(self.cpu.epc.base + self.cpu.epc.size)
        self.unmapped = Linaddr(0xFFFF_9000_0000_0000)

    def page(self) -> EpcAddr:
        """A free EPC page."""
        frame = self.cpu.epc.allocate()
        if frame is None:
            raise AssertionError("the test's EPC is too small")
        return self.cpu.epc.address(frame)

    def place(self, data: bytes | memoryview, align: int = PAGE_SIZE) -> Linaddr:
        return self.memory.place(data, align)

    def secinfo(self, flags: int, **values: object) -> Linaddr:
        return self.place(Secinfo.of(flags=flags, **values).buffer, 64)

    def pageinfo(self, **values: object) -> Linaddr:
        return self.place(Pageinfo.of(**values).buffer, 32)

    def ecreate(self, source: Secs | None = None, /, **values: object) -> EpcAddr:
        """A SECS page; ``values`` replace fields of PAGEINFO."""
        page = self.page()
        info = {
            "srcpge": self.place((source if source is not None else a_secs()).buffer),
            "secinfo": self.secinfo(0),
        }
        ecreate(self.cpu, self.memory, self.pageinfo(**(info | values)), page)
        return page

    def eadd(
        self,
        owner: EpcAddr,
        offset: int = 0,
        flags: int = REG_RW,
        data: bytes | None = None,
        page: EpcAddr | None = None,
        /,
        **values: object,
    ) -> EpcAddr:
        """A page of an enclave at BASE; ``values`` replace fields of PAGEINFO."""
        contents = data if data is not None else bytes(a_tcs()) if flags == TCS else bytes(PAGE_SIZE)
        info = {
            "linaddr": BASE + offset,
            "srcpge": self.place(contents),
            "secinfo": self.secinfo(flags),
            "secs": owner,
        }
        at = page if page is not None else self.page()
        eadd(self.cpu, self.memory, self.pageinfo(**(info | values)), at)
        return at

    def sigstruct(self, secs: EpcAddr, options: SigstructOptions | None = None) -> Sigstruct:
        """A good SIGSTRUCT for an enclave as it is now."""
        frame = self.cpu.epc.frame(secs)
        page = self.cpu.secs(frame)
        chosen = options or SigstructOptions(
            attributes=page.attributes, xfrm=page.xfrm, miscselect=page.miscselect
        )
        return sign(unsigned(self.cpu.enclaves[frame].measurement.digest(), chosen), signing_key())

    def trust(self, sigstruct: Sigstruct) -> None:
        """Write the signer's hash to the launch registers."""
        self.cpu.msrs.lepubkeyhash = mrsigner(sigstruct)

    def einit(
        self, secs: EpcAddr, sigstruct: Sigstruct | None = None, token: Einittoken | None = None
    ) -> LeafResult:
        sig = sigstruct if sigstruct is not None else self.sigstruct(secs)
        if sigstruct is None:
            self.trust(sig)
        tok = token if token is not None else Einittoken()
        return einit(self.cpu, self.memory, self.place(sig.buffer), secs, self.place(tok.buffer, 512))

    def enclave(
        self, secs: Secs | None = None, *, initialised: bool = False
    ) -> tuple[EpcAddr, EpcAddr, EpcAddr]:
        """SECS, a measured REG page at offset 0, and a TCS at offset 0x1000."""
        secs_page = self.ecreate(secs)
        reg = self.eadd(secs_page, 0, REG_RW, bytes(range(256)) * 16)
        extend_page(self.cpu, secs_page, reg)
        tcs = self.eadd(secs_page, 0x1000, TCS)
        if initialised:
            result = self.einit(secs_page)
            if not result.ok:
                raise AssertionError(str(result.reason))
        return secs_page, reg, tcs

    # A running enclave.

    def eaug(self, owner: EpcAddr, offset: int, page: EpcAddr | None = None, /, **values: object) -> EpcAddr:
        """A page that waits for its EACCEPT; ``values`` replace fields of PAGEINFO."""
        at = page if page is not None else self.page()
        info = {"linaddr": BASE + offset, "secs": owner}
        eaug(self.cpu, self.memory, self.pageinfo(**(info | values)), at)
        return at

    def emodpr(self, page: EpcAddr, perm: int) -> LeafResult:
        return emodpr(self.cpu, self.memory, self.secinfo(perm), page)

    def emodt(self, page: EpcAddr, page_type: PageType) -> LeafResult:
        return emodt(self.cpu, self.memory, self.secinfo(secinfo_flags(page_type)), page)

    def inside(self, secs: EpcAddr) -> Inside:
        """A thread inside the enclave, whose process maps all of it."""
        frame = self.cpu.epc.frame(secs)
        return Inside(frame, EveryPage(self.cpu, self.cpu.enclaves[frame]))

    def own_secinfo(self, flags: int, *, offset: int = 0x40, reserved: bytes = b"") -> Linaddr:
        """A SECINFO inside an enclave made by :meth:`enclave`, in its page at offset 0."""
        data = Secinfo.of(flags=flags).buffer
        frame = next(f for f in range(self.cpu.epc.frames) if self.cpu.epcm[f].enclaveaddress == BASE)
        self.cpu.page(frame)[offset : offset + len(data)] = bytes(data[: 64 - len(reserved)]) + reserved
        return Linaddr(BASE + offset)

    def entry(self, page: EpcAddr) -> tuple[int, int, EpcmState]:
        """Type, permissions and state of a page."""
        found = self.cpu.epcm[self.cpu.epc.frame(page)]
        return found.pt, found.perm, EpcmState(found.state)

    def change(self, page: EpcAddr, *, pt: PageType | None = None, state: EpcmState | None = None) -> None:
        """Write to the EPCM what SGX2 and paging leaves would."""
        frame = self.cpu.epc.frame(page)
        entry = self.cpu.epcm[frame]
        if pt is not None:
            entry.pt = pt
        if state is not None:
            entry.state = EpcmState.VALID | state

    def snapshot(self) -> tuple[bytes, bytes, dict[int, tuple[object, ...]]]:
        """All that a refused leaf must leave alone: EPC, EPCM, and each enclave's own state."""
        cpu = self.cpu
        enclaves: dict[int, tuple[object, ...]] = {
            frame: (
                state.measurement.digest(),
                state.children,
                (state.epoch, state.previous, frozenset(state.tcs)),
                bytes(state.store.contents.view),
                int(state.store.frame_map.sum()),
            )
            for frame, state in cpu.enclaves.items()
        }
        return bytes(cpu.epc.store.view), bytes(cpu.epcm.region.view), enclaves

    @contextlib.contextmanager
    def refuses(
        self, kind: type[Fault], rule: str, address: int | None = None, code: int = EPCM_CODE
    ) -> Iterator[None]:
        """The block raises ``kind`` for a rule with these words, changes nothing, and the trace says so."""
        before = self.snapshot()
        with pytest.raises(kind) as caught:
            yield
        fault = caught.value
        assert rule in fault.reason.rule
        if isinstance(fault, PageFault) and address is not None:
            assert (fault.address, fault.error_code) == (address, code)
        if isinstance(fault, GeneralProtection):
            assert fault.error_code == 0
        assert self.snapshot() == before
        assert self.events[-1].reason == fault.reason
        assert self.events[-1].result == fault.mnemonic

    def va_page(self) -> EpcAddr:
        """A page of empty version slots."""
        page = self.page()
        epa(self.cpu, PageType.VA, page)
        return page

    def activate(self, tcs: EpcAddr, *, inside: bool = True) -> None:
        """A thread enters, or leaves: what EENTER and EEXIT write."""
        self.cpu.page(self.cpu.epc.frame(tcs))[0] = int(inside)

    def tracked(self, secs: EpcAddr, *pages: EpcAddr) -> None:
        """EBLOCK pages, and have nobody inside from before."""
        for page in pages:
            assert eblock(self.cpu, page).ok
        assert etrack(self.cpu, secs).ok

    def evict(self, page: EpcAddr, slot: EpcAddr) -> Evicted:
        """EWB; what it wrote."""
        written = Evicted(self.place(bytes(PAGE_SIZE)), self.place(bytes(Pcmd.size_of), Pcmd.size_of), slot)
        info = self.pageinfo(srcpge=written.page, secinfo=written.pcmd)
        result = ewb(self.cpu, self.memory, info, page, slot)
        assert result.code in (None, SgxError.VA_SLOT_OCCUPIED), str(result.reason)
        written.linaddr = Pageinfo(self.memory.read(info, Pageinfo.size_of)).linaddr
        return written

    def returns(self, result: LeafResult | int, code: SgxError, rule: str, *, informs: bool = False) -> None:
        """The result is an error code, for a rule with these words; one that informs has CF in place of ZF."""
        assert isinstance(result, LeafResult)
        assert result.code is code
        assert (result.zf, result.cf) == (not informs, informs)
        assert result.reason is not None
        assert rule in result.reason.rule
        assert self.events[-1].reason == result.reason
