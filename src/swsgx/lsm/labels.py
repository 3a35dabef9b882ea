"""What a policy calls a subject or a file: the types that security modules decide by, found out once for each.

A file is called by the type in its ``security.selinux`` label if the policy knows that type, else by its path. The
label of a file whose filesystem cannot tell that it changed does not count: such a filesystem, FUSE say, is a program,
which can claim any label.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from swsgx.isa.flags import PageType
from swsgx.lsm.module import NO_GRANTS, Grant, Load, Origin, OriginClass, Subject
from swsgx.lsm.policy.te import UNLABELED, TeStore

__all__ = ["Kept", "Labels", "file_of", "owed", "unmodified"]

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")
_EXEC = 4
#: How many answers are kept of each question.
_REMEMBERED = 4096


class Kept(Generic[_K, _V]):
    """Answers, each worked out once and kept as long as there is room. Its question must have one answer for good.

    Args:
        work_out: the answer.
    """

    def __init__(self, work_out: Callable[[_K], _V]) -> None:
        self._work_out = work_out
        self._answers: dict[_K, _V] = {}

    def __call__(self, question: _K) -> _V:
        try:
            return self._answers[question]
        except KeyError:
            pass
        if len(self._answers) >= _REMEMBERED:
            self._answers.clear()
        answer = self._answers[question] = self._work_out(question)
        return answer


class Labels:
    """The types of one policy.

    Args:
        store: of type enforcement.

    Attributes:
        store: as given.
        subject: the type of who asks; None: nobody knows who.
    """

    def __init__(self, store: TeStore) -> None:
        self.store = store
        self.subject: Kept[Subject | None, str] = Kept(self._subject)
        self._files: Kept[tuple[str, str, bool], str] = Kept(self._file)

    def file(self, origin: Origin) -> str:
        """The type of the file that an origin is in."""
        return self._files((origin.path, origin.label, origin.unwatched))

    def _subject(self, subject: Subject | None) -> str:
        if subject is None:
            return UNLABELED
        return self.store.subject_type(label=subject.label, exe=subject.exe, uid=subject.uid)[0]

    def _file(self, names: tuple[str, str, bool]) -> str:
        path, label, unwatched = names
        if not unwatched:
            parts = label.split(":")
            named = parts[2] if len(parts) > 2 else label
            if named in self.store.types:
                return named
        return self.store.file_type(path)[0]


def file_of(origin: Origin | None) -> Origin | None:
    """The origin, if it is a file with a name, be it a modified copy; a deleted file, a memfd and shm are none."""
    return None if origin is None or origin.anonymous else origin


def unmodified(origin: Origin | None) -> Origin | None:
    """The origin, if it is a file with a name that holds what was copied."""
    return origin if origin is not None and origin.kind is OriginClass.FILE and not origin.deleted else None


def owed(event: Load) -> Grant:
    """What pages owe, whatever the policy: code that no file vouches for, code and entry points that no measurement
    does. It is for the enclave's identity to be granted that.
    """
    grants = NO_GRANTS
    code = bool(event.ceiling & _EXEC)
    if code and file_of(event.origin) is None:
        grants |= Grant.EXECANON
    if not event.measured and (code or event.page_type is PageType.TCS):
        grants |= Grant.EXECUNMR
    return grants
