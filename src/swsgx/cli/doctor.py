"""``swsgx doctor``: what this machine has, and what swsgx makes of it."""

from __future__ import annotations

import os
import platform
import shutil
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from swsgx.cli.errors import EXIT_REFUSED

__all__ = ["Finding", "command", "findings"]

#: The nodes of a kernel's own SGX driver, of both generations.
_NODES = ("/dev/sgx_enclave", "/dev/sgx_provision", "/dev/sgx_vepc", "/dev/sgx/enclave")
#: The oldest kernel with what is used everywhere: pidfd, memfd, user notification with file descriptors.
_OLDEST = (5, 10)
_AT_HWCAP2 = 26
_HWCAP2_FSGSBASE = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        name: what was looked for.
        state: ``ok``; ``missing``; ``note`` for what is neither good nor bad.
        found: what is there.
        use: what swsgx does about it, or what to do to get it.
        needed: whether swsgx cannot run enclaves without it.
    """

    name: str
    state: str
    found: str
    use: str = ""
    needed: bool = False


@click.command("doctor", short_help="Tell what this machine has, and what to do about the rest.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Tell what this machine has, what swsgx will use, and how to get what is missing.

    The exit status is 1 if something is missing without which no enclave can be run.
    """
    from swsgx.cli.output import show_json

    report = list(findings())
    if as_json:
        show_json([asdict(finding) for finding in report])
    else:
        for finding in report:
            line = f"{finding.state:<8}{finding.name:<16}{finding.found}"
            click.echo(f"{line}; {finding.use}" if finding.use else line)
    missing = [finding.name for finding in report if finding.needed and finding.state == "missing"]
    if missing:
        click.echo(f"swsgx doctor: this machine cannot run enclaves: missing {', '.join(missing)}", err=True)
        ctx.exit(EXIT_REFUSED)


def findings() -> Iterator[Finding]:
    """Everything that is looked at, in the order of the report."""
    yield _machine()
    yield _kernel()
    flags = _cpu_flags()
    yield from _processor(flags)
    yield _memfd()
    yield _images()
    yield _compiler()
    yield from _nodes()


def _machine() -> Finding:
    system = f"{platform.system()} on {platform.machine()}"
    good = platform.system() == "Linux" and platform.machine() in ("x86_64", "AMD64")
    use = "" if good else "enclave code runs on Linux on x86-64 only; measuring and signing work here"
    return Finding("machine", "ok" if good else "missing", system, use, needed=True)


def _kernel() -> Finding:
    release = platform.release()
    numbers = [int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit()]
    good = tuple(numbers) >= _OLDEST
    oldest = ".".join(map(str, _OLDEST))
    return Finding(
        "kernel",
        "ok" if good else "missing",
        release,
        "" if good else f"{oldest} or newer is needed",
        needed=True,
    )


def _cpu_flags() -> set[str]:
    """The processor's features as the kernel names them; empty where it does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return set()
    return next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())


def _processor(flags: set[str]) -> Iterator[Finding]:
    if "fsgsbase" in flags and _fsgsbase_enabled():
        yield Finding(
            "fsgsbase", "ok", "the CPU and the kernel allow it", "FS and GS change without a system call"
        )
    else:
        use = "arch_prctl takes its place, at the price of system calls for each entry; Linux 5.9 or newer allows it"
        yield Finding("fsgsbase", "missing", "not usable", use)
    pku = "pku" in flags and "ospke" in flags
    use = (
        "an enclave can be hidden from its host by protection keys"
        if pku
        else "without them, by moving its mappings"
    )
    yield Finding("protection keys", "ok" if pku else "missing", "pku" if pku else "no pku", use)
    for name, what in (
        ("xsave", "saved at an asynchronous exit"),
        ("avx", "may be in XFRM"),
        ("avx512f", "may be in XFRM"),
    ):
        if name in flags:
            yield Finding(name, "ok", "in /proc/cpuinfo", what)
        else:
            use = "enclaves need it" if name == "xsave" else "enclaves whose XFRM asks for it are refused"
            yield Finding(name, "missing", "not in /proc/cpuinfo", use, needed=name == "xsave")
    if "sgx" in flags:
        yield Finding(
            "SGX hardware", "note", "sgx in /proc/cpuinfo", "not used: swsgx always runs its own machine"
        )
    else:
        yield Finding("SGX hardware", "note", "none", "not needed")


def _fsgsbase_enabled() -> bool:
    """Whether the kernel lets programs use RDFSBASE and its like (HWCAP2 bit 1)."""
    try:
        data = Path("/proc/self/auxv").read_bytes()
    except OSError:
        return False
    words = [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data) - 15, 8)]
    return any(
        words[i] == _AT_HWCAP2 and words[i + 1] & _HWCAP2_FSGSBASE for i in range(0, len(words) - 1, 2)
    )


def _memfd() -> Finding:
    try:
        fd = os.memfd_create("swsgx-doctor", os.MFD_CLOEXEC)
    except (OSError, AttributeError) as error:
        return Finding("memfd", "missing", str(error), "enclave memory lives in memfds", needed=True)
    os.close(fd)
    return Finding("memfd", "ok", "memfd_create works")


def _images() -> Finding:
    from swsgx.native.images import IMAGES

    built = sorted(path.name for path in IMAGES.glob("*.so")) if IMAGES.is_dir() else []
    if built:
        return Finding("native images", "ok", f"{', '.join(built)} in {IMAGES}")
    return Finding("native images", "missing", f"none in {IMAGES}", "build them: make -C native", needed=True)


def _compiler() -> Finding:
    for name in ("gcc", "clang", "cc"):
        path = shutil.which(name)
        if path is not None:
            return Finding(
                "C compiler", "ok", path, "for the examples, and for the images when built from source"
            )
    return Finding("C compiler", "missing", "no gcc, clang or cc in PATH", "only needed to build from source")


def _nodes() -> Iterator[Finding]:
    real = []
    for node in _NODES:
        try:
            if stat.S_ISCHR(Path(node).stat().st_mode):
                real.append(node)
        except OSError:
            continue
    if real:
        yield Finding(
            "device nodes", "note", f"{', '.join(real)} exist", "the kernel's own; swsgx does not open them"
        )
    else:
        yield Finding("device nodes", "note", "no /dev/sgx*", "not needed in one's own process")
