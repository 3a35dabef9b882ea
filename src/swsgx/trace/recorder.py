"""What happened, in order: leaves, ioctls, memory calls, faults, entries and exits.

Recording is off unless somebody asks. Whoever reports guards the call with :attr:`Recorder.on`, so that a
run without a trace pays one attribute test::

    if trace.on:
        trace.event("leaf", "EADD", {"linaddr": linaddr}, result="#GP(0)", reason=reason)
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TextIO

from swsgx.trace.reason import Reason, hexed

__all__ = ["OFF", "Event", "Recorder", "to_json_lines", "to_text"]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Attributes:
        kind: ``"leaf"``, ``"ioctl"``, ``"memory"``, ``"file"``, ``"fault"``, ``"enter"``, ``"exit"``.
        name: ``"EADD"``, ``"SGX_IOC_ENCLAVE_CREATE"``, ``"mmap"``, ``"#PF"``.
        args: the arguments, by their name in the manual or header.
        result: what the program was told: ``"ok"``, ``"#GP(0)"``, ``"SGX_INVALID_SIGNATURE"``, ``"EINVAL"``.
        reason: why, if it was refused.
        time: seconds on the recorder's clock.
    """

    kind: str
    name: str
    args: Mapping[str, object]
    result: str
    reason: Reason | None
    time: float

    def __str__(self) -> str:
        shown = ", ".join(f"{name}={hexed(value)}" for name, value in self.args.items())
        text = f"{self.kind:<6} {self.name}({shown}) = {self.result}"
        if self.reason is not None:
            text += f"\n       why: {self.reason}"
        return text

    def as_dict(self) -> dict[str, object]:
        """The event as plain values, for JSON."""
        plain: dict[str, object] = {
            "time": self.time,
            "kind": self.kind,
            "name": self.name,
            "args": {k: v.hex() if isinstance(v, bytes) else v for k, v in self.args.items()},
            "result": self.result,
        }
        if self.reason is not None:
            plain["reason"] = self.reason.as_dict()
        return plain


Sink = Callable[[Event], None]


@dataclass
class Recorder:
    """Gives events to sinks. Without a sink it is off.

    Attributes:
        sinks: called with each event, in order.
        clock: seconds; monotonic by default.
    """

    sinks: list[Sink] = field(default_factory=list)
    clock: Callable[[], float] = time.monotonic

    @property
    def on(self) -> bool:
        """Whether anybody listens; test this before building an event's arguments."""
        return bool(self.sinks)

    def event(
        self,
        kind: str,
        name: str,
        args: Mapping[str, object],
        result: str = "ok",
        reason: Reason | None = None,
    ) -> None:
        """Record one event. The mapping is kept, so hand over a fresh one."""
        happened = Event(kind, name, args, result, reason, self.clock())
        for sink in self.sinks:
            sink(happened)


#: The recorder that nobody listens to, for callers that want none.
OFF = Recorder()


def to_text(stream: TextIO) -> Sink:
    """A sink that writes one readable line for each event (two with a reason)."""
    return lambda event: print(event, file=stream)


def to_json_lines(stream: TextIO) -> Sink:
    """A sink that writes one JSON object a line."""
    return lambda event: print(json.dumps(event.as_dict()), file=stream)
