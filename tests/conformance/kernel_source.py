"""Debian's kernel source packages: fetched by apt, kept in a cache, never in the repository.

A plain user can do it: ``apt-get download`` needs no root, and where the machine's package lists are missing or
stale, private ones are fetched into the cache. Only the SGX selftest and the headers it includes are unpacked.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

__all__ = ["RELEASES", "KernelSourceUnavailableError", "cache_folder", "offered", "selftest_tree"]

#: The kernels whose driver swsgx imitates, newest first.
RELEASES = ("6.12", "6.1")

_WANTED = (
    "*/tools/testing/selftests/sgx/*",
    "*/tools/include/*",
    "*/arch/x86/include/asm/sgx.h",
    "*/arch/x86/include/asm/enclu.h",
    "*/arch/x86/include/uapi/asm/sgx.h",
)


class KernelSourceUnavailableError(Exception):
    """The sources cannot be had; the message says how to get them."""


def cache_folder() -> Path:
    """``$SWSGX_CACHE``, else ``swsgx`` in the user's cache folder; created if missing."""
    chosen = os.environ.get("SWSGX_CACHE")
    folder = (
        Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "swsgx"
    )
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _package(release: str) -> str:
    return f"linux-source-{release}"


def _by_hand(release: str) -> str:
    return (
        f"Debian's package {_package(release)} is needed. Where apt is missing, download it elsewhere "
        f"(apt-get download {_package(release)}) and put the .deb file into {cache_folder()} "
        "(another folder: SWSGX_CACHE=...)"
    )


def _private_lists() -> list[str]:
    """Options that make apt keep its package lists in the cache, where a plain user can write."""
    state = cache_folder() / "apt"
    for part in ("lists/partial", "cache/archives/partial"):
        (state / part).mkdir(parents=True, exist_ok=True)
    return [
        f"-oDir::State::lists={state / 'lists'}",
        f"-oDir::Cache={state / 'cache'}",
        "-oDebug::NoLocking=1",
    ]


def _run(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def _downloaded(release: str) -> Path | None:
    """The package's file in the cache; the newest, if there are several."""
    files = list(cache_folder().glob(f"{_package(release)}_*.deb"))
    return max(files, key=lambda path: path.stat().st_mtime, default=None)


def _refresh_lists() -> None:
    done = _run(["apt-get", "update", "-qq", *_private_lists()], cache_folder())
    if done.returncode != 0:
        raise KernelSourceUnavailableError(f"apt-get update failed: {done.stderr.strip()}")


def _known(release: str, options: Sequence[str]) -> bool:
    shown = _run(["apt-cache", *options, "show", "--no-all-versions", _package(release)], cache_folder())
    return shown.returncode == 0 and "Filename:" in shown.stdout


def offered() -> tuple[str, ...]:
    """Those of :data:`RELEASES` that the machine's Debian release offers, or that are in the cache already.

    Raises:
        KernelSourceUnavailableError: apt is missing or has none of them, and the cache is empty.
    """
    found = {release for release in RELEASES if _downloaded(release)}
    if shutil.which("apt-get") is not None:
        found |= {release for release in RELEASES if _known(release, [])}
        if not found:
            _refresh_lists()
            found = {release for release in RELEASES if _known(release, _private_lists())}
    if not found:
        raise KernelSourceUnavailableError(_by_hand(RELEASES[0]))
    return tuple(release for release in RELEASES if release in found)


def _fetch(release: str) -> Path:
    """The package's file, downloaded unless it is in the cache."""
    present = _downloaded(release)
    if present is not None:
        return present
    if shutil.which("apt-get") is None:
        raise KernelSourceUnavailableError(_by_hand(release))
    folder = cache_folder()
    done = _run(["apt-get", "download", "-qq", _package(release)], folder)
    if done.returncode != 0:
        # No package lists on this machine, or lists older than the archive: ask the archive itself.
        _refresh_lists()
        done = _run(["apt-get", "download", "-qq", *_private_lists(), _package(release)], folder)
    fetched = _downloaded(release)
    if done.returncode != 0 or fetched is None:
        raise KernelSourceUnavailableError(
            f"apt-get download failed: {done.stderr.strip()}\n{_by_hand(release)}"
        )
    return fetched


def _unpack(package: Path, release: str, into: Path) -> None:
    pipeline = (
        'set -o pipefail; dpkg-deb --fsys-tarfile "$1" | tar -xO "./usr/src/linux-source-$2.tar.xz" '
        '| tar -xJ -C "$3" --strip-components=1 --wildcards "${@:4}"'
    )
    command = ["bash", "-c", pipeline, "unpack", str(package), release, str(into), *_WANTED]
    done = _run(command, into)
    if done.returncode != 0:
        raise KernelSourceUnavailableError(f"{package} cannot be unpacked: {done.stderr.strip()}")


def selftest_tree(release: str) -> Path:
    """The top of a kernel tree that holds ``tools/testing/selftests/sgx`` and what it includes.

    Fetched and unpacked at the first call; the tree is named after the package's file, so that a newer
    package gets a tree of its own.

    Args:
        release: one of :data:`RELEASES`.

    Raises:
        KernelSourceUnavailableError: it can be neither found nor fetched.
    """
    package = _fetch(release)
    tree = cache_folder() / package.stem
    if not tree.exists():
        unfinished = tree.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        _unpack(package, release, unfinished)
        unfinished.rename(tree)
    return tree
