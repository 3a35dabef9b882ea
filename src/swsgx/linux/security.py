"""Where a security module can say no, and what the plain driver does there: nothing.

Two phases. A hook *decides*, without side effects, and the driver commits only what was allowed; so a refusal
leaves no trace: no page, no EPC, no measurement. Every hook returns None to allow, or the reason of its
refusal, which the program sees as EACCES. Ceilings, noexec and the provision attribute are the driver's own
rules and are not asked here. The driver never imports modules: whoever makes a driver hands one in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from swsgx.isa.address import Linaddr
from swsgx.isa.flags import PageType
from swsgx.isa.sigstruct import Sigstruct
from swsgx.trace import Reason

if TYPE_CHECKING:
    from swsgx.linux.encl import Encl

__all__ = [
    "Create",
    "Debug",
    "Init",
    "Load",
    "Map",
    "Origin",
    "OriginClass",
    "Plain",
    "SecurityHooks",
    "Subject",
]


@dataclass(frozen=True, slots=True)
class Subject:
    """Who asks.

    Attributes:
        pid, uid: of the caller.
        exe: path of its program.
        label: its security label; empty if it has none.
        labelled_by: how the label was obtained.
    """

    pid: int
    uid: int
    exe: str
    label: str = ""
    labelled_by: str = ""


class OriginClass(Enum):
    """What kind of memory a source page is."""

    FILE = "file"
    FILEMOD = "filemod"
    MEMFD = "memfd"
    SHM = "shm"
    ANON = "anon"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where the contents of a mapping come from, as it was when they were taken. Never changes.

    Attributes:
        kind: file, modified private copy of a file, and so on; unknown counts as anonymous.
        path: of the file at that time; empty if none.
        device, inode: of the file.
        offset: file offset of the mapping's first byte.
        shared: MAP_SHARED.
        deleted: the file has no name any more.
        noexec: its mount is noexec.
        writers: somebody has it open for writing.
        mode: permission bits.
        label: its security label.
    """

    kind: OriginClass
    path: str = ""
    device: int = 0
    inode: int = 0
    offset: int = 0
    shared: bool = False
    deleted: bool = False
    noexec: bool = False
    writers: bool = False
    mode: int = 0
    label: str = ""


@dataclass(frozen=True, slots=True)
class Create:
    """ECREATE is about to allocate. Sizes in bytes, bits as in the SECS."""

    size: int
    attributes: int
    xfrm: int
    miscselect: int


@dataclass(frozen=True, slots=True)
class Load:
    """Pages are about to be added; their bytes are copied, and are in no enclave and in no measurement yet.

    Attributes:
        offset: bytes from the enclave's base to the first page.
        page_type: of all of them.
        ceiling: R 1, W 2, X 4 that mappings will be allowed.
        measured: contents are measured.
        contents: the copied bytes, whole pages. Only to be read, and only during the call.
        origin: where they were copied from; one origin for all of them.
        source: the program's address of the first page.
    """

    offset: int
    page_type: PageType
    ceiling: int
    measured: bool
    contents: memoryview
    origin: Origin | None
    source: int


@dataclass(frozen=True, slots=True)
class Init:
    """EINIT would succeed: signature and MRENCLAVE are verified, the state has not flipped.

    Attributes:
        sigstruct: the driver's own copy.
        origin: where it was read from.
        mrenclave, mrsigner: 32 bytes each.
    """

    sigstruct: Sigstruct
    origin: Origin | None
    mrenclave: bytes
    mrsigner: bytes


@dataclass(frozen=True, slots=True)
class Map:
    """A mapping is about to exist, or to change.

    Attributes:
        call: ``"mmap"``, ``"mprotect"``, ``"fork"``.
        address, length: the range.
        prot: effective protection, after READ_IMPLIES_EXEC: R 1, W 2, X 4.
    """

    call: str
    address: Linaddr
    length: int
    prot: int


@dataclass(frozen=True, slots=True)
class Debug:
    """A debugger reads or writes enclave memory: bytes from the enclave's base, and how many."""

    offset: int
    length: int
    write: bool


class SecurityHooks(Protocol):
    """The hook points. None allows; a reason refuses."""

    #: Whether anybody listens; the driver leaves out the work of preparing a hook's arguments otherwise.
    active: bool

    def open(self, subject: Subject | None, node: str) -> Reason | None:
        """A node is opened."""
        ...

    def create(self, subject: Subject | None, encl: Encl, event: Create) -> Reason | None:
        """Before ECREATE allocates."""
        ...

    def load(self, subject: Subject | None, encl: Encl, event: Load) -> Reason | None:
        """Before pages are inserted and measured."""
        ...

    def init(self, subject: Subject | None, encl: Encl, event: Init) -> Reason | None:
        """Before the enclave is initialised, when EINIT would succeed."""
        ...

    def map(self, subject: Subject | None, encl: Encl, event: Map) -> Reason | None:
        """Before a mapping exists or changes."""
        ...

    def receive(self, subject: Subject | None, encl: Encl, previous: Subject | None) -> Reason | None:
        """The enclave's file is first used by a new subject."""
        ...

    def debug(self, subject: Subject | None, encl: Encl, event: Debug) -> Reason | None:
        """Before EDBGRD or EDBGWR."""
        ...

    def provision(self, subject: Subject | None, encl: Encl) -> Reason | None:
        """Before the provision attribute is allowed."""
        ...


@dataclass
class Plain:
    """The plain driver: allows everything.

    Attributes:
        active: False: nobody need prepare anything.
    """

    active: bool = field(default=False, init=False)

    def open(self, subject: Subject | None, node: str) -> Reason | None:
        return None

    def create(self, subject: Subject | None, encl: Encl, event: Create) -> Reason | None:
        return None

    def load(self, subject: Subject | None, encl: Encl, event: Load) -> Reason | None:
        return None

    def init(self, subject: Subject | None, encl: Encl, event: Init) -> Reason | None:
        return None

    def map(self, subject: Subject | None, encl: Encl, event: Map) -> Reason | None:
        return None

    def receive(self, subject: Subject | None, encl: Encl, previous: Subject | None) -> Reason | None:
        return None

    def debug(self, subject: Subject | None, encl: Encl, event: Debug) -> Reason | None:
        return None

    def provision(self, subject: Subject | None, encl: Encl) -> Reason | None:
        return None
