"""``swsgx keygen``."""

from __future__ import annotations

import stat
from pathlib import Path

from swsgx.identity.rsakey import load_private_key, load_public_key
from tests.make.command import Command


def test_a_key_is_rsa_3072_with_exponent_3_and_only_its_owner_can_read_it(swsgx: Command) -> None:
    assert swsgx("keygen", "-o", "k.pem", "--public", "p.pem").status == 0
    key = load_private_key(Path("k.pem").read_bytes())
    assert key.key_size == 3072
    assert key.public_key().public_numbers().e == 3
    assert stat.S_IMODE(Path("k.pem").stat().st_mode) == 0o600
    public = load_public_key(Path("p.pem").read_bytes())
    assert public.public_numbers() == key.public_key().public_numbers()


def test_without_a_file_the_key_goes_to_standard_output(swsgx: Command) -> None:
    load_private_key(swsgx("keygen").out.encode())


def test_a_key_is_not_overwritten_without_being_told_to(swsgx: Command) -> None:
    Path("k.pem").write_text("precious")
    assert "--force" in swsgx("keygen", "-o", "k.pem").refusal
    assert Path("k.pem").read_text() == "precious"
    assert swsgx("keygen", "-o", "k.pem", "--force").status == 0
    load_private_key(Path("k.pem").read_bytes())
