"""What the project's own tests look at: its files, and the tables of docs/coverage.md."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Row:
    """One row of a table in docs/coverage.md, its cells without markup."""

    heading: str
    name: str
    status: str
    where: str


def _cells(line: str) -> list[str]:
    return [cell.strip().strip("`*") for cell in line.strip().strip("|").split("|")]


@pytest.fixture(scope="session")
def coverage(checkout: Path) -> tuple[Row, ...]:
    """The rows of docs/coverage.md that have a place in the code, in order."""
    rows, heading = [], ""
    for line in (checkout / "docs/coverage.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            heading = line[3:]
        elif line.startswith("|") and heading:
            cells = _cells(line)
            if cells[1] != "status" and not set(cells[1]) <= {"-"}:
                name, status, where = cells[:3]
                rows.append(Row(heading, name, status, where))
    return tuple(rows)


@pytest.fixture(scope="session")
def source_files(checkout: Path) -> tuple[Path, ...]:
    """Every file that belongs to the project: what git has or would take, without what was built."""
    if shutil.which("git") and (checkout / ".git").exists():
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True).stdout
        names = [name for name in listed.split("\0") if name]
        return tuple(checkout / name for name in names if (checkout / name).is_file())
    # An unpacked sdist: no git, and nothing ignored but what was built here.
    built = {".venv", "build", "dist", "images", "__pycache__"}
    return tuple(
        path
        for path in checkout.rglob("*")
        if path.is_file() and not any(p in built or p.endswith("_cache") for p in path.parts)
    )
