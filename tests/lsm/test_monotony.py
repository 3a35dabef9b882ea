"""I2 and I3: a module more, or a rule fewer, never allows more; and the order of modules decides nothing.

What an enclave is called is an input of the rules, as the name of a file is: an identity rule that gives a label
gives another question. So the property is about policies in which no identity rule does.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from hypothesis import assume, given
from hypothesis import strategies as st

from swsgx.isa.address import Linaddr
from swsgx.isa.flags import Attributes, PageType
from swsgx.linux.security import (
    NO_GRANTS,
    Answer,
    Create,
    Debug,
    EnclaveFacts,
    Event,
    Grant,
    Identity,
    Init,
    Load,
    Map,
    Modify,
    Open,
    Receive,
    Subject,
)
from swsgx.lsm.appraisal import Keyring
from swsgx.lsm.identity import IdentityRules
from swsgx.lsm.integrity import Integrity
from swsgx.lsm.labels import Labels
from swsgx.lsm.measurement_log import UnfiledLog
from swsgx.lsm.module import Module
from swsgx.lsm.no_unmeasured_exec import NoUnmeasuredExec
from swsgx.lsm.pcr import SoftwarePcrs
from swsgx.lsm.policy.load import parse
from swsgx.lsm.policy.source import Source
from swsgx.lsm.stack import Stack
from swsgx.lsm.te import OwnPolicy, TypeEnforcement
from tests.make.enforced import from_file, owner_key
from tests.make.events import empty_range, init_event, load_event

SUBJECTS = [Subject(1, 1000, "/bin/a"), Subject(2, 0, "/bin/b"), None]
ORIGINS = [
    None,
    from_file("/code"),
    from_file("/other", signed=False),
    from_file("/code", writers=True),
]
ENCLAVES = [
    EnclaveFacts(number=1, base=0x1000, size=0x4000, attributes=4),
    *(
        EnclaveFacts(
            number=1,
            base=0x1000,
            size=0x4000,
            initialised=True,
            label=label,
            grants=grants,
            identity=Identity(b"\1" * 32, b"\2" * 32, 7, 3, 4, 3, 0),
        )
        for label in ("encl_t", "sig_t")
        for grants in (NO_GRANTS, Grant.EXECDIRTY, Grant.AUGEXEC | Grant.EXECDIRTY | Grant.MAPWX)
    ),
]
TYPES = """policy_module(m, 1.0)
type a_t; type b_t; type code_t; type sig_t; type encl_t;
subjcon exe "/bin/a" a_t
subjcon uid 0 b_t
filecon "/code" code_t
type_transition a_t code_t : enclave encl_t;
"""
PAIRS = {
    ("a_t", "sgx_device_t"): "open create",
    ("b_t", "sgx_device_t"): "open",
    ("a_t", "code_t"): "load execute init execmod",
    ("a_t", "unlabeled_t"): "load init",
    ("a_t", "encl_t"): "use map_read map_write map_exec debug modtype",
    ("b_t", "encl_t"): "use map_read map_exec",
    ("b_t", "sig_t"): "use map_read map_write",
    ("encl_t", "self"): "execdirty mapwx execanon execunmr augexec",
    ("unlabeled_t", "self"): "execanon",
}
TE = [
    f"allow {source} {target} : enclave {one};\n"
    for (source, target), many in PAIRS.items()
    for one in many.split()
]
HEADER = "policy_name=p policy_version=1.0.0\nDEFAULT action=DENY\n"
ALLOWS = [
    "op=ENCLAVE_INIT mrenclave=sha256:" + "01" * 32 + " grant=execanon,execunmr action=ALLOW\n",
    "op=ENCLAVE_INIT isvsvn>=3 debug=FALSE grant=execdirty,modtype action=ALLOW\n",
    "op=ENCLAVE_INIT unmeasured_exec=FALSE action=ALLOW\n",
    "op=ENCLAVE_CREATE uid=1000 action=ALLOW\n",
    "op=ENCLAVE_DEBUG uid=0 action=ALLOW\n",
]
APPRAISE = "appraise func=ENCLAVE_LOAD mask=MAY_EXEC appraise_type=imasig\n"


def modules(te: Sequence[str], identity: Sequence[str]) -> list[Module]:
    """All modules under such rules."""
    texts = {"m.te": TYPES + "".join(te), "p.identity": HEADER + "".join(identity), "p.integrity": APPRAISE}
    policy = parse([Source(name, text.encode()) for name, text in texts.items()])
    assert policy.te is not None
    assert policy.identity is not None
    assert policy.integrity is not None
    labels, keys = Labels(policy.te), Keyring()
    keys.add(owner_key().public_key())
    return [
        TypeEnforcement(OwnPolicy(labels)),
        IdentityRules(policy.identity, labels),
        Integrity(policy.integrity, UnfiledLog(SoftwarePcrs()), keys, labels),
        NoUnmeasuredExec(),
    ]


subjects, origins, enclaves = st.sampled_from(SUBJECTS), st.sampled_from(ORIGINS), st.sampled_from(ENCLAVES)
prots = st.integers(0, 7)
owing = st.sampled_from([NO_GRANTS, Grant.EXECANON, Grant.EXECUNMR, Grant.EXECANON | Grant.EXECUNMR])
kinds = st.sampled_from([PageType.REG, PageType.TCS])
attributes = st.sampled_from([int(Attributes.MODE64BIT), int(Attributes.MODE64BIT | Attributes.DEBUG)])
PAGES = empty_range(4)
events = st.one_of(
    st.builds(lambda s: Open(subject=s, node="/dev/sgx_enclave"), subjects),
    st.builds(
        lambda s, a: Create(subject=s, enclave=ENCLAVES[0], size=0x4000, attributes=a, xfrm=3, miscselect=0),
        subjects,
        attributes,
    ),
    st.builds(
        lambda s, o, c, m, k: load_event(s, o, ceiling=c, measured=m, page_type=k),
        *(subjects, origins, prots, st.booleans(), kinds),
    ),
    st.builds(
        lambda s, o, w, e, v, a: init_event(s, o, owing=w, mrenclave=bytes([e]) * 32, svn=v, attributes=a),
        *(subjects, origins, owing, st.integers(1, 2), st.integers(2, 3), attributes),
    ),
    st.builds(
        lambda s, e, p: Map(
            subject=s, enclave=e, call="mmap", address=Linaddr(0x1000), length=0x4000, prot=p, pages=PAGES
        ),
        *(subjects, enclaves, prots),
    ),
    st.builds(lambda s, e: Receive(subject=s, enclave=e, previous=None), subjects, enclaves),
    st.builds(
        lambda s, e, k: Modify(
            subject=s, enclave=e, leaf="EMODT", offset=0, length=0x1000, page_type=k, pages=PAGES
        ),
        *(subjects, enclaves, kinds),
    ),
    st.builds(
        lambda s, e, w: Debug(subject=s, enclave=e, offset=0, length=8, write=w, pages=PAGES),
        *(subjects, enclaves, st.booleans()),
    ),
)
rule_sets = st.tuples(
    st.lists(st.booleans(), min_size=len(TE), max_size=len(TE)),
    st.lists(st.booleans(), min_size=len(ALLOWS), max_size=len(ALLOWS)),
)
subsets = st.lists(st.booleans(), min_size=4, max_size=4)


def chosen(what: Sequence[str], which: Sequence[bool]) -> list[str]:
    return list(itertools.compress(what, which))


def no_more(event: Event, wide: Answer, narrow: Answer) -> None:
    """What ``narrow`` allows, ``wide`` allows, with no less owed and no fewer grants."""
    if narrow.reason is not None:
        return
    assert wide.reason is None, wide.reason
    if isinstance(event, Load):
        assert not wide.obligations & ~narrow.obligations


@given(event=events, rules=rule_sets, some=subsets, more=subsets)
def test_i2_a_module_more_never_allows_more(
    event: Event, rules: tuple[list[bool], list[bool]], some: list[bool], more: list[bool]
) -> None:
    every = modules(chosen(TE, rules[0]), chosen(ALLOWS, rules[1]))
    few = list(itertools.compress(every, some))
    # Pages owe something only where a module hands out grants, which might discharge it.
    assume(not (isinstance(event, Init) and event.obligations and not Stack(few).write_execute))
    many = list(itertools.compress(every, [one or other for one, other in zip(some, more, strict=True)]))
    fewer, more_of = Stack(few).decide(event), Stack(many).decide(event)
    no_more(event, fewer, more_of)
    if isinstance(event, Init) and more_of.reason is None and Stack(few).write_execute:
        assert not more_of.grants & ~fewer.grants or fewer.label != more_of.label


@given(event=events, rules=rule_sets, fewer=rule_sets)
def test_i2_a_rule_fewer_never_allows_more(
    event: Event, rules: tuple[list[bool], list[bool]], fewer: tuple[list[bool], list[bool]]
) -> None:
    less = [
        [a and b for a, b in zip(one, other, strict=True)] for one, other in zip(rules, fewer, strict=True)
    ]
    wide = Stack(modules(chosen(TE, rules[0]), chosen(ALLOWS, rules[1]))).decide(event)
    narrow = Stack(modules(chosen(TE, less[0]), chosen(ALLOWS, less[1]))).decide(event)
    no_more(event, wide, narrow)
    # Of identity rules the first that matches decides, so that without it a later one can grant something else.
    if less[1] == rules[1]:
        assert narrow.reason is not None or not narrow.grants & ~wide.grants


@given(event=events, rules=rule_sets, some=subsets, order=st.permutations(range(4)))
def test_i3_the_order_of_modules_decides_nothing(
    event: Event, rules: tuple[list[bool], list[bool]], some: list[bool], order: list[int]
) -> None:
    every = modules(chosen(TE, rules[0]), chosen(ALLOWS, rules[1]))
    one = Stack(list(itertools.compress(every, some))).decide(event)
    other = Stack([every[at] for at in order if some[at]]).decide(event)
    assert (one.reason is None) == (other.reason is None)
    if one.reason is None:
        assert one == other
