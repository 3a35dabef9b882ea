"""Running programs under ``swsgx run`` as a user would, and compiling small ones to run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["compiled", "environment", "options", "run", "swsgx_run"]

_SOURCE = Path(__file__).resolve().parents[2] / "src"
#: Options that each ``swsgx run`` gets.
options: list[str] = []


def swsgx_run() -> list[str]:
    """What stands before a program and its arguments."""
    return [sys.executable, "-c", "from swsgx.cli.entry import main; main()", "run", *options, "--"]


def environment() -> dict[str, str]:
    """Ours, with the checkout's swsgx."""
    return {**os.environ, "PYTHONPATH": str(_SOURCE), "SWSGX_TRACEBACK": "1"}


def run(words: Sequence[str | Path], under: bool = True, **how: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, ``under`` supervision or without."""
    command = [*(swsgx_run() if under else []), *map(str, words)]
    return subprocess.run(
        command, **{"env": environment(), "capture_output": True, "text": True, "timeout": 60, **how}
    )


def compiled(source: str, folder: Path, *flags: str, name: str = "program") -> Path:
    """A C program, built in ``folder``."""
    (folder / f"{name}.c").write_text(source, encoding="utf-8")
    program = folder / name
    subprocess.run(
        ["cc", "-O1", "-pthread", *flags, "-o", str(program), str(folder / f"{name}.c")],
        check=True,
        timeout=60,
    )
    return program
