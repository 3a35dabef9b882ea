"""Hook points: when each is asked, with what, and that a refusal leaves no trace."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

import pytest

from swsgx.identity.signer import mrsigner
from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.flags import PageType
from swsgx.linux import uapi
from swsgx.linux.access import peek, poke
from swsgx.linux.device import EnclaveFile
from swsgx.linux.mm import PROT_NONE, PROT_READ
from swsgx.linux.outcome import Outcome
from swsgx.linux.security import (
    ALLOWED,
    Answer,
    Create,
    Debug,
    EnclaveFacts,
    Event,
    Init,
    Load,
    Map,
    Open,
    Origin,
    OriginClass,
    Plain,
    Receive,
    Subject,
)
from swsgx.linux.syscalls.mremap import MREMAP_FIXED, MREMAP_MAYMOVE
from swsgx.linux.task import SourceVma
from swsgx.trace import Reason
from tests.make.world import BASE, REG_RW, REG_RX, SIZE, World, a_secs, make_world

LOADER, APP = Subject(1, 1000, "/bin/loader"), Subject(2, 1000, "/bin/app")


@dataclass
class Judge(Plain):
    """Listens to all hooks; refuses those that it is told to, in either phase."""

    refuses: set[str] = field(default_factory=set)
    fails: set[str] = field(default_factory=set)
    heard: list[tuple[str, Event]] = field(default_factory=list)
    starts: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.active = True

    def decide(self, event: Event) -> Answer:
        self.heard.append((event.hook, event))
        if isinstance(event, Load):
            self.starts.append(bytes(event.contents[:8]))
        return Answer(self.no(event.hook)) if event.hook in self.refuses else ALLOWED

    def commit(self, event: Event, answer: Answer) -> Reason | None:
        return self.no(event.hook) if event.hook in self.fails else None

    @staticmethod
    def no(hook: str) -> Reason:
        return Reason("judge", hook, "allowed", "refused", "test")

    def of(self, hook: str) -> list[Event]:
        return [event for name, event in self.heard if name == hook]


@pytest.fixture
def judge(world: World) -> Judge:
    made = Judge()
    world.driver.security = made
    world.task.subject = LOADER
    return made


def denied(outcome: Outcome, hook: str) -> None:
    assert outcome.errno == errno.EACCES
    assert outcome.reason is not None
    assert (outcome.reason.operation, outcome.reason.rule) == ("judge", hook)


def test_the_plain_driver_asks_nobody_and_keeps_nothing(world: World) -> None:
    assert not world.driver.security.active
    plain, encl = Plain(), world.open().encl
    assert plain.decide(Open(node="/dev/sgx_enclave")) == ALLOWED
    assert plain.commit(Open(node="/dev/sgx_enclave"), ALLOWED) is None
    assert encl.security is None


def test_open_is_asked_for_every_node(world: World, judge: Judge) -> None:
    judge.refuses.add("open")
    for node in world.driver.nodes:
        opened = world.driver.open(node, subject=LOADER)
        assert isinstance(opened, Outcome)
        denied(opened, "open")
    assert judge.of("open") == [Open(subject=LOADER, node=node) for node in world.driver.nodes]


def test_create_is_asked_before_anything_is_allocated(world: World, judge: Judge) -> None:
    file, before = world.open(), world.snapshot()
    judge.refuses.add("create")
    denied(world.create(file), "create")
    assert world.snapshot() == before
    facts = EnclaveFacts(file.encl.number)
    assert judge.of("create") == [
        Create(subject=LOADER, enclave=facts, size=SIZE, attributes=6, xfrm=3, miscselect=0)
    ]
    assert world.create(file, a_secs(size=3)).errno == errno.EINVAL
    judge.refuses.clear()
    assert world.create(file).ok


def test_load_is_asked_with_the_copied_bytes_before_pages_exist(world: World, judge: Judge) -> None:
    file = world.open()
    world.create(file)
    before = world.snapshot()
    judge.refuses.add("load")
    outcome, back = world.add(file, 0x1000, b"contents" * 512 * 2, REG_RX)
    denied(outcome, "load")
    assert int.from_bytes(bytes(back)[40:48], "little") == 0
    assert world.snapshot() == before
    assert not file.encl.page_type.any()
    event = judge.of("load")[0]
    assert isinstance(event, Load)
    assert (event.offset, event.page_type, event.ceiling, event.measured) == (0x1000, PageType.REG, 5, True)
    assert judge.starts == [b"contents"]


def test_load_is_asked_once_for_each_origin_and_stops_at_the_first_refusal(
    world: World, judge: Judge
) -> None:
    good, bad = (Origin(kind=OriginClass.FILE, path=path) for path in ("/good", "/bad"))
    memory = world.memory
    memory.map(b"g" * 2 * PAGE_SIZE, 0x6000_0000)
    memory.map(b"b" * PAGE_SIZE, 0x6000_2000)
    memory.vmas = [
        SourceVma(v.start, v.end, origin=good if v.start == 0x6000_0000 else bad) for v in memory.vmas
    ]

    class OnlyGood(Judge):
        def decide(self, event: Event) -> Answer:
            self.heard.append((event.hook, event))
            wrong = isinstance(event, Load) and event.origin != good
            return Answer(self.no("load")) if wrong else ALLOWED

    world.driver.security = judge = OnlyGood()
    file = world.open()
    world.create(file)
    outcome, back = world.add(file, 0, b"", REG_RW, src=0x6000_0000, length=3 * PAGE_SIZE)
    denied(outcome, "load")
    assert int.from_bytes(bytes(back)[40:48], "little") == 2 * PAGE_SIZE
    heard = [(e.offset, e.length, e.origin, e.source) for e in judge.of("load") if isinstance(e, Load)]
    assert heard == [
        (0, 2 * PAGE_SIZE, good, 0x6000_0000),
        (2 * PAGE_SIZE, PAGE_SIZE, bad, 0x6000_2000),
    ]
    assert file.encl.page_type[:3].tolist() == [2, 2, 0]


def test_init_is_asked_when_einit_would_succeed_and_only_then(world: World, judge: Judge) -> None:
    file = world.built()
    good = world.sigstruct(file)
    judge.refuses.add("init")
    spoilt = type(good).copy_of(bytes(good))
    spoilt.q1 = bytes(384)
    assert world.init(file, spoilt).errno == errno.EPERM
    assert judge.of("init") == []
    before = world.snapshot()
    denied(world.init(file, good), "init")
    assert world.snapshot() == before
    assert not file.encl.initialised
    event = judge.of("init")[0]
    assert isinstance(event, Init)
    assert (event.identity.mrenclave, event.identity.mrsigner) == (good.enclavehash, mrsigner(good))
    assert event.sigstruct == good
    judge.refuses.clear()
    assert world.init(file, good).ok


def test_map_is_asked_by_mmap_mprotect_mremap_and_fork(world: World, judge: Judge) -> None:
    file = world.built()
    assert world.map(file, 0, 0x2000, PROT_READ).ok
    assert world.mm.mprotect(BASE, 0x1000, PROT_NONE).ok
    assert world.mm.mremap(BASE, 0x1000, 0x1000, MREMAP_MAYMOVE | MREMAP_FIXED, BASE + SIZE).ok
    world.mm.fork(subject=APP)
    heard = [(e.call, e.address - BASE, e.length, e.prot) for e in judge.of("map") if isinstance(e, Map)]
    assert heard == [
        ("mmap", 0, 0x2000, 1),
        ("mprotect", 0, 0x1000, 0),
        ("mremap", SIZE, 0x1000, 0),
        ("fork", 0x1000, 0x1000, 1),
        ("fork", SIZE, 0x1000, 0),
    ]


def test_a_mapping_that_is_refused_changes_nothing(world: World, judge: Judge) -> None:
    file = world.built()
    assert world.map(file, 0, 0x2000, PROT_READ).ok
    before = [(vma.start, vma.end, vma.prot) for vma in world.mm.vmas]
    judge.refuses.add("map")
    denied(world.map(file, 0, 0x1000, PROT_NONE), "map")
    denied(world.mm.mprotect(BASE, 0x1000, PROT_NONE), "map")
    denied(world.mm.mremap(BASE, 0x1000, 0x1000, MREMAP_MAYMOVE | MREMAP_FIXED, BASE + SIZE), "map")
    assert [(vma.start, vma.end, vma.prot) for vma in world.mm.vmas] == before
    assert [vma.mapping for vma in world.mm.fork().vmas] == [None]


def test_a_new_subject_is_asked_for_once(world: World, judge: Judge) -> None:
    file = world.driver.open(subject=LOADER)
    assert isinstance(file, EnclaveFile)
    world.create(file)
    assert judge.of("receive") == []
    world.task.subject = APP
    judge.refuses.add("receive")
    denied(world.ioctl(file, uapi.SGX_IOC_ENCLAVE_INIT, bytes(8)), "receive")
    outcome = world.mm.mmap(BASE, PAGE_SIZE, PROT_NONE, 0x11, file, subject=APP)
    denied(outcome, "receive")
    judge.refuses.clear()
    assert world.mm.mmap(BASE, PAGE_SIZE, PROT_NONE, 0x11, file, subject=APP).ok
    assert world.ioctl(file, uapi.SGX_IOC_ENCLAVE_INIT, bytes(8)).errno == errno.EFAULT
    heard = [(e.subject, e.previous) for e in judge.of("receive") if isinstance(e, Receive)]
    assert heard == [(APP, LOADER)] * 3


def test_debug_is_asked_and_a_refusal_looks_like_the_drivers_own(world: World, judge: Judge) -> None:
    file = world.built()
    world.map(file, 0, 0x1000, PROT_NONE)
    assert isinstance(peek(world.mm, BASE + 0x10), bytes)
    judge.refuses.add("debug")
    outcome = poke(world.mm, BASE + 0x18, bytes(8))
    assert outcome.errno == errno.EIO
    assert outcome.reason is not None
    assert outcome.reason.operation == "judge"
    heard = [(e.offset, e.length, e.write) for e in judge.of("debug") if isinstance(e, Debug)]
    assert heard == [(0x10, 8, False), (0x18, 8, True)]
    assert bytes(file.encl.store.page(0)) == b"\x90" * PAGE_SIZE


def test_provision_is_asked_before_the_attribute_is_allowed(world: World, judge: Judge) -> None:
    file = world.open()
    node = world.driver.open("/dev/sgx_provision")
    world.files[4] = node
    judge.refuses.add("provision")
    argument = uapi.EnclaveProvision.of(fd=4)
    denied(world.ioctl(file, uapi.SGX_IOC_ENCLAVE_PROVISION, argument), "provision")
    assert not file.encl.allowed
    assert [event.subject for event in judge.of("provision")] == [LOADER]


def test_with_a_module_that_allows_everything_nothing_is_different() -> None:
    ends = []
    for security in (Plain(), Judge()):
        world = make_world()
        world.driver.security = security
        world.task.subject = LOADER
        file = world.initialised()
        assert world.map(file, 0, 0x1000, PROT_READ).ok
        assert world.map(file, 0, 0x1000, 7).errno == errno.EACCES
        ends.append(world.snapshot())
    assert ends[0] == ends[1]
