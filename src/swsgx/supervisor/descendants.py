"""Ending a tree of processes: whoever calls this is a subreaper, so that orphans become its children."""

from __future__ import annotations

import contextlib
import os
import signal

__all__ = ["kill_descendants"]


def _children() -> list[int]:
    me = os.getpid()
    try:
        with open(f"/proc/self/task/{me}/children", encoding="ascii") as children:
            return [int(pid) for pid in children.read().split()]
    except OSError:
        pass  # a kernel without CONFIG_PROC_CHILDREN
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", encoding="ascii", errors="replace") as stat:
                fields = stat.read().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == me:
            found.append(int(name))
    return found


def kill_descendants() -> None:
    """Kill all children, and theirs as they become ours, until there is none. Returns when all are reaped.

    The youngest first, and no time is lost with those that are dead already: a process may fork and end, again and
    again, and must be met while it has this number.
    """
    while True:
        for child in reversed(_children()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(child, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
