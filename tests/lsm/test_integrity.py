"""Measuring and appraising: what gets an entry, what is a violation, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from swsgx.isa.address import PAGE_SIZE, Linaddr
from swsgx.isa.flags import PageType
from swsgx.linux.security import Augment, EnclaveFacts, Grant, Identity, PageFlag, PageRange, Subject
from swsgx.lsm.appraisal import DigestReference, Keyring, sign_digest
from swsgx.lsm.integrity import Integrity
from swsgx.lsm.labels import Labels
from swsgx.lsm.measurement import Digest, Entry, MeasurementError
from swsgx.lsm.module import Allow, Answer, CommitFailed, Deny, Event, Map, Origin, OriginClass
from swsgx.lsm.policy.load import parse
from swsgx.lsm.policy.source import Source
from tests.make.enforced import MadeFile, from_file, owner_key
from tests.make.events import init_event, load_event

USER = Subject(1, 1000, "/bin/user")
OK = Answer()
LOAD = "measure func=ENCLAVE_LOAD mask=MAY_EXEC\n"
APPRAISE = "appraise func=ENCLAVE_LOAD mask=MAY_EXEC appraise_type=imasig appraise_algos=sha256\n"
IDENTITY = Identity(b"\1" * 32, b"\2" * 32, 7, 3, 4, 3, 0)
BUILT = EnclaveFacts(number=1, base=0x1000, size=0x8000, initialised=True, identity=IDENTITY)


@dataclass
class Entries:
    """Keeps entries, or cannot."""

    entries: list[Entry] = field(default_factory=list)
    broken: bool = False

    def add(self, entry: Entry) -> None:
        if self.broken:
            raise MeasurementError("the disk is full")
        self.entries.append(entry)

    def fields(self) -> list[tuple[str, dict[str, object]]]:
        return [(event.template, dict(event.fields)) for event in (entry.event() for entry in self.entries)]


def integrity(text: str, te: str = "") -> tuple[Integrity, Entries]:
    """The module under such a policy; Acme's key may sign."""
    sources = [Source("p.integrity", text.encode())]
    if te:
        sources.append(Source("m.te", f"policy_module(m, 1.0)\n{te}\n".encode()))
    policy, log, keys = parse(sources), Entries(), Keyring()
    keys.add(owner_key().public_key())
    assert policy.integrity is not None
    labels = Labels(policy.te) if policy.te is not None else None
    return Integrity(policy.integrity, log, keys, labels), log


def says(module: Integrity, event: Event) -> Deny | None:
    answer = getattr(module, event.hook)(event)
    assert isinstance(answer, Allow | Deny)
    return answer if isinstance(answer, Deny) else None


# Measuring.


def test_code_is_measured_once_for_each_enclave_source_and_ceiling() -> None:
    module, log = integrity(LOAD)
    one, other = from_file("/one"), from_file("/other")
    for origin, ceiling, enclave in [(one, 5, 1), (one, 7, 1), (one, 5, 2), (other, 5, 1), (None, 5, 1)]:
        before = len(log.entries)
        for offset in (0, PAGE_SIZE):
            at = replace(origin, offset=offset) if origin is not None else None
            module.commit(load_event(USER, at, ceiling=ceiling, enclave=enclave, offset=offset), OK)
        assert len(log.entries) == before + 1
    module.commit(load_event(USER, one, ceiling=3), OK)
    assert len(log.entries) == 5


@pytest.mark.parametrize("origin", [None, from_file("/one"), from_file("/one", kind=OriginClass.FILEMOD)])
def test_code_that_is_not_in_mrenclave_is_not_behind_an_entry_that_says_it_is(origin: Origin | None) -> None:
    module, log = integrity(LOAD)
    for page, measured in enumerate((True, True, False, True, False)):
        module.commit(load_event(USER, origin, offset=page * PAGE_SIZE, measured=measured), OK)
    told = [(fields["measured"], fields["offset"]) for _, fields in log.fields()]
    assert told == [(1, 0), (0, 2 * PAGE_SIZE)]


