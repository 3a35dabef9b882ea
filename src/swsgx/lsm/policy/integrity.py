"""Rules on what is measured and what is appraised, in the shape of IMA's policy.

::

    dont_measure func=ENCLAVE_LOAD obj_type=lab_code_t
    measure func=ENCLAVE_LOAD mask=MAY_EXEC template=encl-load
    appraise func=ENCLAVE_SIGSTRUCT appraise_type=imasig

Of ``measure`` and ``dont_measure`` the first that matches decides, and likewise of ``appraise`` and ``dont_appraise``;
what no rule matches is neither measured nor appraised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from swsgx.lsm.policy.errors import Problems
from swsgx.lsm.policy.lines_syntax import Line, parse_integrity
from swsgx.lsm.policy.ordered import Condition, Ordered
from swsgx.lsm.policy.source import Rule, Source, word
from swsgx.lsm.policy.values import Key, Reader, bits, known_as, name, number

__all__ = [
    "ALGORITHMS",
    "FUNCTIONS",
    "KEYS",
    "IntegrityFacts",
    "IntegrityRule",
    "IntegrityStore",
    "compile_integrity",
]

#: What can be measured, with the template of its entry; None: there is none, it can only be appraised.
FUNCTIONS = {
    "ENCLAVE_LOAD": "encl-load",
    "ENCLAVE_INIT": "encl-init",
    "ENCLAVE_AUG": "encl-aug",
    "ENCLAVE_SIGSTRUCT": None,
}
#: What has a file that can be appraised.
_APPRAISED = ("ENCLAVE_LOAD", "ENCLAVE_SIGSTRUCT")
#: Digests that a signature may be over.
ALGORITHMS = ("sha256", "sha384", "sha512")
_MASKS = {"MAY_READ": 1, "MAY_WRITE": 2, "MAY_EXEC": 4}
_ORDERED = ("=", "<", ">")
_MAX_PCR = 23
_DEFAULT_PCR = 10


def _pcr(value: str) -> int:
    made = number(8)(value)
    if made > _MAX_PCR:
        raise ValueError(f"0 to {_MAX_PCR}")
    return made


def _algorithms(value: str) -> tuple[str, ...]:
    words = value.split(",")
    if len({*words}) != len(words) or not {*words} <= {*ALGORITHMS}:
        raise ValueError(f"{', '.join(ALGORITHMS)}, each once, with commas between them")
    return tuple(words)


#: All keys of a rule.
KEYS = {
    "func": Key(known_as(*FUNCTIONS)),
    "mask": Key(bits(_MASKS), masks=True),
    "obj_type": Key(name),
    "subj_type": Key(name),
    "uid": Key(number(32), _ORDERED),
    "fowner": Key(number(32), _ORDERED),
    "fsname": Key(name),
    "template": Key(known_as(*filter(None, FUNCTIONS.values()))),
    "pcr": Key(_pcr),
    "appraise_type": Key(known_as("imasig")),
    "appraise_algos": Key(_algorithms),
}
_CONDITIONS = ("func", "mask", "obj_type", "subj_type", "uid", "fowner", "fsname")
_OPTIONS = {
    "measure": ("template", "pcr"),
    "dont_measure": (),
    "appraise": ("appraise_type", "appraise_algos"),
    "dont_appraise": (),
}
_ANCHORS = (("obj_type",), ("subj_type",), ("uid",), ("fowner",), ("fsname",), ("func",))


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegrityFacts:
    """What is known when something is to be measured or appraised. None is not known, and no condition holds for it.

    Attributes:
        func: one of :data:`FUNCTIONS`.
        mask: what the pages may become: R 1, W 2, X 4.
        obj_type: of the source file, or of the SIGSTRUCT.
        subj_type, uid: of the caller.
        fowner: uid of the file's owner.
        fsname: kind of the file system.
    """

    func: str
    mask: int | None = None
    obj_type: str | None = None
    subj_type: str | None = None
    uid: int | None = None
    fowner: int | None = None
    fsname: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class IntegrityRule:
    """One line.

    Attributes:
        rule: where it stands, and its text.
        action: its first word.
        conditions: when it matches.
        template: of the entry; empty: the one of what is measured.
        pcr: that is extended.
        signed: a signature is wanted, a digest is not enough.
        algorithms: digests that are good enough; empty: any.
    """

    rule: Rule
    action: str
    conditions: tuple[Condition, ...] = ()
    template: str = ""
    pcr: int = _DEFAULT_PCR
    signed: bool = False
    algorithms: tuple[str, ...] = ()

    @property
    def applies(self) -> bool:
        """Whether it says to do it, rather than not to."""
        return not self.action.startswith("dont_")


class IntegrityStore:
    """A compiled integrity policy.

    Attributes:
        rules: in their order, by ``measure`` and ``appraise``; each has its ``dont_`` rules too.
    """

    def __init__(self) -> None:
        self.rules: dict[str, Ordered[IntegrityRule]] = {
            "measure": Ordered(_ANCHORS),
            "appraise": Ordered(_ANCHORS),
        }

    def decide(self, action: str, facts: IntegrityFacts) -> IntegrityRule | None:
        """The rule that decides about ``measure`` or ``appraise``: it says to, or (``applies`` is False) not to."""
        return self.rules[action].first(facts)


def compile_integrity(sources: Sequence[Source], problems: Problems) -> IntegrityStore:
    """The store of all files, one after the other; it is of no use if anything was added to ``problems``."""
    store = IntegrityStore()
    for source in sources:
        compiler = _Compiler(source, problems, store)
        for statement in parse_integrity(source, problems):
            compiler.line(statement.value, Rule(source, statement.start, statement.end))
    return store


class _Compiler(Reader):
    def __init__(self, source: Source, problems: Problems, store: IntegrityStore) -> None:
        super().__init__(source, problems, KEYS)
        self.store = store

    def line(self, line: Line, rule: Rule) -> None:
        action = str(line.first)
        values = self.values(line, (*_CONDITIONS, *_OPTIONS[action]))
        if values is None:
            return
        func = values["func"][0] if "func" in values else None
        allowed = [f for f in FUNCTIONS if (FUNCTIONS[f] if action.endswith("measure") else f in _APPRAISED)]
        if func is not None and func[1] not in allowed:
            self.problem(func[0].value, f"{action} is about something that can be", " or ".join(allowed))
            return
        if "template" in values:
            pair, template = values["template"][0]
            if func is None or FUNCTIONS[func[1]] != template:
                fitting = next(f for f, own in FUNCTIONS.items() if own == template)
                self.problem(pair.value, "a template fits what is measured", f"it with func={fitting} only")
                return
        options: dict[str, Any] = {key: values.pop(key)[0][1] for key in _OPTIONS[action] if key in values}
        conditions = self.conditions(values)
        if conditions is None:
            return
        made = IntegrityRule(
            rule,
            action,
            conditions,
            options.get("template", ""),
            options.get("pcr", _DEFAULT_PCR),
            options.get("appraise_type") == "imasig",
            options.get("appraise_algos", ()),
        )
        earlier = self.store.rules[action.removeprefix("dont_")].add(made)
        if earlier is not None:
            self.problem(
                word(action, rule.start),
                "a rule can be reached",
                "something that the earlier rule does not take",
                found="nothing that is left for it",
                other=earlier.rule.place,
            )
