"""Where a security module can say no, and what the plain driver does there: nothing.

Two phases. The hooks *decide*, without side effects; what was allowed is *committed* (measured, say) before the page or
the mapping can be used, and a commit that fails is a refusal. A refusal leaves no trace: no page, no EPC, no
measurement, no mapping, no flag of a page. The program sees EACCES, and the reason travels beside it. Ceilings, noexec
and the provision attribute are the driver's own rules and are not asked here; a module is asked what the driver itself
would allow. The driver never imports modules: whoever makes a driver hands a stack of them in. Events are made in
:mod:`swsgx.linux.hooks`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from swsgx.isa.address import Linaddr
from swsgx.isa.flags import Attributes, PageType
from swsgx.isa.sigstruct import Sigstruct
from swsgx.linux.provenance import Extent, Origin, OriginClass, OriginFile, Provenance, Subject
from swsgx.linux.sticky import NO_GRANTS, EnclaveFacts, Grant, Identity, PageFlag, PageRange
from swsgx.trace import Reason

__all__ = [
    "ALLOWED",
    "NO_GRANTS",
    "Answer",
    "Augment",
    "Create",
    "Debug",
    "EnclaveEvent",
    "EnclaveFacts",
    "Event",
    "Extent",
    "Grant",
    "Identity",
    "Init",
    "Load",
    "Map",
    "Modify",
    "Open",
    "Origin",
    "OriginClass",
    "OriginFile",
    "PageFlag",
    "PageRange",
    "Plain",
    "Provenance",
    "Provision",
    "Receive",
    "SecurityHooks",
    "Subject",
    "Vepc",
    "judge",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something is about to happen.

    Attributes:
        hook: name of the hook point.
        subject: who asks; None: nobody knows.
    """

    hook: ClassVar[str] = ""
    subject: Subject | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnclaveEvent(Event):
    """Something is about to happen to an enclave.

    Attributes:
        enclave: as it is before.
    """

    enclave: EnclaveFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Open(Event):
    """A node is opened.

    Attributes:
        node: its path.
    """

    hook: ClassVar[str] = "open"
    node: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Create(EnclaveEvent):
    """ECREATE is about to allocate. Sizes in bytes, bits as in the SECS."""

    hook: ClassVar[str] = "create"
    size: int
    attributes: int
    xfrm: int
    miscselect: int

    @property
    def debug(self) -> bool:
        """ATTRIBUTES.DEBUG."""
        return bool(self.attributes & Attributes.DEBUG)

    @property
    def provisionkey(self) -> bool:
        """ATTRIBUTES.PROVISIONKEY."""
        return bool(self.attributes & Attributes.PROVISIONKEY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load(EnclaveEvent):
    """Pages are about to be added; their bytes are copied, and are in no enclave and in no measurement yet.

    All pages have one origin. Many pages of one origin come as several events, block by block.

    Attributes:
        offset: bytes from the enclave's base to the first page.
        page_type: of all of them.
        ceiling: R 1, W 2, X 4 that mappings will be allowed.
        measured: contents are measured.
        contents: the copied bytes, whole pages. Only to be read, and only during the call.
        origin: where they were copied from; None: unknown, which counts as anonymous.
        source: the program's address of the first page.
        mapped: R 1, W 2, X 4 of the mappings that are there already, all together.
    """

    hook: ClassVar[str] = "load"
    offset: int
    page_type: PageType
    ceiling: int
    measured: bool
    contents: memoryview = field(repr=False)
    origin: Origin | None
    source: int
    mapped: int = 0

    @property
    def length(self) -> int:
        """Bytes."""
        return len(self.contents)

    def digest(self, algorithm: str = "sha256") -> bytes:
        """Of the copied bytes: what is judged is what will be there, whatever becomes of the source."""
        return hashlib.new(algorithm, self.contents).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Init(EnclaveEvent):
    """EINIT would succeed: signature and MRENCLAVE are verified, the state has not flipped.

    Attributes:
        identity: who the enclave will be.
        sigstruct: the driver's own copy.
        origin: where it was read from.
        pages: all pages, with what they owe.
        label: what the enclave will be called. The driver leaves it empty; a stack fills it in for its modules.
    """

    hook: ClassVar[str] = "init"
    identity: Identity
    sigstruct: Sigstruct
    origin: Origin | None
    pages: PageRange
    label: str = ""

    @property
    def obligations(self) -> Grant:
        """What the enclave must be granted to become initialised."""
        return self.pages.obligations


@dataclass(frozen=True, slots=True, kw_only=True)
class Augment(EnclaveEvent):
    """EAUG is about to add zero pages to a running enclave.

    Attributes:
        offset, length: bytes from the enclave's base, and bytes.
        explicit: asked for; else a page fault brought it.
        mapped: R 1, W 2, X 4 of the mappings that are there already, all together.
    """

    hook: ClassVar[str] = "augment"
    offset: int
    length: int
    explicit: bool
    mapped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Modify(EnclaveEvent):
    """Pages of a running enclave are about to change.

    Attributes:
        leaf: ``"EMODT"``, ``"EMODPR"`` or ``"EREMOVE"``.
        offset, length: bytes from the enclave's base, and bytes.
        page_type: what EMODT makes of them; else None.
        permissions: what EMODPR leaves of R 1, W 2, X 4; else None.
        pages: as they are now.
    """

    hook: ClassVar[str] = "modify"
    leaf: str
    offset: int
    length: int
    page_type: PageType | None = None
    permissions: int | None = None
    pages: PageRange


@dataclass(frozen=True, slots=True, kw_only=True)
class Map(EnclaveEvent):
    """A mapping is about to exist, or to change.

    Attributes:
        call: ``"mmap"``, ``"mprotect"``, ``"mremap"``, ``"fork"``; ``"fault"``: the policy has changed since.
        address, length: the range.
        prot: effective protection, after READ_IMPLIES_EXEC: R 1, W 2, X 4.
        pages: of the range.
    """

    hook: ClassVar[str] = "map"
    call: str
    address: Linaddr
    length: int
    prot: int
    pages: PageRange

    @property
    def offset(self) -> int:
        """Bytes from the enclave's base; the address, if it has none yet."""
        return self.address - self.enclave.base


@dataclass(frozen=True, slots=True, kw_only=True)
class Receive(EnclaveEvent):
    """The enclave's file is first used by a new subject.

    Attributes:
        previous: who used it last; None: nobody.
    """

    hook: ClassVar[str] = "receive"
    previous: Subject | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Debug(EnclaveEvent):
    """A debugger reads or writes enclave memory, EDBGRD or EDBGWR.

    Attributes:
        offset, length: bytes from the enclave's base, and bytes.
        write: EDBGWR.
        pages: those that it touches.
    """

    hook: ClassVar[str] = "debug"
    offset: int
    length: int
    write: bool
    pages: PageRange


@dataclass(frozen=True, slots=True, kw_only=True)
class Provision(EnclaveEvent):
    """The provision attribute is about to be allowed."""

    hook: ClassVar[str] = "provision"


@dataclass(frozen=True, slots=True, kw_only=True)
class Vepc(Event):
    """A virtual EPC is about to be mapped. The driver does not serve its node, so nothing asks this yet.

    Attributes:
        prot: R 1, W 2, X 4.
    """

    hook: ClassVar[str] = "vepc"
    prot: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What was decided.

    Attributes:
        reason: of the refusal; None allows.
        obligations: what the pages of a load owe.
        grants, tolerated: what an init brings the enclave, as in :class:`EnclaveFacts`.
        label: what an init names the enclave; empty: nobody did.
    """

    reason: Reason | None = None
    obligations: Grant = NO_GRANTS
    grants: Grant = NO_GRANTS
    tolerated: Grant = NO_GRANTS
    label: str = ""


#: Yes, without obligation and without grant.
ALLOWED = Answer()


class SecurityHooks(Protocol):
    """What the driver asks.

    Attributes:
        active: whether anybody listens; the driver leaves out the work of preparing events otherwise.
        generation: changes with the policy; mappings that were judged by another are judged again at a fault.
    """

    active: bool
    generation: int

    def decide(self, event: Event) -> Answer:
        """Whether it may happen. Changes nothing but the audit log."""
        ...

    def commit(self, event: Event, answer: Answer) -> Reason | None:
        """It was allowed and is about to happen; a reason is a refusal all the same."""
        ...


def judge(hooks: SecurityHooks, event: Event) -> Answer:
    """Both phases, where nothing lies between them."""
    answer = hooks.decide(event)
    if answer.reason is not None:
        return answer
    failed = hooks.commit(event, answer)
    return answer if failed is None else Answer(failed)


@dataclass
class Plain:
    """The plain driver: allows everything.

    Attributes:
        active: False: nobody need prepare anything.
        generation: always the same.
    """

    active: bool = field(default=False, init=False)
    generation: int = field(default=0, init=False)

    def decide(self, event: Event) -> Answer:
        return ALLOWED

    def commit(self, event: Event, answer: Answer) -> Reason | None:
        return None
