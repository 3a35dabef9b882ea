"""What ``swsgx mappings`` shows in a terminal: one block for each enclave, one for each process."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from swsgx.cli.errors import one_line
from swsgx.cli.figures import NOT_YET, command_of, size
from swsgx.cli.mapped_shape import printable
from swsgx.cli.mapped_words import (
    HOLE,
    NOBODY,
    STALE,
    Fact,
    allowed_by,
    by_whom,
    enclave_title,
    entry_of,
    has_been,
    kind_of_origin,
    measured,
    origin_of,
    origin_words,
    pages_of,
    range_of,
    security_of,
)

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["lines_of", "show"]

#: A line: pieces of text, each with its style.
_Line = list[tuple[str, str]]
_STRONG, _DIM, _GOOD, _BAD = "bold", "dim", "green", "yellow"
#: Width of the words in front of what a line says.
_NAMES = 10


def show(pid: int, told: Mapping[str, Any]) -> None:
    """A tree's mappings on standard output, with colours where that is a terminal that has them."""
    from rich.console import Console

    console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
    for line in _lines(pid, printable(told)):
        console.print(_text(line))


def lines_of(pid: int, told: Mapping[str, Any]) -> list[str]:
    """The same as plain lines."""
    return ["".join(text for text, _ in line) for line in _lines(pid, printable(told))]


def _text(line: _Line) -> Text:
    from rich.text import Text

    return Text.assemble(*line)


def _lines(pid: int, told: Mapping[str, Any]) -> Iterator[_Line]:
    yield [(f"swsgx run {pid}", _STRONG), (f": {command_of(told)}", "")]
    found = told["mappings"]
    if found is None:
        yield [(NOT_YET, "")]
        return
    yield [("asked: ", _DIM), (security_of(found["security"]), "" if found["security"] else _BAD)]
    mapped = {mapping["enclave"] for process in found["processes"] for mapping in process["mappings"]}
    if not mapped:
        yield []
        yield [("no enclave is mapped now" if found["all"] else "no enclave is mapped executable now", "")]
        if not found["all"]:
            yield [("`--all` shows what is mapped otherwise", _DIM)]
        return
    for enclave in found["enclaves"]:
        if enclave["number"] in mapped:
            yield []
            yield from _enclave(enclave)
    for process in found["processes"]:
        if process["mappings"]:
            yield []
            yield [(f"process {process['pid']}", _STRONG), (f"  {one_line(process['name'])}", "")]
            for mapping in process["mappings"]:
                yield from _mapping(mapping, process["pid"])
    if found["left_off"]:
        yield []
        yield [(f"{found['left_off']} more runs of pages were too many for one answer", _BAD)]


def _named(name: str, said: str, indent: int, style: str = "") -> _Line:
    return [(" " * indent + name.ljust(_NAMES), _DIM), (said, style)]


def _enclave(enclave: Fact) -> Iterator[_Line]:
    end = enclave["base"] + enclave["size"]
    yield [
        (f"enclave {enclave['number']}", _STRONG),
        (f"  {enclave['base']:#x}-{end:#x}  {enclave_title(enclave)}", ""),
    ]
    yield _named("MRENCLAVE", enclave["mrenclave"] or "not yet", 2)
    signed = f"  ISVPRODID {enclave['isvprodid']}  ISVSVN {enclave['isvsvn']}"
    yield _named("MRSIGNER", f"{enclave['mrsigner']}{signed}" if enclave["mrsigner"] else "not known", 2)
    if not enclave["initialised"]:
        return
    init = enclave["init"]
    yield _named("INIT", by_whom(init) if enclave["asked"] else NOBODY, 2, _GOOD if init else _BAD)
    if enclave["sigstruct"] is not None:
        kind = enclave["sigstruct"]["class"]
        yield _named("SIGSTRUCT", origin_words(enclave["sigstruct"], kind), 2)
    if enclave["asked"]:
        yield _named("grants", ", ".join(enclave["grants"]) or "none", 2)
    if enclave["tolerated"]:
        yield _named("tolerated", ", ".join(enclave["tolerated"]), 2, _BAD)
    if enclave["entry"] is not None:
        yield _named("in list", entry_of(enclave["entry"]), 2)


def _mapping(mapping: Fact, pid: int) -> Iterator[_Line]:
    writable = "w" in mapping["prot"] and "x" in mapping["prot"]
    yield [
        (f"  {range_of(mapping)}  ", ""),
        (mapping["prot"], _BAD if writable else _STRONG),
        (f"  {size(mapping['end'] - mapping['start'])} of enclave {mapping['enclave']}", ""),
    ]
    if not mapping["accessible"]:
        yield _named("", "no access: a fork that was not allowed to keep it", 4, _BAD)
        return
    judged = mapping["judged"]
    yield _named("mapped", by_whom(judged, pid), 4, _GOOD if judged else _BAD)
    if judged and not judged["current"]:
        yield _named("", STALE, 4, _BAD)
    if judged and judged["withdrawn"]:
        yield _named("withdrawn", one_line(judged["withdrawn"]), 4, _BAD)
    for run in mapping["runs"]:
        yield from _run(run)


def _run(run: Fact) -> Iterator[_Line]:
    count = pages_of(run)
    begin: _Line = [(f"    {run['start']:#x}  {count} page{'s' * (count != 1)}  ", "")]
    if run["type"] is None:
        yield [*begin, (HOLE, _DIM)]
        return
    known = "measured" in run
    good = known and run["measured"]
    begin.append((f"{run['type']}  at most {run['ceiling']}  ", ""))
    if not known:
        yield [*begin, (NOBODY, _BAD)]
        return
    yield [*begin, (measured(run), _GOOD if good else _BAD), (f"  has been mapped {has_been(run)}", "")]
    anonymous = kind_of_origin(run) not in ("file", "EAUG")
    yield _named("from", origin_of(run), 8, _BAD if anonymous else "")
    if run["admitted"] is not None:
        yield _named("let in", allowed_by(run["admitted"]["allowed"]), 8)
    elif not run["asked"]:
        yield _named("let in", NOBODY, 8, _BAD)
    if run["obligations"]:
        yield _named("owes", ", ".join(run["obligations"]), 8)
    if run["used"]:
        yield _named("by grant", ", ".join(run["used"]), 8)
    if run["entry"] is not None:
        yield _named("in list", entry_of(run["entry"]), 8)
