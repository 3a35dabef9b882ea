"""What a record tells: all that identity rules ask for, the digest of a source; and what is made of it afterwards."""

from __future__ import annotations

import hashlib
import mmap
import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swsgx.isa.address import PAGE_SIZE, Linaddr, TargetAddr
from swsgx.isa.flags import Attributes
from swsgx.linux.provenance import OriginClass
from swsgx.linux.security import EnclaveFacts, Event, Grant, Identity, Load, Map, Origin, Subject
from swsgx.lsm import decision
from swsgx.lsm.audit import NO_TRAITS, AuditLog, Decision, Source, Traits
from swsgx.lsm.audit_reader import read_events
from swsgx.lsm.identity import IdentityRules
from swsgx.lsm.labels import Labels
from swsgx.lsm.learn.identity import OPERATION_OF, facts_of
from swsgx.lsm.learn.learner import learn
from swsgx.lsm.learn.reply import Reply, replies
from swsgx.lsm.module import Create, Debug, Deny, Init, Module, Provision, Verdict
from swsgx.lsm.no_unmeasured_exec import NoUnmeasuredExec
from swsgx.lsm.policy.identity import IdentityFacts, IdentityRule
from swsgx.lsm.policy.load import PolicySet, parse
from swsgx.lsm.policy.source import Source as PolicySource
from swsgx.lsm.process_facts import ProcessMemory, SourceFiles
from swsgx.lsm.records import DecisionWriter
from swsgx.lsm.stack import Stack
from swsgx.native.images import address_of
from tests.make.enforced import MadeFile, from_file
from tests.make.events import empty_range, init_event, load_event

TYPES = """policy_module(m, 1.0)
type user_t; type other_t; type admin_t;
subjcon exe "/bin/user" user_t
subjcon exe "/bin/other" other_t
subjcon uid 0 admin_t
"""
HEADER = "policy_name=p policy_version=1.0.0\nDEFAULT action={action}\n"
USER, OTHER, ADMIN = Subject(1, 1000, "/bin/user"), Subject(2, 1001, "/bin/other"), Subject(3, 0, "/bin/x")
ONE, TWO = "01" * 32, "02" * 32
BUILDING = EnclaveFacts(number=1, base=0x1000, size=0x4000, attributes=int(Attributes.MODE64BIT))
IDENTITY = Identity(b"\1" * 32, b"\2" * 32, 7, 3, 4, 3, 1)
BUILT = replace(BUILDING, initialised=True, identity=IDENTITY)
KEYED = int(Attributes.MODE64BIT | Attributes.PROVISIONKEY)
DEBUGGED = int(Attributes.MODE64BIT | Attributes.DEBUG)


@dataclass
class Asked:
    """An identity policy with types, and the log of what it refuses."""

    module: IdentityRules
    policy: PolicySet
    sources: list[PolicySource]
    log: Path

    def records(self, *events: Event) -> list[Decision]:
        """What is recorded of these events, as it is read back."""
        self.log.unlink(missing_ok=True)
        with AuditLog(self.log) as log:
            writer = DecisionWriter(log)
            writer.labels = self.module.labels
            for event in events:
                Stack([self.module], audit=writer).decide(event)
        return [record for record in _decisions(self.log) if record.lsm == "identity"]


def _decisions(path: Path) -> list[Decision]:
    records = [one.record for one in read_events(path.read_text(encoding="ascii"))]
    return [record for record in records if isinstance(record, Decision)]


def asked(folder: Path, *rules: str, action: str = "DENY") -> Asked:
    """A policy of these rules."""
    text = HEADER.format(action=action) + "".join(f"{rule}\n" for rule in rules)
    sources = [PolicySource("m.te", TYPES.encode()), PolicySource("p.identity", text.encode())]
    policy = parse(sources)
    assert policy.te is not None
    assert policy.identity is not None
    return Asked(IdentityRules(policy.identity, Labels(policy.te)), policy, sources, folder / "audit")


def told(folder: Path, event: Event, *rules: str, action: str = "DENY") -> tuple[list[Decision], list[Reply]]:
    """What the log says of an event, and what is made of that record by the policy, later."""
    made = asked(folder, *rules, action=action)
    records = made.records(event)
    return records, [reply for record in records for reply in replies(record, made.policy, {})]


def create(size: int = 0x100000, attributes: int = 4, xfrm: int = 3, subject: Subject = USER) -> Create:
    return Create(
        subject=subject,
        enclave=EnclaveFacts(number=1),
        size=size,
        attributes=attributes,
        xfrm=xfrm,
        miscselect=1,
    )


