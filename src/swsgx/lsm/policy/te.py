"""Type enforcement, compiled: may a subject of this type do this to something of that type?

The permissions are those of the class ``enclave``. A rule is kept under the pair of names it was written with, types or
attributes; a question looks under the names of the two types, so its time depends on how many attributes these have,
not on how many rules there are; and its answer is remembered.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from swsgx.lsm.policy.contexts import PathIndex
from swsgx.lsm.policy.source import Rule

__all__ = ["BITS", "BUILTIN", "CLASS", "DEVICE", "PERMISSIONS", "UNLABELED", "Cell", "Decision", "TeStore"]

CLASS = "enclave"
#: Permissions of the class ``enclave``; the bit of each is its place here.
PERMISSIONS = (
    *("open", "create", "provision", "vepc"),  # subject -> device
    *("load", "execute", "execmod"),  # subject -> source file
    "init",  # subject -> SIGSTRUCT
    *("use", "map_read", "map_write", "map_exec", "debug", "modtype"),  # subject -> enclave
    *("execdirty", "mapwx", "augexec", "execanon", "execunmr"),  # enclave -> itself
)
#: Permissions as bits.
BITS = {name: 1 << bit for bit, name in enumerate(PERMISSIONS)}
#: The type of the SGX nodes, and of what no context names. Every policy has them.
DEVICE, UNLABELED = "sgx_device_t", "unlabeled_t"
BUILTIN = (DEVICE, UNLABELED)
_REMEMBERED = 1 << 16


@dataclass(frozen=True, slots=True)
class Decision:
    """An answer.

    Attributes:
        allowed: a rule allows it.
        rule: which one; None if none does.
        auditallow: a record is wanted although it is allowed.
        dontaudit: no record is wanted although it is refused.
        permissive: the source type is permissive: what is refused is to be done all the same, and told.
    """

    allowed: bool
    rule: Rule | None = None
    auditallow: bool = False
    dontaudit: bool = False
    permissive: bool = False

    @property
    def audited(self) -> bool:
        """Whether a record is to be written."""
        return self.auditallow if self.allowed else not self.dontaudit


@dataclass(slots=True)
class Cell:
    """What the rules for one pair of names say: permissions as bits, and for each the first rule that allows it."""

    allow: int = 0
    auditallow: int = 0
    dontaudit: int = 0
    rules: dict[int, Rule] = field(default_factory=dict)

    def add(self, mask: int, rule: Rule) -> None:
        """Let ``rule`` allow the permissions of ``mask``; what an earlier rule allows stays that one's."""
        new = mask & ~self.allow
        self.allow |= mask
        while new:
            lowest = new & -new
            self.rules[lowest] = rule
            new ^= lowest

    def merge(self, other: Cell) -> None:
        """Add what another cell says."""
        self.allow |= other.allow
        self.auditallow |= other.auditallow
        self.dontaudit |= other.dontaudit
        for bit, rule in other.rules.items():
            self.rules.setdefault(bit, rule)


_EMPTY = Cell()


class TeStore:
    """A compiled policy of type enforcement; :mod:`swsgx.lsm.policy.te_compile` makes it.

    Attributes:
        types: all types, built-in ones too, and the attributes of each.
        rule_count: access rules that it was made of.
    """

    def __init__(self) -> None:
        self.types: dict[str, set[str]] = {name: set() for name in BUILTIN}
        self.rule_count = 0
        #: The bit of each type in sets.
        self.bits: dict[str, int] = {}
        #: Names of sets of types in rules: attributes, ``*``, and sets such as ``~{ a b }`` under their text.
        self.sets: dict[str, int] = {}
        self.cells: dict[tuple[str, str], Cell] = {}
        self.transitions: dict[tuple[str, str], tuple[str, Rule]] = {}
        self.permissive: dict[str, Rule] = {}
        self.by_label: dict[str, tuple[str, Rule]] = {}
        self.by_uid: dict[int, tuple[str, Rule]] = {}
        self.by_exe: PathIndex[tuple[str, Rule]] = PathIndex()
        self.by_path: PathIndex[tuple[str, Rule]] = PathIndex()
        self._rows: dict[str, dict[str, Cell]] = {}
        self._pairs: dict[tuple[str, str], Cell] = {}
        self._names: dict[str, tuple[str, ...]] = {}

    def query(self, source: str, target: str, permission: str) -> Decision:
        """May ``source`` do this to ``target``? Nothing is allowed that no rule allows, nor to unknown types.

        Args:
            source, target: types.
            permission: one of :data:`PERMISSIONS`; KeyError otherwise.
        """
        bit = BITS[permission]
        cell = self._pairs.get((source, target)) or self._pair(source, target)
        permissive = source in self.permissive
        if cell.allow & bit:
            return Decision(True, cell.rules[bit], bool(cell.auditallow & bit), False, permissive)
        return Decision(False, None, False, bool(cell.dontaudit & bit), permissive)

    def allowed(self, source: str, target: str) -> tuple[str, ...]:
        """All permissions that ``source`` has on ``target``."""
        mask = self._pair(source, target).allow
        return tuple(name for name, bit in BITS.items() if mask & bit)

    def _pair(self, source: str, target: str) -> Cell:
        if source not in self.bits or target not in self.bits:
            return _EMPTY
        targets = self._terms(target)
        if source == target:
            targets = (*targets, "self")
        known = frozenset(targets)
        merged = Cell()
        for one in self._terms(source):
            row = self._rows.get(one, {})
            # A policy can have a set of its own in each rule, and a type is in most of those that begin with ~.
            for other in targets if len(targets) <= len(row) else [name for name in row if name in known]:
                if other in row:
                    merged.merge(row[other])
        if len(self._pairs) >= _REMEMBERED:
            self._pairs.clear()
        self._pairs[source, target] = merged
        return merged

    def _terms(self, name: str) -> tuple[str, ...]:
        """The names that a type has in rules: itself, and those of sets that have it."""
        known = self._names.get(name)
        if known is None:
            bit = self.bits[name]
            known = (name, *(term for term, members in self.sets.items() if members & bit))
            self._names[name] = known
        return known

    def enclave_type(self, subject: str, sigstruct: str) -> tuple[str, Rule | None]:
        """The type of an enclave that ``subject`` initialises: by a transition, else that of its SIGSTRUCT."""
        return self.transitions.get((subject, sigstruct), (sigstruct, None))

    def file_type(self, path: str) -> tuple[str, Rule | None]:
        """The type of a file, :data:`UNLABELED` if no ``filecon`` is for it."""
        return self.by_path.find(path) or (UNLABELED, None)

    def subject_type(
        self, *, label: str = "", exe: str = "", uid: int | None = None
    ) -> tuple[str, Rule | None]:
        """The type of a process: by its label, else by its program, else by its user, else :data:`UNLABELED`."""
        found = self.by_label.get(label) if label else None
        if found is None and exe:
            found = self.by_exe.find(exe)
        if found is None and uid is not None:
            found = self.by_uid.get(uid)
        return found or (UNLABELED, None)

    def close(self) -> None:
        """All rules are in: make ready for questions."""
        for (source, target), cell in self.cells.items():
            self._rows.setdefault(source, {})[target] = cell
