"""Audit records: their form, their numbers, what becomes of strange strings, and reading them back."""

from __future__ import annotations

import os
import string
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swsgx.lsm.audit import (
    AuditError,
    AuditLog,
    Decision,
    Event,
    ModeChange,
    PolicyLoad,
    Record,
    Source,
    Traits,
    untrusted,
)
from swsgx.lsm.audit_reader import AuditSyntaxError, lost_serials, read_events, sift_events

MOMENT = 1_700_000_000_123

REFUSAL = Decision(
    hook="load",
    permissions=("execanon",),
    pid=711,
    comm="loader",
    exe="/opt/acme/bin/loader",
    enclave=3,
    offset=0x4000,
    length=0x1000,
    maxprot=5,
    measured=True,
    source=Source(kind="anon"),
    scontext="u:r:app_t:s0",
    tcontext="u:r:acme_encl_t:s0",
    lsm="te",
    rule="te:14",
    errno="EACCES",
)


def _log(path: Path) -> AuditLog:
    return AuditLog(path, clock=lambda: MOMENT * 1_000_000)


def test_refusal_is_an_avc_line_and_an_enclave_line_with_one_serial() -> None:
    assert Event(42, MOMENT, REFUSAL).text() == (
        "type=AVC msg=audit(1700000000.123:42): avc:  denied  { execanon } for  pid=711 "
        'comm="loader" exe="/opt/acme/bin/loader" op=load enclave=3 off=0x4000 len=0x1000 maxprot=r-x '
        "measured=1 src=anon path=? dev=? ino=? scontext=u:r:app_t:s0 tcontext=u:r:acme_encl_t:s0 "
        "tclass=enclave permissive=0\n"
        'type=ENCLAVE msg=audit(1700000000.123:42): lsm=te rule="te:14" mrenclave=? mrsigner=? '
        "res=deny errno=EACCES\n"
    )


def test_record_tells_the_user_and_what_is_known_of_the_enclave_besides() -> None:
    traits = Traits(
        sigstruct=b"\1" * 32,
        isvprodid=7,
        isvsvn=0,
        debug=False,
        provision_key=True,
        xfrm=3,
        miscselect=0,
        size=4096,
        unmeasured_exec=False,
        write=True,
    )
    avc, enclave = Event(42, MOMENT, replace(REFUSAL, uid=1000, traits=traits)).text().splitlines()
    assert ' for  pid=711 uid=1000 comm="loader" exe=' in avc
    assert (
        f" mrsigner=? sigstruct=sha256:{'01' * 32} isvprodid=7 isvsvn=0 debug=0 provision_key=1 " in enclave
    )
    assert " xfrm=0x3 miscselect=0x0 size=0x1000 unmeasured_exec=0 write=1 res=deny errno=EACCES" in enclave


@pytest.mark.parametrize(
    ("field", "value"),
    [("debug", "2"), ("isvprodid", "x"), ("sigstruct", "sha256:00"), ("write", "TRUE"), ("other", "1")],
)
def test_trait_that_is_none_is_damage(field: str, value: str) -> None:
    text = Event(42, MOMENT, REFUSAL).text()
    with pytest.raises(AuditSyntaxError):
        read_events(text.replace("res=deny", f"{field}={value} res=deny"))


def test_refusal_that_is_only_noted_is_denied_and_permissive_and_allowed() -> None:
    decision = Decision(
        hook="map", permissions=("mapwx",), pid=1, comm="a", lsm="te", permissive=True, reason="learning"
    )
    first, second = Event(1, MOMENT, decision).text().splitlines()
    assert "avc:  denied  { mapwx }" in first
    assert first.endswith("permissive=1")
    assert "res=allow" in second


def test_use_of_a_grant_is_a_granted_line_with_two_spaces_less() -> None:
    decision = Decision(
        hook="init", permissions=("execdirty",), pid=1, comm="a", lsm="identity", denied=False
    )
    assert "avc:  granted { execdirty } for  pid=1" in Event(1, MOMENT, decision).text()


def test_file_source_has_path_device_inode_offset_and_digest() -> None:
    source = Source(
        kind="file", path="/a/b.so", device=os.makedev(254, 1), inode=12, offset=4096, digest="sha256:00ff"
    )
    decision = Decision(hook="load", permissions=("execute",), pid=1, comm="a", lsm="te", source=source)
    assert (
        'src=file path="/a/b.so" dev=fe:01 ino=12 fileoff=0x1000 srcdigest=sha256:00ff'
        in Event(1, MOMENT, decision).text()
    )


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("loader", '"loader"'),
        ("a b", "612062"),
        ('a"b', "612262"),
        ("a\nb", "610A62"),
        ("é", "C3A9"),
        ("?", '"?"'),
        ("", "?"),
    ],
)
def test_untrusted_string_is_quoted_or_in_hexadecimal_by_the_kernels_rule(text: str, written: str) -> None:
    assert untrusted(text) == written


