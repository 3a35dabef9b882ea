"""What ran inside enclaves is measured, and code is what its owner signed: IMA's two halves, for enclaves.

Measuring happens when it is certain that something will happen (commit), and before it can be used: an entry for the
first executable pages of each source and ceiling, one when an enclave is initialised, and one when pages that EAUG
added become executable. Pages whose contents MRENCLAVE does not measure have entries of their own: nobody would vouch
for anonymous ones behind an entry that says ``measured``. Appraisal happens when it is decided: files of code, and of
SIGSTRUCTs, have a reference and match it. Memory without a file is not appraised: what vouches for it is MRENCLAVE,
which ``encl-init`` tells.

A file that somebody has open for writing, or whose filesystem cannot tell that it changed, has no digest to believe:
its entry is a violation, and its appraisal fails. So does that of a private copy that was modified. A file's digest is
taken when its first code is added, and again at INIT, where a change in between is a refusal, or a violation if it was
only measured.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np

from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.flags import PageType
from swsgx.lsm.appraisal import Keyring, appraise
from swsgx.lsm.labels import Kept, Labels, file_of, unmodified
from swsgx.lsm.listed import Listed, ListedEntry
from swsgx.lsm.measurement import (
    Digest,
    Entry,
    Form,
    MeasurementError,
    encl_aug,
    encl_init,
    encl_load,
    file_entry,
)
from swsgx.lsm.module import (
    ALLOW,
    Allow,
    Answer,
    Augment,
    CommitFailed,
    Deny,
    EnclaveEvent,
    Event,
    Init,
    Load,
    Map,
    Module,
    Origin,
    OriginClass,
    PageFlag,
    Verdict,
)
from swsgx.lsm.pcr import PcrError
from swsgx.lsm.policy.integrity import ALGORITHMS, IntegrityFacts, IntegrityRule, IntegrityStore
from swsgx.trace import Reason

__all__ = ["STEADY", "EntrySink", "Integrity", "Memory", "SignedBeside"]

#: The rule, in words, by which INIT is refused when a file is another one than when its code was added.
STEADY = "a source does not change while an enclave is built"
_EXEC = 4
_ATTRIBUTE = "security.ima"
_MEASURED_BY = "sha256"
#: Enclaves whose sources are remembered while they are built. One that is forgotten is not initialised: its files
#: could be others by now, and nobody would know.
_REMEMBERED = 4096
_FileKey = tuple[str, int, int]


class EntrySink(Protocol):
    """Where entries go: :class:`~swsgx.lsm.measurement_log.MeasurementLog`, say."""

    def add(self, entry: Entry, /) -> int | None:
        """Append, then extend.

        Returns: its number in the list, the first is 1; None: nobody counts.

        Raises:
            MeasurementError: it was not appended.
            PcrError: it was not extended.
        """
        ...


@runtime_checkable
class SignedBeside(Protocol):
    """An origin's file that also knows of its detached signature."""

    def signature(self) -> bytes | None:
        """What the file beside it that is called like it with ``.sig`` at the end holds; None if there is none.

        Raises:
            OSError: it cannot be read.
        """
        ...


@dataclass
class _Seen:
    """A file as it was when its first code was added.

    Attributes:
        origin: to look at it again.
        digest: of the whole file.
        appraised: it was found to be good, so a change is a refusal; else it is a violation.
        pcr: where it was measured; None: it was not.
    """

    origin: Origin
    digest: bytes
    appraised: bool = False
    pcr: int | None = None

    def changed(self) -> bytes | None:
        """Its digest now, if that is another.

        Raises:
            OSError: it cannot be read.
        """
        now = _digest(self.origin)
        return now if now != self.digest else None


class _Sources:
    """What is known of the sources of one enclave that is being built."""

    def __init__(self) -> None:
        self.logged: set[tuple[Hashable, int]] = set()
        self.appraised: dict[tuple[_FileKey, IntegrityRule], Reason | None] = {}
        self.files: dict[_FileKey, _Seen] = {}

    def seen(self, origin: Origin) -> _Seen:
        """The file as it was first, which may be now.

        Raises:
            OSError: it cannot be read.
        """
        key = _key(origin)
        if key not in self.files:
            self.files[key] = _Seen(origin, _digest(origin))
        return self.files[key]


