"""EINIT: close an enclave's construction and make it enterable. Source: SDM, "EINIT"."""

from __future__ import annotations

from collections.abc import Callable

from swsgx.cpu.faults import SUCCESS, LeafResult
from swsgx.cpu.keys import cmac, launch_key
from swsgx.cpu.machine import Cpu
from swsgx.cpu.memory import LinearMemory
from swsgx.cpu.operation import Operation, encls_leaf
from swsgx.identity.signature import PADDING, header_violation, mrsigner, q_violation
from swsgx.isa.address import PAGE_SIZE, EpcAddr, Linaddr
from swsgx.isa.errors import SgxError
from swsgx.isa.flags import Attributes
from swsgx.isa.leaves import Encls
from swsgx.isa.sigstruct import Einittoken, Sigstruct
from swsgx.isa.structs import Secs

__all__ = ["einit"]

OP = Operation(Encls.EINIT)

#: Token bytes that must be zero, by field.
_TOKEN_RESERVED = ("reserved_4", "reserved_96", "reserved_160", "reserved_212")


@encls_leaf(OP)
def einit(
    cpu: Cpu,
    memory: LinearMemory,
    sigstruct: Linaddr,
    secs: EpcAddr,
    token: Linaddr,
    before_commit: Callable[[bytes, bytes], None] | None = None,
) -> LeafResult:
    """Compare what was built with what was signed; if they agree, set ATTRIBUTES.INIT and the identity.

    Args:
        memory: where SIGSTRUCT and EINITTOKEN are.
        sigstruct: linear address, 4 KiB aligned (RBX).
        secs: the enclave's SECS (RCX).
        token: linear address of an EINITTOKEN, 512-byte aligned; all zero where the signer's hash is in
            IA32_SGXLEPUBKEYHASH0..3 (RDX).
        before_commit: no part of the processor: called with MRENCLAVE and MRSIGNER when EINIT is about to
            succeed; what it raises passes through, and nothing was changed.

    Returns:
        Success, or INVALID_SIG_STRUCT, INVALID_SIGNATURE, INVALID_MEASUREMENT, INVALID_ATTRIBUTE,
        INVALID_EINITTOKEN, INVALID_CPUSVN, UNMASKED_EVENT. EINIT can be tried again after any of them.

    Raises:
        GeneralProtection: misaligned operand, SECS in use, enclave already initialised.
        PageFault: operand not readable, RCX not in the EPC or not a SECS.
    """
    # Operands.
    OP.aligned("RBX", sigstruct, PAGE_SIZE)
    OP.aligned("RCX", secs, PAGE_SIZE)
    OP.aligned("RDX", token, 512)
    frame = OP.in_epc(cpu, "RCX", secs)
    sig = Sigstruct(OP.read(memory, "SIGSTRUCT", sigstruct, Sigstruct.size_of))
    tok = Einittoken(OP.read(memory, "EINITTOKEN", token, Einittoken.size_of))

    # The certificate in itself.
    broken = header_violation(sig)
    if broken is not None:
        return LeafResult(SgxError.INVALID_SIG_STRUCT, zf=True, reason=broken)
    if cpu.unmasked_event():
        return OP.code(
            SgxError.UNMASKED_EVENT, "no unmasked event is pending", "none", "one", remedy="try again"
        )
    broken = q_violation(sig)
    if broken is not None:
        return LeafResult(SgxError.INVALID_SIGNATURE, zf=True, reason=broken)

    # The enclave.
    OP.unlocked(cpu, "RCX", frame)
    if not cpu.is_secs(frame):
        raise OP.pf(secs, "RCX is a valid SECS page", "VALID=1, PT_SECS", "another page, or none")
    page = cpu.secs(frame)
    if not page.attributes & Attributes.KSS:
        for name, value in (("ISVFAMILYID", sig.isvfamilyid), ("ISVEXTPRODID", sig.isvextprodid)):
            if any(value):
                return OP.code(
                    SgxError.INVALID_SIG_STRUCT, f"SIGSTRUCT.{name} is zero without KSS", "zero", value.hex()
                )
    if page.attributes & Attributes.INIT:
        raise OP.gp("the enclave is not initialised", "ATTRIBUTES.INIT = 0", "ATTRIBUTES.INIT = 1")
    if cpu.is_measuring(frame):
        raise OP.gp(
            "no other leaf extends the measurement",
            "MRENCLAVE not in use",
            "MRENCLAVE in use",
            remedy="try again",
        )
    state = cpu.enclaves[frame]
    mrenclave = state.measurement.digest()
    signer = mrsigner(sig)
    refused = _agreement(cpu, page, sig, mrenclave, signer) or _launch(cpu, page, tok, mrenclave, signer)
    if refused is not None:
        return refused

    if before_commit is not None:
        before_commit(mrenclave, signer)

    # Commit.
    page.mrenclave = mrenclave
    page.mrsigner = signer
    page.isvprodid = sig.isvprodid
    page.isvsvn = sig.isvsvn
    state.isvfamilyid = sig.isvfamilyid
    state.isvextprodid = sig.isvextprodid
    state.padding = PADDING
    page.attributes |= Attributes.INIT
    state.store.head.attributes = page.attributes
    state.store.changed()
    return SUCCESS


