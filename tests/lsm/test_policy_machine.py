"""Any order of calls under Acme's policy, with reloads in between: I0, I1, I4, and what rules say of each mapping.

A refusal gives one record and changes nothing. An executable mapping belongs to a process that the policy lets execute
that enclave, as it is now or as it was when the mapping last faulted; code in it came from files that its builder may
execute, or the enclave may execute what nobody vouches for.
"""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.flags import PageFaultCode
from swsgx.linux.device import EnclaveFile
from swsgx.linux.fault import resolve
from swsgx.linux.outcome import Outcome
from swsgx.linux.security import Grant, OriginClass, Subject
from tests.make.enforced import (
    ANON,
    APP,
    BUILDER,
    CODE,
    CODE_PATH,
    GUEST,
    LAB_PATH,
    STRANGER,
    Enforced,
    enforced,
    from_file,
    must,
)
from tests.make.world import BASE, REG_RW, REG_RWX, REG_RX

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "policies"
ORIGINS = {
    "file": from_file(CODE_PATH),
    "lab": from_file(LAB_PATH),
    "unsigned": from_file("/opt/acme/lib/unsigned.signed.so", signed=False),
    "modified": from_file(CODE_PATH, kind=OriginClass.FILEMOD),
    "anonymous": ANON,
    "unknown": None,
}
X = 4
subjects = st.sampled_from([APP, APP, GUEST, BUILDER, STRANGER])
pages = st.sampled_from([0, 4, 5, 6, 8])
prots = st.sampled_from([1, 3, 5, 7])
#: What the guest may do, by the policy that is loaded.
RIGHTS = ("use map_read map_write", "use map_read map_write map_exec", "map_read")


class UnderPolicy(RuleBasedStateMachine):
    """Several enclaves, four processes, one policy that changes."""

    enclaves = Bundle("enclaves")

    @initialize()
    def boot(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.m: Enforced = enforced(self.folder, examples=EXAMPLES, identity=False)
        self.files: list[EnclaveFile] = []

    def teardown(self) -> None:
        if hasattr(self, "m"):
            self.m.close()
            shutil.rmtree(self.folder)

    def told(self, call: Callable[[], Outcome]) -> bool:
        """Whether it happened; a refusal by the modules has one record, and no other trace."""
        self.m.records()
        before = self.m.books()
        outcome = call()
        denied = [one for one in self.m.records() if one.denied]
        if (
            outcome.errno == errno.EACCES
            and outcome.reason is not None
            and outcome.reason.operation.endswith("hook")
        ):
            assert len(denied) == 1, denied
            assert self.m.books() == before
        else:
            assert denied == [], outcome.reason
        return outcome.ok

    @precondition(lambda self: len(self.files) < 4)
    @rule(target=enclaves, running=st.sampled_from([True, True, False]))
    def start(self, running: bool) -> EnclaveFile:
        file = self.m.filled(self.m.start())
        self.files.append(file)
        if running:
            must(self.m.add(file, 4, REG_RWX, ORIGINS["file"], CODE * 3))
            must(self.m.init(file))
        return file

    @rule(
        file=enclaves,
        page=st.sampled_from([4, 5, 6]),
        flags=st.sampled_from([REG_RX, REG_RWX, REG_RW]),
        origin=st.sampled_from(sorted(ORIGINS)),
        measured=st.booleans(),
    )
    def add(self, file: EnclaveFile, page: int, flags: int, origin: str, measured: bool) -> None:
        done = self.told(lambda: self.m.add(file, page, flags, ORIGINS[origin], measured=measured))
        if done and flags != REG_RW:
            assert origin in ("file", "anonymous", "unknown")

    @rule(file=enclaves)
    def init(self, file: EnclaveFile) -> None:
        self.told(lambda: self.m.init(file))

    @rule(file=enclaves, subject=subjects, page=pages, count=st.sampled_from([1, 1, 2]), prot=prots)
    def map(self, file: EnclaveFile, subject: Subject, page: int, count: int, prot: int) -> None:
        self.told(lambda: self.m.map(file, page, count, prot, subject))

    @rule(subject=subjects, page=pages, prot=prots)
    def protect(self, subject: Subject, page: int, prot: int) -> None:
        if self.m.space(subject).vma_at(BASE + page * PAGE_SIZE) is not None:
            self.told(lambda: self.m.protect(page, 1, prot, subject))

    @rule(subject=subjects, page=pages)
    def unmap(self, subject: Subject, page: int) -> None:
        must(self.m.space(subject).munmap(BASE + page * PAGE_SIZE, PAGE_SIZE))

    @rule(subject=subjects, page=pages)
    def fetch(self, subject: Subject, page: int) -> None:
        """After a fault, what is executable is so by the policy that is loaded now."""
        space, where = self.m.space(subject), BASE + page * PAGE_SIZE
        vma = space.vma_at(where)
        if vma is None:
            return
        resolve(space, where, PageFaultCode.U | PageFaultCode.I)
        if vma.prot & X and vma.encl.initialised:
            assert self.may(
                subject, vma.encl.security.label if vma.encl.security is not None else "", "map_exec"
            )

    @rule(rights=st.sampled_from(RIGHTS))
    def reload(self, rights: str) -> None:
        site = self.folder / "site.te"
        lines = [
            f"allow guest_t acme_encl_t : enclave {{ {rights} }};"
            if line.startswith("allow guest_t")
            else line
            for line in site.read_text(encoding="ascii").splitlines()
        ]
        site.write_text("\n".join(lines) + "\n", encoding="ascii")
        assert self.m.made is not None
        self.m.made.reload(self.m.world.driver)
        self.m.records()

    def may(self, subject: Subject, label: str, permission: str) -> bool:
        assert self.m.made is not None
        te = self.m.made.policy.te
        assert te is not None
        return te.query(te.subject_type(exe=subject.exe)[0], label, permission).allowed

    @invariant()
    def i0(self) -> None:
        if hasattr(self, "m"):
            self.m.check()

    @invariant()
    def what_runs_is_vouched_for(self) -> None:
        for file in getattr(self, "files", ()):
            security = file.encl.security
            assert security is not None
            if file.encl.initialised:
                assert security.label == "acme_encl_t"
                assert security.grants == Grant.MODTYPE
                # Nothing that nobody vouches for got past INIT.
                assert not security.pages.obligations.any()


TestUnderPolicy = UnderPolicy.TestCase
TestUnderPolicy.settings = settings(max_examples=40, stateful_step_count=30)
