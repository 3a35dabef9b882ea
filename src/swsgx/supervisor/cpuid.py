"""Making programs see the emulated CPU: their CPUID instructions become UD2, which the image answers.

A program's own file is looked at when it is executed, libraries when they are mapped; which of them need no patch is
told to later programs, which then do not ask: a question costs more than mapping a library. Patches go to private
copies, through /proc/PID/mem. What must be written before the first patch is the table of
``native/supervised/cpuid.h``.

Every program pays for what is here, so the emulated CPU is loaded when there is something to patch.
"""

from __future__ import annotations

import contextlib
import os
import struct
from itertools import groupby
from typing import TYPE_CHECKING

from swsgx.supervisor.cpuid_sites import PATCH, addresses, opened, sites, skipped, soname
from swsgx.supervisor.image import IMAGE_BASE, Image
from swsgx.supervisor.seccomp import Listener, Notification

if TYPE_CHECKING:
    from swsgx.supervisor.settings import Settings

__all__ = ["CpuidPatches"]

_BASIC_LEAVES = 0x12
_PAGE_SIZE = 4096
#: swsgx.native.abi: Ask.CODE, Answer.DONE, and how a Request begins.
_ASK_CODE, _DONE = 8, 0
_REQUEST = struct.Struct("<I12x4Q")
#: native/supervised/cpuid.h: struct known_files.
_KNOWN_FILES = 64
_KNOWN_COUNT = struct.Struct("<Q")
_KNOWN_FILE = struct.Struct("<QQQqQ")
_BILLION = 1_000_000_000


class CpuidPatches:
    """Patches programs.

    Args:
        image: what is injected into them; its first data are the table.
        settings: which CPU to be.
    """

    def __init__(self, image: Image, settings: Settings) -> None:
        self._table = IMAGE_BASE + image.writable
        self._lists = IMAGE_BASE + image.lists
        self._room = image.lists_size
        self._settings = settings
        self._answers = b""
        self._harmless_at = IMAGE_BASE + image.known
        self._harmless: dict[bytes, None] = {}
        self._harmless_table = b""

    def program(self, tid: int, memory: int) -> None:
        """A new program, before its first instruction: its own file, not its interpreter.

        Args:
            tid: its task.
            memory: descriptor of its /proc/PID/mem.
        """
        if self._harmless_table:
            os.pwrite(memory, self._harmless_table, self._harmless_at)
        path = f"/proc/{tid}/exe"
        found = sites(path)
        if not found:
            return
        from swsgx.native.mappings import mappings

        with contextlib.suppress(OSError):
            inode = os.stat(path).st_ino  # noqa: PTH116 - pathlib costs as much as all the rest
            for mapping in mappings(tid):
                if mapping.inode == inode and "x" in mapping.permissions:
                    self._patch(memory, addresses(found, mapping.start, mapping.end, mapping.offset))

    def asked(self, listener: Listener, notification: Notification) -> bool:
        """A program asks something: patch, if it has mapped a file executable. False: it asks something else."""
        try:
            memory = os.open(f"/proc/{notification.tid}/mem", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            request = os.pread(memory, _REQUEST.size, notification.argument)
            op, start, length, fd, offset = _REQUEST.unpack(request)
            if op != _ASK_CODE:
                return False
            self._library(f"/proc/{notification.tid}/fd/{fd & 0xFFFF_FFFF}", memory, start, length, offset)
        except (OSError, struct.error):
            return False
        finally:
            os.close(memory)
        listener.reply(notification, _DONE)
        return True

    def _library(self, path: str, memory: int, start: int, length: int, offset: int) -> None:
        with opened(path) as fd:
            name = soname(fd)
            found = () if name is not None and skipped(name) else sites(fd)
            if found:
                self._patch(memory, addresses(found, start, start + length, offset))
            else:
                self._remember(os.fstat(fd))

    def _remember(self, harmless: os.stat_result) -> None:
        """Programs that are started from now on do not ask for this file."""
        time, size = divmod(harmless.st_mtime_ns, _BILLION), harmless.st_size
        self._harmless[_KNOWN_FILE.pack(harmless.st_dev, harmless.st_ino, size, *time)] = None
        if len(self._harmless) > _KNOWN_FILES:
            del self._harmless[next(iter(self._harmless))]
        self._harmless_table = _KNOWN_COUNT.pack(len(self._harmless)) + b"".join(self._harmless)

    def _patch(self, memory: int, places: tuple[int, ...]) -> None:
        if not places:
            return
        known = self._known(memory)
        merged = sorted({*known, *places})
        at = self._next_list(memory, len(known), len(merged))
        if not at:
            return  # no room: these stay as they are
        os.pwrite(memory, self._overrides(), self._table + 8)
        os.pwrite(memory, struct.pack(f"<Q{len(merged)}Q", len(merged), *merged), at)
        os.pwrite(memory, struct.pack("<Q", at), self._table)
        for _, near in groupby(places, lambda place: place // _PAGE_SIZE):
            self._write(memory, list(near))

    @staticmethod
    def _write(memory: int, places: list[int]) -> None:
        """Patch the sites that begin in one page; what lies between is written as it is."""
        first, size = places[0] + PATCH[0], places[-1] - places[0] + 1
        code = bytearray(os.pread(memory, size, first))
        for place in places:
            code[place + PATCH[0] - first] = PATCH[1]
        os.pwrite(memory, code, first)

    def _overrides(self) -> bytes:
        if not self._answers:
            from swsgx.isa.cpuid import overrides
            from swsgx.supervisor.cpuid_sites import pack_overrides

            self._answers = pack_overrides(_BASIC_LEAVES, overrides(self._settings.model()))
        return self._answers

    def _known(self, memory: int) -> tuple[int, ...]:
        (at,) = struct.unpack("<Q", os.pread(memory, 8, self._table))
        if not at:
            return ()
        (count,) = struct.unpack("<Q", os.pread(memory, 8, at))
        return struct.unpack(f"<{count}Q", os.pread(memory, 8 * count, at + 8))

    def _next_list(self, memory: int, known: int, wanted: int) -> int:
        """Room for a list behind the present one, which other threads may be reading; 0: none is left."""
        (at,) = struct.unpack("<Q", os.pread(memory, 8, self._table))
        place = at + 8 + 8 * known if at else self._lists
        return place if place + 8 + 8 * wanted <= self._lists + self._room else 0
