"""A model world under policy files: Acme's builder and application, files for enclaves, and what was recorded."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from swsgx.identity.signature import mrsigner
from swsgx.identity.signer import sign
from swsgx.identity.sigstruct import SigstructOptions, unsigned
from swsgx.isa.address import PAGE_SIZE, TargetAddr
from swsgx.isa.flags import Attributes
from swsgx.isa.leaves import Enclu
from swsgx.isa.structs import Secinfo
from swsgx.linux import uapi
from swsgx.linux.device import EnclaveFile
from swsgx.linux.inside import execute
from swsgx.linux.mm import MAP_FIXED, MAP_SHARED, AddressSpace
from swsgx.linux.outcome import Outcome
from swsgx.linux.profile import UPSTREAM_6_12, Profile
from swsgx.linux.security import Origin, OriginClass, Subject
from swsgx.lsm.appraisal import sign_digest
from swsgx.lsm.assembly import Assembled, assemble
from swsgx.lsm.audit import Decision
from swsgx.lsm.audit_reader import read_events
from swsgx.lsm.invariant import Books, check, keep_books
from tests.make.world import BASE, REG_RW, REG_RX, TCS, World, a_secs, a_tcs, make_world, signing_key

BUILDER = Subject(1, 1000, "/opt/acme/bin/builder", comm="builder")
APP = Subject(2, 1000, "/opt/acme/bin/app", comm="app")
#: May use enclaves, but not run them.
GUEST = Subject(3, 1000, "/opt/acme/bin/guest", comm="guest")
STRANGER = Subject(4, 1000, "/usr/bin/stranger", comm="stranger")

CODE = b"\x90" * PAGE_SIZE
CODE_PATH, SIG_PATH = "/opt/acme/lib/payments.signed.so", "/opt/acme/lib/payments.sig"
LAB_PATH = "/opt/acme/lab/new.so"

#: What the examples leave open.
SITE = """policy_module(site, 1.0)
type guest_t;
subjcon exe "/opt/acme/bin/guest" guest_t
allow guest_t acme_encl_t : enclave { use map_read map_write };
allow builder_t lab_code_t : enclave load;
"""
_SIGNER = "2a9c0b8f7e6d5c4b3a29180706f5e4d3c2b1a0f9e8d7c6b5a49382716f5e4d3c"
_MRENCLAVE = "8f3c1f0a4f5f6f8f0b8a4f0d8c51d1f7f3a3c44e0c2f4d3c9b7a61b5e2d9f001"


@cache
def owner_key() -> ec.EllipticCurvePrivateKey:
    """Who signs Acme's files."""
    return ec.generate_private_key(ec.SECP256R1())


@dataclass(eq=False)
class MadeFile:
    """A file that is only its contents and attributes (:class:`swsgx.linux.provenance.OriginFile`)."""

    contents: bytes
    attributes: dict[str, bytes] = field(default_factory=dict)

    def digest(self, algorithm: str, *, most: int | None = None) -> bytes:
        return hashlib.new(algorithm, self.contents).digest()

    def attribute(self, name: str) -> bytes | None:
        return self.attributes.get(name)


def from_file(
    path: str = CODE_PATH,
    contents: bytes = CODE,
    *,
    kind: OriginClass = OriginClass.FILE,
    signed: bool = True,
    noexec: bool = False,
    writers: bool = False,
    unwatched: bool = False,
) -> Origin:
    """Memory of a file, which its owner has signed."""
    file = MadeFile(contents)
    if signed:
        reference = sign_digest(owner_key(), "sha256", file.digest("sha256"))
        file.attributes["security.ima"] = reference.packed()
    return Origin(
        kind=kind,
        path=path,
        device=1,
        inode=int.from_bytes(path.encode()[-4:]),
        noexec=noexec,
        writers=writers,
        unwatched=unwatched,
        mode=0o644,
        file=file,
    )


ANON = Origin(kind=OriginClass.ANON)


