"""What was refused is recorded, learned, and allowed; and nothing else is. Whatever a log holds, nothing breaks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swsgx.lsm.audit import Decision, Event, Source, Traits
from swsgx.lsm.audit_reader import read_events, sift_events
from swsgx.lsm.learn.learner import Learned, learn
from swsgx.lsm.learn.reply import replies
from swsgx.lsm.policy import source as policy_source
from swsgx.lsm.policy.load import KINDS, PolicySet, parse
from swsgx.lsm.policy.te import PERMISSIONS
from tests.make.questions import AddsPages, Lives, OnDevice, Question

# Policies are compiled five times for each input; a thorough run of thousands takes minutes.
pytestmark = pytest.mark.timeout(1200)

MOMENT = 1_700_000_000_000
BASE = """policy_module(base, 1.0)
attribute code;
type builder_t; type app_t; type code_t, code; type sig_t; type encl_t; type jit_t;
subjcon exe "/opt/bin/builder" builder_t
subjcon exe "/opt/bin/app" app_t
filecon "/opt/lib/.*[.]so" code_t
filecon "/opt/lib/.*[.]sig" sig_t
allow builder_t sgx_device_t : enclave open;
allow builder_t code : enclave load;
allow builder_t unlabeled_t : enclave load;
allow unlabeled_t sgx_device_t : enclave open;
allow builder_t sig_t : enclave init;
allow app_t encl_t : enclave { use map_read };
type_transition builder_t sig_t : enclave encl_t;
allow jit_t self : enclave execanon;
neverallow * self : enclave mapwx;
"""
LISTED, SIGNER = bytes([0xAA] * 32), bytes([0xBB] * 32)
IDENTITY = f"""policy_name=base policy_version=1.0.0
DEFAULT op=ENCLAVE_INIT action=DENY
op=ENCLAVE_INIT mrenclave=sha256:{LISTED.hex()} grant=execanon label=jit_t action=ALLOW
op=ENCLAVE_INIT mrsigner=sha256:{SIGNER.hex()} isvprodid=7 isvsvn>=3 debug=FALSE action=ALLOW
"""
PROGRAMS = st.sampled_from(
    ["/opt/bin/builder", "/opt/bin/app", "/usr/bin/new", '/usr/bin/it\'s \x1b[31m"new"', "/usr/bin/\udc80.+"]
)
FILES = st.sampled_from(
    [
        "/opt/lib/a.so",
        "/srv/b.so",
        "/srv/c(1)*.so",
        "/srv/d\n.so",
        '/srv/"e".so',
        "/data/f.so",
        "/srv/\u202e.so",
    ]
)
QUESTIONS: st.SearchStrategy[Question] = (
    st.builds(OnDevice, PROGRAMS, st.sampled_from(["open", "create", "provision"]))
    | st.builds(AddsPages, PROGRAMS, FILES, st.integers(0, 7), st.booleans())
    | st.builds(
        Lives,
        PROGRAMS,
        st.sampled_from(["/opt/lib/a.sig", "/srv/b.sig", "/srv/\x1bc.sig"]),
        st.sampled_from([LISTED, bytes([1] * 32), bytes([2] * 32)]),
        PROGRAMS,
        st.integers(1, 7),
        st.sets(st.sampled_from(["execanon", "execunmr", "execdirty", "augexec"])).map(
            lambda s: tuple(sorted(s))
        ),
        st.sampled_from([SIGNER, bytes(32)]),
    )
)


def sources(*texts: str) -> list[policy_source.Source]:
    return [policy_source.Source(f"f{number}", text.encode()) for number, text in enumerate(texts)]


def log_of(questions: list[Question], policy: PolicySet) -> list[Event]:
    """What a permissive run writes, read back from its text."""
    refused = [decision for question in questions for decision in question.refusals(policy)]
    events = [Event(number, MOMENT + number, decision) for number, decision in enumerate(refused, 1)]
    return read_events("".join(event.text() for event in events))


def added(learned: Learned, *texts: str) -> PolicySet:
    """A policy with the files that were learned, from their texts, as an administrator would load them."""
    files = [learned.files["te"], *texts[:1]]
    return parse(sources(*files, *([learned.files["identity"]] if len(texts) > 1 else ())))


@pytest.mark.parametrize("texts", [(BASE,), (BASE, IDENTITY)], ids=["te", "te and identity"])
@given(questions=st.lists(QUESTIONS, max_size=8))
def test_what_was_refused_is_allowed_when_it_was_learned(
    texts: tuple[str, ...], questions: list[Question]
) -> None:
    before = parse(sources(*texts))
    events = log_of(questions, before)
    after = added(learn(events, sources(*texts)), *texts)
    assert [(question, question.refusals(after)) for question in questions if question.refusals(after)] == []
    # Not one word more the second time.
    again = learn(
        events,
        [*sources(*texts), policy_source.Source("new", learn(events, sources(*texts)).files["te"].encode())],
    )
    assert not [text for text in again.statements["te"] if text.startswith(("allow", "type "))]


@given(questions=st.lists(QUESTIONS, max_size=8))
def test_nothing_is_allowed_that_nobody_asked_for(questions: list[Question]) -> None:
    before = parse(sources(BASE))
    events = log_of(questions, before)
    after = added(learn(events, sources(BASE)), BASE)
    assert before.te is not None
    assert after.te is not None
    asked = set()
    for event in events:
        record = event.record
        assert isinstance(record, Decision)
        asked |= {(record.scontext, record.tcontext, name) for name in record.permissions}
        asked |= {(record.tcontext, record.tcontext, name) for name in record.permissions}
    for source in before.te.types:
        for target in before.te.types:
            for name in PERMISSIONS:
                if after.te.query(source, target, name).allowed and (source, target, name) not in asked:
                    assert before.te.query(source, target, name).allowed, (source, target, name)


@given(questions=st.lists(QUESTIONS, max_size=6))
def test_without_a_policy_the_output_stands_alone(questions: list[Question]) -> None:
    events = log_of(questions, parse(sources(BASE)))
    learned = learn(events)
    alone = parse(sources(learned.files["te"]))
    for event in events:
        assert isinstance(event.record, Decision)
        assert all(reply.allowed for reply in replies(event.record, alone, learned.enclaves))


# ---- whatever a log holds --------------------------------------------------------------------------------------------

hostile = st.sampled_from(
    [
        "",
        "\x1b]0;owned\x07",
        '"; allow * * : enclave *; "',
        "a\nallow",
        "/x\r\nop=ENCLAVE_INIT action=ALLOW",
        "\u202e/",
        "/" * 5000,
    ]
) | st.binary(max_size=20).map(os.fsdecode)
contexts = hostile | st.sampled_from(
    [
        "builder_t",
        "unlabeled_t",
        "sgx_device_t",
        "encl_t",
        "code",
        "self",
        "type",
        "u:r:app_t:s0",
        "u:r:self:s0",
        "new_t",
        "*",
        "~a",
    ]
)
decisions = st.builds(
    Decision,
    hook=st.sampled_from(
        ["open", "create", "load", "init", "map", "augment", "modify", "receive", "debug", "provision"]
    ),
    permissions=st.lists(st.sampled_from([*PERMISSIONS, "nonsense"]), min_size=1, max_size=4).map(tuple),
    pid=st.integers(0, 9),
    comm=hostile,
    exe=hostile | PROGRAMS,
    uid=st.none() | st.integers(0, 1),
    enclave=st.none() | st.integers(0, 3),
    maxprot=st.none() | st.integers(0, 7),
    measured=st.none() | st.booleans(),
    source=st.builds(
        Source,
        kind=st.sampled_from(["", "file", "filemod", "memfd", "shm", "anon", "unknown"]),
        path=hostile | FILES,
        offset=st.none() | st.integers(0, 9),
        deleted=st.booleans(),
    ),
    scontext=contexts,
    tcontext=contexts,
    lsm=st.sampled_from(["te", "identity", "integrity", "page_rules", "no_unmeasured_exec"]),
    rule=st.sampled_from(["", "f1:2", "f1:3", "f1:99", "x:y", "\x1b:3", "f1:" + "9" * 5000]),
    mrenclave=st.sampled_from([b"", LISTED, bytes(32)]),
    mrsigner=st.sampled_from([b"", SIGNER]),
    traits=st.builds(
        Traits,
        isvprodid=st.none() | st.integers(6, 7),
        isvsvn=st.none() | st.integers(2, 3),
        debug=st.none() | st.booleans(),
        unmeasured_exec=st.none() | st.booleans(),
    ),
    denied=st.booleans(),
    permissive=st.booleans(),
    reason=st.sampled_from(["", "", "module-failure", "\x1b"]),
)
moments = st.integers(0, 10**19)
INTEGRITY = "appraise func=ENCLAVE_LOAD mask=MAY_EXEC\nappraise func=ENCLAVE_SIGSTRUCT obj_type=sig_t\n"


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(moments, decisions), max_size=6),
    st.sampled_from([(), (BASE,), (BASE, IDENTITY, INTEGRITY), (IDENTITY,)]),
)
def test_any_log_gives_files_that_load_and_that_a_terminal_can_show(
    log: list[tuple[int, Decision]], texts: tuple[str, ...]
) -> None:
    events = [Event(number, time, record) for number, (time, record) in enumerate(log, 1)]
    learned = learn(events, sources(*texts), "\x1b[2J")
    for kind in KINDS:
        text = learned.files[kind]
        assert all(c.isprintable() or c == "\n" for c in text)
        text.encode()
    rest = [text for text in texts if not text.startswith("policy_name")]
    first = [learned.files["integrity"]] if learned.statements["integrity"] else []
    typed = [learned.files["te"]] if learned.statements["te"] or BASE in texts else []
    parse(sources(*first, *typed, *rest, learned.files["identity"]))
    policy = parse(sources(*texts))
    for event in events:
        assert isinstance(event.record, Decision)
        for reply in replies(event.record, policy, {}):
            assert reply.question


@given(st.lists(decisions, max_size=3), st.data())
def test_damage_costs_only_the_records_that_it_hits(records: list[Decision], data: st.DataObject) -> None:
    events = [Event(number, MOMENT + number, record) for number, record in enumerate(records, 1)]
    lines = "".join(event.text() for event in events).splitlines()
    hit = data.draw(st.integers(0, max(0, len(lines) - 1)))
    damage = data.draw(
        st.text(st.characters(exclude_characters="\n\r"), max_size=30)
        | st.sampled_from(["type=AVC", "type=ENCLAVE msg=audit(1.000:1): "])
    )
    if lines:
        at = data.draw(st.integers(0, len(lines[hit])))
        lines[hit] = lines[hit][:at] + damage
    whole, errors = sift_events("\n".join(lines), "log")
    untouched = [event for event in events if event.serial != hit // 2 + 1]
    assert [event for event in whole if event in untouched] == untouched
    assert len(whole) - len(untouched) in (0, 1)
    for error in errors:
        assert error.file == "log"
        assert 1 <= error.line <= len(lines)
        assert error.column >= 1


@given(
    st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: raw.decode("ascii", "surrogateescape"))
)
def test_garbage_is_no_event_and_no_crash(text: str) -> None:
    events, errors = sift_events(text)
    assert events == []
    learn(events)
    for error in errors:
        assert str(error)


def test_numbers_without_end_are_damage() -> None:
    record = Decision(hook="open", permissions=("open",), pid=1, comm="x", lsm="te")
    text = Event(1, MOMENT, record).text()
    for old, new in (
        ("pid=1", "pid=" + "9" * 5000),
        (":1)", ":" + "9" * 5000 + ")"),
        ("msg=audit(", "msg=audit(" + "9" * 5000),
    ):
        whole, errors = sift_events(text.replace(old, new))
        assert whole == []
        assert errors


def test_checked_out_example_policy_and_log_agree(checkout: Path) -> None:
    names = [checkout / f"examples/policies/acme.{kind}" for kind in KINDS]
    texts = [policy_source.Source.read(str(name)) for name in names]
    before = parse(texts)
    question = AddsPages("/opt/acme/bin/app", "/opt/acme/lib/x.signed.so", 5)
    learned = learn(log_of([question], before), texts)
    assert learned.statements["te"] == ("allow app_t acme_code_t : enclave { load execute };",)
