"""``docs/question.md``: each command of it is run as it stands, and says what is written there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.make.native_enclave import NEEDS_GCC
from tests.make.supervised import environment

pytestmark = NEEDS_GCC


def steps(text: str) -> Iterator[tuple[str, list[str]]]:
    """The commands of its console blocks, each with what is printed."""
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for command, _, printed in (part.partition("\n") for part in block.split("$ ")[1:] if part):
            yield command, printed.splitlines()


def pattern(lines: list[str]) -> str:
    """What matches output: ``...`` is anything, in a line; alone in one, any number of lines."""
    words = [
        r"(.*\n)*?" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*") + "\n" for line in lines
    ]
    return "".join(words)


def test_blocks_are_found(checkout: Path) -> None:
    found = list(steps((checkout / "docs/question.md").read_text()))
    assert len(found) >= 10
    assert all(not command.startswith("$") for command, _ in found)


@pytest.fixture
def folder(checkout: Path, tmp_path: Path) -> Path:
    """``build/examples`` of a checkout in which ``make run`` has been run, with the enclave signed."""
    built = checkout / "build" / "examples"
    place = tmp_path / "build" / "examples"
    place.mkdir(parents=True)
    shutil.copytree(checkout / "examples" / "question", tmp_path / "examples" / "question")
    shutil.copy(built / "host", place)
    swsgx = place / "swsgx"
    swsgx.write_text(
        f"#!/bin/sh\nexec {sys.executable} -c 'from swsgx.cli.entry import main; main()' \"$@\"\n"
    )
    swsgx.chmod(0o755)
    for words in (
        ["keygen", "-o", "key.pem"],
        ["convert", built / "compute.elf", "-o", "compute.sgxs"],
        ["sign", "compute.sgxs", "-k", "key.pem", "-o", "compute.sig"],
    ):
        subprocess.run([swsgx, *words], cwd=place, env=environment(), check=True, capture_output=True)
    return place


def test_all_commands_say_what_is_written(checkout: Path, folder: Path, can_supervise: None) -> None:
    script, expected = ["export PATH=$PWD:$PATH"], []
    for number, (command, printed) in enumerate(steps((checkout / "docs/question.md").read_text())):
        script += [f"{{ {command}\n}} > said-{number} 2>&1"]
        expected.append((command, printed))
    subprocess.run(["bash", "-c", "\n".join(script)], cwd=folder, env=environment(), timeout=100, check=False)
    for number, (command, printed) in enumerate(expected):
        said = (folder / f"said-{number}").read_text()
        assert re.fullmatch(pattern(printed), said), f"$ {command}\n{said}"
