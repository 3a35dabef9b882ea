"""``swsgx policy``: mistakes with their lines, answers with their rules, assertions with a status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.make.command import Command

MRSIGNER = "2a9c0b8f7e6d5c4b3a29180706f5e4d3c2b1a0f9e8d7c6b5a49382716f5e4d3c"


@pytest.fixture
def acme(checkout: Path) -> list[Path]:
    """The example policy."""
    return [checkout / f"examples/policies/acme.{kind}" for kind in ("te", "identity", "integrity")]


def test_check_lists_what_it_read(swsgx: Command, acme: list[Path]) -> None:
    ran = swsgx("policy", "check", *acme)
    assert (ran.status, ran.err) == (0, "")
    assert [line.split()[1:4] for line in ran.out.splitlines()[1:]] == [
        ["te", "acme", "1.0"],
        ["identity", "acme", "1.0.0"],
        ["integrity", "acme", "5"],
    ]


def test_check_tells_each_mistake_with_its_line_and_a_caret(swsgx: Command) -> None:
    Path("x.te").write_text("policy_module(m, 1)\ntype a\nallow a b : enclave use;\n")
    ran = swsgx("policy", "check", "x.te")
    assert ran.refusal == "swsgx policy: x.te: 3 mistakes"
    lines = ran.out.splitlines()
    assert lines[0].startswith("x.te:2:7: syntax: found the end of the statement, expected ")
    assert lines[1:3] == ["    type a", " " * 10 + "^"]
    assert lines[3].startswith("x.te:3:7: ")


def test_check_gives_json(swsgx: Command, acme: list[Path]) -> None:
    told = json.loads(swsgx("policy", "check", "--json", *acme).out)
    assert [file["kind"] for file in told["files"]] == ["te", "identity", "integrity"]
    assert len(told["files"][0]["digest"]) == 64


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"\xff", b"\x7fELF" + bytes(100), b"{" * 100_000, b"policy_module(" * 9999]
)
@pytest.mark.parametrize("command", ["check", "explain", "test"])
def test_what_is_no_policy_is_one_line_on_stderr(swsgx: Command, command: str, data: bytes) -> None:
    Path("bad").write_bytes(data)
    ran = swsgx("policy", command, "bad", *(["--op", "ENCLAVE_INIT"] if command == "explain" else []))
    if command == "test" and data == b"":
        assert ran.out == "0 assertions hold\n"
    else:
        assert ran.refusal.startswith("swsgx policy: bad: ")


def test_a_file_that_cannot_be_read_is_named(swsgx: Command) -> None:
    assert "nothere: No such file" in swsgx("policy", "check", "nothere").refusal
    assert "Is a directory" in swsgx("policy", "check", ".").refusal


def test_names_of_files_do_not_break_the_output(swsgx: Command) -> None:
    Path("a\nb\x1b[31m").write_text("hello")
    ran = swsgx("policy", "check", "a\nb\x1b[31m")
    assert "\x1b" not in ran.refusal + ran.out
    assert len(ran.out.splitlines()) == 3


def test_explain_names_the_rule_that_allows(swsgx: Command, acme: list[Path]) -> None:
    words = ["--subject-exe", "/opt/acme/bin/app", "--target-type", "acme_encl_t", "--permission", "use"]
    ran = swsgx("policy", "explain", *acme, *words)
    assert (ran.status, ran.err) == (0, "")
    first, subject, rule = ran.out.splitlines()
    assert first.split() == ["allow", "app_t", "acme_encl_t", ":", "enclave", "use"]
    assert 'acme.te:14: subjcon exe "/opt/acme/bin/app" app_t' in subject
    assert "acme.te:27: allow app_t" in rule


def test_explain_of_a_refusal_is_status_1_and_says_what_there_is(swsgx: Command, acme: list[Path]) -> None:
    words = [
        "--subject-type",
        "builder_t",
        "--target-file",
        "/opt/acme/lib/x.signed.so",
        "--permission",
        "execmod",
    ]
    ran = swsgx("policy", "explain", *acme, *words)
    assert (ran.status, ran.err) == (1, "")
    assert ran.out.startswith("deny")
    assert "it has load execute" in ran.out


def test_explain_without_a_permission_tells_all(swsgx: Command, acme: list[Path]) -> None:
    ran = swsgx("policy", "explain", *acme, "--subject-type", "jit_encl_t")
    assert [line.split()[-1] for line in ran.out.splitlines() if line.startswith("allow")] == [
        "execdirty",
        "execanon",
    ]
    assert swsgx("policy", "explain", *acme, "--subject-type", "lab_code_t").status == 1


def test_explain_asks_the_identity_policy(swsgx: Command, acme: list[Path]) -> None:
    facts = [
        "--mrsigner",
        MRSIGNER,
        "--fact",
        "isvprodid=7",
        "--fact",
        "debug=FALSE",
        "--fact",
        "unmeasured_exec=FALSE",
    ]
    ran = swsgx("policy", "explain", *acme, "--op", "ENCLAVE_INIT", *facts, "--fact", "isvsvn=3")
    assert ran.status == 0
    assert ran.out.startswith("ALLOW")
    assert "matched isvsvn=3" in ran.out
    ran = swsgx("policy", "explain", *acme, "--op", "ENCLAVE_INIT", *facts, "--fact", "isvsvn=2")
    assert ran.status == 1
    assert "DEFAULT op=ENCLAVE_INIT action=DENY" in ran.out


def test_explain_takes_facts_from_a_sigstruct(swsgx: Command, enclave: Path, key: Path) -> None:
    words = ["--isvprodid", "7", "--isvsvn", "4", "--debug", "forbid"]
    assert swsgx("sign", enclave, "-k", key, "-o", "o.sig", *words).status == 0
    signer = json.loads(swsgx("verify", "o.sig", "--json").out)["mrsigner"]
    Path("p").write_text(
        "policy_name=p policy_version=1.0.0\nDEFAULT op=ENCLAVE_INIT action=DENY\n"
        f"op=ENCLAVE_INIT mrsigner=sha256:{signer} isvprodid=7 isvsvn>=4 debug=FALSE action=ALLOW\n"
    )
    assert swsgx("policy", "explain", "p", "--op", "ENCLAVE_INIT", "--sigstruct", "o.sig").status == 0
    words = ["--sigstruct", "o.sig", "--fact", "isvsvn=3"]
    assert swsgx("policy", "explain", "p", "--op", "ENCLAVE_INIT", *words).status == 1


def test_explain_asks_the_integrity_policy(swsgx: Command, acme: list[Path]) -> None:
    ran = swsgx(
        "policy", "explain", *acme, "--func", "ENCLAVE_LOAD", "--fact", "obj_type=lab_code_t", "--json"
    )
    assert ran.status == 0
    measure, appraise = json.loads(ran.out)["answers"]
    assert (measure["verdict"], measure["rule"]["line"]) == ("dont_measure", 2)
    assert (appraise["verdict"], appraise["rule"]) == ("dont_appraise", None)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--subject-type", "nobody", "--permission", "use"),
        ("--subject-type", "nobody"),
        ("--subject-type", "app_t", "--permission", "fly"),
        ("--subject-type", "app_t", "--target-type", "app_t", "--target-file", "/x"),
        ("--op", "ENCLAVE_EXIT"),
        ("--op", "ENCLAVE_INIT", "--fact", "colour=red"),
        ("--op", "ENCLAVE_INIT", "--fact", "isvsvn=x"),
        ("--op", "ENCLAVE_INIT", "--fact", "isvsvn"),
        ("--op", "ENCLAVE_INIT", "--mrenclave", "00"),
        ("--op", "ENCLAVE_INIT", "--func", "ENCLAVE_INIT"),
        ("--func", "ENCLAVE_EXIT"),
    ],
)
def test_a_question_that_makes_no_sense_is_status_2(
    swsgx: Command, acme: list[Path], words: tuple[str, ...]
) -> None:
    assert swsgx("policy", "explain", *acme, *words).status == 2


@pytest.mark.parametrize(
    "words", [("--subject-type", "a"), ("--op", "ENCLAVE_INIT"), ("--func", "ENCLAVE_INIT")]
)
def test_a_question_to_a_kind_that_is_not_there_is_status_2(swsgx: Command, words: tuple[str, ...]) -> None:
    text = "policy_name=p policy_version=1.0.0\nDEFAULT op=ENCLAVE_INIT action=DENY"
    Path("p").write_text("measure" if "--op" in words else text)
    assert "no FILE is of that kind" in swsgx("policy", "explain", "p", *words).refusal


def test_assertions_that_hold_are_status_0(swsgx: Command, checkout: Path) -> None:
    ran = swsgx("policy", "test", checkout / "examples/policies/acme.test")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.endswith(" assertions hold\n")


def test_an_assertion_that_does_not_hold_is_shown_with_what_is_so(swsgx: Command, acme: list[Path]) -> None:
    Path("x.test").write_text(
        "policy nothere\nexpect deny builder_t acme_code_t load\nexpect deny app_t app_t use\n"
    )
    ran = swsgx("policy", "test", "x.test", *acme)
    assert ran.refusal == "swsgx policy: x.test: 1 of 2 assertions do not hold"
    first, second = ran.out.splitlines()
    assert first == "x.test:2: expect deny builder_t acme_code_t load"
    assert second.startswith("    found: load: allow, by ")


def test_help_names_the_commands(swsgx: Command) -> None:
    ran = swsgx("policy", "--help")
    assert all(word in ran.out for word in ("check", "explain", "test"))
    assert swsgx("policy", "nonsense").status == 2
