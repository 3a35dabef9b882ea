"""Builds the kernel's SGX selftest with its own Makefile, and asks its measuring code what it computes.

Its own two programs come out, ``test_sgx`` and ``test_encl.elf``, and two of ours: ``measure`` (the selftest's load.c
and sigstruct.c under a main of ours), and ``uapi`` (prints the numbers of the kernel's headers). They run as programs
of their own.

On Debian this takes gcc, make, libc6-dev and libssl-dev; unpacking the sources takes xz-utils.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.kernel_source import selftest_tree

__all__ = ["Built", "KernelBuildError", "Measured", "Segment", "build"]

_HERE = Path(__file__).resolve().parent
#: What the Makefile takes from its environment, or a make around us hands down: the build is to be the same without.
_NOT_INHERITED = {
    *("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MAKEFILES", "GNUMAKEFLAGS"),
    *("ARCH", "CC", "CFLAGS", "CPPFLAGS", "LDFLAGS", "CROSS_COMPILE", "LLVM", "KHDR_INCLUDES", "OBJCOPY"),
    *("ENCL_CFLAGS", "OVERRIDE_TARGETS", "USERCFLAGS", "USERLDFLAGS", "V"),
}


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
        program: the path of test_sgx; it looks for the enclave in the current folder.
        enclave: the path of test_encl.elf, in the same folder.
        measured: what ``measure`` printed for it.
        uapi: name to value, from the kernel's headers.
    """

    release: str
    program: Path
    enclave: Path
    measured: Measured
    uapi: dict[str, int]


def _run(command: Sequence[str | Path], folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
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
    objects = [into / name for name in ("load.o", "sigstruct.o", "sign_key.o")]
    program, enclave = into / "test_sgx", into / "test_encl.elf"
    said = _run(["make", f"OUTPUT={into}"], source)
    if not (program.exists() and enclave.exists()):
        # So ends the Makefile, without an error, where the compiler makes no 64-bit programs.
        raise KernelBuildError(f"the kernel's Makefile built no test_sgx; can gcc build for x86-64?\n{said}")

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
    return Built(release, program, enclave, _measured(printed, signed.read_bytes()), uapi)
