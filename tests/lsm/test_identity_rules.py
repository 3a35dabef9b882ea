"""Identity rules at the hooks that they are about."""

from __future__ import annotations

import hashlib

import pytest

from swsgx.isa.flags import Attributes
from swsgx.linux.security import NO_GRANTS, EnclaveFacts, Grant, Identity, Subject
from swsgx.lsm.identity import IdentityRules
from swsgx.lsm.labels import Labels
from swsgx.lsm.module import Allow, Create, Debug, Deny, Event, Init, Label, Obligations, Provision
from swsgx.lsm.policy.load import parse
from swsgx.lsm.policy.source import Source
from tests.make.events import empty_range, init_event, load_event

HEADER = "policy_name=p policy_version=1.0.0\nDEFAULT op=ENCLAVE_INIT action=DENY\n"
USER = Subject(1, 1000, "/bin/user")
HEX = "01" * 32
BUILDING = EnclaveFacts(number=1, base=0x1000, size=0x4000, attributes=int(Attributes.MODE64BIT))
BUILT = EnclaveFacts(
    number=1,
    base=0x1000,
    size=0x4000,
    initialised=True,
    identity=Identity(b"\1" * 32, b"\2" * 32, 7, 3, 4, 3, 0),
)


def rules(*lines: str, te: str = "") -> IdentityRules:
    """The module under these rules."""
    sources = [Source("p.identity", (HEADER + "".join(f"{line}\n" for line in lines)).encode())]
    if te:
        sources.append(Source("m.te", f"policy_module(m, 1.0)\n{te}\n".encode()))
    policy = parse(sources)
    assert policy.identity is not None
    return IdentityRules(policy.identity, Labels(policy.te) if policy.te is not None else None)


def allowed(module: IdentityRules, event: Event) -> bool:
    answer = getattr(module, event.hook)(event)
    assert isinstance(answer, Allow | Deny)
    return isinstance(answer, Allow)


def test_the_rule_that_allows_gives_grants_and_label() -> None:
    module = rules(f"op=ENCLAVE_INIT mrenclave=sha256:{HEX} grant=execanon,modtype label=jit_t action=ALLOW")
    assert module.init(init_event(USER, None)) == Allow(grants=Grant.EXECANON | Grant.MODTYPE)
    assert module.label(init_event(USER, None)) == Label("jit_t")


def test_what_no_rule_takes_has_no_label_and_is_refused_with_the_default() -> None:
    module = rules(f"op=ENCLAVE_INIT mrenclave=sha256:{HEX} label=jit_t action=ALLOW")
    event = init_event(USER, None, mrenclave=b"\3" * 32)
    refused = module.init(event)
    assert isinstance(refused, Deny)
    assert refused.rule == "p.identity:2"
    assert (b"\3" * 32).hex() in refused.found
    assert module.label(event) is None


def test_a_rule_that_denies_gives_no_label() -> None:
    module = rules(
        "op=ENCLAVE_INIT debug=TRUE action=DENY", f"op=ENCLAVE_INIT mrenclave=sha256:{HEX} action=ALLOW"
    )
    event = init_event(USER, None, attributes=int(Attributes.DEBUG))
    refused = module.init(event)
    assert isinstance(refused, Deny)
    assert refused.rule == "p.identity:3"


@pytest.mark.parametrize(
    ("condition", "event", "other"),
    [
        (f"mrenclave=sha256:{HEX}", init_event(USER, None), init_event(USER, None, mrenclave=b"\3" * 32)),
        (f"mrsigner=sha256:{'02' * 32}", init_event(USER, None), init_event(USER, None, mrsigner=b"\3" * 32)),
        ("isvprodid=7", init_event(USER, None), init_event(USER, None, prodid=8)),
        ("isvsvn>=3", init_event(USER, None), init_event(USER, None, svn=2)),
        ("debug=FALSE", init_event(USER, None), init_event(USER, None, attributes=int(Attributes.DEBUG))),
        (
            "provision_key=FALSE",
            init_event(USER, None),
            init_event(USER, None, attributes=int(Attributes.PROVISIONKEY)),
        ),
        (
            "unmeasured_exec=FALSE",
            init_event(USER, None, owing=Grant.EXECANON),
            init_event(USER, None, owing=Grant.EXECUNMR),
        ),
        ("uid=1000", init_event(USER, None), init_event(Subject(1, 0, "/bin/user"), None)),
        ("subj_type=user_t", init_event(USER, None), init_event(Subject(1, 1000, "/bin/other"), None)),
    ],
)
def test_each_condition_is_about_the_enclave_and_the_caller(condition: str, event: Init, other: Init) -> None:
    te = 'type user_t; subjcon exe "/bin/user" user_t'
    module = rules(f"op=ENCLAVE_INIT {condition} action=ALLOW", te=te)
    assert allowed(module, event)
    assert not allowed(module, other)


