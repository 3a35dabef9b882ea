"""Files that commands write: whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from swsgx.cli.output import atomic_file, write_file
from tests.make.command import Command


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_failure_leaves_the_old_file_and_no_other() -> None:
    Path("f").write_bytes(b"old")
    with pytest.raises(TypeError), atomic_file("f") as file:
        file.writelines([b"half", None])  # type: ignore[list-item]
    assert Path("f").read_bytes() == b"old"
    assert os.listdir() == ["f"]


def test_a_failure_makes_no_new_file() -> None:
    with pytest.raises(KeyboardInterrupt), atomic_file("f"):
        raise KeyboardInterrupt
    assert os.listdir() == []


def test_permissions_follow_the_umask() -> None:
    before = os.umask(0o027)
    try:
        write_file("f", b"x")
        write_file("k", b"x", 0o600)
    finally:
        os.umask(before)
    assert stat.S_IMODE(Path("f").stat().st_mode) == 0o640
    assert stat.S_IMODE(Path("k").stat().st_mode) == 0o600


def test_a_symbolic_link_stays_one() -> None:
    Path("real").write_bytes(b"old")
    Path("link").symlink_to("real")
    write_file("link", b"new")
    assert Path("link").is_symlink()
    assert Path("real").read_bytes() == b"new"


def test_a_device_is_written_and_not_replaced() -> None:
    write_file("/dev/null", b"x")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_pipe_is_written_and_not_replaced() -> None:
    os.mkfifo("p")
    reader = os.open("p", os.O_RDONLY | os.O_NONBLOCK)
    write_file("p", b"through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert stat.S_ISFIFO(Path("p").stat().st_mode)


@pytest.mark.parametrize("path", ["no/such/folder/f", ".", "file/f"])
def test_a_place_that_cannot_be_written_is_named(swsgx: Command, enclave: Path, key: Path, path: str) -> None:
    Path("file").write_bytes(b"")
    ran = swsgx("sign", enclave, "-k", key, "-o", path)
    assert ran.status == 1
    assert ran.refusal.startswith(f"swsgx sign: {path}: ")
    assert os.listdir() == ["file"]


def test_a_full_disk_is_an_error_and_not_half_a_file(swsgx: Command, enclave: Path, key: Path) -> None:
    ran = swsgx("sign", enclave, "-k", key, "-o", "/dev/full")
    assert ran.status == 1
    assert "No space left" in ran.refusal
