"""A folder with the files of the small programs' enclave, and ``swsgx run`` under a policy there."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from swsgx.isa.address import PAGE_SIZE
from tests.make import supervised
from tests.make.sgx_program import Programs, enclave_source

__all__ = ["Policed", "policed", "quoted"]

_SIGNATURES = {
    "enclave": "sigstruct",
    "loose": "sigstruct_loose",
    "wrong": "sigstruct_loose",
    "unmeasured": "sigstruct_unmeasured",
    "entry": "sigstruct_entry",
}


@dataclass(frozen=True)
class Policed:
    """Where files and programs are.

    Attributes:
        folder: it has the enclave's code in ``code.bin`` and once more in ``plain.bin``, pages of other contents, and a
            SIGSTRUCT for each enclave of ``policy_*.c``.
        programs: of ``tests/programs/sgx``.
    """

    folder: Path
    programs: Programs

    def write(self, name: str, text: str) -> Path:
        """A file with ``{folder}`` replaced by the pattern of this one."""
        file = self.folder / name
        file.write_text(text.replace("{folder}", quoted(self.folder)), encoding="utf-8")
        return file

    def build(self, name: str) -> Path:
        """A program; in the folder there are copies of it, called ``app`` and ``stranger``."""
        program = self.programs.build(f"{name}.c")
        for copy in ("app", "stranger"):
            shutil.copy(program, self.folder / copy)
        return program

    def run(self, options: Sequence[str | Path], program: Path, *words: str) -> str:
        """Run a program to its good end; what it says."""
        done = self.swsgx("run", *options, "--", program, *words)
        if done.stdout.startswith("EXIT-SKIP"):
            pytest.skip(done.stdout.partition(" ")[2].strip())
        assert (done.returncode, done.stderr) == (0, ""), done.stdout[-2000:] + done.stderr[-2000:]
        assert done.stdout.endswith("EXIT-SUCCESS\n"), done.stdout[-2000:]
        return done.stdout

    def swsgx(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command of swsgx to its end."""
        command = [*supervised.swsgx_run()[:3], *map(str, words)]
        given: dict[str, Any] = {"env": supervised.environment(), "cwd": self.folder, "timeout": 100}
        return subprocess.run(command, capture_output=True, text=True, check=False, **given)


def quoted(path: Path) -> str:
    """A path as a pattern that matches it only."""
    return re.sub(r"[^\w/-]", lambda sign: f"[{sign.group()}]", str(path))


def policed(folder: Path, programs: Programs) -> Policed:
    """Lay out the files."""
    folder.chmod(0o755)
    end = max(run.end for run in enclave_source().build().plan.entries)
    code = (programs.enclave / "image").read_bytes()[:end]
    files = {"code": code, "plain": code, "zeros": bytes(2 * PAGE_SIZE)}
    files["pages"] = b"".join(bytes([1 + page]) * PAGE_SIZE for page in range(8))
    for name, contents in files.items():
        (folder / f"{name}.bin").write_bytes(contents)
    for name, signature in _SIGNATURES.items():
        shutil.copy(programs.enclave / signature, folder / f"{name}.sig")
    return Policed(folder, programs)
