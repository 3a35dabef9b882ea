"""Decisions of a stack become audit records: the same facts in the kernel's words."""

from __future__ import annotations

from swsgx.lsm import audit
from swsgx.lsm.audit import AuditLog, Source
from swsgx.lsm.decision import Decision
from swsgx.lsm.integrity import STEADY
from swsgx.lsm.labels import Labels, file_of
from swsgx.lsm.module import Origin, OriginClass, Subject
from swsgx.lsm.policy.te import DEVICE, UNLABELED
from swsgx.lsm.seat import FAILURE, UNRECORDED

__all__ = ["DecisionWriter"]

#: Permissions on a node, and on a file; all others are on an enclave.
_ON_DEVICE = frozenset({"open", "create", "provision", "vepc"})
#: Words for what no rule of a policy has refused, and no rule would allow.
_REASONS = {FAILURE: FAILURE, UNRECORDED: "commit-failed", STEADY: "source-changed"}
_ON_FILE = frozenset({"load", "execute", "execmod", "init"})


class DecisionWriter:
    """Writes decisions into an audit log (:class:`swsgx.lsm.decision.Audit`).

    Args:
        log: the audit log.

    Attributes:
        labels: types of the policy that is loaded, for the contexts of records; None: labels are shown as they are.
    """

    def __init__(self, log: AuditLog) -> None:
        self.log = log
        self.labels: Labels | None = None

    def record(self, decision: Decision) -> None:
        """Write one.

        Raises:
            AuditError: it was not written.
        """
        self.log.write(self.record_of(decision))

    def record_of(self, decision: Decision) -> audit.Decision:
        """The record of a decision."""
        subject, effective = decision.subject, decision.denied and not decision.permissive
        return audit.Decision(
            hook=decision.hook,
            permissions=decision.permissions,
            pid=subject.pid if subject is not None else 0,
            comm=subject.comm if subject is not None else "",
            exe=subject.exe if subject is not None else "",
            uid=subject.uid if subject is not None else None,
            enclave=decision.enclave.number if decision.enclave is not None else None,
            offset=decision.offset,
            length=decision.length,
            maxprot=decision.prot,
            measured=decision.measured,
            source=_source(decision.origin, decision.digest),
            scontext=self._subject(subject),
            tcontext=self._target(decision),
            lsm=decision.module,
            rule=decision.rule,
            mrenclave=decision.mrenclave,
            mrsigner=decision.mrsigner,
            traits=decision.traits,
            denied=decision.denied,
            permissive=decision.permissive,
            errno="EACCES" if effective else "",
            reason=_REASONS.get(decision.reason, ""),
        )

    def _subject(self, subject: Subject | None) -> str:
        if self.labels is not None:
            return self.labels.subject(subject)
        return subject.label if subject is not None else ""

    def _target(self, decision: Decision) -> str:
        """What the permissions are on."""
        asked = set(decision.permissions)
        if asked and asked <= _ON_DEVICE:
            return DEVICE if self.labels is not None else ""
        file = file_of(decision.origin)
        if file is not None and asked & _ON_FILE:
            return self.labels.file(file) if self.labels is not None else file.label
        if decision.label:
            return decision.label
        initialised = decision.enclave is not None and decision.enclave.initialised
        return UNLABELED if initialised and self.labels is not None else ""


def _source(origin: Origin | None, digest: bytes) -> Source:
    told = f"sha256:{digest.hex()}" if digest else ""
    if origin is None:
        # Of memory that nobody knows anything of there are at least the bytes.
        return Source(kind=OriginClass.UNKNOWN.value, digest=told) if digest else Source()
    return Source(
        kind=origin.kind.value,
        path=origin.path,
        device=origin.device,
        inode=origin.inode,
        offset=origin.offset if origin.path else None,
        deleted=origin.deleted,
        digest=told,
    )