def test_file_without_a_name_is_said_to_be_deleted_and_no_rule_is_about_it() -> None:
    source = Source(kind="file", path="/a", offset=0, deleted=True, digest="sha256:00ff")
    decision = Decision(hook="load", permissions=("execute",), pid=1, comm="a", lsm="te", source=source)
    text = Event(1, MOMENT, decision).text()
    assert 'src=file path="/a" dev=00:00 ino=0 fileoff=0x0 deleted=1 srcdigest=sha256:00ff' in text
    assert not source.named
    assert replace(source, deleted=False).named
    assert not replace(source, deleted=False, kind="memfd").named


def test_label_with_a_space_cannot_add_a_field() -> None:
    decision = Decision(
        hook="load", permissions=("load",), pid=1, comm="a", lsm="te", tcontext="x tclass=file", scontext="s"
    )
    text = Event(1, MOMENT, decision).text()
    assert text.count("tclass=") == 1
    assert "tcontext=? trawcon=78207463" in text


def test_serials_have_no_gaps_within_a_run(tmp_path: Path) -> None:
    with _log(tmp_path / "log") as log:
        serials = [log.write(REFUSAL).serial for _ in range(5)]
    assert serials == [1, 2, 3, 4, 5]
    assert lost_serials(read_events((tmp_path / "log").read_text())) == []


def test_second_run_appends_and_starts_at_one(tmp_path: Path) -> None:
    for _ in range(2):
        with _log(tmp_path / "log") as log:
            log.write(REFUSAL)
            log.write(ModeChange(lsm="te", enforcing=False, was=True))
    events = read_events((tmp_path / "log").read_text())
    assert [event.serial for event in events] == [1, 2, 1, 2]
    assert lost_serials(events) == []


def test_line_that_somebody_removed_shows_as_a_lost_serial(tmp_path: Path) -> None:
    with _log(tmp_path / "log") as log:
        for _ in range(4):
            log.write(PolicyLoad(lsm="te"))
    lines = (tmp_path / "log").read_text().splitlines()
    assert lost_serials(read_events("\n".join([lines[0], *lines[2:]]))) == [2]


def test_event_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[bytes] = []

    def written(fd: int, data: bytes) -> int:
        writes.append(bytes(data))
        return len(data)

    with _log(tmp_path / "log") as log:
        monkeypatch.setattr(os, "write", written)
        log.write(REFUSAL)
        monkeypatch.undo()
    assert len(writes) == 1
    assert writes[0].count(b"\n") == 2


def test_log_that_cannot_be_opened_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="/log: the audit log cannot be opened: No such file or directory"):
        AuditLog(tmp_path / "missing" / "log")


def test_full_disk_loses_the_event_and_its_serial() -> None:
    with AuditLog(Path("/dev/full"), clock=lambda: 0) as log:
        with pytest.raises(AuditError, match="/dev/full: event 1 is lost: No space left on device"):
            log.write(REFUSAL)
        with pytest.raises(AuditError, match="event 2"):
            log.write(REFUSAL)


def test_torn_write_damages_one_event_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    with _log(tmp_path / "log") as log:
        monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:20]))
        with pytest.raises(AuditError, match="event 1 is damaged: 20 of"):
            log.write(REFUSAL)
        monkeypatch.undo()
        log.write(REFUSAL)
    text = (tmp_path / "log").read_text()
    with pytest.raises(AuditSyntaxError, match=r"^-:1:1: expected type="):
        read_events(text)
    assert [event.serial for event in read_events(text.partition("\n")[2])] == [2]


def test_damaged_line_is_named_with_line_and_column() -> None:
    text = Event(1, MOMENT, PolicyLoad(lsm="te")).text() + Event(2, MOMENT, REFUSAL).text()
    for old, new, problem in (
        ("pid=711", "pid=x11", "log:2:75: x11 is no value of pid="),
        ("measured=1 ", "", "measured= is missing"),
        ("measured=1", "measured=1 measured=1", "stands here a second time"),
        ("permissive=0", "permissive=1", "log:3:90: res= contradicts the AVC line"),
        ("ino=?", "ino=? colour=red", "colour= is no field of a AVC record"),
        ("errno=EACCES", "errno", "expected NAME=VALUE"),
        ('"loader"', "6C", "in hexadecimal without need"),
        ("avc:  denied  {", "avc:  denied {", "log:2:39: expected avc:"),
    ):
        assert old in text
        with pytest.raises(AuditSyntaxError, match=r"^log:[23]:\d+: ") as caught:
            read_events(text.replace(old, new, 1), "log")
        assert problem in str(caught.value)


def test_decision_without_its_second_line_is_refused() -> None:
    first, second = Event(7, MOMENT, REFUSAL).text().splitlines()
    with pytest.raises(AuditSyntaxError, match="the ENCLAVE line with the serial 7 is missing"):
        read_events(first)
    with pytest.raises(AuditSyntaxError, match="the AVC line with the serial 7 is missing"):
        read_events(second)


def test_lines_in_the_order_and_with_the_ornaments_of_ausearch_are_read() -> None:
    first, second = Event(7, MOMENT, REFUSAL).text().splitlines()
    text = f"----\ntime->Tue Nov 14 22:13:20 2023\n{second}\n{first}\n"
    assert read_events(text) == [Event(7, MOMENT, REFUSAL)]


