"""Security modules in our own process: they are asked, with who we are and where our memory comes from."""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path

import pytest

from swsgx.cpu.encls.eadd import BLOCK_PAGES
from swsgx.inprocess import DriverError, Sgx
from swsgx.inprocess.memory import OwnMemory, aligned_buffer
from swsgx.isa.address import PAGE_SIZE, TargetAddr
from swsgx.isa.flags import Attributes, PageType, secinfo_flags
from swsgx.isa.structs import Secinfo, Secs
from swsgx.linux.device import EnclaveFile
from swsgx.linux.security import Load, OriginClass
from swsgx.linux.uapi import PAGE_MEASURE, SGX_IOC_ENCLAVE_ADD_PAGES, EnclaveAddPages
from swsgx.lsm.assembly import assemble
from swsgx.lsm.audit import Decision
from swsgx.lsm.audit_reader import read_events
from swsgx.lsm.stack import Stack
from swsgx.native.images import address_of
from tests.make.judged import Told
from tests.make.native_enclave import NEEDS_GCC
from tests.make.sgx_program import enclave_source

pytestmark = NEEDS_GCC

IDENTITY = """policy_name=tests policy_version=1.0.0
DEFAULT op=ENCLAVE_INIT action=DENY
op=ENCLAVE_INIT mrenclave=sha256:{mrenclave} grant={grant} action=ALLOW
"""


def _policy(folder: Path, mrenclave: bytes, grant: str) -> str:
    file = folder / "policy.identity"
    file.write_text(IDENTITY.format(mrenclave=mrenclave.hex(), grant=grant), encoding="utf-8")
    return str(file)


def test_enclave_that_the_policy_lists_is_loaded_and_entered(tmp_path: Path) -> None:
    built = enclave_source().build()
    policy = _policy(tmp_path, built.plan.measure().digest(), "execanon")
    with assemble([policy]) as made, Sgx(isolation="off", security=made.stack) as sgx:
        loaded = built.load(sgx)
        loaded.enclave.enter(0, rdi=0).check()


def test_loader_copies_code_to_anonymous_memory_which_takes_a_grant(tmp_path: Path) -> None:
    built, audit = enclave_source().build(), tmp_path / "audit"
    policy = _policy(tmp_path, built.plan.measure().digest(), "mapwx")
    with assemble([policy], audit=audit) as made, Sgx(isolation="off", security=made.stack) as sgx:
        with pytest.raises(DriverError) as refused:
            built.load(sgx)
        assert refused.value.errno == errno.EACCES
        assert not sgx.driver.enclaves
    (denied,) = [
        event.record for event in read_events(audit.read_text()) if isinstance(event.record, Decision)
    ]
    assert denied.permissions == ("execanon",)
    assert denied.pid == os.getpid()
    assert denied.exe == str(Path("/proc/self/exe").readlink())
    assert denied.source.kind == OriginClass.SHM.value


def _add(sgx: Sgx, file: EnclaveFile, source: int, length: int) -> None:
    """ADD_PAGES of data from the enclave's base on."""
    with aligned_buffer(PAGE_SIZE) as (page, address):
        page[128 : 128 + Secinfo.size_of] = Secinfo.of(flags=secinfo_flags(PageType.REG, 3)).buffer
        argument = EnclaveAddPages.of(
            src=source, offset=0, length=length, secinfo=address + 128, flags=PAGE_MEASURE
        )
        page[: argument.size_of] = argument.buffer
        assert file.ioctl(sgx.task, SGX_IOC_ENCLAVE_ADD_PAGES, address).ok


def test_data_of_a_file_comes_from_that_file_and_what_was_written_from_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Enough for some blocks: the first one is looked at, in one a page was written to, and the others are clean.
    pages, written = 10 * BLOCK_PAGES, 5 * BLOCK_PAGES
    path = tmp_path / "data"
    path.write_bytes(b"".join(number.to_bytes(8, "little") * (PAGE_SIZE // 8) for number in range(pages)))
    monkeypatch.setattr("swsgx.lsm.provenance._BELIEVED", 3600)
    from_memory: list[range] = []
    copied = OwnMemory.copy_to_file

    def counted(self: OwnMemory, fd: int, file_offset: int, address: TargetAddr, size: int) -> int:
        from_memory.append(range(address, address + size))
        return copied(self, fd, file_offset, address, size)

    monkeypatch.setattr(OwnMemory, "copy_to_file", counted)
    module = Told()
    size = pages * PAGE_SIZE
    with (
        path.open("rb") as opened,
        mmap.mmap(opened.fileno(), size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as area,
        Sgx(isolation="off", security=Stack([module])) as sgx,
    ):
        area[written * PAGE_SIZE] = 0xFF
        file = sgx.driver.open(subject=sgx.task.subject)
        assert isinstance(file, EnclaveFile)
        length = 1 << size.bit_length()
        attributes = Attributes.MODE64BIT
        secs = Secs.of(size=length, baseaddr=length, ssaframesize=1, attributes=attributes, xfrm=3)
        sgx.loader(file).create(secs)
        source = address_of(memoryview(area))
        _add(sgx, file, source, size)
        file.close()
        loads = [event for event in module.heard if isinstance(event, Load)]
        assert b"".join(event.contents for event in loads) == area[:]
    modified = [load.offset for load in loads if load.origin and load.origin.kind is OriginClass.FILEMOD]
    assert modified == [written * PAGE_SIZE]
    assert all(load.origin and load.origin.offset == load.offset for load in loads)
    first, changed = (
        next(moved for moved in from_memory if source + page * PAGE_SIZE in moved) for page in (0, written)
    )
    rest = [moved for moved in from_memory if moved.start >= source and moved not in (first, changed)]
    assert not rest
