"""Rules on what an enclave is and who signed it, in the shape of IPE's policies.

::

    policy_name=acme policy_version=1.0.0
    DEFAULT op=ENCLAVE_INIT action=DENY
    op=ENCLAVE_INIT mrsigner=sha256:<64 hex> isvprodid=7 isvsvn>=3 debug=FALSE action=ALLOW

The first rule that matches decides, then the DEFAULT of its operation. An operation of which the file says nothing is
none of its business.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from swsgx.lsm.policy.errors import Problems
from swsgx.lsm.policy.lines_syntax import Line, Pair, parse_identity
from swsgx.lsm.policy.ordered import Condition, Ordered
from swsgx.lsm.policy.source import Rule, Source, Word, word
from swsgx.lsm.policy.values import Key, Reader, digest, flag, known_as, name, number

__all__ = [
    "GRANTS",
    "KEYS",
    "OPERATIONS",
    "IdentityFacts",
    "IdentityRule",
    "IdentityStore",
    "compare_versions",
    "compile_identity",
]

_INIT, _CREATE, _PROVISION, _DEBUG = "ENCLAVE_INIT", "ENCLAVE_CREATE", "ENCLAVE_PROVISION", "ENCLAVE_DEBUG"
#: What a rule may give an enclave.
GRANTS = ("execdirty", "mapwx", "augexec", "execanon", "execunmr", "modtype")
_SUBJECT = ("uid", "subj_type")
_ENCLAVE = ("debug", "provision_key", "xfrm", "miscselect")
_IDENTITY = ("mrenclave", "mrsigner", "isvprodid", "isvsvn")
#: Operations, and what is known when each is judged.
OPERATIONS = {
    _INIT: (*_IDENTITY, "sigstruct", *_ENCLAVE, "unmeasured_exec", *_SUBJECT),
    _CREATE: ("size", *_ENCLAVE, *_SUBJECT),
    _PROVISION: (*_ENCLAVE, *_SUBJECT),
    _DEBUG: (*_IDENTITY, "write", *_SUBJECT),
}
_ORDERED = ("=", ">=", "<=")


def _grants(value: str) -> tuple[str, ...]:
    words = value.split(",")
    if len({*words}) != len(words) or not {*words} <= {*GRANTS}:
        raise ValueError(f"{', '.join(GRANTS)}, each once, with commas between them")
    return tuple(words)


#: All keys of a rule.
KEYS = {
    "op": Key(known_as(*OPERATIONS)),
    "action": Key(known_as("ALLOW", "DENY")),
    "grant": Key(_grants),
    "label": Key(name),
    "mrenclave": Key(digest),
    "mrsigner": Key(digest),
    "sigstruct": Key(digest),
    "isvprodid": Key(number(16), _ORDERED),
    "isvsvn": Key(number(16), _ORDERED),
    "debug": Key(flag),
    "provision_key": Key(flag),
    "unmeasured_exec": Key(flag),
    "write": Key(flag),
    "xfrm": Key(number(64)),
    "miscselect": Key(number(32)),
    "size": Key(number(64), _ORDERED),
    "uid": Key(number(32), _ORDERED),
    "subj_type": Key(name),
}
_RESULTS = ("op", "action", "grant", "label")
_VERSION = re.compile(r"[0-9]{1,5}(\.[0-9]{1,5}){2}")
_ANCHORS = (
    ("mrenclave",),
    ("sigstruct",),
    ("mrsigner", "isvprodid"),
    ("mrsigner",),
    ("subj_type",),
    ("uid",),
    ("isvprodid",),
    ("xfrm",),
    ("size",),
    ("miscselect",),
    ("isvsvn",),
    ("op",),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityFacts:
    """What is known when an operation is judged. None is not known, and no condition holds for it.

    A rule that denies would then be passed over like any other, so whoever enforces a policy gives all facts of the
    operation: :attr:`unknown` is empty.

    Attributes:
        op: one of :data:`OPERATIONS`.
        mrenclave, mrsigner: 32 bytes each.
        sigstruct: SHA-256 of the SIGSTRUCT.
        isvprodid, isvsvn: of the SIGSTRUCT.
        debug, provision_key: attributes of the enclave.
        xfrm, miscselect: of the SECS.
        unmeasured_exec: the enclave has executable pages that were not measured.
        size: of the enclave, in bytes.
        write: a debugger writes.
        uid, subj_type: of the caller.
    """

    op: str
    mrenclave: bytes | None = None
    mrsigner: bytes | None = None
    sigstruct: bytes | None = None
    isvprodid: int | None = None
    isvsvn: int | None = None
    debug: bool | None = None
    provision_key: bool | None = None
    xfrm: int | None = None
    miscselect: int | None = None
    unmeasured_exec: bool | None = None
    size: int | None = None
    write: bool | None = None
    uid: int | None = None
    subj_type: str | None = None

    @property
    def unknown(self) -> tuple[str, ...]:
        """The facts that rules of this operation may ask for, and that are not known."""
        return tuple(key for key in OPERATIONS[self.op] if getattr(self, key) is None)


@dataclass(frozen=True, slots=True, eq=False)
class IdentityRule:
    """One line.

    Attributes:
        rule: where it stands, and its text.
        allow: what it says.
        default: it is a DEFAULT.
        grants: permissions that the enclave gets on itself.
        label: the enclave's type; None: as type enforcement says.
        conditions: when it matches.
    """

    rule: Rule
    allow: bool
    default: bool = False
    grants: tuple[str, ...] = ()
    label: str | None = None
    conditions: tuple[Condition, ...] = ()


class IdentityStore:
    """A compiled identity policy.

    Attributes:
        name, version: of the header.
        header: where they stand.
        rules: in their order, without the defaults.
        defaults: by operation.
    """

    def __init__(self) -> None:
        self.name = self.version = ""
        self.header: Rule | None = None
        self.rules: Ordered[IdentityRule] = Ordered(_ANCHORS)
        self.defaults: dict[str, IdentityRule] = {}

    def decide(self, facts: IdentityFacts) -> IdentityRule | None:
        """The rule that decides; None if the policy says nothing of the operation."""
        default = self.defaults.get(facts.op)
        if default is None:
            return None
        return self.rules.first(facts) or default


def compare_versions(one: str, other: str) -> int:
    """-1, 0 or 1: ``one`` is older than, the same as, newer than ``other``. Numbers with dots between them."""
    a, b = ([int(part) for part in version.split(".")] for version in (one, other))
    a += [0] * (len(b) - len(a))
    b += [0] * (len(a) - len(b))
    return (a > b) - (a < b)


def compile_identity(source: Source, problems: Problems) -> IdentityStore:
    """The store of one file; it is of no use if anything was added to ``problems``."""
    compiler = _Compiler(source, problems)
    for line, statement in enumerate(parse_identity(source, problems)):
        compiler.line(statement.value, Rule(source, statement.start, statement.end), line == 0)
    compiler.finish()
    return compiler.store


class _Compiler(Reader):
    def __init__(self, source: Source, problems: Problems) -> None:
        super().__init__(source, problems, KEYS)
        self.store = IdentityStore()
        self.headed = False
        #: The first rule of each operation, and the default for those that have none of their own.
        self.used: dict[str, Word] = {}
        self.common: IdentityRule | None = None

    def line(self, line: Line, rule: Rule, first: bool) -> None:
        is_header = line.first is None and line.pairs[0].key in ("policy_name", "policy_version")
        if first and not is_header:
            expected = "policy_name=NAME policy_version=1.0.0"
            self.problem(
                word("", rule.start), "a policy begins with its header", expected, found="another line"
            )
        if is_header:
            self.header(line, rule, first)
        elif line.first is not None:
            self.default(line, rule)
        else:
            self.rule(line, rule)

    def header(self, line: Line, rule: Rule, first: bool) -> None:
        if not first:
            self.problem(line.pairs[0].key, "a policy has one header, as its first line", "no other")
            return
        expected = ("policy_name", "policy_version")
        if tuple(map(str, (pair.key for pair in line.pairs))) != expected or any(
            pair.operator != "=" for pair in line.pairs
        ):
            self.problem(
                line.pairs[0].key,
                "a header has a name and a version",
                " ".join(f"{key}=..." for key in expected),
            )
            return
        version = line.pairs[1].plain
        if not _VERSION.fullmatch(version):
            self.problem(version, "a version has three numbers", "a version such as 1.0.0")
            return
        self.store.name, self.store.version = str(line.pairs[0].plain), str(version)
        self.store.header = rule

    def default(self, line: Line, rule: Rule) -> None:
        values = self.values(line, ("op", "action"))
        if values is None:
            return
        if "action" not in values:
            self.problem(line.pairs[-1].key, "a DEFAULT has an action", "action=ALLOW or action=DENY")
            return
        made = IdentityRule(rule, values["action"][0][1] == "ALLOW", True)
        op = values["op"][0][1] if "op" in values else None
        before = self.common if op is None else self.store.defaults.get(op)
        if before is not None:
            self.problem(line.pairs[0].key, "a DEFAULT is there once", "another", other=before.rule.place)
        elif op is None:
            self.common = made
        else:
            self.store.defaults[op] = made

    def rule(self, line: Line, rule: Rule) -> None:
        first, last = line.pairs[0], line.pairs[-1]
        if first.key != "op":
            if first.key in self.keys:
                self.problem(first.key, "a rule begins with its operation", "op=...")
            else:
                self.problem(first.key, "a key is known", "op=..., which a rule begins with")
            return
        keys = OPERATIONS.get(first.plain, ())
        values = self.values(line, (*_RESULTS, *keys) if keys else tuple(self.keys))
        if values is None:
            return
        if last.key != "action":
            self.problem(last.key, "a rule ends with its action", "action=ALLOW or action=DENY")
            return
        self.used.setdefault(str(first.plain), first.value)
        allow = values["action"][0][1] == "ALLOW"
        for key in ("grant", "label"):
            if key in values and (not allow or first.plain != _INIT):
                self.problem(
                    values[key][0][0].key,
                    "only a rule that allows ENCLAVE_INIT gives something",
                    "no such key",
                )
                return
        results: dict[str, list[tuple[Pair, object]]] = {
            k: values.pop(k) for k in _RESULTS[1:] if k in values
        }
        conditions = self.conditions(values)
        if conditions is None:
            return
        grants = results["grant"][0][1] if "grant" in results else ()
        label = results["label"][0][1] if "label" in results else None
        made = IdentityRule(
            rule,
            allow,
            False,
            grants if isinstance(grants, tuple) else (),
            label if isinstance(label, str) else None,
            conditions,
        )
        earlier = self.store.rules.add(made)
        if earlier is not None:
            self.problem(
                first.key,
                "a rule can be reached",
                "something that the earlier rule does not take",
                found="nothing that is left for it",
                other=earlier.rule.place,
            )

    def finish(self) -> None:
        if self.common is not None:
            for op in OPERATIONS:
                self.store.defaults.setdefault(op, self.common)
        if self.problems.found:
            return
        for op, at in {_INIT: word("", 0), **self.used}.items():
            if op not in self.store.defaults:
                self.problem(
                    at, "each operation has a DEFAULT", f"DEFAULT op={op} action=...", found=f"none for {op}"
                )
