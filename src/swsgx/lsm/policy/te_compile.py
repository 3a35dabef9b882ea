"""From the statements of type-enforcement files to a :class:`TeStore`, with all that can be wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from swsgx.lsm.policy.errors import Place, Problem, Problems
from swsgx.lsm.policy.neverallow import Ban, breaches
from swsgx.lsm.policy.patterns import Pattern, PatternError
from swsgx.lsm.policy.shapes import Statement
from swsgx.lsm.policy.source import Rule, Source, Word, word
from swsgx.lsm.policy.te import BITS, BUILTIN, CLASS, PERMISSIONS, Cell, TeStore
from swsgx.lsm.policy.te_syntax import (
    KEYWORDS,
    Access,
    Declare,
    FileContext,
    Module,
    Names,
    Permissive,
    SubjectContext,
    Transition,
    TypeAttribute,
)

__all__ = ["compile_te"]

_ALL_PERMISSIONS = (1 << len(PERMISSIONS)) - 1
#: A set of more names than this becomes a name of its own: rules are kept for each pair of names.
_MAX_NAMES = 16
#: Transitions are kept for each pair of types; more pairs than this are a mistake.
_MAX_TRANSITIONS = 1 << 20
_MAX_UID = (1 << 32) - 1
_File = tuple[Source, Sequence[Statement]]


def compile_te(files: Sequence[_File], problems: Problems) -> TeStore:
    """The store of all files together: a type that one declares, the others may use.

    Args:
        files: each with its statements.
        problems: gets what is wrong; the store is of no use if there is anything.
    """
    compiler = _Compiler(problems)
    for source, statements in files:
        compiler.source = source
        compiler.declarations(statements)
    compiler.bits.update({name: 1 << number for number, name in enumerate(compiler.store.types)})
    for source, statements in files:
        compiler.source = source
        compiler.attributes_of(statements)
    compiler.sets["*"] = (1 << len(compiler.bits)) - 1
    for source, statements in files:
        compiler.source = source
        for statement in statements:
            compiler.rule(statement)
    compiler.finish()
    return compiler.store


class _Compiler:
    """What is known while the statements are gone through: declarations, then attributes, then all others."""

    source: Source

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self.store = TeStore()
        self.bits, self.sets = self.store.bits, self.store.sets
        self.declared: dict[str, Place] = {}
        self.modules: dict[str, Place] = {}
        self.bans: list[Ban] = []
        self.seen: dict[tuple[str, Names, Names, int], Rule] = {}
        self.contexts: dict[tuple[str, str], Rule] = {}
        self.known_terms: dict[Names, tuple[str, ...]] = {}
        self.known_masks: dict[Names, int] = {}

    def problem(
        self, at: Word, rule: str, expected: str, *, found: str | None = None, other: Place | None = None
    ) -> None:
        found = f"'{at}'" if found is None else found
        self.problems.add(self.source.problem(at.at, rule, found=found, expected=expected, other=other))

    # ---- declarations ------------------------------------------------------------------------------------------------

    def declarations(self, statements: Sequence[Statement]) -> None:
        first = statements[0] if statements else None
        if first is not None and not isinstance(first.value, Module):
            self.problem(
                word("", first.start),
                "a file begins with its name and version",
                "policy_module(NAME, VERSION)",
                found="another statement",
            )
        for statement in statements:
            if isinstance(statement.value, Module):
                self.module(statement.value, statement is first)
            elif isinstance(statement.value, Declare):
                self.declare(statement.value)

    def module(self, module: Module, first: bool) -> None:
        if not first:
            self.problem(module.name, "a file has one policy_module, as its first statement", "no other")
        elif module.name in self.modules:
            other = self.modules[module.name]
            self.problem(module.name, "each file has a name of its own", "another name", other=other)
        self.modules.setdefault(module.name, self.source.place(module.name.at))
        if not module.version.replace(".", "").isdigit():
            self.problem(module.version, "a version is made of numbers", "a version such as 1.0")

    def declare(self, value: Declare) -> None:
        name = value.name
        if name in KEYWORDS:
            self.problem(name, "a word of the language is no name", "another name")
        elif name in BUILTIN:
            self.problem(name, "a built-in type is there already", "another name")
        elif name in self.declared:
            self.problem(name, "a name is declared once", "another name", other=self.declared[name])
        else:
            self.declared[name] = self.source.place(name.at)
            if value.kind == "type":
                self.store.types[name] = set()
            else:
                self.sets[name] = 0

    def attributes_of(self, statements: Sequence[Statement]) -> None:
        for statement in statements:
            value = statement.value
            if not isinstance(value, Declare | TypeAttribute) or not value.attributes:
                continue
            known = self.is_type(value.name)
            for attribute in value.attributes:
                if attribute not in self.sets:
                    self.unknown(attribute, "attribute")
                elif known:
                    self.sets[attribute] |= self.bits[value.name]
                    self.store.types[value.name].add(attribute)

    # ---- names -------------------------------------------------------------------------------------------------------

    def unknown(self, name: Word, kind: str) -> None:
        what = "another kind of name" if name in self.declared or name in BUILTIN else "not declared"
        self.problem(
            name, f"what is used is a declared {kind}", f"a declared {kind}", found=f"'{name}', {what}"
        )

    def is_type(self, name: Word) -> bool:
        if name in self.store.types:
            return True
        self.unknown(name, "type")
        return False

    def terms(self, names: Names, *, target: bool) -> tuple[str, ...]:
        """The names that a rule is kept under; none if something is wrong."""
        known = self.known_terms.get(names)
        if known is not None and (target or "self" not in known):
            return known
        good = True
        plain = not names.complement and not names.excluded
        for name in (*names.included, *names.excluded):
            if name == "self":
                if not target or not plain:
                    good = False
                    self.problem(name, "self is a target, alone or in a plain set", "types")
            elif name not in self.store.types and name not in self.sets:
                good = False
                self.unknown(name, "type or attribute")
        if not names.included:
            good = False
            self.problem(
                names.excluded[0], "a set says what is in it, before what is not", "a name without '-'"
            )
        if not good:
            return ()
        if plain and len(names.included) <= _MAX_NAMES:
            terms = tuple(dict.fromkeys(map(str, names.included)))
        else:
            own = str(names)
            self.sets[own] = self.members(names)
            terms = (own, "self") if "self" in names.included else (own,)
        self.known_terms[names] = terms
        return terms

    def members(self, names: Names) -> int:
        """The types of a set, as bits."""
        inside = 0
        for name in names.included:
            inside |= self.types_of(name)
        for name in names.excluded:
            inside &= ~self.types_of(name)
        return self.sets["*"] & ~inside if names.complement else inside

    def types_of(self, term: str) -> int:
        """The types that a name means, as bits; none for ``self``."""
        return self.bits.get(term) or self.sets.get(term, 0)

    def mask(self, names: Names) -> int:
        """Permissions as bits, 0 if something is wrong."""
        known = self.known_masks.get(names)
        if known is not None:
            return known
        mask = 0
        for name in names.included:
            if name == "*":
                mask = _ALL_PERMISSIONS
            elif name in BITS:
                mask |= BITS[name]
            else:
                expected = f"one of {', '.join(PERMISSIONS)}"
                self.problem(name, f"a permission is one of class {CLASS}", expected)
                return 0
        if names.excluded:
            self.problem(names.excluded[0], "permissions are listed, or all but a list: ~{ }", "no '-'")
            return 0
        mask = _ALL_PERMISSIONS & ~mask if names.complement else mask
        if not mask:
            self.problem(names.included[0], "a rule has a permission", "fewer of them behind '~'")
        self.known_masks[names] = mask
        return mask

    # ---- rules -------------------------------------------------------------------------------------------------------

    def rule(self, statement: Statement) -> None:
        value = statement.value
        rule = Rule(self.source, statement.start, statement.end)
        if isinstance(value, Access):
            self.access(value, rule)
        elif isinstance(value, Transition):
            self.transition(value, rule)
        elif isinstance(value, SubjectContext):
            self.subject(value, rule)
        elif isinstance(value, FileContext):
            if self.is_type(value.type):
                self.pattern("filecon", value.pattern, value.type, rule)
        elif (
            isinstance(value, Permissive)
            and self.is_type(value.name)
            and self.fresh("permissive", value.name, rule)
        ):
            self.store.permissive[value.name] = rule

    def access(self, value: Access, rule: Rule) -> None:
        sources = self.terms(value.source, target=False)
        targets = self.terms(value.target, target=True)
        if value.classes.included != (CLASS,) or value.classes.complement or value.classes.excluded:
            name = (*value.classes.included, *value.classes.excluded)[0]
            self.problem(name, f"the only class is {CLASS}", CLASS)
        mask = self.mask(value.permissions)
        if not (sources and targets and mask):
            return
        key = (str(value.kind), value.source, value.target, mask)
        first = self.seen.setdefault(key, rule)
        if first is not rule:
            self.problem(value.kind, "a rule is there once", "a rule that adds something", other=first.place)
            return
        self.store.rule_count += 1
        if value.kind == "neverallow":
            self.bans.extend(Ban(one, other, mask, rule) for one in sources for other in targets)
            return
        for one in sources:
            for other in targets:
                cell = self.store.cells.get((one, other))
                if cell is None:
                    cell = self.store.cells[one, other] = Cell()
                if value.kind == "allow":
                    cell.add(mask, rule)
                elif value.kind == "auditallow":
                    cell.auditallow |= mask
                else:
                    cell.dontaudit |= mask

    def transition(self, value: Transition, rule: Rule) -> None:
        if value.of != CLASS:
            self.problem(value.of, f"the only class is {CLASS}", CLASS)
        known = self.is_type(value.new)
        sources = self.terms(value.source, target=False)
        targets = self.terms(value.target, target=False)
        if not (known and sources and targets):
            return
        subjects = self.named(sources)
        sigstructs = self.named(targets)
        if len(subjects) * len(sigstructs) + len(self.store.transitions) > _MAX_TRANSITIONS:
            self.problem(value.new, "transitions are few", f"at most {_MAX_TRANSITIONS} pairs of types")
            return
        for subject in subjects:
            for sigstruct in sigstructs:
                new, first = self.store.transitions.setdefault((subject, sigstruct), (str(value.new), rule))
                if first is not rule:
                    self.problem(
                        value.new,
                        "a pair of types has one transition",
                        f"none, since {subject} {sigstruct} gives {new}",
                        other=first.place,
                    )
                    return

    def named(self, terms: Sequence[str]) -> list[str]:
        """The types that any of ``terms`` means."""
        inside = 0
        for term in terms:
            inside |= self.types_of(term)
        return [name for name, bit in self.bits.items() if inside & bit]

    def fresh(self, kind: str, of: Word, rule: Rule, literal: str | None = None) -> bool:
        """Whether this is the first context of its kind for ``of``, or for the one path that ``of`` means."""
        key = (kind, str(of)) if literal is None else (f"{kind} of one path", literal)
        first = self.contexts.setdefault(key, rule)
        if first is rule:
            return True
        self.problem(of, f"a {kind} is there once", "another one", other=first.place)
        return False

    def pattern(self, kind: str, text: Word, type_: Word, rule: Rule) -> None:
        try:
            pattern = Pattern(text)
        except PatternError as error:
            at = word(text[error.at :], text.at + error.at)
            self.problem(at, "a path is named by a pattern", error.expected, found=error.found)
            return
        if pattern.prefix[:1] != "/" and not text.startswith("("):
            self.problem(text, "a path is absolute", "a pattern that begins with '/'")
        elif self.fresh(kind, text, rule, pattern.literal):
            index = self.store.by_path if kind == "filecon" else self.store.by_exe
            index.add(pattern, (str(type_), rule))

    def subject(self, value: SubjectContext, rule: Rule) -> None:
        by, kind = value.by, f"subjcon {value.by}"
        if by not in ("exe", "label", "uid"):
            self.problem(by, "subjects are told apart by exe, label or uid", "exe, label or uid")
            return
        if value.quoted != (by != "uid"):
            expected = 'a "string"' if by != "uid" else "a number"
            self.problem(value.value, f"a {kind} has its kind of value", expected)
            return
        if not self.is_type(value.type):
            return
        if by == "exe":
            self.pattern(kind, value.value, value.type, rule)
        elif by == "label":
            if self.fresh(kind, value.value, rule):
                self.store.by_label[str(value.value)] = (str(value.type), rule)
        elif not value.value.isdigit() or len(value.value) > 10 or int(value.value) > _MAX_UID:
            self.problem(value.value, "a uid has 32 bits", f"0 to {_MAX_UID}")
        elif self.fresh(kind, word(str(int(value.value)), value.value.at), rule):
            self.store.by_uid[int(value.value)] = (str(value.type), rule)

    # ---- the end -----------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """What can be told only now."""
        self.store.close()
        for problem in self.breached():
            self.problems.add(problem)

    def breached(self) -> Iterator[Problem]:
        for breach in breaches(self.bans, self.store.cells, {**self.sets, **self.bits}):
            yield breach.rule.source.problem(
                breach.rule.start,
                "no rule allows what a neverallow forbids",
                found=f"an allow of {breach.source} {breach.target} : {CLASS} {breach.permission}",
                expected=f"nothing against '{breach.ban.rule.text}'",
                other=breach.ban.rule.place,
            )
