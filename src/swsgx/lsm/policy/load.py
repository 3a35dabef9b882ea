"""Policy files of all three kinds, read together: what each is, whether they fit, and what they compile to."""

from __future__ import annotations

import gc
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from swsgx.lsm.policy.errors import PolicyError, Problem, Problems
from swsgx.lsm.policy.identity import IdentityStore, compare_versions, compile_identity
from swsgx.lsm.policy.integrity import IntegrityStore, compile_integrity
from swsgx.lsm.policy.lines_syntax import ACTIONS
from swsgx.lsm.policy.source import Rule, Source
from swsgx.lsm.policy.te import TeStore
from swsgx.lsm.policy.te_compile import compile_te
from swsgx.lsm.policy.te_syntax import KEYWORDS, Module, parse_te

__all__ = ["KINDS", "PolicyFile", "PolicySet", "check_reload", "kind_of", "load", "parse"]

#: The three kinds of files.
KINDS = ("te", "identity", "integrity")
_FIRST = re.compile(r"(?:\s|#[^\n]*)*([^\s#]+)")
_WORD = re.compile(r"[A-Za-z_]+")
_IDENTITY_WORDS = frozenset({"policy_name", "policy_version", "DEFAULT", "op"})
#: What a line of IMA's own policies may begin with besides.
_IMA_WORDS = frozenset({*ACTIONS, "audit", "dont_audit", "hash", "dont_hash"})


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """A file that was loaded, for audit.

    Attributes:
        path: as it was given.
        kind: one of :data:`KINDS`.
        name, version: as the file says; an integrity policy has its file's name, and no version.
        digest: SHA-256 of its bytes.
        rule_count: rules in it: for ``te`` all statements.
    """

    path: str
    kind: str
    name: str
    version: str
    digest: bytes
    rule_count: int


@dataclass(frozen=True, slots=True)
class PolicySet:
    """What was loaded; None where there was no file of a kind.

    Attributes:
        te, identity, integrity: the compiled policies.
        files: all files, in the order they were given.
    """

    te: TeStore | None
    identity: IdentityStore | None
    integrity: IntegrityStore | None
    files: tuple[PolicyFile, ...]


def load(paths: Sequence[str]) -> PolicySet:
    """Read and check files together.

    Raises:
        OSError: one cannot be read.
        PolicyError: anything is wrong with any of them.
    """
    sources, problems = [], Problems()
    for path in paths:
        try:
            sources.append(Source.read(path))
        except PolicyError as error:
            problems.found.extend(error.problems)
    problems.check()
    return parse(sources)


def parse(sources: Sequence[Source]) -> PolicySet:
    """Check files together that are in memory.

    Raises:
        PolicyError: anything is wrong with any of them.
    """
    # All that is made here stays. Looking for garbage among it, again and again as it grows, takes longer than loading.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _parse(sources)
    finally:
        if collecting:
            gc.enable()


def _parse(sources: Sequence[Source]) -> PolicySet:
    problems = Problems()
    by_kind: dict[str, list[Source]] = {kind: [] for kind in KINDS}
    for source in sources:
        kind = kind_of(source)
        if isinstance(kind, Problem):
            problems.add(kind)
        else:
            by_kind[kind].append(source)
    parsed = [(source, parse_te(source, problems)) for source in by_kind["te"]]
    te = compile_te(parsed, problems) if parsed else None
    identity = None
    for source in by_kind["identity"]:
        if identity is not None:
            first = by_kind["identity"][0].place(0)
            problems.add(
                source.problem(
                    0, "one identity policy is loaded", found="a second one", expected="none", other=first
                )
            )
            break
        identity = compile_identity(source, problems)
    integrity = compile_integrity(by_kind["integrity"], problems) if by_kind["integrity"] else None
    if te is not None and not problems.found:
        _check_types(te, identity, integrity, problems)
    problems.check()
    files = []
    for source in sources:
        if source in by_kind["te"]:
            statements = next(statements for other, statements in parsed if other is source)
            module = next(s.value for s in statements if isinstance(s.value, Module))
            said = ("te", str(module.name), str(module.version), len(statements) - 1)
        elif identity is not None and source in by_kind["identity"]:
            said = ("identity", identity.name, identity.version, len(identity.rules))
        else:
            rules = integrity.rules.values() if integrity is not None else ()
            count = sum(rule.rule.source is source for ordered in rules for rule in ordered)
            said = ("integrity", PurePath(source.name).stem, "", count)
        kind, name, version, count = said
        files.append(PolicyFile(source.name, kind, name, version, source.digest, count))
    return PolicySet(te, identity, integrity, tuple(files))


def kind_of(source: Source) -> str | Problem:
    """Which of the three kinds a file is, by its first word that is no comment; or why it is none."""
    match = _FIRST.match(source.text)
    if match is None:
        return source.problem(0, "a policy says something", found="nothing", expected="a statement")
    word = _WORD.match(match[1])
    first = word[0] if word is not None else ""
    if first in _IMA_WORDS:
        return "integrity"
    if first in _IDENTITY_WORDS:
        return "identity"
    if first in KEYWORDS:
        return "te"
    expected = f"policy_module(NAME, VERSION), policy_name=NAME policy_version=1.0.0, or {', '.join(ACTIONS)}"
    found = f"'{match[1]}'" if match[1].isprintable() else repr(match[1])
    return source.problem(match.start(1), "a file begins like a policy", found=found, expected=expected)


def _check_types(
    te: TeStore, identity: IdentityStore | None, integrity: IntegrityStore | None, problems: Problems
) -> None:
    """Types that the other kinds name are declared."""

    def check(rule: Rule, key: str, name: str | None) -> None:
        if name is None or name in te.types:
            return
        at = re.search(rf"\b{key}=", rule.source.text[rule.start : rule.end])
        start = rule.start + (at.end() if at is not None else 0)
        problems.add(
            rule.source.problem(start, "a type is declared", found=f"'{name}'", expected="a declared type")
        )

    if identity is not None:
        for rule in identity.rules:
            check(rule.rule, "label", rule.label)
            for condition in rule.conditions:
                if condition.key == "subj_type":
                    check(rule.rule, condition.key, condition.low)
    for ordered in integrity.rules.values() if integrity is not None else ():
        for line in ordered:
            for condition in line.conditions:
                if condition.key in ("obj_type", "subj_type"):
                    check(line.rule, condition.key, condition.low)


def check_reload(old: PolicySet, new: PolicySet) -> None:
    """An identity policy may not go back to an older version of itself, so that a mended mistake stays mended.

    Raises:
        PolicyError: it does.
    """
    before, after = old.identity, new.identity
    if before is None or after is None or before.name != after.name or after.header is None:
        return
    if compare_versions(after.version, before.version) < 0:
        header = after.header
        other = before.header.place if before.header is not None else None
        at = header.source.text.index("policy_version=", header.start) + len("policy_version=")
        expected = f"{before.version}, which is loaded, or newer"
        rule = "a version does not go backwards"
        raise PolicyError(
            (header.source.problem(at, rule, found=after.version, expected=expected, other=other),)
        )
