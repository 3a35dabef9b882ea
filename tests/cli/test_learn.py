"""``swsgx policy learn`` and ``swsgx policy explain --record``: output, status, damaged logs, hostile strings."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from swsgx.lsm.audit import Decision, Event, ModeChange, PolicyLoad, Record, Source, Traits
from tests.make.command import Command

TE = """policy_module(acme, 1.0)
type builder_t; type code_t;
subjcon exe "/opt/bin/builder" builder_t
filecon "/opt/lib/.*" code_t
allow builder_t sgx_device_t : enclave open;
neverallow * self : enclave mapwx;
"""
IDENTITY = "policy_name=acme policy_version=1.0.0\nDEFAULT op=ENCLAVE_INIT action=DENY\n"
LOAD = Decision(
    hook="load",
    permissions=("load", "execute"),
    pid=7,
    comm="builder",
    exe="/opt/bin/builder",
    maxprot=5,
    source=Source(kind="file", path="/opt/lib/a.so", inode=5, offset=0),
    scontext="builder_t",
    tcontext="code_t",
    lsm="te",
    errno="EACCES",
)
REFUSED = replace(
    LOAD, hook="init", permissions=("init",), lsm="identity", mrenclave=bytes(32), rule="a.identity:2"
)
HOSTILE = '\x1b]0;owned\x07\u202e"; allow * * : enclave *; "\n'


def log(*records: Record) -> str:
    return "".join(
        Event(number, 1_700_000_000_000 + 1000 * number, record).text()
        for number, record in enumerate(records, 1)
    )


@pytest.fixture
def files(swsgx: Command) -> Command:
    """The command, in a folder with ``a.te``, ``a.identity`` and ``log``."""
    Path("a.te").write_text(TE)
    Path("a.identity").write_text(IDENTITY)
    Path("log").write_text(log(LOAD, REFUSED))
    return swsgx


# ---- learn -----------------------------------------------------------------------------------------------------------


def test_learn_prints_a_file_of_type_enforcement(files: Command) -> None:
    ran = files("policy", "learn", "log", "--policy", "a.te", "--policy", "a.identity")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out == (
        "# Candidates from 2 refusals in log.\n"
        "# Read each before you load it: who wrote this are the programs that it is to confine.\n"
        "# There are candidates of --kind identity besides, and these may need them.\n"
        "policy_module(learned, 1.0)\n"
        "\n"
        "# What is allowed.\n"
        "# 1 record, 2023-11-14 22:13:21\n"
        "# load of /opt/lib/a.so by /opt/bin/builder\n"
        "allow builder_t code_t : enclave { load execute };\n"
    )


def test_what_learn_prints_passes_check_and_then_there_is_nothing_to_learn(files: Command) -> None:
    policies = ["--policy", "a.te", "--policy", "a.identity"]
    for kind in ("te", "identity"):
        Path(f"new.{kind}").write_text(files("policy", "learn", "log", *policies, "--kind", kind).out)
    assert files("policy", "check", "a.te", "new.te", "new.identity").status == 0
    policies = ["--policy", "a.te", "--policy", "new.te", "--policy", "new.identity"]
    assert "There is nothing to propose." in files("policy", "learn", "log", *policies).out
    assert files("policy", "explain", "a.te", "new.te", "new.identity", "--record", "log").status == 0


def test_learn_reads_standard_input(files: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(log(LOAD).encode())))
    ran = files("policy", "learn", "-", "--policy", "a.te")
    assert ran.status == 0
    assert "allow builder_t code_t : enclave { load execute };\n" in ran.out


def test_learn_tells_damaged_lines_uses_the_others_and_says_so_in_its_status(files: Command) -> None:
    text = log(REFUSED, LOAD, REFUSED).replace("pid=7", "pid=x", 1)
    Path("log").write_text(text[: text.rindex("errno=")] + "\n\x1b[31mgarbage\n")
    ran = files("policy", "learn", "log", "--policy", "a.te")
    assert ran.out.startswith("# damaged: log:1:71: x is no value of pid=\n")
    assert "# damaged: log:7:1: expected type=... msg=audit(SECONDS.MILLISECONDS:SERIAL):\n" in ran.out
    assert "allow builder_t code_t : enclave { load execute };\n" in ran.out
    assert ran.refusal.startswith("swsgx policy: log:1:71: x is no value of pid= (and 2 more); ")


def test_learn_of_a_log_of_garbage_is_one_line_and_no_traceback(files: Command) -> None:
    Path("log").write_bytes(bytes(range(256)) * 40)
    ran = files("policy", "learn", "log")
    assert "damaged: 20 more" not in ran.out
    assert all(c.isprintable() or c == "\n" for c in ran.out + ran.refusal)


def test_learn_of_a_log_that_is_not_there(files: Command) -> None:
    assert "missing: No such file or directory" in files("policy", "learn", "missing").refusal


def test_learn_with_a_policy_that_is_wrong_shows_its_mistakes(files: Command) -> None:
    Path("a.te").write_text("policy_module(a, 1)\ntype a\n")
    ran = files("policy", "learn", "log", "--policy", "a.te")
    assert ran.out.startswith("a.te:2:")
    assert "1 mistake" in ran.refusal


@pytest.mark.parametrize("kind", ["te", "identity", "integrity"])
def test_what_programs_call_themselves_does_not_reach_the_terminal(files: Command, kind: str) -> None:
    path = f"/srv/{HOSTILE}.so"
    new: dict[str, Any] = {
        "exe": f"/opt/{HOSTILE}",
        "comm": HOSTILE,
        "scontext": "unlabeled_t",
        "tcontext": "unlabeled_t",
    }
    source = Source(kind="file", path=path, offset=0)
    records = [replace(LOAD, **new, source=source), replace(LOAD, **new, source=source, lsm="integrity")]
    records += [replace(REFUSED, **new, source=source, rule=HOSTILE), replace(REFUSED, scontext=HOSTILE)]
    Path("log").write_text(log(*records))
    for ran in (
        files("policy", "learn", "log", "--kind", kind, "--policy", "a.te", "--policy", "a.identity"),
        files("policy", "explain", "a.te", "a.identity", "--record", "log"),
        files("policy", "explain", "a.te", "a.identity", "--record", "log", "--json"),
    ):
        assert all(c.isprintable() or c == "\n" for c in ran.out + ran.err)
    learned = files("policy", "learn", "log", "--policy", "a.te").out
    assert not [line for line in learned.splitlines() if line.startswith("allow *")]


# ---- explain --record ------------------------------------------------------------------------------------------------


def test_explain_record_tells_the_missing_rule_and_what_would_allow_it(files: Command) -> None:
    Path("log").write_text(log(replace(LOAD, permissions=("execute",))))
    ran = files("policy", "explain", "a.te", "--record", "log")
    assert (ran.status, ran.err) == (1, "")
    assert ran.out == (
        "event 1, 2023-11-14 22:13:21: te refused execute (load)\n"
        "              pid=7\n"
        "              exe=/opt/bin/builder\n"
        "              scontext=builder_t\n"
        "              tcontext=code_t\n"
        "              src=file\n"
        "              path=/opt/lib/a.so\n"
        "              maxprot=r-x\n"
        "deny          builder_t code_t : enclave execute\n"
        "              subject is builder_t, by the record's scontext=builder_t\n"
        "              target is code_t, by the record's tcontext=code_t\n"
        "              no rule allows builder_t code_t : enclave execute; it has no permission there at all\n"
        "would allow   allow builder_t code_t : enclave execute;\n"
    )


def test_explain_record_tells_the_rule_with_file_line_and_column(files: Command) -> None:
    ran = files("policy", "explain", "a.identity", "--record", "log")
    assert ran.status == 1
    assert "              the record names a.identity:2:1: DEFAULT op=ENCLAVE_INIT action=DENY\n" in ran.out
    assert "              no rule matches, so the DEFAULT decides\n" in ran.out
    assert f"would allow   op=ENCLAVE_INIT mrenclave=sha256:{'00' * 32} action=ALLOW\n" in ran.out


def test_explain_record_finds_the_rule_by_what_the_record_says_of_the_enclave(files: Command) -> None:
    """By the policy of today, wherever the rule stood that day."""
    Path("a.identity").write_text(
        f"{IDENTITY}op=ENCLAVE_INIT isvprodid=8 action=ALLOW\nop=ENCLAVE_INIT isvprodid=7 uid=1000 action=DENY\n"
    )
    traits = Traits(isvprodid=7, isvsvn=3, debug=False)
    digest = f"sha256:{'5a' * 32}"
    source = replace(LOAD.source, digest=digest)
    Path("log").write_text(log(replace(REFUSED, rule="", uid=1000, traits=traits, source=source)))
    ran = files("policy", "explain", "a.identity", "--record", "log")
    assert ran.status == 1
    for fact in ("uid=1000", f"srcdigest={digest}", "isvprodid=7", "isvsvn=3", "debug=0"):
        assert f"              {fact}\n" in ran.out
    rule = "a.identity:4:1: op=ENCLAVE_INIT isvprodid=7 uid=1000 action=DENY"
    assert f"              by {rule}\n" in ran.out
    assert "does not tell" not in ran.out
    assert f"against it    op=ENCLAVE_INIT mrenclave=sha256:{'00' * 32}" in ran.out


def test_explain_record_of_what_was_granted(files: Command) -> None:
    granted = replace(
        LOAD, hook="open", permissions=("open",), source=Source(), tcontext="sgx_device_t", denied=False
    )
    Path("log").write_text(log(replace(granted, rule="a.te:5", errno="")))
    ran = files("policy", "explain", "a.te", "--record", "log")
    assert ran.status == 0
    assert ran.out.startswith("event 1, 2023-11-14 22:13:21: te granted open (open)\n")
    assert "              by a.te:5:1: allow builder_t sgx_device_t : enclave open;\n" in ran.out
    assert "would allow" not in ran.out


def test_explain_record_says_what_stands_against_a_rule(files: Command) -> None:
    page = replace(
        LOAD, hook="map", permissions=("mapwx",), source=Source(), tcontext="code_t", lsm="page_rules"
    )
    Path("log").write_text(log(page))
    ran = files("policy", "explain", "a.te", "--record", "log")
    assert (
        "against it    allow code_t self : enclave mapwx;: no rule allows what a neverallow forbids: "
        in ran.out
    )
    assert "would allow" not in ran.out


def test_explain_record_says_the_same_once(files: Command) -> None:
    Path("log").write_text(log(LOAD, LOAD))
    lines = files("policy", "explain", "a.te", "--record", "log").out.splitlines()
    assert lines[-1] == "event 2, 2023-11-14 22:13:22: te refused load execute (load), as event 1"


def test_explain_record_of_other_events_and_modules(files: Command) -> None:
    other = replace(LOAD, lsm="no_unmeasured_exec")
    Path("log").write_text(
        log(
            PolicyLoad(lsm="te", name="acme", version="1.0"),
            ModeChange(lsm="te", enforcing=False, was=True),
            other,
        )
    )
    ran = files("policy", "explain", "a.te", "--record", "log")
    assert ran.status == 0
    assert ": te loaded policy acme 1.0\n" in ran.out
    assert ": te became permissive; it was enforcing\n" in ran.out
    assert "no policy file is about it\n" in ran.out


def test_explain_record_in_json(files: Command) -> None:
    ran = files("policy", "explain", "a.te", "--record", "log", "--json")
    event = json.loads(ran.out)["events"][0]
    assert ran.status == 1
    assert [answer["question"] for answer in event["answers"]] == [
        "builder_t code_t : enclave load",
        "builder_t code_t : enclave execute",
    ]
    assert event["would_allow"] == ["allow builder_t code_t : enclave { load execute };"]


def test_explain_record_without_a_record_or_with_damage_is_refused(files: Command) -> None:
    Path("log").write_text("")
    assert "log: there is no audit record" in files("policy", "explain", "a.te", "--record", "log").refusal
    Path("log").write_text(log(LOAD).replace("maxprot=r-x", "maxprot=q"))
    ran = files("policy", "explain", "a.te", "--record", "log")
    assert ran.out.startswith("damaged: log:1:")
    assert "q is no value of maxprot=" in ran.refusal


def test_explain_record_and_another_question_exclude_each_other(files: Command) -> None:
    ran = files("policy", "explain", "a.te", "--record", "log", "--op", "ENCLAVE_INIT")
    assert ran.status == 2


# ---- the reference ---------------------------------------------------------------------------------------------------


def test_what_the_reference_shows_is_what_is_printed(swsgx: Command, checkout: Path) -> None:
    page = (checkout / "docs/policy.md").read_text(encoding="utf-8")
    blocks = dict(re.findall(r"^```(audit|learned|explained)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    shutil.copytree(checkout / "examples/policies", "examples/policies")
    Path("run.audit").write_text(blocks["audit"])
    Path("one.audit").write_text("".join(blocks["audit"].splitlines(keepends=True)[:2]))
    te, identity = (f"examples/policies/acme.{kind}" for kind in ("te", "identity"))
    assert (
        swsgx("policy", "learn", "run.audit", "--policy", te, "--policy", identity).out == blocks["learned"]
    )
    assert swsgx("policy", "explain", te, "--record", "one.audit").out == blocks["explained"]
