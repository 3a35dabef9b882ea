"""Assertions about a policy in a small file, for CI.

::

    policy acme.te acme.identity acme.integrity     # paths from this file's folder

    expect allow builder_t acme_code_t load execute
    expect deny app_t acme_code_t load
    expect type file=/opt/acme/lib/acme.sig acme_sig_t
    expect type exe=/opt/acme/bin/app app_t
    expect transition builder_t acme_sig_t acme_encl_t
    expect ALLOW op=ENCLAVE_INIT mrsigner=sha256:<64 hex> isvprodid=7 isvsvn=3 debug=FALSE unmeasured_exec=FALSE
    expect DENY op=ENCLAVE_INIT debug=TRUE
    expect measure func=ENCLAVE_LOAD mask=MAY_EXEC
    expect dont_measure func=ENCLAVE_LOAD mask=MAY_READ

Words in capitals are those of the identity policy. ``grant=`` and ``label=`` behind ``expect ALLOW`` say what the
enclave gets. A fact that is not given is not known, and no condition on it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from swsgx.lsm.policy.errors import Problems
from swsgx.lsm.policy.lines_syntax import ACTIONS
from swsgx.lsm.policy.load import PolicySet, load
from swsgx.lsm.policy.questions import Answer, FactError, ask_identity, ask_integrity, ask_te, facts_from
from swsgx.lsm.policy.source import Rule, Source

__all__ = ["Outcome", "check_expectations"]

_GIVEN = ("grant", "label")
_FORMS = "allow, deny, type, transition, ALLOW, DENY, " + ", ".join(ACTIONS)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one assertion.

    Attributes:
        rule: where it stands, and its text.
        holds: it is as expected.
        found: what is so instead, with the rule that says so.
    """

    rule: Rule
    holds: bool
    found: str = ""


def check_expectations(path: str, policies: Sequence[str] = ()) -> list[Outcome]:
    """Try all assertions of a file.

    Args:
        path: of the file.
        policies: policy files to use instead of those that the file names.

    Raises:
        OSError: a file cannot be read.
        PolicyError: a policy has mistakes, or the file itself has.
    """
    source, problems = Source.read(path), Problems()
    policy = load(policies) if policies else None
    outcomes: list[Outcome] = []
    start = 0
    for line in source.text.splitlines(keepends=True):
        words = line.split("#")[0].split()
        rule = Rule(source, start, start + len(line.rstrip()))
        start += len(line)
        if not words:
            continue
        try:
            if words[0] == "policy":
                if len(words) == 1:
                    raise FactError("policy names files")
                if not policies:
                    policy = load([str(Path(path).parent / name) for name in words[1:]])
            elif words[0] != "expect" or len(words) < 3:
                raise FactError(f"a line is 'policy FILES' or 'expect WHAT ...', WHAT one of {_FORMS}")
            elif policy is None:
                raise FactError("a 'policy FILES' line comes first")
            else:
                found = _tried(policy, words[1], words[2:])
                outcomes.append(Outcome(rule, found is None, found or ""))
        except FactError as error:
            problems.add(
                source.problem(
                    rule.start, "an assertion can be tried", found=f"'{words[0]}'", expected=str(error)
                )
            )
    problems.check()
    return outcomes


def _tried(policy: PolicySet, what: str, words: Sequence[str]) -> str | None:
    """What is so instead of what was expected; None if it is as expected."""
    if what in ("allow", "deny"):
        return _access(policy, what, words)
    if what == "type":
        return _type(policy, words)
    if what == "transition":
        if policy.te is None or len(words) != 3:
            raise FactError(
                "expect transition SUBJECT_TYPE SIGSTRUCT_TYPE ENCLAVE_TYPE, and type enforcement"
            )
        return _same(words[2], *policy.te.enclave_type(words[0], words[1]))
    if what in ("ALLOW", "DENY"):
        return _identity(policy, what, words)
    if what in ACTIONS:
        if policy.integrity is None:
            raise FactError("an integrity policy")
        facts = facts_from(words, "integrity")
        answer = ask_integrity(policy.integrity, what.removeprefix("dont_"), facts)
        return None if answer.verdict == what else _told(answer)
    raise FactError(f"one of {_FORMS}")


def _access(policy: PolicySet, what: str, words: Sequence[str]) -> str | None:
    if policy.te is None or len(words) < 3:
        raise FactError(f"expect {what} SOURCE_TYPE TARGET_TYPE PERMISSION ..., and type enforcement")
    for permission in words[2:]:
        answer = ask_te(policy.te, words[0], words[1], permission)
        if answer.verdict != what:
            return f"{permission}: {_told(answer)}"
    return None


def _type(policy: PolicySet, words: Sequence[str]) -> str | None:
    if policy.te is None or len(words) != 2:
        raise FactError("expect type file=PATH|exe=PATH|label=LABEL|uid=N TYPE, and type enforcement")
    te = policy.te
    key, _, value = words[0].partition("=")
    ask: dict[str, Callable[[], tuple[str, Rule | None]]] = {
        "file": lambda: te.file_type(value),
        "exe": lambda: te.subject_type(exe=value),
        "label": lambda: te.subject_type(label=value),
        "uid": lambda: te.subject_type(uid=int(value)),
    }
    if key not in ask or (key == "uid" and not (value.isdecimal() and len(value) <= 10)):
        raise FactError("file=PATH, exe=PATH, label=LABEL or uid=N")
    return _same(words[1], *ask[key]())


def _identity(policy: PolicySet, what: str, words: Sequence[str]) -> str | None:
    if policy.identity is None:
        raise FactError("an identity policy")
    given = {word.partition("=")[0]: word.partition("=")[2] for word in words if word.split("=")[0] in _GIVEN}
    facts = facts_from([word for word in words if word.split("=")[0] not in _GIVEN], "identity")
    answer = ask_identity(policy.identity, facts)
    if answer.verdict != what:
        return _told(answer)
    if "grant" in given and {*given["grant"].split(",")} != {*answer.grants}:
        return f"grant={','.join(answer.grants)}; {_told(answer)}"
    if "label" in given and given["label"] != answer.label:
        return f"label={answer.label or ''}; {_told(answer)}"
    return None


def _same(expected: str, found: str, rule: Rule | None) -> str | None:
    if expected == found:
        return None
    return f"{found}, {'by no rule' if rule is None else f'by {rule}'}"


def _told(answer: Answer) -> str:
    by = f"by {answer.rule}" if answer.rule is not None else ""
    return ", ".join(filter(None, [answer.verdict, by, answer.why]))
