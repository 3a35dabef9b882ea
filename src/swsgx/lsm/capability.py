"""The module that is always there: the plain driver of the chosen profile, exactly.

What it stands for (ceilings, noexec, the provision attribute, the modes of the nodes) the driver checks itself,
whatever modules are loaded; so there is nothing left for it to refuse.
"""

from __future__ import annotations

from typing import ClassVar

from swsgx.lsm.module import Module

__all__ = ["Capability"]


class Capability(Module):
    """Allows what the driver allows."""

    name: ClassVar[str] = "capability"
