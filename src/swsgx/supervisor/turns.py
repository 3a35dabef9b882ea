"""What the service remembers from one question of a process to the next."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from swsgx.linux.mm import AddressSpace
from swsgx.native.abi import Request
from swsgx.supervisor.engine import TargetEngine
from swsgx.supervisor.memory import TargetMemory
from swsgx.supervisor.process import TargetProcess
from swsgx.supervisor.seccomp import Notification
from swsgx.supervisor.steps import Carrier

__all__ = ["Conversation", "Fork", "Turn"]


@dataclass
class Conversation:
    """A question that takes more than one answer."""

    carrier: Carrier
    key: int
    finish: Callable[[], None] | None = None
    process: TargetProcess | None = None


@dataclass
class Turn:
    """An answer that waits for those before it."""

    notification: Notification
    memory: TargetMemory
    request: Request
    carrier: Carrier
    finish: Callable[[], None] | None = None


@dataclass
class Fork:
    """A child that is about to ask. After ``until`` (monotonic seconds) it will not: it ended with its parent."""

    parent: TargetProcess
    mm: AddressSpace
    engine: TargetEngine
    until: float = math.inf