@pytest.mark.parametrize("text", [LOAD, "measure func=ENCLAVE_LOAD\n"])
@pytest.mark.parametrize("origin", [None, from_file("/one")])
def test_a_tcs_that_is_not_in_mrenclave_is_in_the_list(origin: Origin | None, text: str) -> None:
    """It says where measured code is entered; one that is measured says nothing that MRENCLAVE does not."""
    module, log = integrity(text)
    pages = [(PageType.REG, False), (PageType.TCS, True), (PageType.TCS, False), (PageType.TCS, False)]
    for page, (page_type, measured) in enumerate(pages):
        event = load_event(
            USER, origin, ceiling=3, offset=page * PAGE_SIZE, page_type=page_type, measured=measured
        )
        module.commit(event, OK)
    told = [(fields["measured"], fields["offset"]) for _, fields in log.fields()]
    others = [(0, 0), (1, PAGE_SIZE)] if text != LOAD else []
    assert told == [*others, (0, 2 * PAGE_SIZE)]


def test_an_entry_has_the_digest_of_the_file_and_of_what_was_copied() -> None:
    module, log = integrity(LOAD + "measure func=ENCLAVE_INIT pcr=11\n")
    origin = from_file("/one", b"whole file")
    module.commit(
        load_event(USER, replace(origin, offset=0x3000), contents=b"\x90" * PAGE_SIZE, measured=False), OK
    )
    [(template, fields)] = log.fields()
    assert template == "encl-load"
    assert fields["digest"] == Digest("sha256", MadeFile(b"whole file").digest("sha256"))
    assert fields["copied"] == Digest("sha256", MadeFile(b"\x90" * PAGE_SIZE).digest("sha256"))
    wanted = {"path": "/one", "file_offset": 0x3000, "length": PAGE_SIZE, "ceiling": 5, "measured": 0}
    assert {name: fields[name] for name in wanted} == wanted


def test_memory_without_a_file_has_the_digest_of_what_was_copied() -> None:
    module, log = integrity(LOAD)
    for origin in (None, replace(from_file(), deleted=True), replace(from_file(), kind=OriginClass.MEMFD)):
        module, log = integrity(LOAD)
        module.commit(load_event(USER, origin), OK)
        [(_, fields)] = log.fields()
        assert fields["path"] == "anon:"
        assert fields["digest"] == fields["copied"]


def test_a_modified_copy_is_not_called_the_file() -> None:
    module, log = integrity(LOAD)
    module.commit(load_event(USER, from_file("/one", kind=OriginClass.FILEMOD)), OK)
    [(_, fields)] = log.fields()
    assert (fields["path"], fields["digest"]) == ("/one", fields["copied"])


def test_init_is_measured_with_the_identity_and_its_grants() -> None:
    module, log = integrity("measure func=ENCLAVE_INIT pcr=11\n")
    module.commit(init_event(USER, from_file("/sig")), Answer(grants=Grant.EXECANON | Grant.EXECDIRTY))
    [(template, fields)] = log.fields()
    wanted = {"path": "/sig", "mrenclave": b"\1" * 32, "prodid": 7, "svn": 3, "grants": "execanon,execdirty"}
    assert template == "encl-init"
    assert {name: fields[name] for name in wanted} == wanted
    assert log.entries[0].pcr == 11


def augmented(flags: list[PageFlag], prot: int = 5) -> Map:
    array = np.array([int(flag) for flag in flags], np.uint8)
    types = np.full(len(flags), int(PageType.REG), np.uint8)
    pages = PageRange(2, 0, types, array, array * 0, np.zeros(len(flags), np.uint32), ())
    return Map(
        subject=USER,
        enclave=BUILT,
        call="mprotect",
        address=Linaddr(0x3000),
        length=len(flags) * PAGE_SIZE,
        prot=prot,
        pages=pages,
    )


