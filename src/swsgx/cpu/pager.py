"""What EWB and ELD* share: the paging key, versions, the header that the MAC covers, and both directions.

AES-128-GCM. The manual fixes what the MAC covers and leaves the header's layout to the processor; ours is
:class:`MacHeader`. The initialisation vector is the version shifted left by 32, so a version is never used twice.

One call of the cipher for each page is all that happens page by page here. It takes about 4 us on a 2020s server
and holds the interpreter's lock, so that threads do not make it faster (measured with cryptography 50).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.layout import Layout, sub, u64, zero
from swsgx.isa.structs import Pcmd, Secinfo

__all__ = ["BLOCK", "MAC_SIZE", "ROW_SIZE", "MacHeader", "Pager", "headers", "mac_header", "rows"]

#: Bytes of an AES-GCM tag.
MAC_SIZE = 16
#: A page as the cipher gives it: the ciphertext, then the tag.
ROW_SIZE = PAGE_SIZE + MAC_SIZE
#: As many pages at a time are quickest: 512 KiB, less than a second-level cache holds.
BLOCK = 128

Bytes = npt.NDArray[np.uint8]


class MacHeader(Layout, size=128, align=128, source="SDM, 'EWB': MAC_HEADER; the layout is swsgx's"):
    """What the MAC of an evicted page covers beside the page."""

    secinfo = sub(0, Secinfo, "type, permissions and state of the page")
    eid = u64(64, "the owner's EID; 0 for SECS and VA pages")
    linaddr = u64(72, "linear address of the page in its enclave; 0 for SECS and VA pages")
    reserved_80 = zero(80, 40, "PCMD's reserved bytes")
    reserved_120 = zero(120, 8)


def headers(flags: npt.NDArray[np.uint64], eid: int, linaddrs: npt.NDArray[np.uint64]) -> Bytes:
    """MAC headers of pages of one enclave, 128 bytes each, out of their SECINFO.FLAGS and addresses."""
    made = np.zeros((len(linaddrs), MacHeader.size_of), np.uint8)
    words = made.view(np.uint64)
    words[:, 0] = flags
    words[:, MacHeader.eid.offset // 8] = eid
    words[:, MacHeader.linaddr.offset // 8] = linaddrs
    return made


def rows(count: int) -> Bytes:
    """Room for ``count`` pages as the cipher gives them."""
    return np.empty((count, ROW_SIZE), np.uint8)


class Pager:
    """The processor's paging key, drawn at the first use, and its count of versions.

    Args:
        random: makes random bytes.
    """

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._cipher: AESGCM | None = None
        self._last = 0

    @property
    def cipher(self) -> AESGCM:
        """AES-GCM under the paging key."""
        if self._cipher is None:
            self._cipher = AESGCM(self._random(16))
        return self._cipher

    def next_versions(self, count: int) -> npt.NDArray[np.uint64]:
        """Versions that no page of this machine had before; never 0."""
        first = self._last + 1
        self._last += count
        return np.arange(first, first + count, dtype=np.uint64)

    def seal(
        self, versions: npt.NDArray[np.uint64], pages: Sequence[memoryview], aads: Bytes, out: Bytes
    ) -> None:
        """Encrypt pages: ``out`` gets a row for each."""
        encrypt = self.cipher.encrypt_into
        for vector, page, aad, row in zip(_vectors(versions), pages, _lines(aads), _lines(out), strict=True):
            encrypt(vector, page, aad, row)

    def unseal(self, versions: npt.NDArray[np.uint64], sealed: Bytes, aads: Bytes, out: Bytes) -> int:
        """Decrypt rows: ``out`` gets 4096 bytes for each. How many, up to the first whose MAC is wrong."""
        decrypt = self.cipher.decrypt_into
        given = zip(_vectors(versions), _lines(sealed), _lines(aads), _lines(out), strict=True)
        for number, (vector, row, aad, page) in enumerate(given):
            try:
                decrypt(vector, row, aad, page)
            except InvalidTag:
                return number
        return len(versions)


def _lines(table: Bytes) -> list[memoryview]:
    """The rows of a contiguous table."""
    flat, width = table.reshape(-1).data, table.shape[1]
    return [flat[at : at + width] for at in range(0, len(flat), width)]


def _vectors(versions: npt.NDArray[np.uint64]) -> list[bytes]:
    """Initialisation vectors: version << 32, little-endian, 12 bytes."""
    made = np.zeros((len(versions), 12), np.uint8)
    made[:, 4:] = np.ascontiguousarray(versions).view(np.uint8).reshape(-1, 8)
    flat = made.tobytes()
    return [flat[at : at + 12] for at in range(0, len(flat), 12)]


def mac_header(pcmd: Pcmd, eid: int, linaddr: int) -> MacHeader:
    """The MAC header of one page that is loaded, out of what software gives."""
    made = MacHeader(bytearray(MacHeader.size_of))
    made.buffer[: Secinfo.size_of] = bytes(pcmd.buffer[: Secinfo.size_of])
    made.buffer[80:120] = bytes(pcmd.buffer[72:112])
    made.eid = eid
    made.linaddr = linaddr
    return made