def test_a_sigstruct_is_known_by_its_digest() -> None:
    event = init_event(USER, None)
    digest = hashlib.sha256(event.sigstruct.buffer).hexdigest()
    assert allowed(rules(f"op=ENCLAVE_INIT sigstruct=sha256:{digest} action=ALLOW"), event)
    assert not allowed(rules(f"op=ENCLAVE_INIT sigstruct=sha256:{HEX} action=ALLOW"), event)


def test_code_that_nobody_vouches_for_owes_it_without_type_enforcement_too() -> None:
    module = rules("op=ENCLAVE_INIT action=ALLOW")
    assert module.load(load_event(USER, None, measured=False)) == Obligations(Grant.EXECANON | Grant.EXECUNMR)


def test_an_operation_of_which_the_policy_says_nothing_is_left_to_others() -> None:
    module = rules()
    create = Create(subject=USER, enclave=BUILDING, size=1 << 20, attributes=4, xfrm=3, miscselect=0)
    for event in (create, Provision(subject=USER, enclave=BUILDING)):
        assert allowed(module, event)


def test_create_provision_and_debug_are_judged_where_the_policy_has_them() -> None:
    module = rules(
        "DEFAULT action=DENY",
        "op=ENCLAVE_CREATE size<=0x100000 debug=FALSE action=ALLOW",
        "op=ENCLAVE_PROVISION uid=0 action=ALLOW",
        f"op=ENCLAVE_DEBUG mrenclave=sha256:{HEX} write=FALSE action=ALLOW",
    )

    def create(size: int, attributes: int) -> Create:
        return Create(subject=USER, enclave=BUILDING, size=size, attributes=attributes, xfrm=3, miscselect=0)

    assert allowed(module, create(0x100000, 4))
    assert not allowed(module, create(0x200000, 4))
    assert not allowed(module, create(0x100000, 6))
    assert not allowed(module, Provision(subject=USER, enclave=BUILDING))
    assert allowed(module, Provision(subject=Subject(1, 0, "/bin/root"), enclave=BUILDING))
    pages = empty_range(1)
    for write in (False, True):
        event = Debug(subject=USER, enclave=BUILT, offset=0, length=8, write=write, pages=pages)
        assert allowed(module, event) is not write


def test_a_rule_that_denies_is_not_escaped_by_what_is_not_known() -> None:
    # Before INIT nobody knows the enclave's signer; before CREATE, nobody its attributes.
    signer = "op=ENCLAVE_DEBUG mrsigner=sha256:" + "02" * 32
    module = rules("DEFAULT action=ALLOW", f"{signer} action=DENY")
    event = Debug(subject=USER, enclave=BUILDING, offset=0, length=8, write=True, pages=empty_range(1))
    refused = module.debug(event)
    assert isinstance(refused, Deny)
    assert refused.rule == "p.identity:4"
    module = rules("DEFAULT action=ALLOW", "op=ENCLAVE_PROVISION debug=TRUE uid=0 action=DENY")
    before = EnclaveFacts(number=1)
    assert not allowed(module, Provision(subject=Subject(1, 0, "/bin/root"), enclave=before))
    assert allowed(module, Provision(subject=USER, enclave=before))
    assert allowed(module, Provision(subject=Subject(1, 0, "/bin/root"), enclave=BUILDING))


def test_grants_come_with_init_only() -> None:
    module = rules("DEFAULT op=ENCLAVE_CREATE action=ALLOW")
    create = Create(subject=USER, enclave=BUILDING, size=1 << 20, attributes=4, xfrm=3, miscselect=0)
    answer = module.create(create)
    assert isinstance(answer, Allow)
    assert answer.grants == NO_GRANTS
