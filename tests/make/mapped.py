"""Answers about mappings, as a supervisor gives them, made up: ``swsgx mappings`` shows them."""

from __future__ import annotations

from typing import Any

__all__ = ["BASE", "PAGE", "PID", "answer", "enclave", "mapping", "mappings", "origin", "run"]

PAGE = 0x1000
BASE = 0x7F00_0000_0000
PID = 4713


def origin(**other: Any) -> dict[str, Any]:
    """A file, unless something else is said."""
    return {
        "class": "file",
        "path": "/opt/acme/code.so",
        "device": "8:1",
        "inode": 12,
        "offset": 0x4000,
        "digest": "sha256:" + "ab" * 32,
        "deleted": False,
        "noexec": False,
        "writers": False,
        "unwatched": False,
        "label": None,
        **other,
    }


def subject(**other: Any) -> dict[str, Any]:
    return {"pid": PID, "uid": 1000, "exe": "/opt/acme/bin/server", "comm": "server", "label": "", **other}


def allowed(*rules: str, overruled: str | None = None) -> list[dict[str, Any]]:
    return [
        {"module": "capability", "rules": [], "overruled": None},
        {"module": "te", "rules": list(rules), "overruled": overruled},
    ]


def approval(*rules: str, **other: Any) -> dict[str, Any]:
    return {"subject": subject(), "allowed": allowed(*rules), **other}


def entry(**other: Any) -> dict[str, Any]:
    return {
        "number": 2,
        "template": "encl-load",
        "pcr": 10,
        "hash": "cd" * 20,
        "violation": False,
        **other,
    }


def run(first: int = 0, pages: int = 1, **other: Any) -> dict[str, Any]:
    """Code of a file."""
    return {
        "start": BASE + first * PAGE,
        "end": BASE + (first + pages) * PAGE,
        "type": "reg",
        "ceiling": "r-x",
        "asked": True,
        "measured": True,
        "ever_w": False,
        "ever_x": True,
        "augmented": False,
        "obligations": [],
        "origin": origin(),
        "admitted": approval("/etc/acme.te:5"),
        "used": [],
        "entry": entry(),
        **other,
    }


def plain_run(first: int = 0, pages: int = 1, **other: Any) -> dict[str, Any]:
    """What is told of pages without a policy."""
    start, end = BASE + first * PAGE, BASE + (first + pages) * PAGE
    return {"start": start, "end": end, "type": "reg", "ceiling": "r-x", "asked": False, **other}


def mapping(*runs: dict[str, Any], prot: str = "r-x", **other: Any) -> dict[str, Any]:
    given = list(runs) or [run()]
    return {
        "start": given[0]["start"],
        "end": given[-1]["end"],
        "prot": prot,
        "enclave": 1,
        "accessible": True,
        "judged": {**approval("/etc/acme.te:9"), "generation": 0, "current": True, "withdrawn": None},
        "runs": given,
        **other,
    }


def enclave(**other: Any) -> dict[str, Any]:
    return {
        "number": 1,
        "base": BASE,
        "size": 1 << 24,
        "initialised": True,
        "debug": False,
        "asked": True,
        "label": "acme_encl_t",
        "mrenclave": "11" * 32,
        "mrsigner": "22" * 32,
        "isvprodid": 3,
        "isvsvn": 4,
        "grants": ["augexec"],
        "tolerated": [],
        "init": approval("/etc/acme.te:12"),
        "sigstruct": origin(path="/opt/acme/code.sig", offset=0, digest=None),
        "entry": entry(number=3, template="encl-init"),
        **other,
    }


def mappings(*given: dict[str, Any], **other: Any) -> dict[str, Any]:
    """What is in an answer, of one process."""
    return {
        "all": False,
        "security": {
            "modules": ["capability", "te"],
            "mode": "enforcing",
            "permissive": [],
            "generation": 0,
        },
        "enclaves": [enclave()],
        "processes": [{"pid": PID, "name": "server", "mappings": list(given) or [mapping()]}],
        "left_off": 0,
        **other,
    }


def plain() -> dict[str, Any]:
    """An answer without a policy."""
    bare: dict[str, Any] = {
        "asked": False,
        "label": None,
        "grants": [],
        "init": None,
        "sigstruct": None,
        "entry": None,
    }
    mapped = mapping(plain_run(), judged=None)
    return mappings(mapped, security=None, enclaves=[enclave(**bare)])


def answer(found: dict[str, Any] | None, program: tuple[str, ...] = ("./server", "x y")) -> dict[str, Any]:
    """A whole answer."""
    head = {"version": 1, "front": 4711, "supervisor": 4712, "uid": 1000, "program": list(program)}
    return {**head, "mappings": found}
