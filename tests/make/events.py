"""Events of hook points, made by hand: for modules that are asked without a driver."""

from __future__ import annotations

import numpy as np

from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.flags import Attributes, PageType
from swsgx.isa.sigstruct import Sigstruct
from swsgx.linux.security import (
    NO_GRANTS,
    EnclaveFacts,
    Grant,
    Identity,
    Init,
    Load,
    Origin,
    PageRange,
    Subject,
)

__all__ = ["empty_range", "init_event", "load_event"]


def empty_range(pages: int, owing: Grant = NO_GRANTS) -> PageRange:
    """Regular pages that have been nothing yet; the first owes something."""
    zeros = np.zeros(pages, np.uint8)
    owed = zeros.copy()
    owed[0] = int(owing)
    return PageRange(0, 0, zeros + np.uint8(PageType.REG), zeros, owed, np.zeros(pages, np.uint32), ())


def load_event(
    subject: Subject | None,
    origin: Origin | None,
    *,
    ceiling: int = 5,
    measured: bool = True,
    page_type: PageType = PageType.REG,
    enclave: int = 1,
    contents: bytes = bytes(PAGE_SIZE),
    offset: int = 0,
) -> Load:
    """One page, of measured code if nothing else is said."""
    return Load(
        subject=subject,
        enclave=EnclaveFacts(number=enclave, base=0x1000, size=0x4000),
        offset=offset,
        page_type=page_type,
        ceiling=ceiling,
        measured=measured,
        contents=memoryview(contents),
        origin=origin,
        source=0x10000,
    )


def init_event(
    subject: Subject | None,
    origin: Origin | None,
    *,
    label: str = "",
    owing: Grant = NO_GRANTS,
    mrenclave: bytes = b"\1" * 32,
    mrsigner: bytes = b"\2" * 32,
    prodid: int = 7,
    svn: int = 3,
    attributes: int = Attributes.MODE64BIT,
    enclave: int = 1,
) -> Init:
    """INIT of an enclave of four pages."""
    return Init(
        subject=subject,
        enclave=EnclaveFacts(number=enclave, base=0x1000, size=0x4000),
        identity=Identity(mrenclave, mrsigner, prodid, svn, attributes, 3, 0),
        sigstruct=Sigstruct.of(),
        origin=origin,
        pages=empty_range(4, owing),
        label=label,
    )
