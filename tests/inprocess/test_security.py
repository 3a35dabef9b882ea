"""Security modules in our own process: they are asked, with who we are and where our memory comes from."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from swsgx.inprocess import DriverError, Sgx
from swsgx.linux.security import OriginClass
from swsgx.lsm.assembly import assemble
from swsgx.lsm.audit import Decision
from swsgx.lsm.audit_reader import read_events
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
