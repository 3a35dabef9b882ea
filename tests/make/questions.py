"""Questions to a policy as modules ask them, and the records of their refusals: what an audit log is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from swsgx.lsm.audit import Decision, Source, Traits
from swsgx.lsm.policy.identity import IdentityFacts
from swsgx.lsm.policy.load import PolicySet
from swsgx.lsm.policy.te import DEVICE, UNLABELED, TeStore

_MAPS = ((1, "map_read"), (2, "map_write"), (4, "map_exec"))


def _subject(te: TeStore, exe: str) -> str:
    return te.subject_type(exe=exe)[0]


def _record(
    te: TeStore,
    exe: str,
    hook: str,
    target: str,
    lacking: list[str],
    source: Source | None = None,
    **more: Any,
) -> Decision:
    facts: dict[str, Any] = {"lsm": "te", "errno": "EACCES", "comm": "x", "pid": 7, "enclave": 1, **more}
    return Decision(
        hook=hook,
        permissions=tuple(lacking),
        exe=exe,
        scontext=_subject(te, exe),
        tcontext=target,
        source=source if source is not None else Source(),
        **facts,
    )


@dataclass(frozen=True)
class OnDevice:
    """Opens a node, or makes an enclave."""

    exe: str
    permission: str

    def refusals(self, policy: PolicySet) -> list[Decision]:
        assert policy.te is not None
        if policy.te.query(_subject(policy.te, self.exe), DEVICE, self.permission).allowed:
            return []
        return [_record(policy.te, self.exe, self.permission, DEVICE, [self.permission], enclave=None)]


@dataclass(frozen=True)
class AddsPages:
    """Adds pages of a file."""

    exe: str
    path: str
    maxprot: int
    modified: bool = False

    @property
    def permissions(self) -> list[str]:
        if not self.maxprot & 4:
            return ["load"]
        return ["load", "execute", *(["execmod"] if self.modified else ())]

    def refusals(self, policy: PolicySet) -> list[Decision]:
        te = policy.te
        assert te is not None
        subject, target = _subject(te, self.exe), te.file_type(self.path)[0]
        lacking = [name for name in self.permissions if not te.query(subject, target, name).allowed]
        if not lacking:
            return []
        source = Source(kind="filemod" if self.modified else "file", path=self.path, inode=5, offset=0)
        return [_record(te, self.exe, "load", target, lacking, source, maxprot=self.maxprot, measured=True)]


@dataclass(frozen=True)
class Lives:
    """Initialises an enclave with a SIGSTRUCT of a file, lets it do things to itself, and maps it.

    All goes on after a refusal, as in permissive mode.
    """

    exe: str
    path: str
    mrenclave: bytes
    user: str
    prot: int
    itself: tuple[str, ...] = ()
    mrsigner: bytes = field(default=bytes(32))

    def refusals(self, policy: PolicySet) -> list[Decision]:
        te, identity = policy.te, policy.identity
        assert te is not None
        subject, sigstruct = _subject(te, self.exe), te.file_type(self.path)[0]
        label = te.enclave_type(subject, sigstruct)[0]
        told: list[Decision] = []
        source = Source(kind="file", path=self.path, inode=6, offset=0)
        who: dict[str, Any] = {
            "mrenclave": self.mrenclave,
            "mrsigner": self.mrsigner,
            "permissive": True,
            "errno": "",
            "traits": Traits(isvprodid=7, isvsvn=3, debug=False, unmeasured_exec=False),
        }
        granted = set(self.itself)
        if identity is not None:
            known = IdentityFacts(
                op="ENCLAVE_INIT",
                mrenclave=self.mrenclave,
                mrsigner=self.mrsigner,
                isvprodid=7,
                isvsvn=3,
                debug=False,
                unmeasured_exec=False,
                subj_type=subject,
            )
            rule = identity.decide(known)
            assert rule is not None
            if not rule.allow:
                more = {**who, "lsm": "identity", "rule": str(rule.rule.place)}
                told.append(_record(te, self.exe, "init", sigstruct, ["init"], source, **more))
            granted &= {*rule.grants}
            label = rule.label or label
        if not te.query(subject, sigstruct, "init").allowed:
            told.append(_record(te, self.exe, "init", sigstruct, ["init"], source, **who))
        granted = {name for name in granted if te.query(label, label, name).allowed}
        lacking = [name for name in self.itself if name not in granted]
        if lacking:
            rules = {**who, "lsm": "page_rules"}
            told.append(_record(te, self.user, "map", label or UNLABELED, lacking, maxprot=5, **rules))
        user = _subject(te, self.user)
        wanted = ["use", *(name for bit, name in _MAPS if self.prot & bit)]
        lacking = [name for name in wanted if not te.query(user, label, name).allowed]
        if lacking:
            told.append(_record(te, self.user, "map", label, lacking, maxprot=self.prot, **who))
        return told


Question = OnDevice | AddsPages | Lives
