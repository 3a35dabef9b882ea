"""EINIT, step by step in the manual's order."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from swsgx.cpu.encls.einit import einit
from swsgx.cpu.faults import GeneralProtection, LeafResult, PageFault
from swsgx.cpu.keys import cmac, launch_key
from swsgx.identity.signer import PADDING, mrsigner, sign
from swsgx.identity.sigstruct import SigstructOptions, unsigned
from swsgx.isa.address import EpcAddr, Linaddr
from swsgx.isa.errors import SgxError
from swsgx.isa.flags import Attributes
from swsgx.isa.sigstruct import Einittoken, Sigstruct
from swsgx.isa.structs import Secs
from tests.make.leaves import Bench
from tests.make.world import BASE, a_secs, signing_key

DEBUG64 = Attributes.MODE64BIT | Attributes.DEBUG


def resigned(sigstruct: Sigstruct, **values: object) -> Sigstruct:
    """The same with other fields, signed again."""
    changed = Sigstruct.copy_of(bytes(sigstruct))
    for name, value in values.items():
        setattr(changed, name, value)
    return sign(changed, signing_key())


def spoilt(sigstruct: Sigstruct, **values: object) -> Sigstruct:
    """The same with other fields, not signed again."""
    changed = Sigstruct.copy_of(bytes(sigstruct))
    for name, value in values.items():
        setattr(changed, name, value)
    return changed


def test_a_good_sigstruct_initialises(bench: Bench) -> None:
    secs, _, _ = bench.enclave(a_secs(attributes=DEBUG64 | Attributes.KSS))
    options = SigstructOptions(
        attributes=DEBUG64 | Attributes.KSS,
        isvprodid=3,
        isvsvn=4,
        isvfamilyid=b"F" * 16,
        isvextprodid=b"E" * 16,
    )
    sig = bench.sigstruct(secs, options)
    bench.trust(sig)
    result = bench.einit(secs, sig)
    assert (result.rax, result.zf, result.cf, result.reason) == (0, False, False, None)
    frame = bench.cpu.epc.frame(secs)
    page, state = bench.cpu.secs(frame), bench.cpu.enclaves[frame]
    assert page.attributes == DEBUG64 | Attributes.KSS | Attributes.INIT
    assert (page.mrenclave, page.mrsigner) == (sig.enclavehash, mrsigner(sig))
    assert (page.isvprodid, page.isvsvn) == (3, 4)
    assert (state.isvfamilyid, state.isvextprodid, state.padding) == (b"F" * 16, b"E" * 16, PADDING)
    assert state.store.head.attributes == page.attributes


def test_after_any_error_it_can_be_tried_again(bench: Bench) -> None:
    secs, _, _ = bench.enclave()
    good = bench.sigstruct(secs)
    bench.trust(good)
    assert not bench.einit(secs, resigned(good, enclavehash=bytes(32))).ok
    assert not bench.einit(secs, spoilt(good, signature=bytes(384))).ok
    assert bench.einit(secs, good).ok


def test_before_commit_can_stop_it_and_nothing_changes(bench: Bench) -> None:
    secs, _, _ = bench.enclave()
    sig = bench.sigstruct(secs)
    bench.trust(sig)
    told: list[tuple[bytes, bytes]] = []

    def no(mrenclave: bytes, signer: bytes) -> None:
        told.append((mrenclave, signer))
        raise PermissionError

    args = (bench.place(sig.buffer), secs, bench.place(bytes(304), 512))
    before = bench.snapshot()
    with pytest.raises(PermissionError):
        einit(bench.cpu, bench.memory, *args, no)
    assert bench.snapshot() == before
    assert told == [(sig.enclavehash, mrsigner(sig))]
    assert einit(bench.cpu, bench.memory, *args).ok


# 1 to 3: operands.


@pytest.mark.parametrize(
    ("register", "shift", "rule"),
    [
        ("rbx", 512, "RBX is a multiple of 4096"),
        ("rcx", 512, "RCX is a multiple"),
        ("rdx", 64, "RDX is a multiple of 512"),
    ],
)
def test_operands_are_aligned(bench: Bench, register: str, shift: int, rule: str) -> None:
    secs, _, _ = bench.enclave()
    given = {
        "rbx": bench.place(bench.sigstruct(secs).buffer),
        "rcx": secs,
        "rdx": bench.place(bytes(304), 512),
    }
    given[register] += shift
    with bench.refuses(GeneralProtection, rule):
        einit(bench.cpu, bench.memory, Linaddr(given["rbx"]), EpcAddr(given["rcx"]), Linaddr(given["rdx"]))


def test_the_secs_is_in_the_epc(bench: Bench) -> None:
    with bench.refuses(PageFault, "RCX is in the EPC", bench.outside):
        einit(bench.cpu, bench.memory, Linaddr(0), bench.outside, Linaddr(0))


def test_sigstruct_and_token_are_readable(bench: Bench) -> None:
    secs, _, _ = bench.enclave()
    sig, token = bench.place(bench.sigstruct(secs).buffer), bench.place(bytes(304), 512)
    with bench.refuses(PageFault, "SIGSTRUCT is readable"):
        einit(bench.cpu, bench.memory, bench.unmapped, secs, token)
    with bench.refuses(PageFault, "EINITTOKEN is readable"):
        einit(bench.cpu, bench.memory, sig, secs, bench.unmapped)


# 4 to 6: the certificate in itself.


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"header": bytes(16)}, "SIGSTRUCT.HEADER is the constant"),
        ({"vendor": 1}, "SIGSTRUCT.VENDOR"),
        ({"header2": bytes(16)}, "SIGSTRUCT.HEADER2 is the constant"),
        ({"exponent": 65537}, "SIGSTRUCT.EXPONENT is 3"),
        ({"reserved_44": b"\1" + bytes(83)}, "reserved bytes"),
        ({"cet_attributes": b"\1"}, "reserved bytes"),
        ({"cet_attributes_mask": b"\1"}, "reserved bytes"),
        ({"reserved_910": b"\1\0"}, "reserved bytes"),
        ({"reserved_992": bytes(15) + b"\1"}, "reserved bytes"),
        ({"reserved_1028": b"\1" + bytes(11)}, "reserved bytes"),
    ],
)
def test_a_malformed_sigstruct_is_invalid_sig_struct(
    bench: Bench, values: dict[str, object], rule: str
) -> None:
    secs, _, _ = bench.enclave()
    good = bench.sigstruct(secs)
    bench.trust(good)
    bench.returns(bench.einit(secs, spoilt(good, **values)), SgxError.INVALID_SIG_STRUCT, rule)


def test_intel_as_vendor_is_fine(bench: Bench) -> None:
    secs, _, _ = bench.enclave()
    sig = resigned(bench.sigstruct(secs), vendor=0x8086)
    bench.trust(sig)
    assert bench.einit(secs, sig).ok


def test_a_pending_event_is_unmasked_event(bench: Bench) -> None:
    secs, _, _ = bench.enclave()
    sig = bench.sigstruct(secs)
    bench.trust(sig)
    pending = [True, True, False]
    bench.cpu.unmasked_event = lambda: pending.pop(0)
    for _ in range(2):
        bench.returns(bench.einit(secs, sig), SgxError.UNMASKED_EVENT, "no unmasked event is pending")
    assert bench.einit(secs, sig).ok


@pytest.mark.parametrize(
    "field", ["signature", "q1", "q2", "modulus", "enclavehash", "isvsvn", "date", "swdefined", "miscmask"]
)
def test_any_changed_byte_under_the_signature_is_invalid_signature(bench: Bench, field: str) -> None:
    secs, _, _ = bench.enclave()
    good = bench.sigstruct(secs)
    value = getattr(good, field)
    changed = value ^ 1 if isinstance(value, int) else bytes([value[0] ^ 1]) + value[1:]
    bench.returns(
        bench.einit(secs, spoilt(good, **{field: changed})), SgxError.INVALID_SIGNATURE, "SIGSTRUCT."
    )


# 7 to 10: the SECS.


def test_a_secs_in_use_is_a_gp(bench: Bench) -> None:
    secs, _, _ = bench.enclave()
    with bench.cpu.lock(secs), bench.refuses(GeneralProtection, "RCX is not in use"):
        bench.einit(secs, bench.sigstruct(secs))


def test_rcx_is_a_valid_secs(bench: Bench) -> None:
    secs, page, _ = bench.enclave()
    sig = bench.sigstruct(secs)
    for wrong in (page, bench.page()):
        with bench.refuses(PageFault, "RCX is a valid SECS page", wrong):
            bench.einit(wrong, sig)


@pytest.mark.parametrize("field", ["isvfamilyid", "isvextprodid"])
def test_extended_identities_need_kss(bench: Bench, field: str) -> None:
    secs, _, _ = bench.enclave()
    sig = resigned(bench.sigstruct(secs), **{field: b"\1" * 16})
    bench.trust(sig)
    rule = f"SIGSTRUCT.{field.upper()} is zero without KSS"
    bench.returns(bench.einit(secs, sig), SgxError.INVALID_SIG_STRUCT, rule)


def test_a_second_einit_is_a_gp(bench: Bench) -> None:
    secs, _, _ = bench.enclave(initialised=True)
    with bench.refuses(GeneralProtection, "the enclave is not initialised"):
        bench.einit(secs, bench.sigstruct(secs))


def test_a_measurement_in_use_is_a_gp(bench: Bench) -> None:
    secs, _, _ = bench.enclave()
    with bench.cpu.lock_measurement(secs), bench.refuses(GeneralProtection, "no other leaf extends"):
        bench.einit(secs, bench.sigstruct(secs))


# 11 to 14: what was built against what was signed.


def test_another_measurement_is_invalid_measurement(bench: Bench) -> None:
    secs, _, _ = bench.enclave()
    sig = bench.sigstruct(secs)
    bench.trust(sig)
    bench.eadd(secs, 0x2000)
    bench.returns(bench.einit(secs, sig), SgxError.INVALID_MEASUREMENT, "MRENCLAVE is SIGSTRUCT.ENCLAVEHASH")


def test_the_launch_key_attribute_is_for_the_launch_signer(bench: Bench) -> None:
    secs, _, _ = bench.enclave(a_secs(attributes=DEBUG64 | Attributes.EINITTOKEN_KEY))
    sig = bench.sigstruct(secs)
    bench.returns(
        bench.einit(secs, sig),
        SgxError.INVALID_ATTRIBUTE,
        "ATTRIBUTES.EINITTOKEN_KEY is for the launch signer",
    )
    bench.trust(sig)
    assert bench.einit(secs, sig).ok


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (SigstructOptions(attributes=Attributes.MODE64BIT, attributemask=(1 << 64) - 1), "ATTRIBUTES"),
        (SigstructOptions(attributes=DEBUG64 | Attributes.PROVISIONKEY), "ATTRIBUTES"),
        (SigstructOptions(attributes=DEBUG64 | Attributes.INIT), "ATTRIBUTES"),
        (SigstructOptions(attributes=DEBUG64, xfrm=7), "XFRM"),
        (SigstructOptions(attributes=DEBUG64, miscselect=1), "MISCSELECT"),
    ],
)
def test_what_the_masks_pin_must_agree(bench: Bench, options: SigstructOptions, name: str) -> None:
    secs, _, _ = bench.enclave()
    sig = bench.sigstruct(secs, options)
    bench.trust(sig)
    rule = f"SECS.{name} is SIGSTRUCT.{name} under its mask"
    bench.returns(bench.einit(secs, sig), SgxError.INVALID_ATTRIBUTE, rule)


@pytest.mark.parametrize(
    "options",
    [
        SigstructOptions(attributes=Attributes.MODE64BIT),
        SigstructOptions(attributes=0xFFFF, attributemask=0),
        SigstructOptions(xfrm=0x2E7, xfrmmask=3),
        SigstructOptions(miscselect=1, miscmask=0),
    ],
)
def test_what_the_masks_leave_open_may_differ(bench: Bench, options: SigstructOptions) -> None:
    secs, _, _ = bench.enclave()
    sig = bench.sigstruct(secs, options)
    bench.trust(sig)
    assert bench.einit(secs, sig).ok


# 15 to 21: launch control.


def test_without_a_token_the_signer_is_the_launch_signer(bench: Bench) -> None:
    secs, _, _ = bench.enclave()
    sig = bench.sigstruct(secs)
    bench.returns(
        bench.einit(secs, sig),
        SgxError.INVALID_EINITTOKEN,
        "without a token, MRSIGNER is IA32_SGXLEPUBKEYHASH",
    )


def test_without_a_token_nothing_else_in_it_is_looked_at(bench: Bench) -> None:
    secs, _, _ = bench.enclave()
    sig = bench.sigstruct(secs)
    bench.trust(sig)
    junk = Einittoken.of(valid=0xFFFF_FFFE, reserved_4=b"\1" * 44, cpusvnle=b"\xff" * 16, mac=b"m" * 16)
    assert bench.einit(secs, sig, junk).ok


def a_token(bench: Bench, sig: Sigstruct, secs: Secs, **values: object) -> Einittoken:
    """What a launch enclave of this machine gives."""
    given: dict[str, object] = {
        "valid": 1,
        "attributes": secs.attributes,
        "xfrm": secs.xfrm,
        "mrenclave": sig.enclavehash,
        "mrsigner": mrsigner(sig),
        "isvsvnle": 2,
        "keyid": b"k" * 32,
        "maskedattributesle": Attributes.INIT | Attributes.MODE64BIT | Attributes.EINITTOKEN_KEY,
    }
    token = Einittoken.of(**(given | values))
    key = launch_key(bench.cpu.secrets, token, bench.cpu.msrs.lepubkeyhash, PADDING)
    token.mac = cmac(key, token.maced_bytes())
    return token


def test_a_good_token_replaces_the_launch_signer(bench: Bench) -> None:
    secs = a_secs(attributes=Attributes.MODE64BIT)
    page, _, _ = bench.enclave(secs)
    sig = bench.sigstruct(page)
    assert bench.einit(page, sig, a_token(bench, sig, secs)).ok


def _broken_mac(token: Einittoken) -> None:
    token.mac = bytes(16)


def _other_keyid(token: Einittoken) -> None:
    token.keyid = bytes(32)


@pytest.mark.parametrize(
    ("values", "code", "rule"),
    [
        (
            {"maskedattributesle": Attributes.INIT | Attributes.DEBUG},
            SgxError.INVALID_EINITTOKEN,
            "a debug launch enclave's token is for debug enclaves",
        ),
        ({"valid": 3}, SgxError.INVALID_EINITTOKEN, "EINITTOKEN.VALID has only bit 0"),
        (
            {"reserved_4": b"\1" + bytes(43)},
            SgxError.INVALID_EINITTOKEN,
            "reserved bytes are zero (reserved_4)",
        ),
        (
            {"reserved_96": b"\1" + bytes(31)},
            SgxError.INVALID_EINITTOKEN,
            "reserved bytes are zero (reserved_96)",
        ),
        (
            {"reserved_160": b"\1" + bytes(31)},
            SgxError.INVALID_EINITTOKEN,
            "reserved bytes are zero (reserved_160)",
        ),
        (
            {"reserved_212": b"\1" + bytes(23)},
            SgxError.INVALID_EINITTOKEN,
            "reserved bytes are zero (reserved_212)",
        ),
        (
            {"cpusvnle": b"\1" + bytes(15)},
            SgxError.INVALID_CPUSVN,
            "EINITTOKEN.CPUSVNLE is not beyond CPUSVN",
        ),
        ({"mrenclave": bytes(32)}, SgxError.INVALID_MEASUREMENT, "EINITTOKEN.MRENCLAVE is the enclave's"),
        ({"mrsigner": bytes(32)}, SgxError.INVALID_MEASUREMENT, "EINITTOKEN.MRSIGNER is the enclave's"),
        ({"attributes": 0}, SgxError.INVALID_ATTRIBUTE, "EINITTOKEN.ATTRIBUTES is SECS.ATTRIBUTES"),
        ({"xfrm": 7}, SgxError.INVALID_ATTRIBUTE, "EINITTOKEN.XFRM is SECS.XFRM"),
    ],
)
def test_rules_for_the_token(bench: Bench, values: dict[str, object], code: SgxError, rule: str) -> None:
    secs = a_secs(attributes=Attributes.MODE64BIT)
    page, _, _ = bench.enclave(secs)
    sig = bench.sigstruct(page)
    bench.returns(bench.einit(page, sig, a_token(bench, sig, secs, **values)), code, rule)


@pytest.mark.parametrize("spoil", [_broken_mac, _other_keyid])
def test_the_token_is_of_this_machine(bench: Bench, spoil: Callable[[Einittoken], None]) -> None:
    secs = a_secs(attributes=Attributes.MODE64BIT)
    page, _, _ = bench.enclave(secs)
    sig = bench.sigstruct(page)
    token = a_token(bench, sig, secs)
    spoil(token)
    bench.returns(bench.einit(page, sig, token), SgxError.INVALID_EINITTOKEN, "EINITTOKEN.MAC fits")


def test_the_token_depends_on_the_launch_signer(bench: Bench) -> None:
    secs = a_secs(attributes=Attributes.MODE64BIT)
    page, _, _ = bench.enclave(secs)
    sig = bench.sigstruct(page)
    token = a_token(bench, sig, secs)
    bench.cpu.msrs.lepubkeyhash = bytes(32)
    bench.returns(bench.einit(page, sig, token), SgxError.INVALID_EINITTOKEN, "EINITTOKEN.MAC fits")


def test_the_order_is_the_manuals(bench: Bench) -> None:
    """From a call in which every rule is broken, rules are mended one after another."""
    secs = a_secs(attributes=Attributes.MODE64BIT | Attributes.EINITTOKEN_KEY)
    page, reg, _ = bench.enclave(secs)
    good = bench.sigstruct(page)
    options: dict[str, object] = {
        "isvfamilyid": b"\1" * 16,
        "enclavehash": bytes(32),
        "attributes": 0,
        "miscselect": 1,
    }
    bad_token: dict[str, object] = {
        "valid": 3,
        "maskedattributesle": Attributes.DEBUG,
        "reserved_4": b"\1" * 44,
        "cpusvnle": b"\1" * 16,
        "mrenclave": bytes(32),
        "attributes": 0,
    }

    def attempt(sig: Sigstruct, rcx: EpcAddr = page) -> LeafResult:
        return bench.einit(rcx, sig, a_token(bench, good, secs, **bad_token))

    everything = spoilt(resigned(good, **options), header=bytes(16), signature=bytes(384))
    pending = [True, False, False, False, False, False, False, False, False, False]
    bench.cpu.unmasked_event = lambda: bool(pending) and pending.pop(0)
    bench.returns(attempt(everything, reg), SgxError.INVALID_SIG_STRUCT, "HEADER")
    formed = spoilt(resigned(good, **options), signature=bytes(384))
    bench.returns(attempt(formed, reg), SgxError.UNMASKED_EVENT, "event")
    bench.returns(attempt(formed, reg), SgxError.INVALID_SIGNATURE, "SIGSTRUCT.")
    with bench.cpu.lock(reg), bench.refuses(GeneralProtection, "RCX is not in use"):
        attempt(resigned(good, **options), reg)
    with bench.refuses(PageFault, "RCX is a valid SECS page"):
        attempt(resigned(good, **options), reg)
    with bench.cpu.lock_measurement(page):
        bench.returns(attempt(resigned(good, **options)), SgxError.INVALID_SIG_STRUCT, "ISVFAMILYID")
        del options["isvfamilyid"]
        with bench.refuses(GeneralProtection, "no other leaf extends"):
            attempt(resigned(good, **options))
    steps = [
        ("enclavehash", SgxError.INVALID_MEASUREMENT, "ENCLAVEHASH"),
        ("trust", SgxError.INVALID_ATTRIBUTE, "EINITTOKEN_KEY"),
        ("attributes", SgxError.INVALID_ATTRIBUTE, "SECS.ATTRIBUTES"),
        ("miscselect", SgxError.INVALID_ATTRIBUTE, "SECS.MISCSELECT"),
    ]
    for mend, code, rule in steps:
        bench.returns(attempt(resigned(good, **options)), code, rule)
        if mend == "trust":
            bench.trust(good)
        else:
            del options[mend]
    token_steps = [
        ("maskedattributesle", SgxError.INVALID_EINITTOKEN, "a debug launch enclave"),
        ("valid", SgxError.INVALID_EINITTOKEN, "VALID"),
        ("reserved_4", SgxError.INVALID_EINITTOKEN, "reserved_4"),
        ("cpusvnle", SgxError.INVALID_CPUSVN, "CPUSVNLE"),
        ("mrenclave", SgxError.INVALID_MEASUREMENT, "EINITTOKEN.MRENCLAVE"),
        ("attributes", SgxError.INVALID_ATTRIBUTE, "EINITTOKEN.ATTRIBUTES"),
    ]
    for mend, code, rule in token_steps:
        bench.returns(attempt(good), code, rule)
        del bad_token[mend]
    assert attempt(good).ok


def test_the_options_of_a_signer_can_be_anything_if_masked_out(bench: Bench) -> None:
    secs, _, _ = bench.enclave()
    digest = bench.cpu.enclaves[bench.cpu.epc.frame(secs)].measurement.digest()
    options = SigstructOptions(attributes=0, attributemask=0, xfrm=0, xfrmmask=0, miscselect=0, miscmask=0)
    sig = sign(unsigned(digest, options), signing_key())
    bench.trust(sig)
    assert bench.einit(secs, sig).ok
    assert bench.cpu.secs(bench.cpu.epc.frame(secs)).baseaddr == BASE
