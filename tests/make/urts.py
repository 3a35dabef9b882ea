"""The enclave and the host of ``tests/programs/urts``: a small runtime like those of SDKs, under a storm of signals."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

from swsgx.isa.flags import Attributes, Miscselect
from tests.make.native_enclave import Block, Built, Source, Thread

__all__ = ["built_host", "enclave", "written_enclave"]

_PROGRAMS = Path(__file__).resolve().parents[1] / "programs" / "urts"
_THREADS = 4
#: An operation, its repair, the repair of that, and in that SIGPROF and SIGUSR2, whose handlers enter, too.
_NSSA = 5
_MAGIC = 0x5354525549574148
_READ = 1


def enclave(*, debug: bool = False) -> Built:
    """Assembled and laid out, not yet signed."""
    words = [(_PROGRAMS / name).read_text(encoding="utf-8") for name in ("protocol.h", "enclave.S")]
    return Source(
        "\n".join(words),
        threads=[Thread(nssa=_NSSA)] * _THREADS,
        blocks=(Block("data"), Block("constant", perm=_READ), Block("closed")),
        miscselect=Miscselect.EXINFO,
        attributes=Attributes.MODE64BIT | (Attributes.DEBUG if debug else 0),
    ).build()


def written_enclave(path: Path, *, debug: bool = False) -> Path:
    """Sign it, and write it as the host reads it: ``struct enclave_file`` of ``urts.h``."""
    built = enclave(debug=debug)
    plan = built.plan
    places = (built.symbols[name] for name in ("data", "constant", "closed"))
    head = (built.size, plan.ssaframesize, plan.miscselect, plan.attributes, plan.xfrm, len(plan.entries))
    with path.open("wb") as file:
        file.write(struct.pack("<10Q", _MAGIC, *head, *places) + bytes(built.sigstruct))
        for run in plan.entries:
            file.write(struct.pack("<3Q", run.offset, run.count, run.secinfo_flags))
            file.write(bytes(run.content or b"").ljust(run.count * 0x1000, b"\0"))
    return path


def built_host(folder: Path) -> Path:
    """The program, compiled; every warning is an error."""
    program = folder / "urts"
    sources = [str(_PROGRAMS / name) for name in ("main.c", "expected.c", "runtime.c", "load.c", "enter.S")]
    flags = ["-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-pthread"]
    subprocess.run(["cc", *flags, "-o", str(program), *sources], check=True, timeout=60)
    return program