def debug(write: bool, enclave: EnclaveFacts = BUILT) -> Debug:
    return Debug(subject=USER, enclave=enclave, offset=0, length=8, write=write, pages=empty_range(1))


#: A condition, an event of which it holds, and one of which it does not.
CONDITIONS = [
    (f"mrenclave=sha256:{ONE}", init_event(USER, None), init_event(USER, None, mrenclave=b"\3" * 32)),
    (f"mrsigner=sha256:{TWO}", init_event(USER, None), init_event(USER, None, mrsigner=b"\3" * 32)),
    ("isvprodid=7", init_event(USER, None), init_event(USER, None, prodid=8)),
    ("isvsvn>=3", init_event(USER, None), init_event(USER, None, svn=2)),
    ("debug=FALSE", init_event(USER, None), init_event(USER, None, attributes=DEBUGGED)),
    ("provision_key=TRUE", init_event(USER, None, attributes=KEYED), init_event(USER, None)),
    (
        "xfrm=3",
        init_event(USER, None),
        replace(init_event(USER, None), identity=Identity(b"", b"", 0, 0, 4, 7, 0)),
    ),
    ("miscselect=0", init_event(USER, None), replace(init_event(USER, None), identity=IDENTITY)),
    (
        "unmeasured_exec=TRUE",
        init_event(USER, None, owing=Grant.EXECUNMR),
        init_event(USER, None, owing=Grant.EXECANON),
    ),
    ("uid=1000", init_event(USER, None), init_event(OTHER, None)),
    ("subj_type=user_t", init_event(USER, None), init_event(OTHER, None)),
    ("subj_type=admin_t", init_event(ADMIN, None), init_event(OTHER, None)),
    ("size<=0x100000", create(), create(size=0x200000)),
    ("debug=TRUE", create(attributes=6), create()),
    ("provision_key=TRUE", create(attributes=KEYED), create()),
    ("xfrm=3", create(), create(xfrm=7)),
    ("uid<=1000", create(), create(subject=OTHER)),
    (
        "debug=FALSE",
        Provision(subject=USER, enclave=BUILDING),
        Provision(subject=USER, enclave=replace(BUILDING, attributes=6)),
    ),
    ("uid=1000", Provision(subject=USER, enclave=BUILDING), Provision(subject=OTHER, enclave=BUILDING)),
    ("write=TRUE", debug(True), debug(False)),
    ("isvsvn<=3", debug(True), debug(True, replace(BUILT, identity=Identity(b"", b"", 7, 4, 4, 3, 1)))),
]


def _condition(condition: str, event: Event) -> str:
    return f"op={OPERATION_OF[event.hook]} {condition}"


@pytest.mark.parametrize(("condition", "event", "other"), CONDITIONS)
def test_rule_that_refused_is_found_again_from_the_record_alone(
    condition: str, event: Event, other: Event, tmp_path: Path
) -> None:
    rule = f"{_condition(condition, event)} action=DENY"
    (record,), (reply,) = told(tmp_path, event, rule, action="ALLOW")
    assert record.rule == "p.identity:3"
    assert (reply.allowed, reply.answer.verdict) == (False, "DENY")
    assert reply.answer.rule is not None
    assert reply.answer.rule.place.line == 3
    key = condition.partition("=")[0].rstrip("<>")
    assert any(word.startswith(f"{key}=") for word in reply.how)
    assert not any("does not tell" in word for word in reply.how)
    # Of the other one there is no record, since nothing refused it.
    assert told(tmp_path, other, rule, action="ALLOW") == ([], [])


@pytest.mark.parametrize(("condition", "event", "other"), CONDITIONS)
def test_rule_that_does_not_hold_is_seen_not_to_from_the_record_alone(
    condition: str, event: Event, other: Event, tmp_path: Path
) -> None:
    rule = f"{_condition(condition, event)} action=ALLOW"
    assert told(tmp_path, event, rule) == ([], [])
    (record,), (reply,) = told(tmp_path, other, rule)
    assert record.rule == "p.identity:2"
    assert reply.answer.rule is not None
    assert reply.answer.rule.place.line == 2
    assert not any("does not tell" in word for word in reply.how)


def test_sigstruct_is_known_by_its_digest(tmp_path: Path) -> None:
    event = init_event(USER, None)
    digest = hashlib.sha256(event.sigstruct.buffer).hexdigest()
    rule = f"op=ENCLAVE_INIT sigstruct=sha256:{digest} action=DENY"
    (record,), (reply,) = told(tmp_path, event, rule, action="ALLOW")
    assert record.traits.sigstruct.hex() == digest
    assert f"sigstruct=sha256:{digest}" in reply.how