def test_pages_of_eaug_are_measured_when_they_become_executable_and_not_again() -> None:
    module, log = integrity("measure func=ENCLAVE_AUG\n")
    new, old = PageFlag.AUGMENTED, PageFlag.AUGMENTED | PageFlag.EVER_X
    module.commit(augmented([new, new, PageFlag.MEASURED, old, new]), OK)
    assert [(fields["offset"], fields["length"]) for _, fields in log.fields()] == [
        (0x2000, 0x2000),
        (0x6000, 0x1000),
    ]
    module.commit(augmented([new], prot=3), OK)
    module.commit(augmented([old]), OK)
    assert len(log.entries) == 2
    augment = Augment(subject=USER, enclave=BUILT, offset=0x7000, length=0x1000, explicit=True, mapped=5)
    module.commit(augment, OK)
    module.commit(replace(augment, mapped=3), OK)
    assert [fields["offset"] for _, fields in log.fields()] == [0x2000, 0x6000, 0x7000]


def test_what_cannot_be_recorded_does_not_happen() -> None:
    module, log = integrity(LOAD)
    log.broken = True
    with pytest.raises(CommitFailed, match="disk is full"):
        module.commit(load_event(USER, from_file()), OK)
    log.broken = False
    module.commit(load_event(USER, from_file()), OK)
    assert len(log.entries) == 1


def test_types_users_owners_and_filesystems_choose_what_is_measured() -> None:
    te = 'type code_t; type user_t;\nfilecon "/one" code_t\nsubjcon exe "/bin/user" user_t'
    conditions = "func=ENCLAVE_LOAD obj_type=code_t subj_type=user_t uid=1000 fowner=5 fsname=ext4"
    module, log = integrity(f"measure {conditions}\n", te)
    good = replace(from_file("/one"), owner=5, filesystem="ext4")
    module.commit(load_event(USER, good), OK)
    assert len(log.entries) == 1
    others = [
        (USER, replace(good, path="/two")),
        (USER, replace(good, owner=6, inode=9)),
        (USER, replace(good, owner=None, inode=8)),
        (USER, replace(good, filesystem="fuse", inode=7)),
        (Subject(1, 0, "/bin/user"), replace(good, inode=6)),
        (Subject(1, 1000, "/bin/other"), replace(good, inode=5)),
    ]
    for subject, origin in others:
        module.commit(load_event(subject, origin), OK)
    assert len(log.entries) == 1


def test_dont_measure_comes_first_where_it_stands_first() -> None:
    module, log = integrity("dont_measure func=ENCLAVE_LOAD uid=1000\n" + LOAD)
    module.commit(load_event(USER, from_file()), OK)
    assert log.entries == []


# Appraising.


def test_a_signed_file_passes_and_another_does_not() -> None:
    module, _ = integrity(APPRAISE)
    assert says(module, load_event(USER, from_file("/one"))) is None
    refused = says(module, load_event(USER, from_file("/two", signed=False)))
    assert refused is not None
    assert (refused.permissions, refused.rule) == (("execute",), "p.integrity:1")
    assert says(module, load_event(USER, from_file("/two", signed=False), ceiling=3)) is None
    assert says(module, load_event(USER, None)) is None


def test_a_signature_by_a_stranger_or_over_other_contents_is_none() -> None:
    module, _ = integrity(APPRAISE)
    origin = from_file("/one")
    assert isinstance(origin.file, MadeFile)
    stranger = sign_digest(ec.generate_private_key(ec.SECP256R1()), "sha256", origin.file.digest("sha256"))
    origin.file.attributes["security.ima"] = stranger.packed()
    assert says(module, load_event(USER, origin)) is not None
    module, _ = integrity(APPRAISE)
    other = from_file("/two")
    assert isinstance(other.file, MadeFile)
    other.file.contents += b"!"
    assert says(module, load_event(USER, other)) is not None


def with_digest(algorithm: str = "sha256") -> Origin:
    origin = from_file("/one")
    assert isinstance(origin.file, MadeFile)
    reference = DigestReference(algorithm, origin.file.digest(algorithm))
    origin.file.attributes["security.ima"] = reference.packed()
    return origin


