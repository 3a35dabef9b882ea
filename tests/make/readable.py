"""Waiting for a descriptor, whatever its number: select(2) takes none above 1023."""

from __future__ import annotations

import select

__all__ = ["readable"]


def readable(fd: int, seconds: float) -> bool:
    """Whether something can be read, or its end was reached, within so many seconds."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(1000 * seconds))