@dataclass
class Enforced:
    """A world whose driver asks the assembled modules, or nobody.

    Attributes:
        files: of the policy.
    """

    world: World
    made: Assembled | None
    audit: Path
    files: tuple[str, ...] = ()
    _read: int = 0
    _spaces: dict[Subject, AddressSpace] = field(default_factory=dict)

    # Looking.

    def records(self) -> list[Decision]:
        """Decisions that were recorded since the last look."""
        if self.made is None:
            return []
        text = self.audit.read_text(encoding="ascii")
        events = list(read_events(text, str(self.audit)))
        new = [event.record for event in events[self._read :] if isinstance(event.record, Decision)]
        self._read = len(events)
        return new

    def books(self) -> Books:
        return keep_books(self.world.driver)

    def check(self) -> None:
        if self.made is not None:
            check(self.world.driver, self.made.stack)

    def templates(self) -> list[tuple[str, bool]]:
        """The measurement list: template, and whether it is a violation."""
        assert self.made is not None
        assert self.made.measurements is not None
        shown = []
        for entry in self.made.measurements.entries:
            name = entry.event().template if entry.template == "ima-buf" else entry.template
            shown.append((name, entry.violation))
        return shown

    def close(self) -> None:
        for space in self._spaces.values():
            space.exit()
        self.world.mm.exit()
        if self.made is not None:
            self.made.close()
        self.world.cpu.close()

    # Building.

    def put(self, contents: bytes, origin: Origin | None, *, may_exec: bool = True) -> TargetAddr:
        """Memory of the builder's that comes from somewhere."""
        memory = self.world.memory
        at = memory.map(contents, may_exec=may_exec)
        memory.vmas = [
            dataclasses.replace(vma, origin=origin) if vma.start == at else vma for vma in memory.vmas
        ]
        return at

    def start(self, *, debug: bool = False) -> EnclaveFile:
        """An enclave that is created."""
        file = self.world.driver.open(subject=BUILDER)
        assert isinstance(file, EnclaveFile), str(file.reason if isinstance(file, Outcome) else file)
        attributes = Attributes.MODE64BIT | (Attributes.DEBUG if debug else Attributes(0))
        must(self.world.create(file, a_secs(attributes=attributes)))
        return file

    def add(
        self,
        file: EnclaveFile,
        page: int,
        flags: int = REG_RX,
        origin: Origin | None = ANON,
        contents: bytes = CODE,
        *,
        measured: bool = True,
        may_exec: bool = True,
    ) -> Outcome:
        src = self.put(contents, origin, may_exec=may_exec)
        done, _ = self.world.add(
            file, page * PAGE_SIZE, b"", flags, measured=measured, src=src, length=len(contents)
        )
        return done

    def filled(self, file: EnclaveFile, *, tcs_measured: bool = True) -> EnclaveFile:
        """Add code from the approved file, data, and a TCS: pages 0 to 3."""
        must(self.add(file, 0, REG_RX, from_file()))
        must(self.add(file, 1, REG_RW, ANON, bytes(2 * PAGE_SIZE)))
        must(self.add(file, 3, TCS, ANON, bytes(a_tcs()), measured=tcs_measured))
        return file

    def init(self, file: EnclaveFile, origin: Origin | None = None, *, svn: int = 3) -> Outcome:
        """INIT by a SIGSTRUCT that Acme signed, from its file if nothing else is said."""
        encl = file.encl
        digest = self.world.cpu.enclaves[self.world.cpu.epc.frame(encl.secs_address)].measurement.digest()
        options = SigstructOptions(
            attributes=encl.attributes, xfrm=encl.xfrm, miscselect=encl.miscselect, isvprodid=7, isvsvn=svn
        )
        data = bytes(sign(unsigned(digest, options), signing_key()).buffer)
        chosen = origin if origin is not None else from_file(SIG_PATH, data)
        argument = uapi.EnclaveInit.of(sigstruct=self.put(data, chosen))
        return self.world.ioctl(file, uapi.SGX_IOC_ENCLAVE_INIT, argument)

    def running(self, *extra: Callable[[EnclaveFile], Outcome], debug: bool = False) -> EnclaveFile:
        """An enclave that is initialised, with what ``extra`` adds to it."""
        file = self.filled(self.start(debug=debug))
        for more in extra:
            must(more(file))
        must(self.init(file))
        self.records()
        return file

    # Using.

    def space(self, subject: Subject) -> AddressSpace:
        """The address space of a process."""
        if subject == BUILDER:
            return self.world.mm
        return self._spaces.setdefault(subject, AddressSpace())

    def map(
        self,
        file: EnclaveFile,
        first: int,
        count: int,
        prot: int,
        subject: Subject = APP,
        personality: int = 0,
    ) -> Outcome:
        """Mmap with MAP_FIXED of pages by index."""
        return self.space(subject).mmap(
            BASE + first * PAGE_SIZE,
            count * PAGE_SIZE,
            prot,
            MAP_SHARED | MAP_FIXED,
            file,
            personality=personality,
            subject=subject,
        )

    def protect(self, first: int, count: int, prot: int, subject: Subject = APP) -> Outcome:
        """Mprotect of pages by index."""
        where = BASE + first * PAGE_SIZE
        return self.space(subject).mprotect(where, count * PAGE_SIZE, prot, subject=subject)

    def accept(self, file: EnclaveFile, page: int, subject: Subject = APP) -> None:
        """EACCEPT of a page that EAUG brings; page 1 has the SECINFO and is mapped RW."""
        file.encl.store.page(PAGE_SIZE)[64:128] = bytes(Secinfo.of(flags=0x20B).buffer)
        done = execute(
            self.space(subject),
            file.encl,
            Enclu.EACCEPT,
            BASE + PAGE_SIZE + 64,
            BASE + page * PAGE_SIZE,
        )
        assert done.result is not None
        assert done.result.rax == 0


