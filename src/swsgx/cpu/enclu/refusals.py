"""The monitor's refusals in words. It leaves a number and the values it compared; here they become a Reason."""

from __future__ import annotations

from dataclasses import dataclass

from swsgx.isa.flags import PageType
from swsgx.isa.layout import SDM
from swsgx.isa.vectors import Vector
from swsgx.native.abi import Check, EpcmState, LogicalProcessor
from swsgx.trace import Reason

__all__ = ["RULES", "Rule", "reason_of"]

_EENTER = f"{SDM}, 'EENTER'"
_ERESUME = f"{SDM}, 'ERESUME'"
_EEXIT = f"{SDM}, 'EEXIT'"
_ACCESS = f"{SDM}, 'Access-Control Requirements'"
_PREAMBLE = f"{SDM}, 'ENCLU - Execute an Enclave User Function of Specified Leaf Number'"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the monitor.

    ``expected`` and ``found`` are format strings over ``e``, ``f`` and ``a``: the two compared values and the address.
    """

    operation: str
    rule: str
    expected: str
    found: str
    source: str
    remedy: str = ""


def _enter(rule: str, expected: str, found: str, remedy: str = "") -> Rule:
    return Rule("EENTER", rule, expected, found, _EENTER, remedy)


_PAGE = "{page}"

#: What each check means.
RULES: dict[Check, Rule] = {
    Check.LEAF_UNKNOWN: Rule(
        "ENCLU", "the leaf exists", "a leaf in EAX that this CPU has", "EAX = {f:#x}", _PREAMBLE
    ),
    Check.LEAF_WRONG_SIDE: Rule(
        "ENCLU",
        "EENTER and ERESUME are for outside, all other leaves for inside",
        "a leaf for this side of the enclave boundary",
        "EAX = {f:#x}",
        _PREAMBLE,
    ),
    Check.LEAF_NOT_MODELLED: Rule(
        "ENCLU",
        "swsgx does not run this leaf yet",
        "EEXIT",
        "EAX = {f:#x}",
        "docs/coverage.md",
        "see the coverage table",
    ),
    Check.LEAF_FAULT: Rule(
        "ENCLU",
        "the leaf does not fault",
        "success or an error code",
        "{vector}",
        "the leaf's own section of the Intel SDM, volume 3D",
        "the run's explanation, or its trace, has the leaf's own reason",
    ),
    Check.THREAD_NOT_ATTACHED: Rule(
        "EENTER",
        "the thread has a place in the monitor",
        "at most {e} threads",
        "none left",
        "swsgx",
        "end some threads",
    ),
    Check.THREAD_TABLE_FULL: Rule(
        "EENTER",
        "the process has room for one more TCS",
        "at most {e} TCSs",
        "{f} in use",
        "swsgx",
        "load with more",
    ),
    Check.TCS_ALIGNED: _enter("RBX is page aligned", "a multiple of {e:#x}", "{f:#x}"),
    Check.TCS_IN_EPC: _enter(
        "RBX is an EPC page that the process may read",
        "a mapped enclave page",
        "nothing at {a:#x}",
        "map the TCS readable and writable",
    ),
    Check.AEP_CANONICAL: _enter("RCX (AEP) is canonical", "a canonical address", "{f:#x}"),
    Check.TCS_EPCM_VALID: _enter("EPCM(RBX).VALID is 1", "a valid page", "state {f:#x}"),
    Check.TCS_EPCM_BLOCKED: _enter("EPCM(RBX).BLOCKED is 0", "a page that is not blocked", "state {f:#x}"),
    Check.TCS_EPCM_ADDRESS: _enter("EPCM(RBX).ENCLAVEADDRESS is RBX", "{a:#x}", "{f:#x}"),
    Check.TCS_EPCM_TYPE: _enter(
        "EPCM(RBX).PT is PT_TCS", "page type 1 (TCS)", "page type {f}", "enter through a TCS"
    ),
    Check.TCS_EPCM_PENDING: _enter(
        "EPCM(RBX) is neither PENDING nor MODIFIED", "an accepted page", "state {f:#x}"
    ),
    Check.OSSA_ALIGNED: _enter("TCS.OSSA is page aligned", "a multiple of {e:#x}", "{f:#x}"),
    Check.OFSBASE_ALIGNED: _enter("TCS.OFSBASE is page aligned", "a multiple of {e:#x}", "{f:#x}"),
    Check.OGSBASE_ALIGNED: _enter("TCS.OGSBASE is page aligned", "a multiple of {e:#x}", "{f:#x}"),
    Check.TCS_FLAGS_RESERVED: _enter("reserved bits of TCS.FLAGS are zero", "at most {e:#x}", "{f:#x}"),
    Check.ENCLAVE_INITIALISED: _enter(
        "the enclave is initialised", "ATTRIBUTES.INIT", "ATTRIBUTES {f:#x}", "run EINIT first"
    ),
    Check.MODE64: _enter("the CPU's mode is ATTRIBUTES.MODE64BIT's", "MODE64BIT set", "ATTRIBUTES {f:#x}"),
    Check.XFRM_IN_XCR0: _enter("XFRM is a subset of XCR0", "bits of {e:#x}", "{f:#x}"),
    Check.CSSA_BELOW_NSSA: _enter(
        "an SSA frame is free",
        "CSSA below NSSA = {e}",
        "CSSA = {f}",
        "ERESUME, or give the TCS more SSA frames",
    ),
    Check.CSSA_NOT_ZERO: Rule(
        "ERESUME",
        "there is an exit to resume from",
        "CSSA at least 1",
        "CSSA = 0",
        _ERESUME,
        "EENTER instead",
    ),
    Check.SSA_IN_ELRANGE: _enter("the SSA frame lies inside ELRANGE", "an address inside {e:#x}", "{a:#x}"),
    Check.SSA_PAGING: _enter(
        "the XSAVE area's pages can be read and written",
        "a mapped page, RW",
        "mapping bits {f:#x} at {a:#x}",
        "map the SSA RW",
    ),
    Check.SSA_EPCM: _enter(
        "the XSAVE area's pages are REG, RW, accepted pages of this enclave",
        "type REG, RW",
        f"{_PAGE} at {{a:#x}}",
    ),
    Check.GPR_PAGING: _enter(
        "the page of GPRSGX can be read and written",
        "a mapped page, RW",
        "mapping bits {f:#x} at {a:#x}",
        "map the SSA RW",
    ),
    Check.GPR_EPCM: _enter(
        "the page of GPRSGX is a REG, RW, accepted page of this enclave",
        "type REG, RW",
        f"{_PAGE} at {{a:#x}}",
    ),
    Check.ENTRY_CANONICAL: _enter("BASEADDR + OENTRY is canonical", "a canonical address", "{f:#x}"),
    Check.FSBASE_CANONICAL: _enter("the FS base is canonical", "a canonical address", "{f:#x}"),
    Check.GSBASE_CANONICAL: _enter("the GS base is canonical", "a canonical address", "{f:#x}"),
    Check.TCS_NOT_BUSY: _enter(
        "no other logical processor is inside with this TCS",
        "TCS.STATE inactive",
        "active",
        "use another TCS, or wait",
    ),
    Check.RIP_CANONICAL: Rule(
        "ERESUME", "GPRSGX.RIP is canonical", "a canonical address", "{f:#x}", _ERESUME
    ),
    Check.XRSTOR_IMAGE: Rule(
        "ERESUME",
        "the frame's XSAVE area can be loaded",
        "XSTATE_BV in {e:#x}",
        "XSTATE_BV = {f:#x}",
        _ERESUME,
    ),
    Check.EXIT_TARGET_CANONICAL: Rule("EEXIT", "RBX is canonical", "a canonical address", "{f:#x}", _EEXIT),
    Check.PAGE_NOT_MAPPED: Rule(
        "access inside",
        "the process maps the page",
        "a mapping of the enclave",
        "no mapping at {a:#x}",
        _ACCESS,
        "mmap the range",
    ),
    Check.PAGE_VMA: Rule(
        "access inside",
        "the process's mapping allows the access",
        "permission {perm}",
        "mapping bits {f:#x} at {a:#x}",
        "kernel: arch/x86/mm/fault.c, access_error",
        "mprotect the page",
    ),
    Check.PAGE_ABSENT: Rule(
        "access inside", "the enclave has a page there", "a page added by EADD", "none at {a:#x}", _ACCESS
    ),
    Check.PAGE_EPCM: Rule(
        "access inside",
        "the EPCM allows the access",
        "type REG, permission {perm}",
        f"{_PAGE} at {{a:#x}}",
        _ACCESS,
    ),
    Check.PAGE_CEILING: Rule(
        "access inside",
        "the mapping asks no more than the page's ceiling",
        "a mapping within the permissions of ADD_PAGES",
        "a wider one at {a:#x}",
        "kernel: sgx/encl.c, sgx_encl_load_page_in_vma",
        "mmap with the page's own permissions",
    ),
    Check.OUTSIDE_ELRANGE: Rule(
        "access inside",
        "memory outside ELRANGE is mapped for the access",
        "a valid pointer",
        "{a:#x}",
        _ACCESS,
    ),
    Check.ILLEGAL_INSTRUCTION: Rule(
        "instruction inside",
        "the instruction is one that an enclave may use",
        "no system call, no I/O, no INT n, no segment load",
        "one of those",
        f"{SDM}, 'Illegal Instructions'",
        "leave the enclave for it",
    ),
    Check.FETCH_OUTSIDE: Rule(
        "instruction fetch",
        "code inside an enclave stays in ELRANGE",
        "an address inside {e:#x} bytes",
        "RIP = {f:#x}",
        _ACCESS,
    ),
    Check.EXCEPTION: Rule(
        "instruction inside",
        "the instruction completes",
        "no exception",
        "{vector}",
        f"{SDM}, 'Asynchronous Enclave Exits'",
    ),
}


def _page(packed: int) -> str:
    perm, page_type, state = packed & 0xFF, packed >> 8 & 0xFF, packed >> 16
    try:
        name = PageType(page_type).name
    except ValueError:
        name = f"type {page_type}"
    bits = "".join(letter if perm >> i & 1 else "-" for i, letter in enumerate("RWX"))
    extra = [flag.name or "" for flag in EpcmState if state & flag and flag is not EpcmState.VALID]
    return " ".join([name, bits, *extra])


def _vector(number: int) -> str:
    try:
        return Vector(number).mnemonic
    except ValueError:
        return f"vector {number}"


def reason_of(lp: LogicalProcessor) -> Reason:
    """What the thread's last refusal or exception was, in words."""
    rule = RULES[Check(lp.check)]
    wanted = "".join(letter for i, letter in enumerate("RWX") if lp.expected >> i & 1)
    values = {
        "e": lp.expected,
        "f": lp.found,
        "a": lp.address,
        "vector": _vector(lp.vector),
        "perm": wanted,
        "page": _page(lp.found),
    }
    return Reason(
        rule.operation,
        rule.rule,
        rule.expected.format(**values),
        rule.found.format(**values),
        rule.source,
        rule.remedy,
    )