def test_what_only_an_older_record_lacks_is_said_to_be_unknown(tmp_path: Path) -> None:
    rule = "op=ENCLAVE_INIT isvprodid=7 action=DENY"
    made = asked(tmp_path, rule, action="ALLOW")
    (record,) = made.records(init_event(USER, None))
    (reply,) = replies(replace(record, traits=NO_TRAITS, uid=None, rule=""), made.policy, {})
    assert any("whether" in word and "the record does not tell" in word for word in reply.how)


class _Watched(IdentityRules):
    """Keeps what it was asked."""

    facts: IdentityFacts

    def _rule(self, facts: IdentityFacts) -> IdentityRule | None:
        self.facts = facts
        return super()._rule(facts)


_SUBJECTS = st.sampled_from([USER, OTHER, ADMIN, None])
_ATTRIBUTES = st.sampled_from([4, DEBUGGED, KEYED, DEBUGGED | KEYED])
_IDENTITIES = st.builds(
    Identity,
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=32, max_size=32),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF),
    _ATTRIBUTES,
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**32 - 1),
)
_ENCLAVES = (
    st.just(EnclaveFacts(number=1))
    | st.builds(lambda attributes: replace(BUILDING, attributes=attributes), _ATTRIBUTES)
    | _IDENTITIES.map(lambda one: replace(BUILT, attributes=one.attributes, identity=one))
)
_EVENTS: st.SearchStrategy[Event] = (
    st.builds(
        Create,
        subject=_SUBJECTS,
        enclave=_ENCLAVES,
        size=st.integers(0, 2**64 - 1),
        attributes=_ATTRIBUTES,
        xfrm=st.integers(0, 2**64 - 1),
        miscselect=st.integers(0, 2**32 - 1),
    )
    | st.builds(Provision, subject=_SUBJECTS, enclave=_ENCLAVES)
    | st.builds(
        lambda subject, enclave, write: replace(debug(write, enclave), subject=subject),
        _SUBJECTS,
        _ENCLAVES,
        st.booleans(),
    )
    | st.builds(
        lambda subject, identity, owing: replace(init_event(subject, None, owing=owing), identity=identity),
        _SUBJECTS,
        _IDENTITIES,
        st.sampled_from([Grant.EXECUNMR, Grant.EXECANON]),
    )
)


