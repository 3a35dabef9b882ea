"""Debian's kernel source packages: fetched by apt, kept in a cache, never in the repository.

A plain user can do it: ``apt-get download`` needs no root, and where the machine's package lists are missing or
stale, private ones are fetched into the cache. For a kernel that the machine's own release does not offer, the Debian
release that has it is asked; signatures are checked with the machine's Debian keyring. Only the SGX selftest, what
it includes, and the Makefile rules it uses are unpacked.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = [
    "RELEASES",
    "KernelSourceUnavailableError",
    "alone",
    "cache_folder",
    "offered",
    "private_lists",
    "selftest_tree",
]

#: The kernels whose driver swsgx imitates, newest first.
RELEASES = ("6.12", "6.1")

#: The Debian release that has each kernel, for machines of another one.
_SUITES = {"6.12": "trixie", "6.1": "bookworm"}
_ARCHIVE = "deb.debian.org/debian"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

_WANTED = (
    "*/tools/testing/selftests/sgx/*",
    "*/tools/testing/selftests/kselftest.h",
    "*/tools/testing/selftests/kselftest_harness.h",
    "*/tools/testing/selftests/lib.mk",
    "*/tools/testing/selftests/x86/check_cc.sh",
    "*/tools/testing/selftests/x86/trivial_64bit_program.c",
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


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Others that test with the same cache wait: apt does not lock its lists there, and one download is enough."""
    with (cache_folder() / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _package(release: str) -> str:
    return f"linux-source-{release}"


def _by_hand(release: str) -> str:
    return (
        f"Debian's package {_package(release)} is needed. Where apt is missing, download it elsewhere "
        f"(apt-get download {_package(release)}) and put the .deb file into {cache_folder()} "
        "(another folder: SWSGX_CACHE=...)"
    )


def private_lists(suite: str | None = None) -> list[str]:
    """Options that make apt keep its package lists in the cache, where a plain user can write.

    Args:
        suite: the Debian release to ask; None: what the machine is configured for.
    """
    state = cache_folder() / ("apt" if suite is None else f"apt-{suite}")
    for part in ("lists/partial", "cache/archives/partial"):
        (state / part).mkdir(parents=True, exist_ok=True)
    options = [
        f"-oDir::State::lists={state / 'lists'}",
        f"-oDir::Cache={state / 'cache'}",
        "-oDebug::NoLocking=1",
        "-oAcquire::Retries=2",
        "-oAPT::Update::Error-Mode=any",
    ]
    if suite is not None:
        sources = state / "sources.list"
        sources.write_text(f"deb [signed-by={_KEYRING}] http://{_ARCHIVE} {suite} main\n", encoding="utf-8")
        options += [f"-oDir::Etc::sourcelist={sources}", "-oDir::Etc::sourceparts=/dev/null"]
    return options


def _run(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def _downloaded(release: str) -> Path | None:
    """The package's file in the cache; the newest, if there are several."""
    files = list(cache_folder().glob(f"{_package(release)}_*.deb"))
    return max(files, key=lambda path: path.stat().st_mtime, default=None)


def _ways(release: str, refused: list[str]) -> Iterator[list[str]]:
    """Options for apt: the machine's lists; fresh ones, if those are missing or stale; another release's.

    What apt says when lists cannot be had is added to ``refused``.
    """
    yield []
    for suite in (None, _SUITES[release]):
        options = private_lists(suite)
        done = _run(["apt-get", "update", "-qq", *options], cache_folder())
        if done.returncode != 0:
            # Perhaps of one source only, and another has it.
            refused.append(f"apt-get update failed: {done.stderr.strip()}")
        yield options


def _known(release: str, options: Sequence[str]) -> bool:
    shown = _run(["apt-cache", *options, "show", "--no-all-versions", _package(release)], cache_folder())
    return shown.returncode == 0 and "Filename:" in shown.stdout


@functools.cache
def offered() -> tuple[str, ...]:
    """Those of :data:`RELEASES` that are in the cache already, or that apt finds.

    Raises:
        KernelSourceUnavailableError: apt is missing or finds none of them, and the cache is empty.
    """
    refused: list[str] = []
    with alone():
        found = [release for release in RELEASES if _downloaded(release)]
        if shutil.which("apt-get") is not None:
            for release in RELEASES:
                if release not in found and any(_known(release, way) for way in _ways(release, refused)):
                    found.append(release)
    if not found:
        raise KernelSourceUnavailableError("\n".join([*refused, _by_hand(RELEASES[0])]))
    return tuple(release for release in RELEASES if release in found)


def _fetch(release: str) -> Path:
    """The package's file, downloaded unless it is in the cache."""
    present = _downloaded(release)
    if present is not None:
        return present
    if shutil.which("apt-get") is None:
        raise KernelSourceUnavailableError(_by_hand(release))
    refused: list[str] = []
    for options in _ways(release, refused):
        done = _run(["apt-get", "download", "-qq", *options, _package(release)], cache_folder())
        fetched = _downloaded(release)
        if done.returncode == 0 and fetched is not None:
            return fetched
        refused.append(f"apt-get download failed: {done.stderr.strip()}")
    raise KernelSourceUnavailableError("\n".join([*refused, _by_hand(release)]))


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

    Fetched and unpacked at the first call. The tree is named after the package's file and what is unpacked of it, so
    that a newer package, or a longer list, gets a tree of its own.

    Args:
        release: one of :data:`RELEASES`.

    Raises:
        KernelSourceUnavailableError: it can be neither found nor fetched.
    """
    with alone():
        package = _fetch(release)
        list_of_files = hashlib.sha256("\n".join(_WANTED).encode()).hexdigest()[:8]
        tree = cache_folder() / f"{package.stem}-{list_of_files}"
        if not tree.exists():
            unfinished = cache_folder() / f"unfinished-{release}"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            _unpack(package, release, unfinished)
            unfinished.rename(tree)
    return tree
