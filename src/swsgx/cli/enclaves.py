"""Reading the files that several commands take: enclaves and SIGSTRUCTs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from swsgx.cli.errors import about
from swsgx.cli.output import progress_of
from swsgx.image.enclave import plan_of, read_file
from swsgx.image.errors import Format
from swsgx.isa.layout import SDM
from swsgx.isa.sigstruct import SIGSTRUCT_HEADER, Sigstruct

if TYPE_CHECKING:
    from swsgx.image.plan import LoadPlan
    from swsgx.image.sgxs import Stream
    from swsgx.trace import Recorder

__all__ = ["EnclaveFile", "is_sigstruct", "measure_plan", "measure_stream", "read_enclave", "read_sigstruct"]

#: Keys, signatures and their like are small; a file above this is something else.
SMALL_FILE = 1 << 20


@dataclass(frozen=True, slots=True)
class EnclaveFile:
    """An enclave file that was read.

    Attributes:
        file: its name.
        stream: what a ``.sgxs`` file is made of; None for an ELF file.
        plan: how to load it; None for a stream that is not canonical or has no size yet.
    """

    file: str
    stream: Stream | None
    plan: LoadPlan | None

    def mrenclave(self, trace: Recorder) -> bytes | None:
        """The measurement, 32 bytes; None for a stream without a size."""
        if self.stream is not None:
            return measure_stream(self.stream) if self.stream.sized else None
        return None if self.plan is None else measure_plan(self.plan, trace)


def read_enclave(file: str, heap_size: int | None) -> EnclaveFile:
    """Read an enclave file for looking at or measuring; a stream need not be canonical.

    Args:
        file: its name.
        heap_size: bytes of heap for a selftest ELF file.

    Raises:
        ImageError: not an enclave.
        OSError: it cannot be read.
    """
    from swsgx.image.sgxs import is_sgxs, scan

    data = read_file(file)
    if heap_size is None and is_sgxs(data):
        stream = scan(file, data)
        return EnclaveFile(file, stream, None if stream.violations or not stream.sized else stream.plan())
    return EnclaveFile(file, None, plan_of(file, data, heap_size=heap_size))


def measure_plan(plan: LoadPlan, trace: Recorder) -> bytes:
    """MRENCLAVE of a plan, with a bar for a large one, and an event for each run if somebody traces."""
    if trace.on:
        trace.event("leaf", "ECREATE", {"size": plan.size, "ssaframesize": plan.ssaframesize})
        for run in plan.entries:
            args = {
                "offset": run.offset,
                "pages": run.count,
                "flags": run.secinfo_flags,
                "chunks": run.chunk_mask,
            }
            trace.event("leaf", "EADD", {**args, "what": run.name})
    with progress_of("measuring", plan.pages) as progress:
        digest = plan.measure(progress).digest()
    if trace.on:
        trace.event("leaf", "EINIT", {"mrenclave": digest.hex()})
    return digest


def measure_stream(stream: Stream) -> bytes:
    """MRENCLAVE of a stream, with a bar for a large one."""
    # The bar counts bytes here; a stream is as long as what is hashed.
    with progress_of("measuring", len(stream.data) >> 12) as progress:
        advance = None if progress is None else lambda done: progress(done / 4096)
        return stream.digest(advance)


def is_sigstruct(data: bytes | memoryview) -> bool:
    """Whether a file is a bare SIGSTRUCT: its size, or its header, says so."""
    return len(data) == Sigstruct.size_of or bytes(data[: len(SIGSTRUCT_HEADER)]) == SIGSTRUCT_HEADER


def read_sigstruct(file: str) -> Sigstruct:
    """The SIGSTRUCT in a ``.sig`` file.

    Raises:
        ImageError: the file does not have 1808 bytes.
        OSError: it cannot be read.
    """
    data = read_file(file, SMALL_FILE)
    if len(data) != Sigstruct.size_of:
        raise Format(file, "SIGSTRUCT", f"{SDM}, 'Enclave Signature Structure (SIGSTRUCT)'").refuse(
            "a .sig file is a bare SIGSTRUCT",
            expected=f"{Sigstruct.size_of} bytes",
            found=f"{len(data)} bytes",
        )
    return Sigstruct.copy_of(data)


def read_small(file: str) -> bytes:
    """All bytes of a key, a signature or the like.

    Raises:
        Refused: it cannot be read, or is far too large.
    """
    with about(file):
        return bytes(read_file(file, SMALL_FILE))
