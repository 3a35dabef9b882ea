"""Which kernel is imitated: everything in which they differ, as data. Handlers read it and have no ifs of their own.

Read from arch/x86/kernel/cpu/sgx of Linux 6.12 and 6.1, and from the posted patches of series v23 (28 October
2019). Where v23's text does not decide, the entry says *derived*.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from swsgx.isa.flags import Attributes

__all__ = [
    "LINUX_6_1",
    "PROFILES",
    "UPSTREAM_6_12",
    "V23",
    "AddCheck",
    "AddPagesRules",
    "CreateCheck",
    "CreateRules",
    "FaultRules",
    "InitCheck",
    "InitRules",
    "MapRules",
    "NoexecRule",
    "Profile",
]

_BITS_64 = (1 << 64) - 1


class CreateCheck(Enum):
    """Steps of CREATE up to the first allocation of EPC."""

    NOT_CREATED = auto()
    """The enclave was not created before."""
    ARGUMENT = auto()
    """The argument can be read."""
    BUFFER = auto()
    """The kernel has a page for its copy."""
    SECS = auto()
    """The SECS can be read."""
    SIZE_POWER_OF_TWO = auto()
    """SECS.SIZE is a power of two."""
    SECS_RULES = auto()
    """v23's own validation of the SECS."""


class AddCheck(Enum):
    """Checks of ADD_PAGES before its loop over pages."""

    BUILDING = auto()
    """CREATE was done, INIT was not."""
    CREATED = auto()
    """CREATE was done; INIT is looked at page by page."""
    ARGUMENT = auto()
    """The argument can be read."""
    SRC_ALIGNED = auto()
    """src is page aligned."""
    OFFSET_ALIGNED = auto()
    """offset is page aligned."""
    SRC_READABLE = auto()
    """v23's access_ok for one page of src: below the end of user space."""
    LENGTH = auto()
    """length is whole pages, at least one."""
    LENGTH_ALIGNED = auto()
    """length is whole pages, maybe none."""
    NO_WRAP = auto()
    """offset + length does not wrap."""
    IN_RANGE = auto()
    """The last page is inside SECS.SIZE."""
    SECINFO = auto()
    """The SECINFO can be read."""
    SECINFO_RULES = auto()
    """The SECINFO is one that ADD_PAGES takes."""


class InitCheck(Enum):
    """Checks of INIT before EINIT."""

    BUILDING = auto()
    """CREATE was done, INIT was not."""
    CREATED = auto()
    """CREATE was done."""
    NOT_INITIALISED = auto()
    """INIT was not done."""
    ARGUMENT = auto()
    """The argument can be read."""
    BUFFER = auto()
    """The kernel has a page for its copy."""
    SIGSTRUCT = auto()
    """The SIGSTRUCT can be read."""
    VENDOR = auto()
    """SIGSTRUCT.VENDOR is 0 or 0x8086."""
    ATTRIBUTES_ALLOWED = auto()
    """SECS.ATTRIBUTES has only bits that are allowed."""
    ATTRIBUTES_RESERVED = auto()
    """SIGSTRUCT does not require an attribute that this machine lacks."""
    MISC_RESERVED = auto()
    """SIGSTRUCT does not require a MISCSELECT bit that this machine lacks."""
    XFRM_RESERVED = auto()
    """SIGSTRUCT does not require an XFRM bit that this machine lacks."""
    KEY_HASH = auto()
    """The modulus can be hashed."""


