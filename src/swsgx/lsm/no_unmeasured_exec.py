"""No code runs in an enclave but that which MRENCLAVE stands for. Small, without policy, and what to load at least.

Whoever trusts an MRENCLAVE trusts the code that was measured. So what can be executed, and a TCS, which says where
execution begins, must be measured when it is added; and it must stay what it was: no page is executable that was
writable before or that EAUG added, no page becomes a TCS later, and debuggers do not write. Where contents came from
does not matter, since they are in MRENCLAVE.
"""

from __future__ import annotations

from typing import ClassVar

from swsgx.isa.flags import PageType
from swsgx.lsm.module import (
    ALLOW,
    Allow,
    Debug,
    Deny,
    Grant,
    Init,
    Load,
    Map,
    Modify,
    Module,
    PageFlag,
    Verdict,
)

__all__ = ["NoUnmeasuredExec"]

_EXEC = 4


class NoUnmeasuredExec(Module):
    """Neither code nor entry point without measurement."""

    name: ClassVar[str] = "no_unmeasured_exec"
    hands_out_grants: ClassVar[bool] = True

    def load(self, event: Load) -> Verdict:
        if event.measured:
            return ALLOW
        if event.page_type is PageType.TCS:
            return Deny("a TCS is measured", ("execunmr",), "SGX_PAGE_MEASURE", "a TCS that is not measured")
        if event.ceiling & _EXEC:
            return Deny(
                "an executable page is measured", ("execunmr",), "SGX_PAGE_MEASURE", "X, not measured"
            )
        return ALLOW

    def init(self, event: Init) -> Verdict:
        return Allow(grants=Grant.EXECANON)

    def modify(self, event: Modify) -> Verdict:
        if event.page_type is PageType.TCS:
            return Deny("a TCS is measured", ("modtype",), "a TCS of ADD_PAGES", "EMODT to PT_TCS")
        return ALLOW

    def map(self, event: Map) -> Verdict:
        if event.prot & _EXEC and event.pages.lacking(PageFlag.MEASURED).any():
            return Deny("an executable page is measured", ("execunmr",), "measured pages", "one that is not")
        return ALLOW

    def debug(self, event: Debug) -> Verdict:
        if event.write:
            return Deny("a debugger does not write", ("debug",), "reading", "EDBGWR")
        return ALLOW
