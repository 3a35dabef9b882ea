"""What a loader must do: the steps from ECREATE to the last EADD, in runs of pages.

A :class:`LoadPlan` says everything that MRENCLAVE depends on, and what the SECS should ask for. The order of
its entries is the order of the EADDs. Runs, not pages: an enclave of a GiB has a handful of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from swsgx.identity.measure import Measurement
from swsgx.image.errors import Format
from swsgx.isa.address import PAGE_SIZE, Offset
from swsgx.isa.flags import PERM_MASK, SECINFO_PT_SHIFT, PageType, SecinfoFlags, page_type_of
from swsgx.isa.layout import SDM

__all__ = ["ALL_CHUNKS", "CHUNK_SIZE", "LoadPlan", "PageRun", "Progress", "zero_pages"]

#: Bytes that one EEXTEND measures.
CHUNK_SIZE = 256
#: The chunk mask of a page that is measured whole: one bit for each of its 16 chunks.
ALL_CHUNKS = 0xFFFF
#: ECREATE's least SIZE, in bytes.
MIN_SIZE = 2 * PAGE_SIZE
#: Sizes from here on have no 64-bit address space to live in (half of 48 bits).
MAX_SIZE = 1 << 47

_R, _W, _X = SecinfoFlags.R, SecinfoFlags.W, SecinfoFlags.X
#: SECINFO bits that EADD takes: permissions and the page type.
_EADD_FLAGS = PERM_MASK | 0xFF << SECINFO_PT_SHIFT
_ZERO_PAGES = 128
_ZEROS = memoryview(bytes(_ZERO_PAGES * PAGE_SIZE))

#: Called with the number of pages done since the last call.
Progress = Callable[[int], object]


def zero_pages(count: int) -> Iterable[tuple[int, memoryview]]:
    """``count`` zero pages as ``(pages, content)`` pieces of bounded size, over one shared buffer."""
    while count > 0:
        part = min(count, _ZERO_PAGES)
        yield part, _ZEROS[: part * PAGE_SIZE]
        count -= part


@dataclass(frozen=True, slots=True)
class PageRun:
    """Consecutive pages that are added alike.

    Attributes:
        offset: of the first page, in bytes from the enclave's base; page aligned.
        count: pages.
        secinfo_flags: SECINFO.FLAGS of each page: permissions in bits 0..2, page type in bits 8..15.
        measured: whether all 16 chunks of each page are measured, in ascending order.
        content: ``count * 4096`` bytes; None where all is zero.
        chunks: for pages of which only a part is measured (or not in ascending order): the numbers, 0..15,
            in the order of their EEXTENDs, the same for each page. None: :attr:`measured` says it all.
        name: what the pages are, for people: ``"stack 0"``.
    """

    offset: Offset
    count: int
    secinfo_flags: int
    measured: bool
    content: memoryview | None = field(repr=False)
    chunks: tuple[int, ...] | None = None
    name: str = ""

    @property
    def end(self) -> int:
        """Offset of the first byte after the run."""
        return self.offset + self.count * PAGE_SIZE

    @property
    def page_type(self) -> int:
        """The page type in SECINFO.FLAGS, a :class:`~swsgx.isa.flags.PageType` if it is a known one."""
        return page_type_of(self.secinfo_flags)

    @property
    def permissions(self) -> str:
        """``"rwx"``, with a dash for each that is missing."""
        return "".join(c if self.secinfo_flags & bit else "-" for c, bit in (("r", _R), ("w", _W), ("x", _X)))

    @property
    def chunk_mask(self) -> int:
        """The chunks of each page that are measured, one bit each."""
        if self.chunks is None:
            return ALL_CHUNKS if self.measured else 0
        mask = 0
        for chunk in self.chunks:
            mask |= 1 << chunk
        return mask

    @property
    def loadable(self) -> bool:
        """Whether a loader that measures pages whole and in order or not at all (Linux's) can add the run."""
        return self.chunks is None

    def pieces(self) -> Iterable[tuple[int, int, memoryview]]:
        """The run as ``(offset, pages, content)`` pieces whose contents exist; zeros in bounded pieces."""
        if self.content is not None:
            yield self.offset, self.count, self.content
            return
        offset: int = self.offset
        for count, zeros in zero_pages(self.count):
            yield offset, count, zeros
            offset += count * PAGE_SIZE


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """An enclave to be built.

    Attributes:
        file: name of the file the plan was read from, for messages.
        kind: the file's convention: ``"swsgx"``, ``"selftest"``, ``"sgxs"``.
        size: SECS.SIZE in bytes.
        ssaframesize: SECS.SSAFRAMESIZE in pages.
        entries: the EADDs, in order.
        tcs: offsets of the TCS pages, in the order of the threads.
        attributes: ATTRIBUTES.FLAGS that the file asks for; None if it does not say.
        xfrm: ATTRIBUTES.XFRM likewise.
        miscselect: MISCSELECT likewise.
    """

    file: str
    kind: str
    size: int
    ssaframesize: int
    entries: tuple[PageRun, ...]
    tcs: tuple[Offset, ...]
    attributes: int | None = None
    xfrm: int | None = None
    miscselect: int | None = None

    @property
    def pages(self) -> int:
        """EADDs in the plan."""
        return sum(run.count for run in self.entries)

    @property
    def measured_pages(self) -> int:
        """Pages of which anything is measured."""
        return sum(run.count for run in self.entries if run.chunk_mask)

    def measure(self, progress: Progress | None = None) -> Measurement:
        """Extend a new measurement with every step of the plan.

        Args:
            progress: told of pages as they are done.

        Returns:
            The measurement before EINIT; its ``digest()`` is MRENCLAVE.
        """
        measurement = Measurement()
        measurement.ecreate(self.ssaframesize, self.size)
        for run in self.entries:
            if run.chunks is not None:
                self._measure_chunks(measurement, run, progress)
            elif run.measured:
                for offset, count, content in run.pieces():
                    measurement.eadd_run(offset, run.secinfo_flags, content, count, True)
                    if progress is not None:
                        progress(count)
            else:
                measurement.eadd_run(run.offset, run.secinfo_flags, None, run.count, False)
                if progress is not None:
                    progress(run.count)
        return measurement

    @staticmethod
    def _measure_chunks(measurement: Measurement, run: PageRun, progress: Progress | None) -> None:
        for base, count, content in run.pieces():
            for page in range(count):
                offset = base + page * PAGE_SIZE
                measurement.eadd(offset, run.secinfo_flags)
                for chunk in run.chunks or ():
                    at = page * PAGE_SIZE + chunk * CHUNK_SIZE
                    measurement.eextend(offset + chunk * CHUNK_SIZE, content[at : at + CHUNK_SIZE])
            if progress is not None:
                progress(count)

    def require_loadable(self) -> None:
        """Check that Linux can load the plan: ADD_PAGES measures a page whole and in order, or not at all.

        Raises:
            ImageError: a page is measured in part, or its chunks are not in ascending order.
        """
        for run in self.entries:
            if not run.loadable:
                raise Format(self.file, "load plan", "Linux, SGX_IOC_ENCLAVE_ADD_PAGES").refuse(
                    f"page {run.offset:#x} is measured whole and in order, or not at all",
                    expected="chunks 0 to 15, or none",
                    found=f"chunks {', '.join(map(str, run.chunks or ()))}",
                    remedy="such an enclave can be measured and signed, but mainline Linux cannot load it in part",
                )

    def validate(self) -> None:
        """Check what ECREATE and EADD would check anyway, where it can still be explained.

        Raises:
            ImageError: the first rule that does not hold.
        """
        form = Format(self.file, "load plan", f"{SDM}, ECREATE and EADD")
        if self.size & (self.size - 1) or not MIN_SIZE <= self.size < MAX_SIZE:
            raise form.refuse(
                "the enclave's size is a power of two",
                expected=f"a power of two from {MIN_SIZE:#x} to {MAX_SIZE >> 1:#x}",
                found=f"{self.size:#x}",
            )
        if self.ssaframesize < 1:
            raise form.refuse(
                "an SSA frame has at least one page", expected="1 or more", found=str(self.ssaframesize)
            )
        for run in self.entries:
            self._validate_run(form, run)
        before: PageRun | None = None
        for run in sorted(self.entries, key=lambda r: r.offset):
            if before is not None and run.offset < before.end:
                raise form.refuse(
                    "no page is added twice",
                    expected=f"{run.name or 'a run'} from {before.end:#x} on, after {before.name or 'another'}",
                    found=f"{run.offset:#x}",
                )
            before = run

    def _validate_run(self, form: Format, run: PageRun) -> None:
        what = run.name or f"the run at {run.offset:#x}"
        if run.offset % PAGE_SIZE or run.offset < 0 or run.count < 1:
            raise form.refuse(
                f"{what} is a run of whole pages",
                expected=f"a multiple of {PAGE_SIZE:#x} and one page or more",
                found=f"{run.count} pages from {run.offset:#x}",
            )
        if run.end > self.size:
            raise form.refuse(
                f"{what} lies inside the enclave",
                expected=f"an end of at most {self.size:#x}",
                found=f"{run.end:#x}",
            )
        if run.content is not None and len(run.content) != run.count * PAGE_SIZE:
            raise form.refuse(
                f"{what} has content for each page",
                expected=f"{run.count * PAGE_SIZE} bytes",
                found=f"{len(run.content)} bytes",
            )
        flags = run.secinfo_flags
        if run.page_type not in (PageType.REG, PageType.TCS) or flags & ~_EADD_FLAGS:
            raise form.refuse(
                f"{what} has a SECINFO that EADD takes",
                expected="page type TCS (1) or REG (2), permissions in bits 0 to 2, no other bit",
                found=f"flags {flags:#x}",
            )
        if run.page_type == PageType.TCS and flags & PERM_MASK:
            raise form.refuse(
                f"{what} is a TCS without permissions", expected="R, W and X clear", found=run.permissions
            )
        if flags & _W and not flags & _R:
            raise form.refuse(
                f"{what} is not writable without being readable", expected="R with W", found=run.permissions
            )