def must(outcome: Outcome) -> None:
    """What a flow needs happens."""
    assert outcome.ok, str(outcome.reason)


def enforced(
    folder: Path,
    *,
    examples: Path,
    enforcing: bool | None = True,
    identity: bool = True,
    integrity: bool = True,
    modules: Sequence[str] = (),
    mrenclave: bytes | None = None,
    te: str = "",
    integrity_text: str = "",
    learned: Mapping[str, str] | None = None,
    profile: Profile = UPSTREAM_6_12,
) -> Enforced:
    """A world under Acme's policy; ``enforcing`` None is the plain driver.

    Args:
        folder: for files.
        examples: the folder of the example policies.
        enforcing: or permissive.
        identity, integrity: those policies are loaded.
        modules: others.
        mrenclave: of the enclave that is called jit_encl_t.
        te: statements more.
        integrity_text: an integrity policy of the test's own.
        learned: files that ``swsgx policy learn`` has proposed, by kind; they are used as docs/policy.md says.
        profile: of the driver.
    """
    world, audit = make_world(profile), folder / "audit.log"
    made, files = None, []
    if enforcing is not None:
        signer = mrsigner(sign(unsigned(bytes(32), SigstructOptions()), signing_key()))
        files = [examples / "acme.te"]
        new = dict(learned) if learned is not None else {}
        for kind in ("integrity", "te"):
            if kind in new:
                (folder / f"learned.{kind}").write_text(new[kind], encoding="utf-8")
                files.insert(0, folder / f"learned.{kind}")
        (folder / "site.te").write_text(SITE + te, encoding="ascii")
        files.append(folder / "site.te")
        if identity:
            text = (examples / "acme.identity").read_text(encoding="ascii").replace(_SIGNER, signer.hex())
            if mrenclave is not None:
                text = text.replace(_MRENCLAVE, mrenclave.hex())
            (folder / "acme.identity").write_text(new.get("identity", text), encoding="utf-8")
            files.append(folder / "acme.identity")
        if integrity:
            files.append(examples / "acme.integrity")
        if integrity_text:
            (folder / "own.integrity").write_text(integrity_text, encoding="ascii")
            files.append(folder / "own.integrity")
        made = assemble(
            [str(file) for file in files],
            modules=modules,
            enforcing=enforcing,
            audit=audit,
            keys=[owner_key().public_key()],
        )
        world.driver.security = made.stack
    world.task.subject = BUILDER
    return Enforced(world, made, audit, tuple(map(str, files)))
