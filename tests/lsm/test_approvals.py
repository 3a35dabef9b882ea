"""Who allowed what: kept for pages, mappings and enclaves while these are there, and not at all without a stack."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from swsgx.isa.address import PAGE_SIZE, TargetAddr
from swsgx.linux import hooks
from swsgx.linux.device import EnclaveFile
from swsgx.linux.hooks import Judgement
from swsgx.linux.mm import AddressSpace
from swsgx.linux.provenance import Extent, Origin, OriginClass
from swsgx.linux.security import Allowance, Approval, Grant
from swsgx.linux.syscalls.mremap import MREMAP_FIXED, MREMAP_MAYMOVE
from swsgx.lsm.listed import Listed, ListedEntry
from swsgx.lsm.measurement import Digest, file_entry
from swsgx.lsm.module import Allow, Deny, Obligations
from swsgx.lsm.seat import FAILURE
from swsgx.lsm.stack import Mode
from tests.make.judged import APP, LOADER, Granting, Judged, Told, judged
from tests.make.world import BASE, REG_RX, SIZE, make_world

RX, RW = 5, 3
PLAIN = Allowance("capability")


def by(rule: str, module: str = "told") -> tuple[Allowance, ...]:
    return (PLAIN, Allowance(module, (rule,)))


def judgement(mm: AddressSpace, page: int = 0) -> Judgement:
    vma = mm.vma_at(BASE + page * PAGE_SIZE)
    assert vma is not None
    assert vma.judgement is not None
    return vma.judgement


def approval(file: EnclaveFile, page: int) -> Approval | None:
    security = file.encl.security
    assert security is not None
    at = int(security.pages.approvals[page])
    return security.pages.approved[at - 1] if at else None


def with_rule(hook: str, rule: str = "m.te:7") -> tuple[Judged, EnclaveFile]:
    """Pages 0 RX, 1 and 2 RW, 3 a TCS; one module, which has a rule for one hook."""
    made = judged(Told(**{hook: Allow(because=(rule,))}))
    return made, made.world.built()


def test_pages_know_who_let_them_in() -> None:
    _, file = with_rule("load")
    assert approval(file, 0) == Approval(LOADER, by("m.te:7"))
    assert approval(file, 4) is None


def test_the_rule_of_an_obligation_counts() -> None:
    made = judged(Granting(load=Obligations(Grant.EXECANON, ("m.te:8",))))
    file = made.world.built()
    assert approval(file, 0) == Approval(LOADER, by("m.te:8", "granting"))


def test_pages_of_one_approval_share_it() -> None:
    _, file = with_rule("load")
    security = file.encl.security
    assert security is not None
    assert len(security.pages.approved) == 1


def test_an_enclave_knows_who_allowed_its_init() -> None:
    made, file = with_rule("init")
    assert file.encl.security is not None
    assert file.encl.security.approval is None
    assert made.world.init(file).ok
    assert file.encl.security.approval == Approval(LOADER, by("m.te:7"))


def test_a_mapping_knows_who_allowed_it_and_each_change_anew() -> None:
    made, file = with_rule("map")
    assert made.world.init(file).ok
    assert made.map(file, 0, 1, RX).ok
    assert judgement(made.world.mm).allowed == by("m.te:7")
    made.stack.replace([Told(map=Allow(because=("m.te:9",)))])
    assert made.protect(0, 1, 1).ok
    assert judgement(made.world.mm).allowed == by("m.te:9")


def test_both_parts_of_a_mapping_that_is_cut_know_it() -> None:
    made, file = with_rule("map")
    assert made.world.init(file).ok
    assert made.map(file, 0, 3, 1).ok
    assert made.protect(1, 1, RW).ok
    assert [judgement(made.world.mm, page).allowed for page in range(3)] == [by("m.te:7")] * 3


def test_one_mprotect_of_several_mappings_is_kept_for_each() -> None:
    made, file = with_rule("map")
    assert made.world.init(file).ok
    assert made.map(file, 1, 1, 1).ok
    assert made.map(file, 2, 1, RW).ok
    made.stack.replace([Told(map=Allow(because=("m.te:9",)))])
    assert made.protect(1, 2, 0).ok
    assert [judgement(made.world.mm, page).allowed for page in (1, 2)] == [by("m.te:9")] * 2


def test_the_copy_of_a_fork_is_the_childs_own() -> None:
    made, file = with_rule("map")
    assert made.world.init(file).ok
    assert made.map(file, 0, 1, RX).ok
    child = made.world.mm.fork(subject=APP)
    assert (judgement(child).subject, judgement(child).allowed) == (APP, by("m.te:7"))
    assert judgement(made.world.mm).subject == LOADER
    child.exit()


def test_a_mapping_that_moved_knows_who_allowed_that() -> None:
    made, file = with_rule("map")
    assert made.map(file, 0, 1, 0).ok
    made.stack.replace([Told(map=Allow(because=("m.te:9",)))])
    where = BASE + SIZE
    moved = made.world.mm.mremap(
        BASE, PAGE_SIZE, PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, where, subject=LOADER
    )
    assert moved.value == where
    assert judgement(made.world.mm, SIZE // PAGE_SIZE).allowed == by("m.te:9")


def test_a_refusal_without_effect_is_no_yes() -> None:
    refusing = Told(map=Deny("the rule", rule="m.te:3", otherwise=Allow(because=("m.te:4",))))
    made = judged(refusing, mode=Mode.PERMISSIVE)
    file = made.world.built()
    assert made.map(file, 0, 1, 0).ok
    assert judgement(made.world.mm).allowed == (PLAIN, Allowance("told", ("m.te:3",), "the rule"))


def test_a_mapping_that_would_not_be_allowed_now_says_why_and_by_whom_it_was() -> None:
    made, file = with_rule("map")
    world = made.world
    assert world.init(file).ok
    assert made.map(file, 0, 1, RX).ok
    made.stack.replace([Told(map=Deny("never", rule="m.te:1"))])
    vma = world.mm.vma_at(BASE)
    assert vma is not None
    with world.mm.lock, file.encl.guard:
        hooks.judged_again(vma)
    found = judgement(world.mm)
    assert (vma.prot, found.allowed) == (1, by("m.te:7"))
    assert found.withdrawn == "never (security module told, m.te:1)"


def test_pages_that_are_gone_are_forgotten() -> None:
    _, file = with_rule("load")
    file.encl.remove(0, 1)
    assert approval(file, 0) is None


class FromFile:
    """All memory is of one file, from its second page on."""

    def unwritten(self, address: TargetAddr, size: int) -> None:
        """Nothing is known without a look."""

    def extents(self, address: TargetAddr, contents: memoryview, *, code: bool = True) -> Iterable[Extent]:
        origin = Origin(kind=OriginClass.FILE, path="/lib", device=1, inode=2, offset=PAGE_SIZE)
        yield Extent(len(contents), origin)


def test_each_page_knows_its_page_of_the_file() -> None:
    made = judged(Told())
    made.world.task.provenance = FromFile()
    file = made.world.open()
    assert made.world.create(file).ok
    assert made.world.add(file, 0x4000, bytes(3 * PAGE_SIZE), REG_RX)[0].ok
    security = file.encl.security
    assert security is not None
    assert security.pages.source_pages[4:8].tolist() == [1, 2, 3, 0]


def test_without_a_stack_nothing_is_kept() -> None:
    world = make_world()
    file = world.built()
    assert world.init(file).ok
    assert world.mm.mmap(BASE, PAGE_SIZE, RX, 0x11, file).ok
    vma = world.mm.vma_at(BASE)
    assert vma is not None
    assert (vma.judgement, file.encl.security) == (None, None)


@pytest.mark.parametrize("because", ["m.te:7", ("m.te", 7), None, [("m.te:7",)]])
def test_a_module_whose_rules_are_no_names_has_refused(because: object) -> None:
    nonsense = Allow(because=because)  # type: ignore[arg-type]  # tests say nonsense, too
    made = judged(Told(open=nonsense))
    with pytest.raises(PermissionError, match=FAILURE):
        made.world.open()


# The list.


def listed_entry(number: int) -> ListedEntry:
    return ListedEntry(number, file_entry(Digest("sha256", bytes(32)), f"/{number}"))


def test_entries_are_found_by_enclave_source_and_ceiling() -> None:
    listed = Listed()
    listed.loaded(1, "source", 5, listed_entry(1))
    listed.initialised(1, listed_entry(2))
    listed.augmented(1, 0x1000, 0x2000, listed_entry(3))
    assert listed.load(1, "source", 5) == listed_entry(1)
    assert listed.load(1, "source", 7) is None
    assert listed.load(2, "source", 5) is None
    assert listed.init(1) == listed_entry(2)
    assert listed.init(2) is None
    assert listed.spans(1) == [(0x1000, 0x2000, listed_entry(3))]
    assert listed.spans(2) == []


def test_an_entry_without_a_number_is_none() -> None:
    listed = Listed()
    listed.loaded(1, "source", 5, None)
    listed.initialised(1, None)
    listed.augmented(1, 0, 0x1000, None)
    assert (listed.load(1, "source", 5), listed.init(1), listed.spans(1)) == (None, None, [])


def test_the_oldest_enclave_is_forgotten_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swsgx.lsm.listed._REMEMBERED", 2)
    listed = Listed()
    for enclave in (1, 2, 3):
        listed.initialised(enclave, listed_entry(enclave))
    assert [listed.init(enclave) is None for enclave in (1, 2, 3)] == [True, False, False]