class NoexecRule(Enum):
    """For which pages the source must not be on a noexec mount."""

    EVERY_PAGE = auto()
    EXECUTABLE_PAGES = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRules:
    """CREATE.

    Attributes:
        checks: in their order.
        ecreate_fault: the errno for a fault of ECREATE; None: the positive value 0x40000000 + vector.
        keeps_allowed: attributes allowed before CREATE stay allowed.
    """

    checks: tuple[CreateCheck, ...]
    ecreate_fault: int | None
    keeps_allowed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AddPagesRules:
    """ADD_PAGES.

    Attributes:
        checks: before the loop, in their order.
        advances: src, offset and length in the caller's structure move on; else count is written.
        restart_after_progress: a signal after the first page is ERESTARTSYS; else success with a short count.
        after_init: errno for an initialised enclave, found page by page; 0 where a check before the loop does it.
        duplicate: errno for an offset that has a page.
        noexec: for which pages a noexec source is refused.
        eadd_fault: errno for a fault of EADD.
        eextend_fault: errno for a fault of EEXTEND.
        eextend_fault_kills: the enclave is dead after that.
    """

    checks: tuple[AddCheck, ...]
    advances: bool
    restart_after_progress: bool
    after_init: int
    duplicate: int
    noexec: NoexecRule
    eadd_fault: int
    eextend_fault: int
    eextend_fault_kills: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class InitRules:
    """INIT.

    Attributes:
        checks: in their order.
        attribute_refused: errno for an attribute that is not allowed.
        again: errno for an initialised enclave.
        einit_fault: errno for a fault of EINIT.
        einit_fault_kills: the enclave is dead after that.
    """

    checks: tuple[InitCheck, ...]
    attribute_refused: int
    again: int
    einit_fault: int
    einit_fault_kills: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MapRules:
    """mmap and mprotect.

    Attributes:
        range_after_init: an initialised enclave is not mapped outside its range.
        refuses_read_implies_exec: such tasks may not map enclaves at all.
        holes: pages that do not exist may be mapped with any protection.
        none_is_free: PROT_NONE passes before any other rule.
        private_exact: only the map type MAP_PRIVATE is refused; else any type with that bit.
    """

    range_after_init: bool
    refuses_read_implies_exec: bool
    holes: bool
    none_is_free: bool
    private_exact: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRules:
    """Page faults in an enclave's mapping.

    Attributes:
        needs_init: before INIT the driver has no page for anybody.
        checks_ceiling: a mapping wider than the page's ceiling gets no page.
    """

    needs_init: bool
    checks_ceiling: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One kernel's behaviour.

    Attributes:
        name: as in ``--profile``.
        kernel: for reasons: which sources were read.
        files: directory or patch in which the functions stand, put before function names in reasons.
        enclave_nodes, provision_nodes: paths, the usual one first.
        allowed_attributes: what CREATE allows without PROVISION.
        static_reserved_attributes: attributes that no SIGSTRUCT may require.
        count_ioctl: ADD_PAGES is 0xC030A401 with count; else 0xC028A401.
        debug_needs_init: debuggers must wait for INIT.
        sgx2: it uses SGX2 where the processor has it: three more ioctls, and EAUG on page faults.
        dead_state: failures can kill an enclave; then ioctls say EFAULT once and EBUSY ever after.
    """

    name: str
    kernel: str
    files: str
    enclave_nodes: tuple[str, ...]
    provision_nodes: tuple[str, ...]
    allowed_attributes: int
    static_reserved_attributes: int
    count_ioctl: bool
    debug_needs_init: bool
    sgx2: bool
    dead_state: bool
    create: CreateRules = field(repr=False)
    add_pages: AddPagesRules = field(repr=False)
    init: InitRules = field(repr=False)
    mapping: MapRules = field(repr=False)
    faults: FaultRules = field(repr=False)

    def source(self, function: str) -> str:
        """Where a rule stands: ``"Linux 6.12, sgx/ioctl.c: sgx_encl_create"``."""
        return f"{self.kernel}, {self.files}{function}"


_KNOWN = (
    Attributes.INIT
    | Attributes.DEBUG
    | Attributes.MODE64BIT
    | Attributes.PROVISIONKEY
    | Attributes.EINITTOKEN_KEY
    | Attributes.KSS
)
_UNPRIVILEGED = Attributes.DEBUG | Attributes.MODE64BIT | Attributes.KSS

UPSTREAM_6_12 = Profile(
    name="6.12",
    kernel="Linux 6.12",
    files="arch/x86/kernel/cpu/sgx/",
    enclave_nodes=("/dev/sgx_enclave", "/dev/sgx/enclave"),
    provision_nodes=("/dev/sgx_provision", "/dev/sgx/provision"),
    allowed_attributes=int(_UNPRIVILEGED | Attributes.AEXNOTIFY),
    static_reserved_attributes=_BITS_64 & ~int(_KNOWN | Attributes.AEXNOTIFY),
    count_ioctl=True,
    debug_needs_init=False,
    sgx2=True,
    dead_state=False,
    create=CreateRules(
        checks=(
            CreateCheck.NOT_CREATED,
            CreateCheck.ARGUMENT,
            CreateCheck.BUFFER,
            CreateCheck.SECS,
            CreateCheck.SIZE_POWER_OF_TWO,
        ),
        ecreate_fault=errno.EIO,
        keeps_allowed=False,
    ),
    add_pages=AddPagesRules(
        checks=(
            AddCheck.BUILDING,
            AddCheck.ARGUMENT,
            AddCheck.SRC_ALIGNED,
            AddCheck.OFFSET_ALIGNED,
            AddCheck.LENGTH,
            AddCheck.NO_WRAP,
            AddCheck.IN_RANGE,
            AddCheck.SECINFO,
            AddCheck.SECINFO_RULES,
        ),
        advances=False,
        restart_after_progress=False,
        after_init=0,
        duplicate=errno.EBUSY,
        noexec=NoexecRule.EVERY_PAGE,
        eadd_fault=errno.EIO,
        eextend_fault=errno.EIO,
        eextend_fault_kills=False,
    ),
    init=InitRules(
        checks=(
            InitCheck.BUILDING,
            InitCheck.ARGUMENT,
            InitCheck.BUFFER,
            InitCheck.SIGSTRUCT,
            InitCheck.VENDOR,
            InitCheck.ATTRIBUTES_ALLOWED,
            InitCheck.ATTRIBUTES_RESERVED,
            InitCheck.MISC_RESERVED,
            InitCheck.XFRM_RESERVED,
            InitCheck.KEY_HASH,
        ),
        attribute_refused=errno.EACCES,
        again=errno.EINVAL,
        einit_fault=errno.EIO,
        einit_fault_kills=False,
    ),
    mapping=MapRules(
        range_after_init=True,
        refuses_read_implies_exec=True,
        holes=True,
        none_is_free=False,
        private_exact=True,
    ),
    faults=FaultRules(needs_init=False, checks_ceiling=True),
)

# Commit "x86/sgx: Allow enclaves to use Asynchrounous Exit Notification" (6.2) brought AEX-notify.
LINUX_6_1 = replace(
    UPSTREAM_6_12,
    name="6.1",
    kernel="Linux 6.1",
    allowed_attributes=int(_UNPRIVILEGED),
    static_reserved_attributes=_BITS_64 & ~int(_KNOWN),
)

V23 = Profile(
    name="v23",
    kernel="SGX patch series v23",
    files="drivers' patch 12/24: ",
    enclave_nodes=("/dev/sgx/enclave", "/dev/sgx_enclave"),
    provision_nodes=("/dev/sgx/provision", "/dev/sgx_provision"),
    allowed_attributes=int(_UNPRIVILEGED),
    static_reserved_attributes=_BITS_64 & ~int(_KNOWN),
    count_ioctl=False,
    debug_needs_init=True,
    sgx2=False,
    dead_state=True,
    create=CreateRules(
        checks=(
            CreateCheck.ARGUMENT,
            CreateCheck.BUFFER,
            CreateCheck.SECS,
            CreateCheck.NOT_CREATED,
            CreateCheck.SECS_RULES,
        ),
        ecreate_fault=None,
        keeps_allowed=True,
    ),
    add_pages=AddPagesRules(
        checks=(
            AddCheck.CREATED,
            AddCheck.ARGUMENT,
            AddCheck.OFFSET_ALIGNED,
            AddCheck.SRC_ALIGNED,
            AddCheck.SRC_READABLE,
            AddCheck.LENGTH_ALIGNED,
            AddCheck.NO_WRAP,
            AddCheck.IN_RANGE,
            AddCheck.SECINFO,
            AddCheck.SECINFO_RULES,
        ),
        advances=True,
        restart_after_progress=True,
        after_init=errno.EFAULT,
        duplicate=errno.EEXIST,
        noexec=NoexecRule.EXECUTABLE_PAGES,
        eadd_fault=errno.EFAULT,
        eextend_fault=errno.EFAULT,
        eextend_fault_kills=True,
    ),
    init=InitRules(
        # Derived: the state of the enclave is looked at under its lock, after the copy.
        checks=(
            InitCheck.CREATED,
            InitCheck.ARGUMENT,
            InitCheck.BUFFER,
            InitCheck.SIGSTRUCT,
            InitCheck.ATTRIBUTES_ALLOWED,
            InitCheck.KEY_HASH,
            InitCheck.NOT_INITIALISED,
        ),
        attribute_refused=errno.EINVAL,
        again=errno.EFAULT,
        einit_fault=errno.EFAULT,
        einit_fault_kills=True,
    ),
    mapping=MapRules(
        range_after_init=False,
        refuses_read_implies_exec=False,
        holes=False,
        none_is_free=True,
        private_exact=False,
    ),
    faults=FaultRules(needs_init=True, checks_ceiling=False),
)

#: All profiles by name.
PROFILES = {profile.name: profile for profile in (UPSTREAM_6_12, LINUX_6_1, V23)}