def test_records_of_others_in_the_systems_log_are_passed_over() -> None:
    text = (
        "type=SYSCALL msg=audit(1.000:1): arch=c000003e syscall=1\n"
        "type=AVC msg=audit(1.000:1): avc:  denied  { read } for  pid=1 scontext=a tclass=file permissive=0\n"
        "type=MAC_POLICY_LOAD msg=audit(1.000:2): auid=1 ses=1 lsm=selinux res=1\n"
    )
    assert read_events(text) == []


# ---- any record survives --------------------------------------------------------------------------------------------

strings = st.binary(max_size=20).map(os.fsdecode)
words = st.text(string.ascii_lowercase + "_", min_size=1, max_size=8)
numbers = st.none() | st.integers(0, 2**64 - 1)
digests = st.just("") | st.binary(min_size=1, max_size=64).map(lambda raw: f"sha256:{raw.hex()}")
sources = st.builds(
    Source, kind=st.sampled_from(["", "file", "filemod", "memfd", "shm", "anon", "unknown"])
) | st.builds(
    Source,
    kind=st.just("file"),
    path=st.binary(min_size=1, max_size=20).map(os.fsdecode),
    device=st.builds(os.makedev, st.integers(0, 0xFFF), st.integers(0, 0xFFFFF)),
    inode=st.integers(0, 2**64 - 1),
    offset=numbers,
    deleted=st.booleans(),
    digest=digests,
)
flags = st.none() | st.booleans()
shorts = st.none() | st.integers(0, 0xFFFF)
traits = st.builds(
    Traits,
    sigstruct=st.just(b"") | st.binary(min_size=32, max_size=32),
    isvprodid=shorts,
    isvsvn=shorts,
    debug=flags,
    provision_key=flags,
    xfrm=numbers,
    miscselect=numbers,
    size=numbers,
    unmeasured_exec=flags,
    write=flags,
)
decisions = st.builds(
    Decision,
    hook=words,
    permissions=st.lists(words, min_size=1, max_size=3).map(tuple),
    pid=st.integers(0, 2**22),
    comm=strings,
    exe=strings,
    uid=st.none() | st.integers(0, 2**32 - 1),
    enclave=numbers,
    offset=numbers,
    length=numbers,
    maxprot=st.none() | st.integers(0, 7),
    measured=st.none() | st.booleans(),
    source=sources,
    scontext=strings,
    tcontext=st.sampled_from(["", "a_t", "u:object_r:x:s0-s1:c0.c3,c7"]),
    lsm=words,
    rule=strings,
    mrenclave=st.just(b"") | st.binary(min_size=32, max_size=32),
    mrsigner=st.just(b"") | st.binary(min_size=32, max_size=32),
    traits=traits,
    denied=st.booleans(),
    permissive=st.booleans(),
    errno=st.sampled_from(["", "EACCES", "EPERM"]),
    reason=strings,
)
identities = st.integers(0, 2**32 - 1)
records: st.SearchStrategy[Record] = (
    decisions
    | st.builds(
        PolicyLoad,
        lsm=words,
        name=strings,
        version=strings,
        digest=digests,
        loaded=st.booleans(),
        auid=identities,
        ses=identities,
    )
    | st.builds(
        ModeChange, lsm=words, enforcing=st.booleans(), was=st.booleans(), auid=identities, ses=identities
    )
)


@given(st.lists(records, max_size=4))
def test_what_was_written_is_read_back(written: list[Record]) -> None:
    events = [Event(number, MOMENT, record) for number, record in enumerate(written, 1)]
    text = "".join(event.text() for event in events)
    assert text.isascii()
    assert read_events(text) == events


@given(decisions, st.data())
def test_cut_record_is_never_taken_for_a_whole_one(decision: Decision, data: st.DataObject) -> None:
    text = Event(1, MOMENT, decision).text().rstrip("\n")
    keep = data.draw(st.integers(1, len(text) - 1))
    cut = text[:keep]
    try:
        events = read_events(cut)
    except AuditSyntaxError:
        return
    # Only the very last word can be cut so that what is left is a word too.
    assert "\n" in cut
    assert text[keep:].count(" ") == 0
    assert len(events) == 1


# ---- what is whole among what is not --------------------------------------------------------------------------------


def test_sifting_tells_each_damage_and_keeps_what_is_whole() -> None:
    whole = [Event(number, MOMENT, REFUSAL) for number in (1, 2, 3)]
    lines = "".join(event.text() for event in whole).splitlines()
    lines[2] = lines[2].replace("pid=711", "pid=x")
    lines[5] = lines[5][:80]
    events, errors = sift_events("\n".join([*lines, "nonsense"]), "log")
    assert events == [whole[0]]
    assert [(error.line, error.column) for error in errors] == [(3, 75), (6, 75), (7, 1)]


def test_line_that_is_there_twice_costs_no_event() -> None:
    first, second = Event(7, MOMENT, REFUSAL).text().splitlines()
    events, errors = sift_events(f"{first}\n{first}\n{second}\n")
    assert events == [Event(7, MOMENT, REFUSAL)]
    assert [str(error) for error in errors] == ["-:2:1: a second AVC line has the serial 7"]