def _agreement(cpu: Cpu, page: Secs, sig: Sigstruct, mrenclave: bytes, signer: bytes) -> LeafResult | None:
    """What was built against what was signed."""
    if mrenclave != sig.enclavehash:
        return OP.code(
            SgxError.INVALID_MEASUREMENT,
            "MRENCLAVE is SIGSTRUCT.ENCLAVEHASH",
            sig.enclavehash.hex(),
            mrenclave.hex(),
            remedy="the pages, their order, SIZE or SSAFRAMESIZE differ from what was signed",
        )
    if page.attributes & Attributes.EINITTOKEN_KEY and signer != cpu.msrs.lepubkeyhash:
        return OP.code(
            SgxError.INVALID_ATTRIBUTE,
            "ATTRIBUTES.EINITTOKEN_KEY is for the launch signer",
            cpu.msrs.lepubkeyhash.hex(),
            signer.hex(),
        )
    for name, mask, ours, signed in (
        ("ATTRIBUTES", sig.attributemask, page.attributes, sig.attributes),
        ("XFRM", sig.xfrmmask, page.xfrm, sig.xfrm),
        ("MISCSELECT", sig.miscmask, page.miscselect, sig.miscselect),
    ):
        if ours & mask != signed & mask:
            return OP.code(
                SgxError.INVALID_ATTRIBUTE,
                f"SECS.{name} is SIGSTRUCT.{name} under its mask",
                f"{signed & mask:#x} under mask {mask:#x}",
                f"{ours & mask:#x} (SECS.{name} {ours:#x})",
            )
    return None


def _launch(cpu: Cpu, page: Secs, token: Einittoken, mrenclave: bytes, signer: bytes) -> LeafResult | None:
    """Launch control: by the hash in the registers, or by a launch enclave's token."""
    hash_ = cpu.msrs.lepubkeyhash
    if not token.valid & 1:
        if signer != hash_:
            return OP.code(
                SgxError.INVALID_EINITTOKEN,
                "without a token, MRSIGNER is IA32_SGXLEPUBKEYHASH",
                hash_.hex(),
                signer.hex(),
                remedy="write the signer's hash to the registers, or get a token",
            )
        return None
    if token.maskedattributesle & Attributes.DEBUG and not page.attributes & Attributes.DEBUG:
        return OP.code(
            SgxError.INVALID_EINITTOKEN,
            "a debug launch enclave's token is for debug enclaves",
            "ATTRIBUTES.DEBUG = 1",
            page.attributes,
        )
    if token.valid != 1:
        return OP.code(SgxError.INVALID_EINITTOKEN, "EINITTOKEN.VALID has only bit 0", 1, token.valid)
    for name in _TOKEN_RESERVED:
        if any(getattr(token, name)):
            return OP.code(
                SgxError.INVALID_EINITTOKEN,
                f"EINITTOKEN reserved bytes are zero ({name})",
                "zero",
                "not zero",
            )
    if any(theirs > ours for theirs, ours in zip(token.cpusvnle, cpu.cpusvn, strict=True)):
        return OP.code(
            SgxError.INVALID_CPUSVN,
            "EINITTOKEN.CPUSVNLE is not beyond CPUSVN",
            cpu.cpusvn.hex(),
            token.cpusvnle.hex(),
        )
    key = launch_key(cpu.secrets, token, hash_, PADDING)
    mac = cmac(key, token.maced_bytes())
    if mac != token.mac:
        return OP.code(
            SgxError.INVALID_EINITTOKEN,
            "EINITTOKEN.MAC fits the launch key",
            "this machine's MAC",
            token.mac.hex(),
        )
    for name, ours, theirs in (
        ("MRENCLAVE", mrenclave, token.mrenclave),
        ("MRSIGNER", signer, token.mrsigner),
    ):
        if ours != theirs:
            return OP.code(
                SgxError.INVALID_MEASUREMENT, f"EINITTOKEN.{name} is the enclave's", ours.hex(), theirs.hex()
            )
    for name, value, wanted in (
        ("ATTRIBUTES", token.attributes, page.attributes),
        ("XFRM", token.xfrm, page.xfrm),
    ):
        if value != wanted:
            return OP.code(SgxError.INVALID_ATTRIBUTE, f"EINITTOKEN.{name} is SECS.{name}", wanted, value)
    return None
