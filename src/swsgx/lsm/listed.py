"""Which entry of the measurement list stands for which pages: kept while a machine runs, for people to ask.

The list itself cannot say: it may go on from earlier runs, whose enclaves have the same numbers, and one entry stands
for all pages of a source.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from swsgx.lsm.measurement import Entry

__all__ = ["Listed", "ListedEntry"]

#: Enclaves whose entries are remembered; of those that are forgotten, nobody can say any more.
_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class ListedEntry:
    """An entry, and where it is.

    Attributes:
        number: in the list; the first is 1.
        entry: what was added.
    """

    number: int
    entry: Entry


@dataclass
class _OfEnclave:
    """The entries of one enclave.

    Attributes:
        loads: by source and ceiling.
        init: of its INIT.
        augmented: bytes from its base, bytes, and the entry, as they came.
    """

    loads: dict[tuple[Hashable, int], ListedEntry] = field(default_factory=dict)
    init: ListedEntry | None = None
    augmented: list[tuple[int, int, ListedEntry]] = field(default_factory=list)


class Listed:
    """The entries of all enclaves, by their numbers."""

    def __init__(self) -> None:
        self._enclaves: dict[int, _OfEnclave] = {}

    def _of(self, enclave: int) -> _OfEnclave:
        found = self._enclaves.get(enclave)
        if found is None:
            if len(self._enclaves) >= _REMEMBERED:
                self._enclaves.pop(next(iter(self._enclaves)), None)
            found = self._enclaves.setdefault(enclave, _OfEnclave())
        return found

    # Adding. None: an entry without a number, of which nothing is kept.

    def loaded(self, enclave: int, source: Hashable, ceiling: int, entry: ListedEntry | None) -> None:
        """An entry stands for all pages of a source that were added with a ceiling."""
        if entry is not None:
            self._of(enclave).loads[source, ceiling] = entry

    def initialised(self, enclave: int, entry: ListedEntry | None) -> None:
        """An entry stands for an enclave's INIT."""
        if entry is not None:
            self._of(enclave).init = entry

    def augmented(self, enclave: int, offset: int, length: int, entry: ListedEntry | None) -> None:
        """An entry stands for pages that EAUG added and that became executable."""
        if entry is not None:
            self._of(enclave).augmented.append((offset, length, entry))

    # Asking.

    def load(self, enclave: int, source: Hashable, ceiling: int) -> ListedEntry | None:
        """The entry of pages that were loaded."""
        known = self._enclaves.get(enclave)
        return known.loads.get((source, ceiling)) if known is not None else None

    def init(self, enclave: int) -> ListedEntry | None:
        """The entry of an INIT."""
        known = self._enclaves.get(enclave)
        return known.init if known is not None else None

    def spans(self, enclave: int) -> list[tuple[int, int, ListedEntry]]:
        """Entries of augmented pages, the last for a page last: bytes from the enclave's base, bytes, entry."""
        known = self._enclaves.get(enclave)
        return list(known.augmented) if known is not None else []
