"""Programs of Debian, fetched by apt and unpacked into the cache: nothing is installed, and no root is needed.

A program that the machine has is used as it is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.kernel_source import alone, cache_folder, private_lists

__all__ = ["DebianTool", "DebianToolUnavailableError", "debian_tool"]


class DebianToolUnavailableError(Exception):
    """A program can be neither found nor fetched; the message says how to get it."""


@dataclass(frozen=True)
class DebianTool:
    """A program, and the environment that it needs to find its libraries.

    Attributes:
        path: of the program.
        environment: for subprocess.
    """

    path: Path
    environment: dict[str, str]

    def run(self, *arguments: str | Path, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end.

        Args:
            arguments: after its name.
            stdin: what it reads.
            more: environment variables.
        """
        return subprocess.run(
            [self.path, *arguments],
            env=self.environment | more,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )


def _fetch(packages: Iterable[str], archives: Path) -> str:
    """Download packages and what they depend on beyond what is installed; what apt said if it could not."""
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    refused = ""
    for refresh in (False, True):
        options = private_lists() if refresh else ["-oDebug::NoLocking=1"]
        if refresh:
            subprocess.run(["apt-get", "update", "-qq", *options], capture_output=True, check=False)
        done = subprocess.run(
            [
                *("apt-get", "install", "--download-only", "--yes", "-qq", "--no-install-recommends"),
                *(*options, f"-oDir::Cache::archives={archives}", *packages),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return ""
        refused = done.stderr.strip()
    return refused


def _unpacked(package: str) -> Path:
    """The folder in which a package and its dependencies are unpacked."""
    root = cache_folder() / f"debian-{package}"
    if root.exists():
        return root
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise DebianToolUnavailableError(f"there is no apt-get here; install {package} by its own means")
    archives = cache_folder() / "archives" / package
    refused = _fetch([package], archives)
    if refused:
        raise DebianToolUnavailableError(
            f"apt cannot fetch it: {refused}; as root: apt-get install {package}"
        )
    unfinished = root.with_name(f"unfinished-{package}")
    shutil.rmtree(unfinished, ignore_errors=True)
    for file in sorted(archives.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", file, unfinished], check=True, capture_output=True)
    unfinished.rename(root)
    return root


def debian_tool(package: str, program: str) -> DebianTool:
    """A program of a Debian package.

    Args:
        package: its name.
        program: likewise.

    Raises:
        DebianToolUnavailableError: it can be neither found nor fetched.
    """
    places = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    base = {"PATH": places, "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    present = shutil.which(program, path=places)
    if present is not None:
        return DebianTool(Path(present), base)
    with alone():
        root = _unpacked(package)
    folders = [root / "usr/bin", root / "usr/sbin", root / "sbin", root / "bin"]
    found = shutil.which(program, path=os.pathsep.join(map(str, folders)))
    if found is None:
        raise DebianToolUnavailableError(f"{package} has no program {program}")
    libraries = sorted({path.parent for path in root.rglob("*.so*")})
    return DebianTool(Path(found), base | {"LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries))})
