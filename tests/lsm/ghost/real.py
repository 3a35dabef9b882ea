"""The modules that policy files make, te and identity, under small random policies; and what these policies say.

A policy is a set of triples, and a list of identity rules. The files are printed of it, the ghost looks
into the set.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from swsgx.linux.security import Grant
from swsgx.lsm.identity import IdentityRules
from swsgx.lsm.labels import Labels
from swsgx.lsm.module import Module
from swsgx.lsm.policy.load import parse
from swsgx.lsm.policy.source import Source
from swsgx.lsm.stack import Stack
from swsgx.lsm.te import OwnPolicy, TypeEnforcement
from tests.lsm.ghost.book import MODTYPE, Enclave, R, W, X
from tests.lsm.ghost.questions import Question

__all__ = ["Real"]

_SUBJECTS = ("builder_t", "app_t", "other_t")
_FILES = {"/opt/acme/lib/code.so": "code_t", "/srv/joe/tool.so": "tool_t", "/opt/acme/lib/code.sig": "sig_t"}
#: encl_t is made of sig_t by a transition; code_t is an enclave's, too, if its SIGSTRUCT was read from there.
_ENCLAVES = ("encl_t", "code_t", "jit_t")
_DEVICE = "sgx_device_t"
_OWN = ("execdirty", "mapwx", "augexec", "execanon", "execunmr")
_PROTS = ((R, "map_read"), (W, "map_write"), (X, "map_exec"))
EXECANON, EXECUNMR = 8, 16


@dataclass(frozen=True)
class _Rule:
    """One identity rule of EINIT: what it wants (None: anything), and what it gives."""

    debug: bool | None
    unmeasured: bool | None
    grants: tuple[str, ...]
    label: str
    allow: bool

    def __str__(self) -> str:
        words = ["op=ENCLAVE_INIT", "uid=1000"]
        if self.debug is not None:
            words.append(f"debug={str(self.debug).upper()}")
        if self.unmeasured is not None:
            words.append(f"unmeasured_exec={str(self.unmeasured).upper()}")
        if self.allow and self.grants:
            words.append(f"grant={','.join(self.grants)}")
        if self.allow and self.label:
            words.append(f"label={self.label}")
        return " ".join([*words, f"action={'ALLOW' if self.allow else 'DENY'}"])


def _some(dice: random.Random, names: tuple[str, ...], percent: int) -> tuple[str, ...]:
    return tuple(name for name in names if dice.randrange(100) < percent)


class Real:
    """Type enforcement, and identity rules."""

    def __init__(self, dice: random.Random) -> None:
        self.enclaves: list[Enclave] = []
        self._allowed: set[tuple[str, str, str]] = set()
        self._rules: list[_Rule] = []
        self.modules: list[Module] = self._made(dice)

    # The policy.

    def _made(self, dice: random.Random) -> list[Module]:
        """Draw a policy, print it, and have modules made of what was printed."""
        self._draw(dice)
        files = (("te", self._te()), ("identity", self._identity()))
        policy = parse([Source(f"ghost.{kind}", text.encode()) for kind, text in files])
        if policy.te is None or policy.identity is None:
            raise RuntimeError("two files, and not both kinds")
        labels = Labels(policy.te)
        return [TypeEnforcement(OwnPolicy(labels)), IdentityRules(policy.identity, labels)]

    def _draw(self, dice: random.Random) -> None:
        percent = dice.choice([75, 90, 97, 100])
        files = ("load", "execute", "execmod")
        uses = ("use", "map_read", "map_write", "map_exec", "debug", "modtype")
        targets: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
            ((_DEVICE,), ("open", "create")),
            (("code_t", "tool_t"), files),
            (("sig_t", "code_t"), ("init",)),
            (_ENCLAVES, uses),
        ]
        self._allowed = {
            (subject, target, permission)
            for subject in _SUBJECTS
            for names, permissions in targets
            for target in names
            for permission in _some(dice, permissions, percent)
        }
        for label in _ENCLAVES:
            self._allowed |= {(label, label, own) for own in _some(dice, _OWN, dice.choice([50, 90, 100]))}
        every = tuple((grant.name or "").lower() for grant in Grant)
        # Each takes what the ones before it leave: a rule that can never match is a mistake in a policy.
        debug, unmeasured = dice.random() < 0.5, dice.random() < 0.5
        wants = [(debug, unmeasured), (not debug, None), (None, None)]
        self._rules = [
            _Rule(
                *want,
                grants=_some(dice, every, dice.choice([50, 90, 100])),
                label=dice.choice(["", "", "jit_t"]),
                allow=dice.random() < 0.85,
            )
            for want in wants
            if want == wants[-1] or dice.random() < 0.5
        ]

    def _te(self) -> str:
        types = dict.fromkeys((*_SUBJECTS, *_FILES.values(), *_ENCLAVES))
        lines = ["policy_module(ghost, 1.0)", *(f"type {name};" for name in types)]
        lines += [f'subjcon label "{name[:-2]}" {name}' for name in _SUBJECTS]
        lines += [f'filecon "{path.replace(".", "[.]")}" {name}' for path, name in _FILES.items()]
        lines += [f"type_transition {subject} sig_t : enclave encl_t;" for subject in _SUBJECTS]
        lines += [
            f"allow {one} {other} : enclave {{ {what} }};" for one, other, what in sorted(self._allowed)
        ]
        return "\n".join(lines) + "\n"

    def _identity(self) -> str:
        lines = ["policy_name=ghost policy_version=1.0.0", "DEFAULT op=ENCLAVE_INIT action=DENY"]
        return "\n".join([*lines, *map(str, self._rules)]) + "\n"

    # What it says.

    def _may(self, question: Question, target: str, *permissions: str) -> bool:
        subject = f"{question.subject[1]}_t" if question.subject is not None else ""
        return all((subject, target, permission) in self._allowed for permission in permissions)

    def denies(self, question: Question) -> bool:
        return not self._allows(question)

    def _allows(self, question: Question) -> bool:
        encl = next((one for one in self.enclaves if one.number == question.enclave), None)
        what = question.what
        match question.hook:
            case "open" | "create":
                return self._may(question, _DEVICE, question.hook)
            case "load":
                return self._may_load(question, int(str(what[1])), str(what[3]))
            case "init":
                return encl is not None and self._may_init(encl, question)
            case "augment":
                return True
        wanted: tuple[str, ...] = ("use",)
        if question.hook == "map":
            prot = int(str(what[0]))
            if not prot:
                return True
            wanted += tuple(name for bit, name in _PROTS if prot & bit)
        elif question.hook == "debug":
            wanted = ("debug",)
        elif question.hook == "modify" and what[0] == "TCS":
            wanted = ("modtype",)
        if encl is None or not encl.initialised:
            return self._may(question, _DEVICE, "create")
        return self._may(question, encl.label, *wanted)

    def _may_load(self, question: Question, ceiling: int, source: str) -> bool:
        kind, _, path = source.partition("/")
        file = _FILES.get("/" + path) if kind in ("file", "filemod") else None
        if file is None:
            return True
        wanted = ["load"]
        if ceiling & X:
            wanted += ["execute", *(["execmod"] if kind == "filemod" else [])]
        return self._may(question, file, *wanted)

    def owes(self, question: Question) -> int:
        kind, ceiling, measured, source = question.what
        code = bool(int(str(ceiling)) & X)
        anonymous = not str(source).startswith("file")
        return EXECANON * (code and anonymous) | EXECUNMR * (not measured and (code or kind == "TCS"))

    # EINIT.

    def _rule(self, encl: Enclave, question: Question) -> _Rule:
        unmeasured = bool(int(str(question.what[1])) & EXECUNMR)
        return next(
            rule
            for rule in self._rules
            if rule.debug in (None, encl.debug) and rule.unmeasured in (None, unmeasured)
        )

    @staticmethod
    def _sigstruct(question: Question) -> str:
        """The type of the file that the SIGSTRUCT is in; empty if it is in none."""
        source = str(question.what[0])
        return _FILES[source[4:]] if source.startswith("file/") else ""

    def _label(self, encl: Enclave, question: Question) -> str:
        rule, file = self._rule(encl, question), self._sigstruct(question)
        if rule.allow and rule.label:
            return rule.label
        return "encl_t" if file == "sig_t" else file

    def _may_init(self, encl: Enclave, question: Question) -> bool:
        if not self._rule(encl, question).allow:
            return False
        file = self._sigstruct(question)
        return self._may(question, file, "init") if file else bool(self._label(encl, question))

    def given(self, encl: Enclave, question: Question) -> tuple[int, str]:
        label = self._label(encl, question)
        own = MODTYPE
        for name in _OWN:
            own |= int(Grant[name.upper()]) if (label, label, name) in self._allowed else 0
        named = sum(int(Grant[name.upper()]) for name in self._rule(encl, question).grants)
        return own & named, label

    # Troubles.

    def crash(self, dice: random.Random) -> None:
        """These do not."""

    def recover(self) -> None:
        """Nothing to do."""

    def reload(self, dice: random.Random, stack: Stack) -> None:
        stack.replace(self._made(dice))
