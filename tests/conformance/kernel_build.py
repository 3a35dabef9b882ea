"""Builds the kernel's SGX selftest with its own Makefile, and asks its measuring code what it computes.

Three programs come out: the test enclave, ``measure`` (the selftest's load.c and sigstruct.c under a main of
ours), and ``uapi`` (prints the numbers of the kernel's headers). They run as programs of their own.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.kernel_source import selftest_tree

__all__ = ["Built", "KernelBuildError", "Measured", "Segment", "build"]

_HERE = Path(__file__).resolve().parent


class KernelBuildError(Exception):
    """A compiler or one of the kernel's programs failed; the message is its output."""


@dataclass(frozen=True)
class Segment:
    """One run of pages, as the selftest's load.c lists it.

    Attributes:
        offset: bytes from the enclave's base.
        size: bytes, whole pages.
        flags: SECINFO.FLAGS.
        measured: whether its contents are extended.
    """

    offset: int
    size: int
    flags: int
    measured: bool


@dataclass(frozen=True)
class Measured:
    """What the kernel's own code says about its test enclave.

    Attributes:
        mrenclave: 32 bytes.
        size: bytes of ELRANGE.
        segments: in the order in which they are added.
        sigstruct: 1808 bytes, signed with the selftest's own key.
    """

    mrenclave: bytes
    size: int
    segments: tuple[Segment, ...]
    sigstruct: bytes


@dataclass(frozen=True)
class Built:
    """The selftest of one kernel, built.

    Attributes:
        release: ``"6.12"`` or ``"6.1"``.
        enclave: the path of test_encl.elf.
        measured: what ``measure`` printed for it.
        uapi: name to value, from the kernel's headers.
    """

    release: str
    enclave: Path
    measured: Measured
    uapi: dict[str, int]


def _run(command: Sequence[str | Path], folder: Path) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError as missing:
        raise KernelBuildError(
            f"{missing.filename} is missing; on Debian: apt-get install gcc make libc6-dev"
        ) from None
    if done.returncode != 0:
        text = f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
        if "openssl/" in text or "-lcrypto" in done.stderr:
            text += "\nlibcrypto's headers are missing; on Debian: apt-get install libssl-dev"
        raise KernelBuildError(text)
    return done.stdout


def _measured(text: str, sigstruct: bytes) -> Measured:
    mrenclave, size, segments = b"", 0, []
    for line in text.splitlines():
        match line.split():
            case ["mrenclave", digest]:
                mrenclave = bytes.fromhex(digest)
            case ["size", number]:
                size = int(number, 16)
            case ["segment", offset, length, flags, measured]:
                segments.append(
                    Segment(int(offset, 16), int(length, 16), int(flags, 16), measured == "measured")
                )
            case _:
                raise KernelBuildError(f"measure printed a line that is not understood: {line!r}")
    return Measured(mrenclave, size, tuple(segments), sigstruct)


def build(release: str, into: Path) -> Built:
    """Fetch if needed, build, and run the kernel's measuring code.

    Args:
        release: one of :data:`~tests.conformance.kernel_source.RELEASES`.
        into: a new folder for what is built; must allow execution.

    Raises:
        KernelSourceUnavailableError: the sources cannot be had.
        KernelBuildError: something does not compile or run.
    """
    tree = selftest_tree(release)
    source = tree / "tools/testing/selftests/sgx"
    # The Makefile includes the selftests' common rules for installing and running, which nothing here needs.
    (source.parent / "lib.mk").touch()
    objects = [into / name for name in ("load.o", "sigstruct.o", "sign_key.o")]
    enclave = into / "test_encl.elf"
    _run(["make", "-s", f"OUTPUT={into}", enclave, *objects], source)

    includes = [f"-I{source}", f"-I{tree / 'tools/include'}"]
    measure = into / "measure"
    wrapped = "-Wl,--wrap=open,--wrap=stat"
    ours = _HERE / "measure_main.c"
    _run(
        ["cc", "-Wall", "-Wextra", "-Werror", *includes, wrapped, ours, *objects, "-o", measure, "-lcrypto"],
        into,
    )
    signed = into / "test_encl.sig"
    printed = _run([measure, enclave, signed], into)

    numbers = into / "uapi"
    _run(["cc", "-Wall", "-Werror", *includes, _HERE / "uapi_main.c", "-o", numbers], into)
    uapi = {
        name: int(value, 16)
        for name, value in (line.rsplit(" ", 1) for line in _run([numbers], into).splitlines())
    }
    return Built(release, enclave, _measured(printed, signed.read_bytes()), uapi)
