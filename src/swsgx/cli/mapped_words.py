"""Facts about mappings as people say them: the same words in the terminal and on the page of ``swsgx mappings``.

What comes out is one line of printable characters each, whatever programs and files are called; whoever makes HTML of
it still escapes what HTML needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from swsgx.cli.errors import one_line
from swsgx.cli.figures import size
from swsgx.isa.address import PAGE_SIZE

__all__ = [
    "HOLE",
    "NOBODY",
    "NO_PROOF",
    "STALE",
    "Fact",
    "allowed_by",
    "by_whom",
    "enclave_title",
    "entry_of",
    "has_been",
    "kind_of_origin",
    "measured",
    "origin_of",
    "origin_words",
    "pages_of",
    "range_of",
    "remarks_of",
    "rules_of",
    "security_of",
    "short_rules",
]

Fact = Mapping[str, Any]
#: Where no security module was there to be asked.
NOBODY = "nobody asked (plain driver)"
#: Where a mapping has no enclave page.
HOLE = "no page"
#: Of a mapping that was judged before INIT, or by the policy before.
STALE = "judged before INIT, or by an earlier policy: it will be judged again when it is next used"
#: What the command does not promise.
NO_PROOF = (
    "This is what swsgx has decided and recorded. It is no proof against code that attacks swsgx itself: the monitor "
    "and its tables lie in the memory of the very programs that they are about, and whoever owns the machine can "
    "change both."
)
_ORIGINS = {
    "file": "file",
    "filemod": "modified file",
    "memfd": "memfd",
    "shm": "shared memory",
    "anon": "anonymous",
    "unknown": "unknown",
}


def pages_of(piece: Fact) -> int:
    """Pages of a range."""
    return int(piece["end"] - piece["start"]) // PAGE_SIZE


def range_of(piece: Fact) -> str:
    """Its addresses."""
    return f"{piece['start']:#x}-{piece['end']:#x}"


def security_of(security: Fact | None) -> str:
    """Who is asked in a run."""
    if security is None:
        return "no security modules: the plain driver asks nobody"
    modules = ", ".join(map(one_line, security["modules"]))
    permissive = ", ".join(map(one_line, security["permissive"]))
    return f"{modules} ({security['mode']}{f'; permissive: {permissive}' if permissive else ''})"


def rules_of(rules: Iterable[str]) -> str:
    """Rules, those of one file together: ``acme.te:9,14``."""
    files: dict[str, list[str]] = {}
    for rule in rules:
        file, _, line = rule.rpartition(":")
        files.setdefault(one_line(file), []).append(one_line(line))
    return ", ".join(
        f"{file}:{','.join(lines)}" if file else ",".join(lines) for file, lines in files.items()
    )


def allowed_by(allowed: Sequence[Fact]) -> str:
    """Who allowed something: first those who say by which rule, last those that had nothing against it."""
    told, others = [], []
    for one in allowed:
        name, rules = one_line(one["module"]), rules_of(one["rules"])
        if one["overruled"]:
            where = f", {rules}" if rules else ""
            told.append(f"{name} only recorded its refusal ({one_line(one['overruled'])}{where})")
        elif rules:
            told.append(f"{name} ({rules})")
        else:
            others.append(name)
    if not told:
        return ", ".join(others) or "nobody says so"
    return "; ".join([*told, *([f"also {', '.join(others)}"] if others else [])])


def by_whom(approval: Fact | None, known: int = 0) -> str:
    """Who allowed something to whom; ``known``: a process that need not be told, since it is plain who it is."""
    if approval is None:
        return NOBODY
    subject = approval["subject"]
    if subject is None or subject["pid"] == known:
        return allowed_by(approval["allowed"])
    named = one_line(subject["comm"]) or one_line(subject["exe"]) or "?"
    return f"{allowed_by(approval['allowed'])}, for process {subject['pid']} ({named}, user {subject['uid']})"


def short_rules(told: Any, files: dict[str, str]) -> Any:
    """A copy of what was told in which each rule has a short name for its file.

    Args:
        told: anything.
        files: by full name; those that are not there yet are added.
    """
    if isinstance(told, Mapping):
        return {
            name: [_short(rule, files) for rule in value] if name == "rules" else short_rules(value, files)
            for name, value in told.items()
        }
    return [short_rules(one, files) for one in told] if isinstance(told, list) else told


def _short(rule: str, files: dict[str, str]) -> str:
    file, _, line = rule.rpartition(":")
    if not file:
        return rule
    if file not in files:
        name = file.rpartition("/")[2]
        taken = name in files.values()
        files[file] = f"{name}({len(files) + 1})" if taken else name
    return f"{files[file]}:{line}"


def measured(run: Fact) -> str:
    """Whether the contents are in MRENCLAVE."""
    if "measured" not in run:
        return "not recorded"
    return "measured" if run["measured"] else "not measured"


def has_been(run: Fact) -> str:
    """Which mappings there have been."""
    if "ever_w" not in run:
        return "not recorded"
    names = [name for name, flag in (("writable", "ever_w"), ("executable", "ever_x")) if run[flag]]
    return " and ".join(names) or "neither writable nor executable"


def kind_of_origin(run: Fact) -> str:
    """A word for where pages come from: a class of origin, ``EAUG``, ``not recorded``, or :data:`HOLE`."""
    if run["type"] is None:
        return HOLE
    if "origin" not in run:
        return "not recorded"
    if run["augmented"]:
        return "EAUG"
    origin = run["origin"]
    return _ORIGINS.get(origin["class"], "unknown") if origin is not None else "unknown"


def origin_of(run: Fact) -> str:
    """Where pages come from, with all that is known."""
    kind = kind_of_origin(run)
    origin = run.get("origin")
    if kind == "EAUG":
        return "EAUG: zeros, filled by the enclave"
    return kind if origin is None else origin_words(origin, kind)


def origin_words(origin: Fact, kind: str) -> str:
    """An origin: of pages, or of a SIGSTRUCT."""
    said = [kind]
    if origin["path"]:
        said.append(one_line(origin["path"]))
    if origin["inode"] is not None:
        said.append(f"at {origin['offset']:#x}")
        said.append(f"(device {origin['device']}, inode {origin['inode']})")
    said += remarks_of(origin)
    if origin["digest"]:
        said.append(one_line(origin["digest"]))
    return " ".join(said)


def remarks_of(origin: Fact) -> list[str]:
    """What is unusual about an origin."""
    remarks = {
        "deleted": "deleted",
        "noexec": "on a noexec mount",
        "writers": "open for writing",
        "unwatched": "on a filesystem that cannot tell changes",
    }
    return [text for name, text in remarks.items() if origin[name]]


def entry_of(entry: Fact | None) -> str:
    """An entry of the measurement list."""
    if entry is None:
        return "none"
    violation = ", a violation" if entry["violation"] else ""
    return f"{entry['number']}: {one_line(entry['template'])}, PCR {entry['pcr']}{violation}"


def enclave_title(enclave: Fact) -> str:
    """An enclave in a few words."""
    state = "ready" if enclave["initialised"] else "building"
    debug = ", debug" if enclave["debug"] else ""
    label = f", label {one_line(enclave['label'])}" if enclave["label"] else ""
    return f"{size(enclave['size'])}, {state}{debug}{label}"