def test_a_digest_will_do_where_no_signature_is_wanted_and_its_algorithm_is_accepted() -> None:
    assert says(integrity(APPRAISE)[0], load_event(USER, with_digest())) is not None
    unsigned = APPRAISE.replace("appraise_type=imasig ", "")
    assert says(integrity(unsigned)[0], load_event(USER, with_digest())) is None
    assert says(integrity(unsigned)[0], load_event(USER, with_digest("sha512"))) is not None
    any_algorithm = "appraise func=ENCLAVE_LOAD\n"
    assert says(integrity(any_algorithm)[0], load_event(USER, with_digest("sha512"))) is None
    assert says(integrity(any_algorithm)[0], load_event(USER, with_digest("sha1"))) is not None


@dataclass(eq=False)
class Beside(MadeFile):
    """A file whose signature lies beside it."""

    detached: bytes | None = None

    def signature(self) -> bytes | None:
        return self.detached


def test_a_detached_signature_will_do() -> None:
    file = Beside(b"code")
    origin = replace(from_file("/one"), file=file)
    assert says(integrity(APPRAISE)[0], load_event(USER, origin)) is not None
    file.detached = sign_digest(owner_key(), "sha256", file.digest("sha256")).packed()
    assert says(integrity(APPRAISE)[0], load_event(USER, origin)) is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda origin: replace(origin, writers=True),
        lambda origin: replace(origin, unwatched=True),
        lambda origin: replace(origin, kind=OriginClass.FILEMOD),
        lambda origin: replace(origin, file=None),
    ],
    ids=["writers", "unwatched", "modified", "unreadable"],
)
def test_what_cannot_be_believed_is_refused_even_after_a_good_part(spoil: Callable[[Origin], Origin]) -> None:
    module, _ = integrity(APPRAISE)
    origin = from_file()
    if spoil(origin).file is not None:
        assert says(module, load_event(USER, origin)) is None
    assert says(module, load_event(USER, spoil(origin))) is not None


def test_sigstructs_are_appraised_and_those_without_a_file_are_not() -> None:
    module, _ = integrity("appraise func=ENCLAVE_SIGSTRUCT appraise_type=imasig\n")
    assert says(module, init_event(USER, from_file("/sig"))) is None
    refused = says(module, init_event(USER, from_file("/sig", signed=False)))
    assert refused is not None
    assert refused.permissions == ("init",)
    assert says(module, init_event(USER, None)) is None


@pytest.mark.parametrize("policy", [APPRAISE, LOAD], ids=["appraised", "measured"])
def test_enclave_whose_sources_were_forgotten_is_not_initialised(
    policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever begins very many enclaves does not get past the second look at a file."""
    monkeypatch.setattr("swsgx.lsm.integrity._REMEMBERED", 3)
    module, _ = integrity(policy)
    origin = from_file("/one")
    assert isinstance(origin.file, MadeFile)

    def added(enclave: int) -> None:
        event = load_event(USER, origin, enclave=enclave)
        assert says(module, event) is None
        module.commit(event, OK)

    for enclave in (1, 2, 3):
        added(enclave)
    for enclave in (4, 5):
        added(enclave)
    for enclave in (1, 2):
        refused = says(module, init_event(USER, None, enclave=enclave))
        assert refused is not None
        assert "forgotten" in refused.found
    # What is added to it afterwards does not make it known again.
    added(2)
    assert says(module, init_event(USER, None, enclave=2)) is not None
    for enclave in (4, 5):
        event = init_event(USER, None, enclave=enclave)
        assert says(module, event) is None
        module.commit(event, OK)


def test_a_file_is_hashed_once_and_once_again_at_init_however_many_blocks_it_has() -> None:
    module, _ = integrity(LOAD + APPRAISE)
    counted: list[str] = []

    class Counting(MadeFile):
        def digest(self, algorithm: str, *, most: int | None = None) -> bytes:
            counted.append(algorithm)
            return super().digest(algorithm)

    signed = from_file("/one")
    assert isinstance(signed.file, MadeFile)
    origin = replace(signed, file=Counting(signed.file.contents, signed.file.attributes))
    for block in range(50):
        event = load_event(USER, replace(origin, offset=block * PAGE_SIZE), offset=block * PAGE_SIZE)
        assert says(module, event) is None
        module.commit(event, OK)
    before = len(counted)
    assert before <= 2
    assert says(module, init_event(USER, from_file("/sig"))) is None
    assert len(counted) == before + 1
