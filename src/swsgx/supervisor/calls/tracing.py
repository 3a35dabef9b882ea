"""ptrace(2) of a tracer in the tree: its tracee has just become another program, or has enclaves."""

from __future__ import annotations

from collections.abc import Generator

from swsgx.native.abi import Answer
from swsgx.supervisor.calls.asked import Asked, Handler, Result
from swsgx.supervisor.calls.debugging import WORDS, word
from swsgx.supervisor.kinship import leader_of, parent_of, tracer_of, waits_for_vfork
from swsgx.supervisor.steps import Step
from swsgx.supervisor.traced import inject_by_tracer

__all__ = ["TRACING_CALLS"]


def ptrace(asked: Asked) -> Result:
    """ptrace(2) that resumes a tracee: put the image into it first, if it is a new program of the tree.

    PTRACE_TRACEME of a vfork child waits for its exec. It would stop at its next trapped call, and its tracer could not
    let it go on, since that waits for the exec.
    """
    request, pid, *_ = asked.args
    service = asked.service
    if request == 0:
        if not waits_for_vfork(parent_of(asked.tid)):
            return Answer.PASS
        service.traced_later.add(leader_of(asked.tid))
        return 0
    if request in WORDS:
        return word(asked)
    if pid not in service.traced_execs or tracer_of(pid) != asked.tid:
        return Answer.PASS
    return _injecting(asked, pid, request)


def _injecting(asked: Asked, pid: int, request: int) -> Generator[list[Step], list[int], None]:
    service = asked.service
    filled = service.filled
    done = yield from inject_by_tracer(service.image, service.scratch, asked.memory, pid, request, filled)
    if done:
        service.traced_execs.discard(pid)
        service.replaced(pid)


TRACING_CALLS = {101: Handler(ptrace)}
