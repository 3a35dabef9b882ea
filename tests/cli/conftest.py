"""What the tests of commands share: the command, a folder, a key, and enclaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from swsgx.identity.rsakey import generate_key, private_pem, public_pem
from tests.make.command import Command
from tests.make.enclave import convention_elf, page, selftest_elf, stream


@pytest.fixture
def swsgx(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """The command, run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    monkeypatch.delenv("SWSGX_TRACEBACK", raising=False)
    return Command(capsys)


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``key.pem`` and ``pub.pem``, and another pair, ``other.pem`` and ``otherpub.pem``."""
    folder = tmp_path_factory.mktemp("keys")
    for private, public in (("key.pem", "pub.pem"), ("other.pem", "otherpub.pem")):
        key = generate_key()
        (folder / private).write_bytes(private_pem(key))
        (folder / public).write_bytes(public_pem(key.public_key()))
    return folder


@pytest.fixture
def key(keys: Path) -> Path:
    """A signing key."""
    return keys / "key.pem"


@pytest.fixture(scope="session")
def enclaves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``ours.elf``, ``selftest.elf`` and ``stream.sgxs``."""
    folder = tmp_path_factory.mktemp("enclaves")
    (folder / "ours.elf").write_bytes(convention_elf().build())
    (folder / "selftest.elf").write_bytes(selftest_elf().build())
    (folder / "stream.sgxs").write_bytes(stream(page(0, 0x205), page(0x1000, 0x100), page(0x2000)))
    return folder


@pytest.fixture
def enclave(enclaves: Path) -> Path:
    """An enclave of our own convention."""
    return enclaves / "ours.elf"
