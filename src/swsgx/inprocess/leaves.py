"""ENCLU leaves that the model carries out, for a thread of our own process that has left the enclave for it.

The monitor makes an AEX at such an ENCLU, as if an interrupt had come just before it, and ends the call. Here the leaf
is carried out with the registers of the SSA frame, and what it gives is put there; ERESUME goes on behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from swsgx.cpu.faults import Fault, LeafResult
from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.flags import Miscselect
from swsgx.isa.leaves import Enclu
from swsgx.isa.ssa import EXITINFO_HARDWARE
from swsgx.isa.structs import Exinfo, Gprsgx, Tcs
from swsgx.isa.vectors import Vector
from swsgx.linux.encl import Encl
from swsgx.linux.inside import execute
from swsgx.linux.mm import AddressSpace

__all__ = ["carry_out"]
