"""Who a task belongs to, as /proc says: its process, its tracer, whether it is of our tree."""

from __future__ import annotations

import os
import re

__all__ = ["in_tree", "is_stopped", "leader_of", "memory_of", "parent_of", "tracer_of", "waits_for_vfork"]

_MEMORY = re.compile(r"/proc/(\d+)(?:/task/\d+)?/mem")


def tracer_of(tid: int) -> int:
    """Who traces a task; 0: nobody."""
    return _number_in_status(tid, "TracerPid:")


def _number_in_status(tid: int, name: str) -> int:
    try:
        with open(f"/proc/{tid}/status", encoding="ascii", errors="replace") as lines:
            return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)
    except (FileNotFoundError, ProcessLookupError):
        return 0


def leader_of(tid: int) -> int:
    """The process of a task; 0: it is gone."""
    return _number_in_status(tid, "Tgid:")


def parent_of(tid: int) -> int:
    """The parent of a task's process; 0: it is gone."""
    return _number_in_status(tid, "PPid:")


def waits_for_vfork(pid: int) -> bool:
    """Whether a thread of a process waits for a child's exec, and cannot do anything else."""
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            if _state_in(f"/proc/{pid}/task/{task}/stat") == "D":
                return True
    except (FileNotFoundError, ProcessLookupError):
        pass
    return False


def _state_in(path: str) -> str:
    """The letter for a task's state."""
    with open(path, encoding="ascii", errors="replace") as stat:
        return stat.read().rpartition(")")[2].split()[0]


def is_stopped(tid: int) -> bool:
    """Whether a task is stopped by its tracer, which may look at it then."""
    try:
        return _state_in(f"/proc/{tid}/stat") == "t"
    except (FileNotFoundError, ProcessLookupError):
        return False


def memory_of(path: str) -> int | None:
    """The process whose memory a path is, as readlink(2) of a descriptor tells it; None: it is another file."""
    match = _MEMORY.fullmatch(path)
    return int(match[1]) if match else None


def in_tree(tid: int) -> bool:
    """Whether a task is a descendant of ours. Orphans are, since we adopt them."""
    for _ in range(1000):
        if tid in (0, 1):
            return False
        if tid == os.getpid():
            return True
        tid = parent_of(tid)
    return False
