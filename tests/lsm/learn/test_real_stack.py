"""Learning from what the real modules write: a driver under a permissive policy, its log, rules, and the same again.

The flows are the rows of tests/make/attacks.py, in the worlds of tests/lsm/test_attacks.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from swsgx.isa.address import PAGE_SIZE
from swsgx.linux.outcome import Outcome
from swsgx.linux.security import OriginClass
from swsgx.lsm.audit import Decision
from swsgx.lsm.audit_reader import read_events
from swsgx.lsm.learn.learner import Learned, learn
from swsgx.lsm.learn.reply import replies
from swsgx.lsm.measurement import MeasurementError
from swsgx.lsm.policy.load import load
from swsgx.lsm.policy.source import Source
from tests.lsm.test_attacks import FLOWS, PROFILES, TABLE
from tests.make.attacks import Row
from tests.make.enforced import ANON, APP, CODE, SIG_PATH, Enforced, MadeFile, enforced, from_file, must
from tests.make.world import REG_RW, REG_RWX, REG_RX

RX, RW = 5, 3
REFUSED = [one for one in TABLE if one.hook]
#: Rows for which no rule can be loaded, and why.
NEVER = {
    "A10": "a neverallow forbids",
    "A15": "a neverallow forbids",
    # Before INIT an enclave has no type and no identity that a rule could be for.
    "A31": "an enclave that has no type yet",
}


@dataclass
class Worlds:
    """Worlds under Acme's policy, or under it and what was learned."""

    folder: Path
    examples: Path
    made: list[Enforced] = field(default_factory=list)

    def world(self, one: Row, *, learned: Learned | None = None, permissive: bool = False) -> Enforced:
        folder = self.folder / str(len(self.made))
        folder.mkdir()
        files = (
            {kind: text for kind, text in learned.files.items() if learned.statements[kind]}
            if learned
            else None
        )
        made = enforced(
            folder,
            examples=self.examples,
            enforcing=not permissive,
            identity=one.identity,
            learned=files,
            profile=PROFILES[one.profile],
        )
        self.made.append(made)
        return made

    def log(self, one: Row) -> tuple[Enforced, list[Decision]]:
        """What a permissive run writes of a row."""
        m = self.world(one, permissive=True)
        FLOWS[one.id](m)()
        return m, m.records()

    def learned(self, m: Enforced) -> Learned:
        """What is made of a world's log, by the policy that it was under."""
        text = m.audit.read_text(encoding="ascii")
        return learn(read_events(text), [Source.read(file) for file in m.files])

    def tried(self, one: Row, learned: Learned) -> tuple[Outcome | None, list[Decision]]:
        """A row once more, enforcing; None: it does not come as far as the call that decides."""
        m = self.world(one, learned=learned)
        try:
            outcome = FLOWS[one.id](m)()
        except AssertionError:
            return None, m.records()
        m.check()
        return outcome, m.records()


@pytest.fixture
def worlds(tmp_path: Path, checkout: Path) -> Iterator[Worlds]:
    made = Worlds(tmp_path, checkout / "examples" / "policies")
    yield made
    for one in made.made:
        one.close()


@pytest.mark.parametrize("one", REFUSED, ids=lambda one: one.id)
def test_what_was_learned_from_a_row_allows_it_without_a_record(one: Row, worlds: Worlds) -> None:
    m, records = worlds.log(one)
    assert records
    learned = worlds.learned(m)
    outcome, left = worlds.tried(one, learned)
    assert outcome is not None
    if one.id in NEVER:
        assert any(NEVER[one.id] in why for why in learned.obstacles)
        assert not outcome.ok
        assert left
        return
    # EIO: of a debugger's write that the policy allows, as by the plain driver.
    assert outcome.ok or one.plain != "ok" or one.id == "A26", str(outcome.reason)
    assert left == []


