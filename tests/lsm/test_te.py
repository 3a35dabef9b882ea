"""Type enforcement: who is asked about what, who answers, and what is recorded."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import replace

import pytest

from swsgx.isa.address import Linaddr
from swsgx.isa.flags import PageType
from swsgx.linux.security import NO_GRANTS, EnclaveFacts, Grant, Subject
from swsgx.lsm.labels import Labels
from swsgx.lsm.module import (
    Allow,
    Create,
    Debug,
    Deny,
    Event,
    Load,
    Map,
    Modify,
    Obligations,
    Open,
    Origin,
    OriginClass,
    Provision,
    Receive,
    Vepc,
    Verdict,
)
from swsgx.lsm.policy.load import parse
from swsgx.lsm.policy.source import Source
from swsgx.lsm.te import OwnPolicy, TypeEnforcement
from tests.make.events import empty_range, init_event, load_event

POLICY = """policy_module(m, 1.0)
type user_t; type code_t; type sig_t; type encl_t; type made_t;
subjcon exe "/bin/user" user_t
filecon "/code" code_t
filecon "/sig" sig_t
"""
USER = Subject(1, 1000, "/bin/user")
FILE = Origin(kind=OriginClass.FILE, path="/code")
SIG = Origin(kind=OriginClass.FILE, path="/sig")
BUILT = EnclaveFacts(number=1, base=0x1000, size=0x4000, initialised=True, label="encl_t")
BUILDING = EnclaveFacts(number=1, base=0x1000, size=0x4000)
PAGES = empty_range(4)


def te(*rules: str) -> TypeEnforcement:
    """The module under a policy with these rules."""
    policy = parse([Source("m.te", (POLICY + "".join(f"{rule}\n" for rule in rules)).encode())])
    assert policy.te is not None
    return TypeEnforcement(OwnPolicy(Labels(policy.te)))


def ask(module: TypeEnforcement, event: Event) -> Verdict:
    answer = getattr(module, event.hook)(event)
    assert isinstance(answer, Allow | Obligations | Deny)
    return answer


EVENTS: Sequence[tuple[Event, str, tuple[str, ...]]] = [
    (Open(subject=USER, node="/dev/sgx_enclave"), "sgx_device_t", ("open",)),
    (
        Create(subject=USER, enclave=BUILDING, size=0x4000, attributes=0, xfrm=3, miscselect=0),
        "sgx_device_t",
        ("create",),
    ),
    (Provision(subject=USER, enclave=BUILDING), "sgx_device_t", ("provision",)),
    (Vepc(subject=USER, prot=3), "sgx_device_t", ("vepc",)),
    (load_event(USER, FILE, ceiling=3), "code_t", ("load",)),
    (load_event(USER, FILE), "code_t", ("load", "execute")),
    (
        load_event(USER, dataclasses.replace(FILE, kind=OriginClass.FILEMOD)),
        "code_t",
        ("load", "execute", "execmod"),
    ),
    (load_event(USER, dataclasses.replace(FILE, kind=OriginClass.FILEMOD), ceiling=3), "code_t", ("load",)),
    (init_event(USER, SIG, label="encl_t"), "sig_t", ("init",)),
    (Receive(subject=USER, enclave=BUILT, previous=None), "encl_t", ("use",)),
    (
        Map(
            subject=USER,
            enclave=BUILT,
            call="mmap",
            address=Linaddr(0x1000),
            length=0x1000,
            prot=7,
            pages=PAGES,
        ),
        "encl_t",
        ("use", "map_read", "map_write", "map_exec"),
    ),
    (
        Modify(
            subject=USER,
            enclave=BUILT,
            leaf="EMODT",
            offset=0,
            length=0x1000,
            page_type=PageType.TCS,
            pages=PAGES,
        ),
        "encl_t",
        ("modtype",),
    ),
    (
        Modify(subject=USER, enclave=BUILT, leaf="EREMOVE", offset=0, length=0x1000, pages=PAGES),
        "encl_t",
        ("use",),
    ),
    (
        Debug(subject=USER, enclave=BUILT, offset=0, length=8, write=False, pages=PAGES),
        "encl_t",
        ("debug",),
    ),
    (Receive(subject=USER, enclave=BUILDING, previous=None), "sgx_device_t", ("create",)),
    (
        Debug(subject=USER, enclave=BUILDING, offset=0, length=8, write=True, pages=PAGES),
        "sgx_device_t",
        ("create",),
    ),
]


@pytest.mark.parametrize(
    ("event", "target", "permissions"), EVENTS, ids=lambda one: one.hook if isinstance(one, Event) else None
)
def test_each_hook_needs_its_permissions_and_no_others(
    event: Event, target: str, permissions: tuple[str, ...]
) -> None:
    refused = ask(te(), event)
    assert isinstance(refused, Deny)
    assert refused.permissions == permissions
    allow = f"allow user_t {target} : enclave {{ {' '.join(permissions)} }};"
    assert not isinstance(ask(te(allow), event), Deny)
    for left_out in permissions:
        others = [name for name in permissions if name != left_out]
        rules = [f"allow user_t {target} : enclave {{ {' '.join(others)} }};"] if others else []
        lacking = ask(te(*rules), event)
        assert isinstance(lacking, Deny)
        assert lacking.permissions == (left_out,)


def test_to_map_without_any_right_needs_none() -> None:
    event = Map(
        subject=USER,
        enclave=BUILT,
        call="mprotect",
        address=Linaddr(0x1000),
        length=0x1000,
        prot=0,
        pages=PAGES,
    )
    assert isinstance(ask(te(), event), Allow)


@pytest.mark.parametrize(
    ("event", "owes"),
    [
        (load_event(USER, None), Grant.EXECANON),
        (load_event(USER, dataclasses.replace(FILE, deleted=True)), Grant.EXECANON),
        (load_event(USER, Origin(kind=OriginClass.MEMFD, path="/memfd:x")), Grant.EXECANON),
        (load_event(USER, Origin(kind=OriginClass.SHM)), Grant.EXECANON),
        (load_event(USER, None, ceiling=3), NO_GRANTS),
        (load_event(USER, None, ceiling=3, measured=False), NO_GRANTS),
        (load_event(USER, FILE, measured=False), Grant.EXECUNMR),
        (load_event(USER, None, measured=False), Grant.EXECANON | Grant.EXECUNMR),
        (load_event(USER, None, ceiling=3, page_type=PageType.TCS, measured=False), Grant.EXECUNMR),
        (load_event(USER, None, ceiling=3, page_type=PageType.TCS), NO_GRANTS),
    ],
)
def test_code_that_nobody_vouches_for_owes_it(event: Load, owes: Grant) -> None:
    answer = ask(te("allow user_t code_t : enclave { load execute };"), event)
    assert (answer.grants if isinstance(answer, Obligations) else NO_GRANTS) == owes


def test_a_file_is_called_by_its_label_if_the_policy_knows_that_type() -> None:
    rules = "allow user_t code_t : enclave load;"
    elsewhere = Origin(kind=OriginClass.FILE, path="/else", label="system_u:object_r:code_t:s0")
    assert isinstance(ask(te(rules), load_event(USER, elsewhere, ceiling=3)), Allow)
    unknown = dataclasses.replace(FILE, label="system_u:object_r:usr_t:s0")
    assert isinstance(ask(te(rules), load_event(USER, unknown, ceiling=3)), Allow)
    claimed = dataclasses.replace(elsewhere, unwatched=True)
    assert isinstance(ask(te(rules), load_event(USER, claimed, ceiling=3)), Deny)


def test_who_nobody_knows_is_unlabeled() -> None:
    rules = "allow unlabeled_t code_t : enclave load;"
    assert isinstance(ask(te(rules), load_event(None, FILE, ceiling=3)), Allow)
    assert isinstance(ask(te(rules), load_event(USER, FILE, ceiling=3)), Deny)


def test_an_enclave_is_called_by_its_transition_else_like_its_sigstruct() -> None:
    label = te().label(init_event(USER, SIG))
    assert label is not None
    assert (label.name, label.default) == ("sig_t", True)
    label = te("type_transition user_t sig_t : enclave made_t;").label(init_event(USER, SIG))
    assert label is not None
    assert label.name == "made_t"
    assert te().label(init_event(USER, None)) is None


def test_the_transition_that_gave_the_enclave_its_type_is_among_the_rules_of_its_init() -> None:
    module = te(
        "allow user_t { sig_t made_t } : enclave init;",
        "type_transition user_t sig_t : enclave encl_t;",
        "allow encl_t self : enclave augexec;",
    )

    def rules(origin: Origin, label: str) -> tuple[str, ...]:
        answer = ask(module, init_event(USER, origin, label=label))
        assert isinstance(answer, Allow)
        return answer.because

    assert rules(SIG, "encl_t") == ("m.te:6", "m.te:7", "m.te:8")
    # An identity rule has called it something else; nothing but the SIGSTRUCT's own type; a SIGSTRUCT in no file.
    assert rules(SIG, "made_t") == ("m.te:6",)
    assert rules(replace(SIG, path="/x", label="made_t"), "made_t") == ("m.te:6",)
    assert rules(Origin(kind=OriginClass.ANON), "encl_t") == ("m.te:8",)


def test_grants_are_what_the_enclave_may_do_to_itself() -> None:
    module = te(
        "allow user_t sig_t : enclave init;",
        "allow encl_t self : enclave { execdirty augexec };",
        "allow encl_t made_t : enclave mapwx;",
    )
    answer = ask(module, init_event(USER, SIG, label="encl_t"))
    assert isinstance(answer, Allow)
    assert answer.grants == Grant.EXECDIRTY | Grant.AUGEXEC | Grant.MODTYPE


def test_a_sigstruct_without_a_file_does_for_an_enclave_that_somebody_names() -> None:
    module = te("allow encl_t self : enclave execanon;")
    refused = ask(module, init_event(USER, None))
    assert isinstance(refused, Deny)
    assert refused.permissions == ("init",)
    answer = ask(module, init_event(USER, None, label="encl_t"))
    assert isinstance(answer, Allow)
    assert answer.grants == Grant.EXECANON | Grant.MODTYPE


def test_dontaudit_is_silent_about_its_permissions_only() -> None:
    rules = ("dontaudit user_t code_t : enclave load;",)
    refused = ask(te(*rules), load_event(USER, FILE))
    assert isinstance(refused, Deny)
    assert (refused.permissions, refused.audited) == (("execute",), True)
    refused = ask(te(*rules), load_event(USER, FILE, ceiling=3))
    assert isinstance(refused, Deny)
    assert (refused.permissions, refused.audited) == (("load",), False)


def test_auditallow_records_with_the_rule_that_allows() -> None:
    module = te("allow user_t sgx_device_t : enclave open;", "auditallow user_t sgx_device_t : enclave open;")
    answer = ask(module, Open(subject=USER, node="/dev/sgx_enclave"))
    assert answer == Allow(audited=True, permissions=("open",), rule="m.te:6")


def test_auditallow_of_a_grant_is_recorded_when_it_is_handed_out() -> None:
    module = te(
        "allow user_t sig_t : enclave init;",
        "allow encl_t self : enclave { execdirty augexec };",
        "auditallow encl_t self : enclave execdirty;",
    )
    answer = ask(module, init_event(USER, SIG, label="encl_t"))
    assert isinstance(answer, Allow)
    assert (answer.audited, answer.permissions) == (True, ("execdirty",))


def test_what_a_permissive_type_is_refused_is_told_and_done() -> None:
    refused = ask(te("permissive user_t;"), load_event(USER, FILE, measured=False))
    assert isinstance(refused, Deny)
    assert refused.permissive
    assert refused.otherwise == Obligations(Grant.EXECUNMR)


def test_an_enclave_of_a_permissive_type_may_all_and_is_told() -> None:
    module = te(
        "allow user_t sig_t : enclave init;", "permissive encl_t;", "allow encl_t self : enclave mapwx;"
    )
    answer = ask(module, init_event(USER, SIG, label="encl_t"))
    assert isinstance(answer, Allow)
    assert answer.grants == Grant.MAPWX | Grant.MODTYPE
    assert answer.tolerated == Grant.EXECDIRTY | Grant.AUGEXEC | Grant.EXECANON | Grant.EXECUNMR
