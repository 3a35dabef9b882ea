"""A folder with the files of the small programs' enclave, and ``swsgx run`` under a policy there."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.make import supervised
from tests.make.sgx_program import Programs, enclave_source

__all__ = ["Policed", "policed", "quoted"]


@dataclass(frozen=True)
class Policed:
    """Where files and programs are.

    Attributes:
        folder: it has the enclave's code in ``code.bin``, and its SIGSTRUCT in ``enclave.sig``.
        programs: of ``tests/programs/sgx``.
    """

    folder: Path
    programs: Programs

    def write(self, name: str, text: str) -> Path:
        """A file with ``{folder}`` replaced by the pattern of this one."""
        file = self.folder / name
        file.write_text(text.replace("{folder}", quoted(self.folder)), encoding="utf-8")
        return file

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
    (folder / "code.bin").write_bytes((programs.enclave / "image").read_bytes()[:end])
    shutil.copy(programs.enclave / "sigstruct", folder / "enclave.sig")
    return Policed(folder, programs)
