"""``swsgx sign``: every option arrives in its field, both ways of signing give the same bytes, and refusals."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from swsgx.identity.rsakey import load_private_key
from swsgx.identity.signature import verify
from swsgx.image.enclave import load_plan
from swsgx.isa.sigstruct import Sigstruct
from tests.make.command import Command
from tests.make.enclave import convention_elf

OPEN = 0xFFFF_FFFF_FFFF_FFFF


def signed(path: str = "o.sig") -> Sigstruct:
    return Sigstruct.copy_of(Path(path).read_bytes())


def test_a_signed_enclave_verifies_and_carries_its_measurement(
    swsgx: Command, enclave: Path, key: Path
) -> None:
    ran = swsgx("sign", enclave, "--key", key, "-o", "o.sig")
    assert (ran.status, ran.out, ran.err) == (0, "", "")
    assert verify(signed())
    assert signed().enclavehash == load_plan(enclave).measure().digest()


def test_the_defaults_pin_everything_but_debug(swsgx: Command, enclave: Path, key: Path) -> None:
    swsgx("sign", enclave, "-k", key, "-o", "o.sig")
    made = signed()
    assert (made.attributes, made.attributemask) == (4, OPEN & ~2)
    assert (made.xfrm, made.xfrmmask) == (3, OPEN)
    assert (made.miscselect, made.miscmask) == (0, 0xFFFF_FFFF)
    assert (made.isvprodid, made.isvsvn, made.vendor, made.swdefined) == (0, 0, 0, 0)


def test_what_the_file_asks_for_is_signed(swsgx: Command, key: Path) -> None:
    Path("x.elf").write_bytes(convention_elf(attributes=0x14, xfrm=0xE7, miscselect=1).build())
    assert swsgx("sign", "x.elf", "-k", key, "-o", "o.sig").status == 0
    assert (signed().attributes, signed().xfrm, signed().miscselect) == (0x14, 0xE7, 1)


ID = "00112233445566778899aabbccddeeff"
OPTIONS: dict[str, tuple[list[str], dict[str, object]]] = {
    "attributes": (["--attributes", "0x24"], {"attributes": 0x24}),
    "attributes mask": (["--attributes-mask", "0xF"], {"attributemask": 0xF}),
    "xfrm": (["--xfrm", "7", "--xfrm-mask", "0x10"], {"xfrm": 7, "xfrmmask": 0x10}),
    "miscselect": (["--miscselect", "1", "--miscselect-mask", "0"], {"miscselect": 1, "miscmask": 0}),
    "debug allow": (["--attributes-mask", hex(OPEN), "--debug", "allow"], {"attributemask": OPEN & ~2}),
    "debug require": (["--debug", "require"], {"attributes": 6, "attributemask": OPEN}),
    "debug forbid": (["--attributes", "6", "--debug", "forbid"], {"attributes": 4, "attributemask": OPEN}),
    "product": (["--isvprodid", "0xFFFF", "--isvsvn", "513"], {"isvprodid": 0xFFFF, "isvsvn": 513}),
    "kss": (
        ["--kss", "--isvfamilyid", ID, "--isvextprodid", ID[::-1]],
        {"attributes": 0x84, "isvfamilyid": bytes.fromhex(ID), "isvextprodid": bytes.fromhex(ID[::-1])},
    ),
    "zero ids need no kss": (["--isvfamilyid", "00" * 16], {"attributes": 4, "isvfamilyid": bytes(16)}),
    "date": (["--date", "2024-02-29"], {"date": 0x20240229}),
    "date as in the field": (["--date", "20240811"], {"date": 0x20240811}),
    "vendor": (["--vendor", "0x8086", "--swdefined", "0x10"], {"vendor": 0x8086, "swdefined": 0x10}),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_arrives_in_its_field(swsgx: Command, enclave: Path, key: Path, name: str) -> None:
    words, fields = OPTIONS[name]
    assert swsgx("sign", enclave, "-k", key, "-o", "o.sig", *words).status == 0
    made = signed()
    assert {field: getattr(made, field) for field in fields} == fields
    assert verify(made).rsa


def test_the_date_is_that_of_source_date_epoch(
    swsgx: Command, enclave: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1709164800")
    swsgx("sign", enclave, "-k", key, "-o", "o.sig")
    assert signed().date == 0x20240229
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    assert "SOURCE_DATE_EPOCH" in swsgx("sign", enclave, "-k", key, "-o", "o.sig").refusal


def test_the_same_input_gives_the_same_bytes(swsgx: Command, enclave: Path, key: Path) -> None:
    for name in ("a", "b"):
        swsgx("sign", enclave, "-k", key, "-o", name, "--date", "2024-01-01")
    assert Path("a").read_bytes() == Path("b").read_bytes()


# In two steps


def raw_signature(key: Path, data: bytes) -> bytes:
    return load_private_key(key.read_bytes()).sign(data, padding.PKCS1v15(), hashes.SHA256())


def test_two_steps_give_the_bytes_of_one(swsgx: Command, enclave: Path, keys: Path) -> None:
    options = ["--isvsvn", "7", "--debug", "forbid"]
    one = [*options, "--date", "2024-02-29"]
    assert swsgx("sign", enclave, "-k", keys / "key.pem", "-o", "one.sig", *one).status == 0
    assert swsgx("sign", enclave, "--to-be-signed", "tbs", *one).status == 0
    assert Path("tbs").read_bytes() == signed("one.sig").signed_bytes()
    Path("s384").write_bytes(raw_signature(keys / "key.pem", Path("tbs").read_bytes()))
    second = ["--signature", "s384", "--public-key", keys / "pub.pem"]
    assert swsgx("sign", enclave, "--unsigned", "tbs", *second, "-o", "two.sig", *options).status == 0
    assert Path("two.sig").read_bytes() == Path("one.sig").read_bytes()
    assert swsgx("sign", enclave, *second, "-o", "three.sig", *one).status == 0
    assert Path("three.sig").read_bytes() == Path("one.sig").read_bytes()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"options": ["--isvsvn", "8"]}, "tbs: SIGSTRUCT: the signed bytes are those of this enclave"),
        ({"signature": b"x" * 383}, "s384: signing: the signature is raw RSA-3072"),
        ({"signature": b"\0" * 384}, "s384: signing: the signature is over these bytes"),
        # Not below that key's modulus, or not by that key: as the two keys happen to be.
        ({"public": "otherpub.pem"}, "s384: signing: the signature is "),
        ({"public": "key.pem"}, "key.pem: signing key: the file holds a public RSA key"),
        ({"unsigned": b"x" * 255}, "tbs: SIGSTRUCT: the signed bytes are 0 to 127"),
    ],
)
def test_a_second_step_that_does_not_fit_is_refused(
    swsgx: Command, enclave: Path, keys: Path, change: dict[str, object], words: str
) -> None:
    swsgx("sign", enclave, "--to-be-signed", "tbs", "--isvsvn", "7")
    Path("s384").write_bytes(raw_signature(keys / "key.pem", Path("tbs").read_bytes()))
    for file, name in (("signature", "s384"), ("unsigned", "tbs")):
        data = change.get(file)
        if isinstance(data, bytes):
            Path(name).write_bytes(data)
    options = change.get("options", ["--isvsvn", "7"])
    public = keys / str(change.get("public", "pub.pem"))
    second = ["--unsigned", "tbs", "--signature", "s384", "--public-key", public, "-o", "o.sig"]
    assert isinstance(options, list)
    ran = swsgx("sign", enclave, *second, *options)
    assert ran.status == 1
    assert words in ran.refusal
    assert not Path("o.sig").exists()


def test_a_signature_in_little_endian_order_is_recognised(swsgx: Command, enclave: Path, keys: Path) -> None:
    swsgx("sign", enclave, "--to-be-signed", "tbs")
    Path("s384").write_bytes(raw_signature(keys / "key.pem", Path("tbs").read_bytes())[::-1])
    ran = swsgx(
        "sign",
        enclave,
        "--unsigned",
        "tbs",
        "--signature",
        "s384",
        "--public-key",
        keys / "pub.pem",
        "-o",
        "o",
    )
    assert "little-endian" in ran.refusal


# Refusals


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["-k", "KEY"],
        ["-o", "o.sig"],
        ["-o", "o.sig", "--signature", "s"],
        ["-o", "o.sig", "--public-key", "p"],
        ["-o", "o.sig", "-k", "KEY", "--signature", "s", "--public-key", "p"],
        ["-o", "o.sig", "-k", "KEY", "--unsigned", "u"],
        ["-o", "o.sig", "--to-be-signed", "t"],
        ["-k", "KEY", "--to-be-signed", "t"],
        ["--signature", "s", "--to-be-signed", "t"],
        ["-o", "o.sig", "--signature", "s", "--public-key", "p", "--unsigned", "u", "--date", "2024-01-01"],
        ["-o", "o.sig", "-k", "KEY", "--attributes", "5"],
        ["-o", "o.sig", "-k", "KEY", "--isvfamilyid", ID],
        ["-o", "o.sig", "-k", "KEY", "--isvextprodid", ID],
        ["-o", "o.sig", "-k", "KEY", "--isvfamilyid", ID[2:]],
        ["-o", "o.sig", "-k", "KEY", "--isvfamilyid", "zz" * 16],
        ["-o", "o.sig", "-k", "KEY", "--isvprodid", "65536"],
        ["-o", "o.sig", "-k", "KEY", "--isvsvn", "-1"],
        ["-o", "o.sig", "-k", "KEY", "--miscselect", "0x100000000"],
        ["-o", "o.sig", "-k", "KEY", "--xfrm", "0x10000000000000000"],
        ["-o", "o.sig", "-k", "KEY", "--xfrm", "three"],
        ["-o", "o.sig", "-k", "KEY", "--debug", "maybe"],
        ["-o", "o.sig", "-k", "KEY", "--date", "2023-02-29"],
        ["-o", "o.sig", "-k", "KEY", "--date", "29.02.2024"],
        ["-o", "o.sig", "-k", "KEY", "--date", "2024-2-9"],
    ],
)
def test_options_that_contradict_each_other_are_status_2(
    swsgx: Command, enclave: Path, key: Path, words: list[str]
) -> None:
    ran = swsgx("sign", enclave, *(key if word == "KEY" else word for word in words))
    assert ran.status == 2
    assert ran.refusal.startswith("swsgx sign: ")
    assert os.listdir() == []


def test_a_32_bit_enclave_is_not_signed(swsgx: Command, enclave: Path, key: Path) -> None:
    assert "MODE64BIT" in swsgx("sign", enclave, "-k", key, "-o", "o", "--attributes", "0").refusal


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, password: bytes | None = None) -> bytes:
    lock: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        lock = serialization.BestAvailableEncryption(password)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)


@pytest.fixture(scope="module")
def bad_keys(keys: Path) -> dict[str, tuple[bytes, str]]:
    good = (keys / "key.pem").read_bytes()
    return {
        "empty": (b"", "a PEM file"),
        "not PEM": (b"\0\1\2", "a PEM file"),
        "text": (b"hello\n", "a PEM file"),
        "public only": ((keys / "pub.pem").read_bytes(), "a private RSA key"),
        "cut": (good[: len(good) // 2], "can be decoded"),
        "another exponent": (pem(rsa.generate_private_key(65537, 3072)), "exponent is 3"),
        "2048 bits": (pem(rsa.generate_private_key(3, 2048)), "3072 bits"),
        "elliptic": (pem(ec.generate_private_key(ec.SECP256R1())), "the key is for RSA"),
        "encrypted": (pem(load_private_key(good), b"secret"), "not encrypted"),
        "large": (b"x" * (1 << 21), "sensible size"),
    }


@pytest.mark.parametrize(
    "name",
    [
        "empty",
        "not PEM",
        "text",
        "public only",
        "cut",
        "another exponent",
        "2048 bits",
        "elliptic",
        "encrypted",
        "large",
    ],
)
def test_a_key_that_cannot_sign_is_refused_by_its_rule(
    swsgx: Command, enclave: Path, bad_keys: dict[str, tuple[bytes, str]], name: str
) -> None:
    data, words = bad_keys[name]
    Path("bad.pem").write_bytes(data)
    ran = swsgx("sign", enclave, "-k", "bad.pem", "-o", "o.sig")
    assert ran.status == 1
    assert ran.refusal.startswith("swsgx sign: bad.pem: ")
    assert words in ran.refusal
    assert not Path("o.sig").exists()


def test_a_key_that_is_not_there_is_named(swsgx: Command, enclave: Path) -> None:
    assert (
        swsgx("sign", enclave, "-k", "no.pem", "-o", "o").refusal
        == "swsgx sign: no.pem: No such file or directory"
    )
