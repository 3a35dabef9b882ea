"""The record of one decision, for whoever writes the audit log."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

from swsgx.isa.flags import Attributes, PageType
from swsgx.linux.security import (
    Augment,
    Create,
    Debug,
    EnclaveEvent,
    EnclaveFacts,
    Event,
    Grant,
    Identity,
    Init,
    Load,
    Map,
    Modify,
    Open,
    Origin,
    OriginClass,
    Subject,
)
from swsgx.lsm.audit import NO_TRAITS, Traits

__all__ = ["Audit", "Decision", "permissions_of", "recorded"]

#: Files up to so many bytes have their digest in a record: whoever is refused again and again must not keep others
#: waiting for it.
_DIGESTED = 64 << 20
_PROTS = ((1, "map_read"), (2, "map_write"), (4, "map_exec"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One refusal, or one permission that was to be recorded. Never changes, and holds nothing of the machine.

    Attributes:
        hook: name of the hook point.
        call: which of the calls that share the hook: ``"mmap"``, ``"EMODT"``; else empty.
        subject: who asked.
        enclave: as it was before; None: no enclave is concerned.
        node: that was opened; else empty.
        label: of the enclave: the one that it gets, if it is about to be initialised; empty if it has none.
        permissions: of class ``enclave``, that were lacking or needed.
        offset, length: bytes from the enclave's base, and bytes; None: no range is concerned.
        prot: the ceiling of pages that are loaded, the protection of a mapping: R 1, W 2, X 4; else None.
        measured: of pages that are loaded; else None.
        page_type: of pages that are loaded or changed; else None.
        origin: where pages, or the SIGSTRUCT, come from.
        digest: SHA-256 of the origin's file, or of the bytes that were copied from elsewhere; empty if nobody looked.
        mrenclave, mrsigner: 32 bytes each; empty before INIT.
        traits: what else is known of the enclave.
        module: who decided.
        rule: where the policy says so; may be empty.
        reason: the rule in words; ``"module-failure"`` if the module did not answer.
        expected, found: as in :class:`~swsgx.trace.Reason`.
        denied: it was a refusal.
        permissive: it was a refusal that had no effect.
    """

    hook: str
    call: str = ""
    subject: Subject | None
    enclave: EnclaveFacts | None
    node: str = ""
    label: str = ""
    permissions: tuple[str, ...]
    offset: int | None = None
    length: int | None = None
    prot: int | None = None
    measured: bool | None = None
    page_type: PageType | None = None
    origin: Origin | None = None
    digest: bytes = b""
    mrenclave: bytes = b""
    mrsigner: bytes = b""
    traits: Traits = NO_TRAITS
    module: str
    rule: str = ""
    reason: str = ""
    expected: str = ""
    found: str = ""
    denied: bool = True
    permissive: bool = False


class Audit(Protocol):
    """Listens to decisions."""

    def record(self, decision: Decision) -> None:
        """A decision was made: called once for each denial, in the order of their making, never by two threads."""
        ...


def permissions_of(event: Event) -> tuple[str, ...]:
    """The permissions of class ``enclave`` that an event is about."""
    match event:
        case Load():
            return ("load", "execute") if event.ceiling & 4 else ("load",)
        case Map():
            return tuple(name for bit, name in _PROTS if event.prot & bit) or ("use",)
        case Augment():
            return ("augexec",)
        case Modify():
            return ("modtype",)
        case _:
            return ("use",) if event.hook == "receive" else (event.hook,)


def recorded(
    event: Event,
    *,
    module: str,
    permissions: tuple[str, ...],
    rule: str,
    reason: str = "",
    expected: str = "",
    found: str = "",
    span: tuple[int, int] | None = None,
    denied: bool,
    permissive: bool = False,
) -> Decision:
    """The record of a decision about an event; ``span`` is the part of its range that it is about, if not all."""
    call, node = "", ""
    offset: int | None = None
    length: int | None = None
    prot: int | None = None
    measured: bool | None = None
    page_type: PageType | None = None
    origin: Origin | None = None
    enclave = event.enclave if isinstance(event, EnclaveEvent) else None
    identity = enclave.identity if enclave is not None else None
    label = enclave.label if enclave is not None else ""
    match event:
        case Open():
            node = event.node
        case Load():
            offset, length, prot = event.offset, event.length, event.ceiling
            measured, page_type, origin = event.measured, event.page_type, event.origin
        case Init():
            origin, identity, label = event.origin, event.identity, event.label
        case Augment() | Debug():
            offset, length = event.offset, event.length
        case Modify():
            call, offset, length = event.leaf, event.offset, event.length
            page_type, prot = event.page_type, event.permissions
        case Map():
            call, offset, length, prot = event.call, event.offset, event.length, event.prot
    if span is not None and span[1]:
        offset, length = span
    digest = _digest(event, origin, offset, length) if isinstance(event, Load | Init) else b""
    return Decision(
        hook=event.hook,
        call=call,
        subject=event.subject,
        enclave=enclave,
        node=node,
        label=label,
        permissions=permissions or permissions_of(event),
        offset=offset,
        length=length,
        prot=prot,
        measured=measured,
        page_type=page_type,
        origin=origin,
        digest=digest,
        mrenclave=identity.mrenclave if identity is not None else b"",
        mrsigner=identity.mrsigner if identity is not None else b"",
        traits=_traits(event, identity),
        module=module,
        rule=rule,
        reason=reason,
        expected=expected,
        found=found,
        denied=denied,
        permissive=permissive,
    )


def _digest(event: Load | Init, origin: Origin | None, offset: int | None, length: int | None) -> bytes:
    """Of the file that pages, or the SIGSTRUCT, are said to be of; of what was copied, if that is no file's."""
    if origin is not None and origin.kind is OriginClass.FILE and not origin.deleted:
        # Of a file that may change unseen it would say nothing, and some filesystems answer when they like.
        if origin.file is None or origin.writers or origin.unwatched:
            return b""
        try:
            return origin.file.digest("sha256", most=_DIGESTED)
        except OSError:
            return b""
    if isinstance(event, Init):
        return hashlib.sha256(event.sigstruct.buffer).digest()
    first = (offset if offset is not None else event.offset) - event.offset
    last = first + length if length is not None else event.length
    return hashlib.sha256(event.contents[first:last]).digest()


def _traits(event: Event, identity: Identity | None) -> Traits:
    """As the module of identity rules knows them at this event."""
    if isinstance(event, Create):
        return Traits(
            debug=event.debug,
            provision_key=event.provisionkey,
            xfrm=event.xfrm,
            miscselect=event.miscselect,
            size=event.size,
        )
    write = event.write if isinstance(event, Debug) else None
    if identity is None:
        # Before CREATE there are no attributes, and before INIT nobody vouches for more.
        if not isinstance(event, EnclaveEvent) or not event.enclave.size:
            return Traits(write=write)
        attributes = event.enclave.attributes
        return Traits(
            debug=event.enclave.debug, provision_key=bool(attributes & Attributes.PROVISIONKEY), write=write
        )
    init = event if isinstance(event, Init) else None
    return Traits(
        sigstruct=hashlib.sha256(init.sigstruct.buffer).digest() if init is not None else b"",
        isvprodid=identity.isvprodid,
        isvsvn=identity.isvsvn,
        debug=identity.debug,
        provision_key=bool(identity.attributes & Attributes.PROVISIONKEY),
        xfrm=identity.xfrm,
        miscselect=identity.miscselect,
        unmeasured_exec=Grant.EXECUNMR in init.obligations if init is not None else None,
        write=write,
    )