@given(event=_EVENTS)
def test_record_has_every_fact_that_the_module_went_by(
    event: Event, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = asked(tmp_path_factory.getbasetemp())
    made.module = watched = _Watched(made.module.store, made.module.labels)
    (record,) = made.records(event)
    assert (record.uid is None) is (event.subject is None)
    assert facts_of(record, OPERATION_OF[event.hook], record.scontext) == watched.facts


# ---- of other modules, and afterwards -------------------------------------------------------------------------------


def _recorded(folder: Path, event: Event, module: Module) -> list[Decision]:
    path = folder / "audit"
    path.unlink(missing_ok=True)
    with AuditLog(path) as log:
        Stack([module], audit=DecisionWriter(log)).decide(event)
    return _decisions(path)


def test_page_of_an_enclave_tells_who_the_enclave_is_and_not_who_initialised_it(tmp_path: Path) -> None:
    pages = empty_range(1)
    event = Map(
        subject=OTHER,
        enclave=BUILT,
        call="mmap",
        address=Linaddr(BUILT.base),
        length=PAGE_SIZE,
        prot=7,
        pages=pages,
    )
    (record,) = _recorded(tmp_path, event, _Refusing())
    assert record.traits == Traits(
        isvprodid=7, isvsvn=3, debug=False, provision_key=False, xfrm=3, miscselect=1
    )
    assert record.uid == OTHER.uid
    lacking = replace(record, lsm="page_rules", permissions=("mapwx",))
    facts = facts_of(lacking, "ENCLAVE_INIT", "other_t")
    assert (facts.isvprodid, facts.uid, facts.subj_type) == (7, None, None)


class _Refusing(NoUnmeasuredExec):
    """Says no to everything."""

    def load(self, event: Load) -> Verdict:
        return Deny("no", ("execute",))

    def map(self, event: Map) -> Verdict:
        return Deny("no", ("execute",))

    def init(self, event: Init) -> Verdict:
        return Deny("no", ("execute",))


def test_learned_rule_is_for_enclaves_that_cannot_be_debugged_if_that_is_known(tmp_path: Path) -> None:
    def learned(*attributes: int) -> tuple[tuple[str, ...], str]:
        made = asked(tmp_path)
        made.records(*(init_event(USER, None, attributes=one) for one in attributes))
        found = learn(read_events(made.log.read_text(encoding="ascii")), made.sources)
        return found.statements["identity"], found.files["identity"]

    start = f"op=ENCLAVE_INIT mrenclave=sha256:{ONE}"
    assert learned(4)[0] == (f"{start} debug=FALSE action=ALLOW",)
    for attributes in ((DEBUGGED,), (4, DEBUGGED)):
        rules, text = learned(*attributes)
        assert rules == (f"{start} action=ALLOW",)
        assert "# WARNING: it can be debugged, so whoever debugs it can read and change it\n" in text


# ---- the digest of a source -----------------------------------------------------------------------------------------

BYTES = b"\x90" * PAGE_SIZE + b"\xcc" * PAGE_SIZE


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _source(folder: Path, event: Event) -> Source:
    (record,) = _recorded(folder, event, _Refusing())
    return record.source


def test_source_that_is_a_file_has_the_digest_of_the_whole_file(tmp_path: Path) -> None:
    event = load_event(USER, from_file(contents=BYTES), contents=BYTES[PAGE_SIZE:])
    assert _source(tmp_path, event).digest == _digest(BYTES)
    assert _source(tmp_path, init_event(USER, from_file("/a.sig", b"a sigstruct"))).digest == _digest(
        b"a sigstruct"
    )


@pytest.mark.parametrize(
    "origin",
    [
        None,
        Origin(kind=OriginClass.ANON),
        Origin(kind=OriginClass.MEMFD, path="/memfd:x", inode=3),
        from_file(kind=OriginClass.FILEMOD),
        replace(from_file(), deleted=True),
    ],
)
def test_other_source_has_the_digest_of_the_bytes_that_were_copied(
    origin: Origin | None, tmp_path: Path
) -> None:
    source = _source(tmp_path, load_event(USER, origin, contents=BYTES))
    assert source.digest == _digest(BYTES)
    assert source.kind == (origin.kind.value if origin is not None else "unknown")
    event = init_event(USER, origin)
    assert _source(tmp_path, event).digest == _digest(bytes(event.sigstruct.buffer))


def test_digest_of_bytes_is_of_the_part_that_the_record_is_about(tmp_path: Path) -> None:
    event = load_event(USER, None, contents=BYTES, offset=0x2000)
    made = decision.recorded(
        event, module="x", permissions=(), rule="", span=(0x3000, PAGE_SIZE), denied=True
    )
    assert made.digest == hashlib.sha256(BYTES[PAGE_SIZE:]).digest()


class _Unreadable(MadeFile):
    def digest(self, algorithm: str, *, most: int | None = None) -> bytes:
        raise OSError("it is gone")


@pytest.mark.parametrize(
    "origin",
    [
        from_file(writers=True),
        from_file(unwatched=True),
        replace(from_file(), file=None),
        replace(from_file(), file=_Unreadable(b"")),
    ],
    ids=["writers", "unwatched", "unknown", "unreadable"],
)
def test_file_whose_digest_says_nothing_has_none_and_is_not_read(origin: Origin, tmp_path: Path) -> None:
    assert _source(tmp_path, load_event(USER, origin)).digest == ""


class _Counting(MadeFile):
    reads = 0

    def digest(self, algorithm: str, *, most: int | None = None) -> bytes:
        type(self).reads += 1
        return super().digest(algorithm)


def test_nothing_is_read_for_what_is_allowed_or_not_recorded(tmp_path: Path) -> None:
    event = load_event(USER, replace(from_file(), file=_Counting(b"x")))
    Stack([_Refusing()]).decide(event)
    assert _Counting.reads == 0
    assert _recorded(tmp_path, event, NoUnmeasuredExec()) == []
    assert _Counting.reads == 0
    assert _source(tmp_path, event).digest == _digest(b"x")
    assert _Counting.reads == 1


def test_file_that_is_too_large_is_not_read_for_a_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "code"
    path.write_bytes(BYTES)
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as mapped,
    ):
        memory = ProcessMemory(os.getpid(), SourceFiles())
        (extent,) = memory.extents(TargetAddr(address_of(memoryview(mapped))), memoryview(BYTES))
        event = load_event(USER, extent.origin, contents=BYTES)
        for most, found in ((len(BYTES) - 1, ""), (len(BYTES), _digest(BYTES))):
            monkeypatch.setattr(decision, "_DIGESTED", most)
            assert _source(tmp_path, event).digest == found