class Memory:
    """What outlives a policy: which sources of which enclaves have entries, and what was found in their files.

    Attributes:
        listed: the entries; they are remembered also when nothing more is loaded.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._enclaves: dict[int, _Sources] = {}
        self._forgotten: set[int] = set()
        self.listed = Listed()

    def of(self, enclave: int) -> _Sources:
        """The sources of an enclave."""
        with self._lock:
            known = self._enclaves.get(enclave)
            if known is None:
                if len(self._enclaves) >= _REMEMBERED:
                    oldest = next(iter(self._enclaves))
                    if self._enclaves.pop(oldest).files:
                        self._forgotten.add(oldest)
                known = self._enclaves[enclave] = _Sources()
            return known

    def forgotten(self, enclave: int) -> bool:
        """Whether files of its were known that are not any more."""
        return enclave in self._forgotten

    def forget(self, enclave: int) -> None:
        """Nothing more is loaded into it."""
        with self._lock:
            self._enclaves.pop(enclave, None)
            self._forgotten.discard(enclave)


class Integrity(Module):
    """Asks a compiled integrity policy.

    Args:
        store: the policy.
        log: where entries go.
        keys: who may sign.
        labels: types of subjects and files; None: there are none, and no rule that asks for one matches.
        memory: of the module that this one replaces.
        form: in which templates entries are written.
    """

    name: ClassVar[str] = "integrity"

    def __init__(
        self,
        store: IntegrityStore,
        log: EntrySink,
        keys: Keyring,
        labels: Labels | None = None,
        memory: Memory | None = None,
        form: Form = Form.IMA_BUF,
    ) -> None:
        self.form = form
        self.store = store
        self.log = log
        self.keys = keys
        self.labels = labels
        self.memory = memory if memory is not None else Memory()
        self._rules: Kept[tuple[str, IntegrityFacts], IntegrityRule | None] = Kept(self._decided)

    # Deciding.

    def load(self, event: Load) -> Verdict:
        origin = file_of(event.origin)
        if origin is None:
            return ALLOW
        rule = self._rule("appraise", event, "ENCLAVE_LOAD", _mask(event), origin)
        if rule is None:
            return ALLOW
        key = _key(origin), rule
        # A mapping that looks worse than the first one did is judged by itself.
        if _believable(origin) is not None:
            return _refused(_believable(origin), rule, ("execute",))
        known = self.memory.of(event.enclave.number)
        if key not in known.appraised:
            known.appraised[key] = self._appraise(origin, rule, known)
        return _refused(known.appraised[key], rule, ("execute",))

    def init(self, event: Init) -> Verdict:
        if self.memory.forgotten(event.enclave.number):
            found = f"they were forgotten, since {_REMEMBERED} other enclaves were begun"
            return Deny(STEADY, ("init",), "files that are known from when their code was added", found)
        for seen in list(self.memory.of(event.enclave.number).files.values()):
            if not seen.appraised:
                continue
            path = seen.origin.path
            expected = f"{_MEASURED_BY}:{seen.digest.hex()}"
            try:
                now = seen.changed()
            except OSError as error:
                return Deny(STEADY, ("init",), expected, f"{path}: {error.strerror}")
            if now is not None:
                return Deny(STEADY, ("init",), expected, f"{_MEASURED_BY}:{now.hex()} ({path})")
        sigstruct = unmodified(event.origin)
        if sigstruct is None:
            return ALLOW
        rule = self._rule("appraise", event, "ENCLAVE_SIGSTRUCT", None, sigstruct)
        if rule is None:
            return ALLOW
        return _refused(_believable(sigstruct) or self._appraise(sigstruct, rule, None), rule, ("init",))

    def _appraise(self, origin: Origin, rule: IntegrityRule, known: _Sources | None) -> Reason | None:
        file = origin.file
        if file is None:
            return _reason("the file can be looked at", "a file that can be read", origin)
        try:
            if known is not None:
                known.seen(origin).appraised = True
            reference = file.attribute(_ATTRIBUTE)
            if reference is None and isinstance(file, SignedBeside):
                reference = file.signature()
            return appraise(
                origin.path,
                reference,
                file.digest,
                self.keys,
                signature=rule.signed,
                algorithms=rule.algorithms or ALGORITHMS,
            )
        except OSError as error:
            return _reason("the file can be read", error.strerror or str(error), origin)

    def _rule(
        self, action: str, event: EnclaveEvent, func: str, mask: int | None, origin: Origin | None
    ) -> IntegrityRule | None:
        """The rule that says to do it; None: it is not to be done."""
        subject, labels = event.subject, self.labels
        facts = IntegrityFacts(
            func=func,
            mask=mask,
            obj_type=labels.file(origin) if labels is not None and origin is not None else None,
            subj_type=labels.subject(subject) if labels is not None else None,
            uid=subject.uid if subject is not None else None,
            fowner=origin.owner if origin is not None else None,
            fsname=(origin.filesystem or None) if origin is not None else None,
        )
        return self._rules((action, facts))

    def _decided(self, question: tuple[str, IntegrityFacts]) -> IntegrityRule | None:
        rule = self.store.decide(*question)
        return rule if rule is not None and rule.applies else None

    # Telling.

    def entry_of(
        self, enclave: int, origin: Origin | None, ceiling: int, *, measured: bool
    ) -> ListedEntry | None:
        """The entry of the list that stands for pages that ADD_PAGES brought; None: there is none.

        Args:
            enclave: its number.
            origin: where the pages were copied from.
            ceiling: R 1, W 2, X 4.
            measured: their contents are in MRENCLAVE.
        """
        return self.memory.listed.load(enclave, _source(origin, measured=measured), ceiling)

    # Committing.

    def commit(self, event: Event, answer: Answer) -> None:
        match event:
            case Load():
                self._load(event)
            case Init():
                self._changed_since(event.enclave.number)
                self._init(event, answer)
                self.memory.forget(event.enclave.number)
            case Map() if event.prot & _EXEC:
                fresh = event.pages.having(PageFlag.AUGMENTED) & event.pages.lacking(PageFlag.EVER_X)
                for start, length in _runs(fresh, event.pages.first):
                    self._aug(event, start, length)
            case Augment() if event.mapped & _EXEC:
                self._aug(event, event.offset, event.length)

    def _load(self, event: Load) -> None:
        origin = file_of(event.origin)
        rule = self._rule("measure", event, "ENCLAVE_LOAD", _mask(event), origin)
        if rule is None:
            return
        known = self.memory.of(event.enclave.number)
        violation = origin is not None and _violates(origin)
        source = _source(event.origin, measured=event.measured, opens=_opens(event))
        if (source, event.ceiling) in known.logged:
            return
        copied = Digest(_MEASURED_BY, event.digest(_MEASURED_BY))
        digest = copied
        if origin is not None and origin.file is not None and origin.kind is OriginClass.FILE:
            try:
                digest = Digest(_MEASURED_BY, self._file_digest(origin, known, rule, believed=not violation))
            except OSError as error:
                raise CommitFailed(f"{origin.path} cannot be measured: {error.strerror}") from None
        entry = encl_load(
            digest=digest,
            path=origin.path if origin is not None else "",
            enclave=event.enclave.number,
            file_offset=origin.offset if origin is not None else 0,
            offset=event.offset,
            length=event.length,
            ceiling=event.ceiling,
            measured=event.measured,
            copied=copied,
        )
        added = self._add(entry.entry(self.form, pcr=rule.pcr, violation=violation))
        self.memory.listed.loaded(event.enclave.number, source, event.ceiling, added)
        known.logged.add((source, event.ceiling))

    @staticmethod
    def _file_digest(origin: Origin, known: _Sources, rule: IntegrityRule, *, believed: bool) -> bytes:
        """Of the file when its first code was added; it is looked at again at INIT, unless that is of no use."""
        if not believed:
            return _digest(origin)
        seen = known.seen(origin)
        seen.pcr = rule.pcr
        return seen.digest

    def _changed_since(self, enclave: int) -> None:
        """Files that were measured and are others by now: violations."""
        for seen in list(self.memory.of(enclave).files.values()):
            if seen.pcr is None:
                continue
            try:
                now = seen.changed()
            except OSError:
                now = b""
            if now is not None:
                digest = Digest(_MEASURED_BY, now or bytes(hashlib.new(_MEASURED_BY).digest_size))
                self._add(file_entry(digest, seen.origin.path, pcr=seen.pcr, violation=True))

    def _init(self, event: Init, answer: Answer) -> None:
        origin = file_of(event.origin)
        rule = self._rule("measure", event, "ENCLAVE_INIT", None, origin)
        if rule is None:
            return
        identity = event.identity
        entry = encl_init(
            digest=Digest(_MEASURED_BY, hashlib.sha256(event.sigstruct.buffer).digest()),
            path=origin.path if origin is not None else "",
            enclave=event.enclave.number,
            mrenclave=identity.mrenclave,
            mrsigner=identity.mrsigner,
            attributes=identity.attributes.to_bytes(8, "little") + identity.xfrm.to_bytes(8, "little"),
            prodid=identity.isvprodid,
            svn=identity.isvsvn,
            grants=(answer.grants | answer.tolerated).permissions,
        )
        self.memory.listed.initialised(event.enclave.number, self._add(entry.entry(self.form, pcr=rule.pcr)))

    def _aug(self, event: EnclaveEvent, offset: int, length: int) -> None:
        rule = self._rule("measure", event, "ENCLAVE_AUG", _EXEC, None)
        identity = event.enclave.identity
        if rule is None:
            return
        entry = encl_aug(
            enclave=event.enclave.number,
            offset=offset,
            length=length,
            mrenclave=identity.mrenclave if identity is not None else b"",
            mrsigner=identity.mrsigner if identity is not None else b"",
        )
        added = self._add(entry.entry(self.form, pcr=rule.pcr))
        self.memory.listed.augmented(event.enclave.number, offset, length, added)

    def _add(self, entry: Entry) -> ListedEntry | None:
        """The entry with its number, if it has one."""
        try:
            number = self.log.add(entry)
        except (MeasurementError, PcrError) as error:
            raise CommitFailed(str(error)) from error
        return ListedEntry(number, entry) if number is not None else None


def _key(origin: Origin) -> _FileKey:
    return origin.path, origin.device, origin.inode


def _violates(origin: Origin) -> bool:
    """Whether a digest of the file would say nothing of what was copied."""
    return origin.file is None or origin.writers or origin.unwatched


def _mask(event: Load) -> int:
    """What a rule's ``mask`` is compared with: the ceiling; and a TCS that MRENCLAVE does not vouch for is as code.

    It says where the enclave is entered, so whoever may fill it chooses what of the measured code runs.
    """
    return event.ceiling | (_EXEC if _opens(event) else 0)


def _opens(event: Load) -> bool:
    return event.page_type is PageType.TCS and not event.measured


def _source(origin: Origin | None, *, measured: bool, opens: bool = False) -> Hashable:
    """What one entry stands for: all that comes from there, and that MRENCLAVE vouches for, or does not.

    Args:
        opens: they are TCSs that it does not vouch for, which the list must show even behind data that it does not.
    """
    file = file_of(origin)
    if file is None:
        return _anonymous(origin), measured, opens
    return _key(file), file.kind, _violates(file), measured, opens


def _anonymous(origin: Origin | None) -> OriginClass:
    return origin.kind if origin is not None else OriginClass.UNKNOWN


def _digest(origin: Origin) -> bytes:
    return origin.file.digest(_MEASURED_BY) if origin.file is not None else b""


def _believable(origin: Origin) -> Reason | None:
    """Why a file's digest says nothing of what was copied from it; None: it does."""
    if origin.kind is not OriginClass.FILE:
        return _reason("what is copied is the file's", "a private copy that was modified", origin)
    if origin.writers:
        return _reason("nobody has the file open for writing", "somebody has", origin)
    if origin.unwatched:
        return _reason(
            "the filesystem tells when a file changes", origin.filesystem or "one that does not", origin
        )
    return None


def _reason(rule: str, found: str, origin: Origin) -> Reason:
    return Reason("appraisal", rule, "a file that was signed", f"{found} ({origin.path})", "docs/policy.md")


def _refused(reason: Reason | None, rule: IntegrityRule, permissions: tuple[str, ...]) -> Verdict:
    if reason is None:
        return Allow(because=(str(rule.rule.place),))
    return Deny(reason.rule, permissions, reason.expected, reason.found, rule=str(rule.rule.place))


def _runs(mask: np.ndarray[tuple[int], np.dtype[np.bool_]], first: int) -> Iterator[tuple[int, int]]:
    """Runs of pages that a mask picks: bytes from the enclave's base, and bytes."""
    edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=np.int8(0), append=np.int8(0)))
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        yield (first + start) * PAGE_SIZE, (end - start) * PAGE_SIZE
