"""Candidates of type enforcement: allow rules, types for programs and files that have none, transitions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from swsgx.lsm.audit import Decision, Event
from swsgx.lsm.learn.names import Names, exact_pattern
from swsgx.lsm.learn.proposal import DANGEROUS, Candidate, Piece, Tally, warnings_of
from swsgx.lsm.policy.te import CLASS, DEVICE, PERMISSIONS, UNLABELED

__all__ = ["ON_DEVICE", "ON_FILE", "ON_ITSELF", "TeLearner", "needed"]

#: What permissions are on, besides enclaves that a subject uses.
ON_DEVICE = frozenset({"open", "create", "provision", "vepc"})
ON_FILE = frozenset({"load", "execute", "execmod", "init"})
ON_ITSELF = frozenset({"execdirty", "mapwx", "augexec", "execanon", "execunmr"})
#: Programs and paths that a comment names.
_EXAMPLES = 3


def needed(decision: Decision) -> tuple[str, ...]:
    """All that was asked of a file: a record has only what was refused, and a new type has nothing of its own."""
    if decision.hook != "load":
        return decision.permissions
    code = bool((decision.maxprot or 0) & 4)
    modified = code and decision.source.kind == "filemod"
    asked = {
        "load",
        *(["execute"] if code else ()),
        *(["execmod"] if modified else ()),
        *decision.permissions,
    }
    return tuple(name for name in PERMISSIONS if name in asked)


@dataclass(slots=True)
class _Asked:
    """What asks for one permission: how often, by which programs, for which files."""

    tally: Tally = field(default_factory=Tally)
    examples: dict[str, None] = field(default_factory=dict)

    def add(self, event: Event, decision: Decision) -> None:
        self.tally.add(event.milliseconds)
        if len(self.examples) > _EXAMPLES:
            return
        who = decision.exe or decision.comm
        if who:
            what = f" of {decision.source.path}" if decision.source.path else ""
            self.examples[f"{decision.hook}{what} by {who}"] = None


@dataclass(slots=True)
class _Unnamed:
    """A file without a type, and who asked what of it."""

    path: str
    asked: dict[tuple[str, str], list[tuple[Event, Decision]]] = field(default_factory=dict)


class TeLearner:
    """Goes through a log once.

    Args:
        names: of types.

    Attributes:
        unsolved: what no rule of type enforcement can help, with how many records say so.
        already: records whose question the policy allows by now.
    """

    def __init__(self, names: Names) -> None:
        self.names = names
        self.unsolved: dict[str, Tally] = {}
        self.already = 0
        self._rules: dict[tuple[str, str], dict[str, _Asked]] = {}
        self._unnamed: dict[str, _Unnamed] = {}
        self._transitions: dict[tuple[str, str], str] = {}
        self._initialised: dict[tuple[str, str, bytes], Decision] = {}

    def take(self, events: Iterable[tuple[Event, Decision]]) -> None:
        """Learn from refusals of the module ``te``, and of the rules for pages."""
        later = []
        for event, decision in events:
            if decision.lsm == "te" and set(decision.permissions) & ON_FILE:
                self._file(event, decision)
            elif decision.lsm in ("te", "page_rules"):
                later.append((event, decision))
        self._name_files()
        for event, decision in later:
            self._other(event, decision)

    def _file(self, event: Event, decision: Decision) -> None:
        """Files come first: what they are called decides what enclaves are called."""
        believed = decision.hook == "load" or decision.source.kind == "file"
        if not believed or not decision.source.named:
            if decision.hook == "init" and decision.mrenclave:
                stem = PurePosixPath(decision.exe).name or "learned"
                key = ("enclave", decision.mrenclave.hex())
                why = "an enclave that identity rules name: its SIGSTRUCT is in no file"
                if decision.mrenclave not in self.names.enclaves:
                    self.names.enclaves[decision.mrenclave] = self.names.make(key, stem, "_encl", why)
                self._fail(event, "a SIGSTRUCT that is in no file: an identity rule with label= allows it")
            else:
                self._fail(event, "memory that is no file with a name, which no rule can name either")
            return
        subject = self.names.subject(decision)
        named = self.names.file(decision)
        if named:
            for permission in decision.permissions:
                self._add(subject, named, permission, event, decision)
            return
        pattern = exact_pattern(decision.source.path)
        if pattern is None:
            self._fail(event, "a file whose path no pattern can name")
            return
        unnamed = self._unnamed.setdefault(pattern, _Unnamed(decision.source.path))
        for permission in needed(decision):
            unnamed.asked.setdefault((subject, permission), []).append((event, decision))

    def _name_files(self) -> None:
        """Files of one folder of which the same was asked by the same subjects become one type."""
        for pattern, unnamed in self._unnamed.items():
            key = " ".join(sorted(f"{subject}:{permission}" for subject, permission in unnamed.asked))
            asked = {permission for _, permission in unnamed.asked}
            ending = "_sig" if "init" in asked else "_code" if "execute" in asked else "_data"
            named = self.names.new_file(pattern, key, unnamed.path, ending)
            for (subject, permission), records in unnamed.asked.items():
                for event, decision in records:
                    self._add(subject, named, permission, event, decision)
                    if permission == "init":
                        self._initialised[subject, named, decision.mrenclave] = decision
        self._name_enclaves()

    def _name_enclaves(self) -> None:
        """What is initialised with a new type of SIGSTRUCT becomes a type of its own; one MRENCLAVE is one type."""
        te = self.names.te
        groups: dict[str, str] = {}
        for _, sigstruct, mrenclave in self._initialised:
            joined = {groups.setdefault(one, one) for one in (sigstruct, mrenclave.hex()) if one}
            groups.update((one, min(joined)) for one, group in groups.items() if group in joined)
        given = {groups[m.hex()]: name for m, name in self.names.enclaves.items() if m.hex() in groups}
        for (subject, sigstruct, mrenclave), decision in self._initialised.items():
            told = te.transitions.get((subject, UNLABELED)) if te is not None else None
            group = groups[sigstruct]
            if told is None and group not in given:
                folder = PurePosixPath(decision.source.path).parent.name
                why = "enclaves of SIGSTRUCTs without a type"
                given[group] = self.names.make(("enclaves", group), folder, "_encl", why)
            enclave = told[0] if told is not None else given[group]
            self._transitions[subject, sigstruct] = enclave
            if mrenclave:
                self.names.enclaves.setdefault(mrenclave, enclave)

    def _other(self, event: Event, decision: Decision) -> None:
        for permission in decision.permissions:
            if permission in ON_ITSELF:
                enclave = self.names.enclave(decision)
                if enclave:
                    self._add(enclave, enclave, permission, event, decision)
                else:
                    self._fail(event, f"{permission} of an enclave that has no type yet")
            elif decision.lsm == "page_rules":
                # Type enforcement asks who may do it when it is done, and withholds it from no enclave.
                self._fail(event, f"{permission} by the rules for pages, which an identity rule can grant")
            elif permission in ON_DEVICE:
                self._add(self.names.subject(decision), DEVICE, permission, event, decision)
            elif permission not in PERMISSIONS or permission in ON_FILE:
                self._fail(event, f"{permission}, which is no permission here")
            elif enclave := self.names.enclave(decision):
                self._add(self.names.subject(decision), enclave, permission, event, decision)
            else:
                why = "which its SIGSTRUCT's filecon or an identity rule's label= would give it"
                self._fail(event, f"{permission} of an enclave without a type, {why}")

    def _fail(self, event: Event, why: str) -> None:
        self.unsolved.setdefault(why, Tally()).add(event.milliseconds)

    def _add(self, source: str, target: str, permission: str, event: Event, decision: Decision) -> None:
        te = self.names.te
        if te is not None and te.query(source, target, permission).allowed:
            self.already += 1
            return
        asked = self._rules.setdefault((source, target), {})
        asked.setdefault(permission, _Asked()).add(event, decision)

    # What came of it.

    @property
    def found(self) -> bool:
        """Whether there is anything to propose."""
        return bool(self._rules or self.names.new)

    def pieces(self, module: str) -> Iterator[Piece]:
        """A file of type enforcement, its name being ``module``."""
        yield f"policy_module({module}, 1.0)"
        for title, statements in (
            ("Types.", self._declarations()),
            ("Who is who, and which file is what: only what the log names.", self._contexts()),
            ("What is allowed.", self._allows()),
            ("As unlabeled_t had it, which these types were before.", self._inherited()),
        ):
            made = list(statements)
            if made:
                yield from ("", f"# {title}", *made)

    def _declarations(self) -> Iterator[Piece]:
        for name, why in self.names.new.items():
            yield Candidate(f"type {name};", [why])

    def _contexts(self) -> Iterator[Piece]:
        # Of patterns that begin alike, the last wins: the plainest come last.
        for text, name in sorted(self.names.contexts.items(), key=lambda item: -item[0].count("[")):
            rough = "[^ -~]" in text or "[!-#]" in text
            notes = (
                ["has characters that no policy can hold; their places are matched by kind"] if rough else []
            )
            yield Candidate(f"{text} {name}", notes)

    def _allows(self) -> Iterator[Piece]:
        for (subject, sigstruct), enclave in self._transitions.items():
            yield Candidate(f"type_transition {subject} {sigstruct} : {CLASS} {enclave};")
        for (source, target), asked in self._rules.items():
            ordered = [name for name in PERMISSIONS if name in asked]
            plain = [name for name in ordered if name not in DANGEROUS]
            for group in ([plain] if plain else []) + [[name] for name in ordered if name in DANGEROUS]:
                yield _allow(source, target, {name: asked[name] for name in group})

    def _inherited(self) -> Iterator[Piece]:
        te = self.names.te
        if te is None or not self.names.from_unlabeled:
            return
        bit = te.bits[UNLABELED]

        def meant(term: str) -> bool:
            # ``*`` and ``~{ }`` mean the new types too.
            return term == UNLABELED or bool(te.sets.get(term, 0) & bit and term[:1] not in "*~")

        for name, role in self.names.from_unlabeled.items():
            for (source, target), cell in te.cells.items():
                if not cell.allow or not meant(source if role == "subject" else target):
                    continue
                pair = (name, target) if role == "subject" else (source, name)
                granted = [one for number, one in enumerate(PERMISSIONS) if cell.allow >> number & 1]
                yield Candidate(f"allow {pair[0]} {pair[1]} : {CLASS} {_set(granted)};")
            for (source, sigstruct), (enclave, _) in te.transitions.items():
                if role == "subject" and source == UNLABELED:
                    yield Candidate(f"type_transition {name} {sigstruct} : {CLASS} {enclave};")


def _allow(source: str, target: str, asked: dict[str, _Asked]) -> Candidate:
    tally = Tally()
    for one in asked.values():
        # One record can ask for several: the one that is asked for most often tells.
        if one.tally.count > tally.count:
            tally = Tally(one.tally.count, one.tally.first, one.tally.last)
    examples = list(dict.fromkeys(text for one in asked.values() for text in one.examples))
    notes = [str(tally), *examples[:_EXAMPLES]]
    if len(examples) > _EXAMPLES:
        notes.append("and others")
    notes += warnings_of(asked)
    if source == UNLABELED:
        notes.append(
            "WARNING: for every program that has no type; a record that names no program tells no better"
        )
    if source == target:
        notes.append(
            "for every enclave of this type; narrower is a type of its own, by an identity rule's label="
        )
    object_ = "self" if source == target else target
    about = (source, target, *asked)
    made = Candidate(f"allow {source} {object_} : {CLASS} {_set(list(asked))};", notes, about=about)
    if len(asked) > 1:
        made.halves = [_allow(source, target, {name: one}) for name, one in asked.items()]
    return made


def _set(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{{ {' '.join(names)} }}"
