"""What EMODPR and EMODT have in common. Source: SDM, "EMODPR" and "EMODT"."""

from __future__ import annotations

import numpy as np

from swsgx.cpu.epc import Frames
from swsgx.cpu.faults import LeafResult
from swsgx.cpu.machine import Cpu
from swsgx.cpu.operation import Operation
from swsgx.isa.address import EpcAddr
from swsgx.isa.errors import SgxError
from swsgx.isa.flags import PageType
from swsgx.native.abi import EpcmEntry, EpcmState

__all__ = ["check_changeable", "check_initialised", "clean_pages"]

_UNDER_WAY = EpcmState.PENDING | EpcmState.MODIFIED


def check_changeable(operation: Operation, entry: EpcmEntry) -> LeafResult | None:
    """PAGE_NOT_MODIFIABLE for a page that waits for its EACCEPT; PR does not count."""
    waiting = entry.state & _UNDER_WAY
    if not waiting:
        return None
    return operation.code(
        SgxError.PAGE_NOT_MODIFIABLE,
        "the page is neither PENDING nor MODIFIED",
        "neither",
        EpcmState(waiting).name,
        remedy="the enclave must EACCEPT it first",
    )


def check_initialised(operation: Operation, cpu: Cpu, entry: EpcmEntry) -> None:
    """Insist that the page's enclave went through EINIT; else #GP(0)."""
    if not cpu.initialised(entry.secs):
        raise operation.gp(
            "the enclave is initialised",
            "ATTRIBUTES.INIT = 1",
            "ATTRIBUTES.INIT = 0",
            remedy="run EINIT first",
        )


def clean_pages(cpu: Cpu, secs: EpcAddr, frames: Frames, page_types: tuple[PageType, ...]) -> int:
    """For how many leading pages of an enclave no rule of these leaves can fail."""
    secs_frame = cpu.epc.frame(secs)
    if cpu.any_locked() or not cpu.is_secs(secs_frame) or not cpu.initialised(secs_frame):
        return 0
    columns = cpu.epcm.columns
    clean = columns["state"][frames] & np.uint8(EpcmState.VALID | _UNDER_WAY) == EpcmState.VALID
    clean &= np.isin(columns["pt"][frames], [int(page_type) for page_type in page_types])
    clean &= columns["secs"][frames] == secs_frame
    return len(frames) if clean.all() else int(np.argmin(clean))
