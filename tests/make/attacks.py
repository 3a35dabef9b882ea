"""The ways around a security policy that enclaves could open, one by one: what each does, and how it must end.

The list is data, so that the same rows can be tried on the model and on real processes. ``acme`` is the policy of
examples/policies: a builder that may make enclaves of Acme's signed files, and an application that may use them.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ROWS", "Row", "row"]


@dataclass(frozen=True, slots=True)
class Row:
    """One flow.

    Attributes:
        id: its number in the design; a word behind it tells the variants of one flow apart.
        flow: what is tried.
        plain: how the decisive call ends under the plain driver of Linux 6.12: ``"ok"`` or an errno's name.
        v23: likewise, of the 2019 series; ``"n/a"``: it has no such call.
        expected: likewise, under the policy.
        hook: that refuses it; empty: the driver itself does.
        lacking: permissions that the record of the refusal names.
        identity: the identity policy is loaded, too. Without it any signer is accepted, and debug enclaves are.
        profile: of the driver under the policy: the 2019 series where later ones refuse by themselves.
    """

    id: str
    flow: str
    plain: str
    v23: str
    expected: str
    hook: str = ""
    lacking: tuple[str, ...] = ()
    identity: bool = True
    profile: str = "upstream"

    @property
    def sentence(self) -> str:
        """The row, for people."""
        lacks = f" for want of {', '.join(self.lacking)}" if self.lacking else ""
        return f"{self.id}: {self.flow}: {self.expected}{lacks} (plain driver: {self.plain})"


def _refused(name: str, flow: str, hook: str, *lacking: str, v23: str = "ok", identity: bool = True) -> Row:
    """What the plain driver lets happen, and a module does not."""
    return Row(name, flow, "ok", v23, "EACCES", hook, lacking, identity)


def _driver(name: str, flow: str, errno: str, v23: str = "") -> Row:
    """What the driver itself refuses, whatever modules there are."""
    return Row(name, flow, errno, v23 or errno, errno)


ROWS = (
    _refused("A1", "an anonymous buffer is added as measured code", "init", "execanon"),
    _refused("A2", "a file without the execute right is mapped read-only and added as code", "load", "execute"),
    _driver("A3", "a file on a noexec mount is added as code", "EACCES"),
    Row("A4", "a noexec file is added as data, then EMODPE and mprotect X", "EACCES", "n/a", "EACCES"),
    _refused("A5", "a refused file is copied into a heap buffer and added as code", "init", "execanon"),
    _refused("A6", "an approved file is mapped private, one byte changed, and added as code", "load", "execmod"),
    _refused("A7-memfd", "a memfd is added as code", "init", "execanon"),
    _refused("A7-shm", "shared memory without a file is added as code", "init", "execanon"),
    _refused("A7-deleted", "a deleted file is added as code", "init", "execanon"),
    _refused("A8", "a page with ceiling RWX is mapped RW, then made RX", "map", "execdirty"),
    _refused("A9-wx", "a page is W in one process and then X in another", "map", "execdirty"),
    _refused("A9-xw", "a page is X in one process and then W in another", "map", "execdirty"),
    _refused("A10", "one mapping is W and X", "map", "execdirty", "mapwx"),
    _refused("A11-munmap", "a page is mapped W, unmapped, mapped X", "map", "execdirty"),
    _refused("A11-fork", "a page is mapped W, and made X by a child", "map", "execdirty"),
    _refused("A11-paging", "a page is mapped W, swapped out and in, made X", "map", "execdirty"),
    _refused("A12-use", "the descriptor is sent to a process without the right to use it", "receive", "use"),
    _refused("A12-exec", "the descriptor is sent to a process that may not map it executable", "map", "map_exec"),
    _refused("A13-exec", "the descriptor is inherited across exec into another type", "receive", "use"),
    _refused("A13-pidfd", "the descriptor is taken by pidfd_getfd", "receive", "use"),
    _refused("A13-relabel", "a process gets another type when it has mapped code", "map", "map_exec"),
    _refused(
        "A14", "EAUG, EACCEPT code, mprotect X", "map", "execdirty", "augexec", v23="n/a"
    ),
    Row(
        "A15", "RWX is mapped over a hole", "ok", "EACCES", "EACCES", "map", ("execdirty", "mapwx", "augexec")
    ),
    _refused("A16", "EMODT makes a TCS of a regular page", "modify", "modtype", v23="n/a"),
    _refused("A17", "the device is opened by its other node", "open", "open"),
    _refused("A18", "the SIGSTRUCT lies in anonymous memory", "init", "init"),
    _refused("A19", "the SIGSTRUCT's file is mapped private and changed", "init", "init"),
    _refused("A20", "a page of code is left unmeasured", "init", "execunmr", identity=False),
    _refused("A20-identity", "the same, where the identity rule wants all code measured", "init", "init"),
    _refused("A21", "all code is measured, but not the TCS", "init", "execunmr", identity=False),
    _refused("A22", "somebody has the source file open for writing while it is copied", "load", "execute"),
    _refused("A23", "one range over two mappings, of which the second is refused", "load", "execute"),
    _refused("A24", "pages of two approved files in an enclave that nobody listed", "init", "init"),
    Row(
        "A25",
        "a READ_IMPLIES_EXEC program without map_exec maps code PROT_READ",
        *("EACCES", "ok", "EACCES", "map", ("map_exec",)),
        profile="v23",
    ),
    Row(
        "A26", "a debugger writes into a page of code", "ok", "ok", "EIO", "debug", ("debug",), identity=False
    ),
    _refused("A27", "mprotect over a range with one page that may not", "map", "execdirty"),
    _driver("A27-mremap", "mremap grows a mapping", "EFAULT"),
    _driver("A28", "INIT was refused, and the enclave is used as if it had not been", "EINVAL", "n/a"),
    _refused("A29", "a module raises", "load", "load", "execute"),
    _refused("A30", "the policy withdraws map_exec", "map", "map_exec"),
    _refused("A31", "a page that owes something is mapped X before INIT", "map", "execanon"),
    Row("A32", "a page is added where one is, from another source", "EBUSY", "EEXIST", "EBUSY"),
    _refused("A33", "the source is a file of FUSE, which may give other bytes each time", "load", "execute"),
    Row(
        "P1",
        "code from an approved file, data, TCS, SIGSTRUCT from a file; the builder passes the descriptor",
        *("ok", "ok", "ok"),
    ),
    Row("P2", "an enclave from anonymous memory whose MRENCLAVE is listed", "ok", "ok", "ok"),
    Row("P3", "any signer is accepted, and W^X still enforced", "ok", "ok", "ok", identity=False),
)  # fmt: skip


def row(name: str) -> Row:
    """The row with this id."""
    return next(one for one in ROWS if one.id == name)
