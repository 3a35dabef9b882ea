"""Keeps a measurement list while things run: appends to its file, then extends the registers.

In this order, a reader may find an entry that is not in the PCR yet, but never the other way round.
"""

from __future__ import annotations

import fcntl
import os
import stat
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from swsgx.lsm.measurement import Entry, MeasurementError
from swsgx.lsm.measurement_list import bank_digests, format_binary, parse_binary, replay
from swsgx.lsm.pcr import PcrSink, SoftwarePcrs

__all__ = ["MeasurementLog", "UnfiledLog"]


@dataclass
class MeasurementLog:
    """A list in a file, in IMA's binary layout, and the registers it is extended into.

    Emulated registers start at zero with each process, so a list that is there already is replayed into them; a
    TPM's have kept their values, and must be what the list says, each before it is first extended: what others have
    extended is in no list, and no list would lead to the register any more.

    Args:
        path: created if missing. One process at a time has it.
        pcrs: where entries are extended.

    Raises:
        MeasurementError: the file cannot be opened, is another process's, is damaged, or is not what the TPM has.
        PcrError: the TPM does not answer.
    """

    path: Path
    pcrs: PcrSink
    entries: list[Entry] = field(default_factory=list, init=False)
    _fd: int = field(default=-1, init=False, repr=False)
    _broken: str = field(default="", init=False, repr=False)
    #: Registers that are known to be where the list leads.
    _agreed: set[int] = field(default_factory=set, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        try:
            self._fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if stat.S_ISREG(os.fstat(self._fd).st_mode):  # devices are everybody's
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.entries += parse_binary(self.path.read_bytes(), str(self.path))
            self._resume()
        except BlockingIOError:
            self.close()
            raise MeasurementError(
                f"{self.path}: another process is writing this measurement list; name another file"
            ) from None
        except OSError as error:
            self.close()
            raise MeasurementError(
                f"{self.path}: the measurement list cannot be opened: {error.strerror}"
            ) from None
        except Exception:
            self.close()
            raise

    def _resume(self) -> None:
        if isinstance(self.pcrs, SoftwarePcrs):
            for entry in self.entries:
                self.pcrs.extend(entry.pcr, bank_digests(entry, self.pcrs.algorithms))
            return
        self.check({entry.pcr for entry in self.entries})

    def check(self, pcrs: Iterable[int]) -> None:
        """See whether the list leads to these registers.

        Args:
            pcrs: their numbers; those that were looked at before, and emulated ones, are not looked at again.

        Raises:
            MeasurementError: it does not lead to one of them.
            PcrError: the TPM does not answer.
        """
        if isinstance(self.pcrs, SoftwarePcrs):
            return
        wanted = sorted(set(pcrs) - self._agreed)
        replayed = replay(self.entries, self.pcrs.algorithms) if wanted else self.pcrs
        for pcr in wanted:
            for algorithm in self.pcrs.algorithms:
                if replayed.read(algorithm, pcr) != self.pcrs.read(algorithm, pcr):
                    raise MeasurementError(
                        f"{self.path}: the list does not lead to the TPM's PCR {pcr} ({algorithm}); "
                        "if the TPM has been restarted, name a new file; if others extend this PCR, "
                        "give the rules another with pcr="
                    )
            self._agreed.add(pcr)

    def add(self, entry: Entry) -> int:
        """Append an entry, then extend it.

        Returns: its number in the list; the first is 1.

        After a failure nothing more is added: the entry may stand in the list without being in the register, and a
        later one must not hide that.

        Raises:
            MeasurementError: it was not appended, or an earlier one failed.
            PcrError: it was not extended.
        """
        data = format_binary([entry])
        digests = bank_digests(entry, self.pcrs.algorithms)
        with self._lock:
            if self._broken:
                raise MeasurementError(f"{self.path}: nothing is added after a failure: {self._broken}")
            self.check([entry.pcr])
            try:
                written = os.write(self._fd, data)
                problem = "" if written == len(data) else f"{written} of {len(data)} bytes were written"
            except OSError as error:
                problem = error.strerror or str(error)
            if problem:
                self._broken = problem
                raise MeasurementError(
                    f"{self.path}: entry {len(self.entries) + 1} is not written: {problem}"
                )
            self.entries.append(entry)
            # Whatever the registers do, the list is ahead of them until they return.
            self._broken = f"entry {len(self.entries)} was not extended"
            self.pcrs.extend(entry.pcr, digests)
            self._broken = ""
            return len(self.entries)

    def close(self) -> None:
        """Close the file; a second time does nothing. The registers stay open."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass
class UnfiledLog:
    """A list that lives as long as the process, for whoever named no file.

    Args:
        pcrs: where entries are extended.
    """

    pcrs: PcrSink
    entries: list[Entry] = field(default_factory=list, init=False)
    _broken: bool = field(default=False, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def add(self, entry: Entry) -> int:
        """As :meth:`MeasurementLog.add`.

        Raises:
            MeasurementError: an earlier one was not extended.
            PcrError: it was not extended.
        """
        with self._lock:
            if self._broken:
                raise MeasurementError(
                    f"nothing is measured after entry {len(self.entries)}, which was not extended"
                )
            self.entries.append(entry)
            self._broken = True
            self.pcrs.extend(entry.pcr, bank_digests(entry, self.pcrs.algorithms))
            self._broken = False
            return len(self.entries)

    def close(self) -> None:
        """Nothing is open."""
