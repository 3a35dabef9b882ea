"""What ``swsgx stat`` and ``swsgx top`` have in common: which tree is meant, and its figures as lines of text."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from swsgx.cli.errors import Refused, one_line
from swsgx.cli.output import table_lines
from swsgx.isa.address import PAGE_SIZE
from swsgx.supervisor.trees import NoAnswer, Tree, find, trees

__all__ = ["NOT_YET", "chosen", "command_of", "lines_of", "nobody", "refused_as_told", "size"]

NOT_YET = "no program of the tree has used SGX yet"
#: Totals, as they are shown: what each counts, and its heading.
_COUNTS = {
    "faults": "page faults",
    "ewb": "EWB",
    "eldu": "ELDU",
    "eaug": "EAUG",
    "eenter": "EENTER",
    "aex": "AEX",
}
_ENCLAVES = ("ENCLAVE", "STATE", "SIZE", "RESIDENT", "EVICTED", "EAUG", "TCS", "INSIDE", "PID")
_PROCESSES = ("PID", "PROGRAM", "ENCLAVES", "THREADS", "INSIDE", "EENTER", "AEX")


@contextmanager
def refused_as_told() -> Iterator[None]:
    """Makes of a tree that does not answer a refusal.

    Raises:
        Refused: in its place.
    """
    try:
        yield
    except NoAnswer as error:
        raise Refused(str(error)) from error


def chosen(pid: int | None) -> list[Tree]:
    """The tree of a process; without one, all that would answer, which may be none.

    Raises:
        NoAnswer: the process is of no tree, or of somebody else's.
        OSError: the kernel's list cannot be read.
    """
    return [find(pid)] if pid is not None else [tree for tree in trees() if tree.mine]


def nobody() -> Refused:
    """The refusal when no tree runs."""
    return Refused("no swsgx run of yours is running: start one, `swsgx run -- PROGRAM`")


def size(count: int) -> str:
    """Bytes as people say them, exactly: 16M, 4097."""
    for suffix, shift in (("G", 30), ("M", 20), ("K", 10)):
        if count >= 1 << shift and not count % (1 << shift):
            return f"{count >> shift}{suffix}"
    return str(count)


def command_of(told: Mapping[str, Any]) -> str:
    """The command line of a tree, in one line."""
    return one_line(shlex.join(told["program"]))


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f}%" if whole else "-"


def _state(enclave: Mapping[str, Any]) -> str:
    state = "ready" if enclave["initialised"] else "building"
    return f"{state}, debug" if enclave["debug"] else state


def _pids(pids: list[int]) -> str:
    shown = " ".join(map(str, pids[:4]))
    return f"{shown} +{len(pids) - 4}" if len(pids) > 4 else shown or "-"


def _at_least(value: int, exact: bool) -> str:
    return str(value) if exact else f">={value}"


def lines_of(tree: Tree, told: Mapping[str, Any], rates: Mapping[str, float] | None = None) -> list[str]:
    """A tree's figures.

    Args:
        tree: which it is.
        told: its answer.
        rates: of the totals, how many a second; shown where they are not 0.
    """
    lines = [f"swsgx run {tree.pid}: {command_of(told)}"]
    machine = told["machine"]
    if machine is None:
        return [*lines, NOT_YET]
    total, free = machine["epc_total"], machine["epc_free"]
    used = total - free
    lines.append(
        f"EPC {size(total * PAGE_SIZE)}: {total} pages, {free} free, {used} used ({_percent(used, total)}),"
        f" {machine['reclaimable']} reclaimable"
    )
    lines.append("  ".join(_totals(machine, rates or {})))
    enclaves = [_enclave(enclave) for enclave in machine["enclaves"]]
    if not enclaves:
        return [*lines, "", "no enclave now"]
    lines += ["", *table_lines(_ENCLAVES, enclaves, right=_ENCLAVES[2:8])]
    processes = [_process(process) for process in machine["processes"]]
    return [*lines, "", *table_lines(_PROCESSES, processes, right=_PROCESSES[3:])]


def _totals(machine: Mapping[str, Any], rates: Mapping[str, float]) -> Iterator[str]:
    for name, heading in _COUNTS.items():
        value = _at_least(machine["counts"][name], name != "eenter" or machine["eenter_exact"])
        rate = rates.get(name, 0)
        yield f"{heading} {value} (+{rate:.0f}/s)" if rate >= 0.5 else f"{heading} {value}"


def _enclave(enclave: Mapping[str, Any]) -> list[object]:
    return [
        enclave["number"],
        _state(enclave),
        size(enclave["size"]),
        enclave["resident"],
        enclave["evicted"],
        enclave["augmented"],
        enclave["tcs"],
        enclave["inside"],
        _pids(enclave["pids"]),
    ]


def _process(process: Mapping[str, Any]) -> list[object]:
    return [
        process["pid"],
        one_line(process["name"]),
        _pids(process["enclaves"]),
        process["threads"],
        process["inside"],
        _at_least(process["eenter"], process["eenter_exact"]),
        process["aex"],
    ]
