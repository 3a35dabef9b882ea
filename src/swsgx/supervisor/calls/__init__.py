"""System calls of programs that concern SGX, a module for each kind: which handler serves which number."""

from __future__ import annotations

from swsgx.supervisor.calls.asked import Asked, Handler
from swsgx.supervisor.calls.debugging import DEBUGGING_CALLS
from swsgx.supervisor.calls.files import FILE_CALLS
from swsgx.supervisor.calls.mappings import MAPPING_CALLS
from swsgx.supervisor.calls.paths import PATH_CALLS
from swsgx.supervisor.calls.tracing import TRACING_CALLS

__all__ = ["CALLS", "Asked", "Handler"]

#: By number of the system call, x86-64.
CALLS: dict[int, Handler] = {
    **PATH_CALLS,
    **FILE_CALLS,
    **MAPPING_CALLS,
    **TRACING_CALLS,
    **DEBUGGING_CALLS,
}
