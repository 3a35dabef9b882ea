"""The figures of a tree's machine, as one JSON object: the driver's, and what programs' own memory counts.

No program is stopped for them, and nobody waits: what a program's image counts is read from outside. So numbers of one
answer may be some microseconds apart.

What is counted where: paging and EAUG by the driver. Entries and asynchronous exits by the monitor, for each thread, in
the process; they go with it. The monitor's fast way in does not count; only enclaves that isolation does not hide are
entered by it (:data:`swsgx.native.abi.SlotFlags`, HIDE).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swsgx.supervisor.process import TargetProcess
    from swsgx.supervisor.service import Service

__all__ = ["machine_figures", "name_of"]


def machine_figures(service: Service) -> dict[str, Any]:
    """Of a machine, its enclaves and its processes; docs/run.md says what each number is."""
    service.grants.settle()
    figures = asdict(service.driver.figures())
    inside: Counter[int] = Counter()
    processes = [_process(process, inside) for process in service.processes()]
    for enclave in figures["enclaves"]:
        enclave["pids"] = sorted(p["pid"] for p in processes if enclave["number"] in p["enclaves"])
        enclave["inside"] = inside[enclave["number"]]
    counts = {name: figures.pop(name) for name in ("faults", "ewb", "eldu", "eaug")}
    counts |= {name: sum(process[name] for process in processes) for name in ("eenter", "aex")}
    exact = all(process["eenter_exact"] for process in processes)
    return {**figures, "counts": counts, "eenter_exact": exact, "processes": processes}


def _process(process: TargetProcess, inside: Counter[int]) -> dict[str, Any]:
    """One process. Its threads that are inside are added up in ``inside``, by the number of the enclave."""
    mapped = list(process.mm.mappings)
    told: dict[str, Any] = {
        "pid": process.pid,
        "name": name_of(process.pid),
        "enclaves": sorted(encl.number for encl in mapped),
        "threads": 0,
        "inside": 0,
        "eenter": 0,
        "eenter_exact": process.engine.counts_all,
        "aex": 0,
    }
    for lp in process.processors():
        told["eenter"] += lp.eenter_count
        told["aex"] += lp.aex_count
        told["threads"] += bool(lp.attached)
        tcs = process.tcs_of(lp)
        encl = next((e for e in mapped if e.base <= tcs < e.base + e.size), None)
        if encl is not None:
            told["inside"] += 1
            inside[encl.number] += 1
    return told


def name_of(pid: int) -> str:
    """A program's name, as ps(1) has it; empty when it is gone."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\n")
    except OSError:
        return ""