@pytest.mark.parametrize("one", REFUSED, ids=lambda one: one.id)
def test_what_was_not_in_the_log_stays_refused_as_explain_says(one: Row, worlds: Worlds) -> None:
    m, _ = worlds.log(one)
    learned = worlds.learned(m)
    after = load(worlds.world(one, learned=learned).files)
    stayed = 0
    at = REFUSED.index(one)
    others = [row for row in (*REFUSED[at + 1 :], *REFUSED[:at]) if row.identity is one.identity]
    for other in others[:: max(1, len(others) // 8)]:
        _, records = worlds.log(other)
        allowed = all(
            reply.allowed for record in records for reply in replies(record, after, learned.enclaves)
        )
        _, left = worlds.tried(other, learned)
        assert (left == []) is allowed, (other.id, left)
        stayed += not allowed
    assert stayed


@pytest.mark.parametrize("one", REFUSED, ids=lambda one: one.id)
def test_each_record_of_a_row_is_explained_as_it_was_decided(one: Row, worlds: Worlds) -> None:
    m, records = worlds.log(one)
    policy = load(m.files)
    for record in records:
        answers = list(replies(record, policy, {}))
        # That a file is being written, or is a modified copy, is no rule's doing: the rule says to appraise.
        assert answers or record.lsm == "page_rules", record
        assert any(not answer.allowed for answer in answers) or not answers, (record, answers)
        if record.rule:
            found = {str(answer.answer.rule.place) for answer in answers if answer.answer.rule}
            assert record.rule in found, (record.rule, found)


def test_whole_life_of_an_enclave_is_learned_from_one_log(worlds: Worlds) -> None:
    """A program, files, SIGSTRUCT and enclave that the policy knows nothing of, and a user that it does not know."""
    row = next(one for one in TABLE if one.id == "P1")

    def lives(m: Enforced) -> Outcome:
        file = m.start()
        must(m.add(file, 0, REG_RX, from_file("/srv/beta/beta.so")))
        must(m.add(file, 1, REG_RW, ANON, bytes(2 * PAGE_SIZE)))
        must(m.add(file, 4, REG_RWX, from_file("/srv/beta/beta.so", kind=OriginClass.FILEMOD, signed=False)))
        must(m.init(file, from_file("/srv/beta/beta.sig", signed=False), svn=0))
        must(m.map(file, 4, 1, RW))
        must(m.protect(4, 1, RX))
        return m.map(file, 0, 1, RX)

    m = worlds.world(row, permissive=True)
    must(lives(m))
    assert {record.lsm for record in m.records()} == {"te", "identity", "integrity", "page_rules"}
    learned = worlds.learned(m)
    again = worlds.world(row, learned=learned)
    must(lives(again))
    assert again.records() == []
    again.check()

    # Each thing that was another one is refused.
    def other_file(m: Enforced) -> Outcome:
        return m.add(m.start(), 0, REG_RX, from_file("/srv/beta/gamma.so"))

    def other_folder(m: Enforced) -> Outcome:
        return m.add(m.start(), 0, REG_RX, from_file("/srv/beta.so"))

    def anonymous(m: Enforced) -> Outcome:
        file = m.start()
        must(m.add(file, 0, REG_RX, ANON))
        return m.init(file, from_file("/srv/beta/beta.sig", signed=False), svn=0)

    def other_enclave(m: Enforced) -> Outcome:
        file = m.start()
        must(m.add(file, 0, REG_RX, from_file("/srv/beta/beta.so")))
        return m.init(file, from_file("/srv/beta/beta.sig", signed=False), svn=0)

    def debuggable(m: Enforced) -> Outcome:
        file = m.start(debug=True)
        must(m.add(file, 0, REG_RX, from_file("/srv/beta/beta.so")))
        must(m.add(file, 1, REG_RW, ANON, bytes(2 * PAGE_SIZE)))
        must(m.add(file, 4, REG_RWX, from_file("/srv/beta/beta.so", kind=OriginClass.FILEMOD, signed=False)))
        return m.init(file, from_file("/srv/beta/beta.sig", signed=False), svn=0)

    def both_at_once(m: Enforced) -> Outcome:
        must(lives(m))
        return m.protect(4, 1, 7)

    def others_enclave(m: Enforced) -> Outcome:
        """What Acme signed is not Beta's, and may not do as Beta's does."""
        file = m.running(lambda file: m.add(file, 4, REG_RWX, from_file()))
        must(m.map(file, 4, 1, RW, APP))
        return m.protect(4, 1, RX, APP)

    for way in (other_file, other_folder, anonymous, other_enclave, debuggable, both_at_once, others_enclave):
        m = worlds.world(row, learned=learned)
        assert not way(m).ok, way.__name__
        assert len(m.records()) == 1, way.__name__


def test_log_of_a_run_that_was_enforcing_is_learned_step_by_step(worlds: Worlds) -> None:
    """Each run comes one refusal further; what is learned is of use at the next one."""
    row = next(one for one in TABLE if one.id == "P1")
    learned: Learned | None = None
    text, sources, refused = "", list[Source](), list[str]()
    for _ in range(10):
        m = worlds.world(row, learned=learned)
        sources = sources or [Source.read(file) for file in m.files]
        file = m.start()
        outcome = m.add(file, 0, REG_RX, from_file("/srv/beta/beta.so"))
        if outcome.ok:
            outcome = m.init(file, from_file("/srv/beta/beta.sig"), svn=0)
        if outcome.ok:
            outcome = m.map(file, 0, 1, RX)
        text += m.audit.read_text(encoding="ascii")
        if outcome.ok:
            break
        learned = learn(read_events(text), sources)
        refused += [f"{record.lsm} {record.hook}" for record in m.records()]
    assert outcome.ok
    assert refused == ["te load", "te init", "identity init", "te receive", "te map"]
    assert m.records() == []


def test_sigstruct_that_was_changed_or_deleted_is_learned_by_its_enclave_and_not_by_its_path(
    worlds: Worlds,
) -> None:
    row = next(one for one in TABLE if one.id == "A19")
    for kind, deleted in ((OriginClass.FILEMOD, False), (OriginClass.FILE, True), (OriginClass.MEMFD, False)):
        origin = from_file(SIG_PATH, kind=kind)
        if deleted:
            object.__setattr__(origin, "deleted", True)
        m = worlds.world(row, permissive=True)
        file = m.filled(m.start())
        must(m.init(file, origin))
        (record,) = m.records()
        assert (record.source.deleted, record.source.named) == (deleted, kind is OriginClass.FILEMOD)
        (reply,) = [one for one in replies(record, load(m.files), {}) if "init" in one.question]
        assert not reply.allowed
        learned = worlds.learned(m)
        assert not any("filecon" in text or " init" in text for text in learned.statements["te"])
        m = worlds.world(row, learned=learned)
        file = m.filled(m.start())
        must(m.init(file, origin))
        assert m.records() == []
        # Another enclave with such a SIGSTRUCT.
        file = m.start()
        must(m.add(file, 0, REG_RX, from_file(), CODE))
        assert not m.init(file, origin).ok


def test_refusal_that_no_rule_has_made_teaches_nothing(
    worlds: Worlds, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = next(one for one in TABLE if one.id == "P1")

    def unmeasured(m: Enforced) -> Outcome:
        def full(entry: object) -> int:
            raise MeasurementError("the disk is full")

        assert m.made is not None
        monkeypatch.setattr(m.made.measurements, "add", full)
        return m.add(m.start(), 0, REG_RX, from_file())

    def changed(m: Enforced) -> Outcome:
        file, origin = m.start(), from_file()
        must(m.add(file, 0, REG_RX, origin))
        assert isinstance(origin.file, MadeFile)
        origin.file.contents += b"more"
        return m.init(file)

    for way, reason in ((unmeasured, "commit-failed"), (changed, "source-changed")):
        m = worlds.world(row)
        assert not way(m).ok
        (record,) = m.records()
        assert (record.lsm, record.reason) == ("integrity", reason)
        assert list(replies(record, load(m.files), {})) == []
        learned = worlds.learned(m)
        assert not any(learned.statements.values())
        assert "# Refused by modules without rules, or that failed: 1 record" in learned.files["integrity"]
