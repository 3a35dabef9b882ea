"""Candidates from an audit log: what is proposed, what is only shown, and what is said besides."""

from __future__ import annotations

from dataclasses import replace

from swsgx.lsm.audit import Decision, Event, Source
from swsgx.lsm.learn.learner import Learned, learn
from swsgx.lsm.learn.names import exact_pattern
from swsgx.lsm.policy.load import parse
from swsgx.lsm.policy.patterns import Pattern
from swsgx.lsm.policy.source import Source as PolicySource

MOMENT = 1_700_000_000_000
TE = """policy_module(acme, 1.0)
type builder_t; type app_t; type code_t; type encl_t;
subjcon exe "/opt/bin/builder" builder_t
filecon "/opt/lib/.*" code_t
"""
IDENTITY = "policy_name=acme policy_version=1.0.0\nDEFAULT op=ENCLAVE_INIT action=DENY\n"
MRENCLAVE, SIGNER = bytes([0x5F] * 32), bytes([0x9A] * 32)
LOAD = Decision(
    hook="load",
    permissions=("load", "execute"),
    pid=7,
    comm="builder",
    exe="/opt/bin/builder",
    maxprot=5,
    source=Source(kind="file", path="/opt/lib/a.so", inode=5, offset=0),
    scontext="builder_t",
    tcontext="code_t",
    lsm="te",
)
PAGE = replace(
    LOAD,
    hook="map",
    permissions=("execdirty",),
    source=Source(),
    tcontext="encl_t",
    lsm="page_rules",
    mrenclave=MRENCLAVE,
    mrsigner=SIGNER,
)
INIT = replace(LOAD, hook="init", permissions=("init",), mrenclave=MRENCLAVE, mrsigner=SIGNER, maxprot=None)
REFUSED = replace(INIT, lsm="identity", rule="acme.identity:2")


def learned(*records: Decision, policy: tuple[str, ...] = (TE,)) -> Learned:
    events = [Event(number, MOMENT + 1000 * number, record) for number, record in enumerate(records)]
    return learn(events, [PolicySource(f"f{n}", text.encode()) for n, text in enumerate(policy)], "log")


def rules(*records: Decision, policy: tuple[str, ...] = (TE,), kind: str = "te") -> tuple[str, ...]:
    return learned(*records, policy=policy).statements[kind]


# ---- type enforcement ------------------------------------------------------------------------------------------------


def test_denials_of_one_pair_become_one_rule_that_says_how_often_and_when() -> None:
    made = learned(LOAD, LOAD, replace(LOAD, permissions=("load",)))
    assert made.statements["te"] == ("allow builder_t code_t : enclave { load execute };",)
    assert "# 3 records, 2023-11-14 22:13:20 to 2023-11-14 22:13:22\n" in made.files["te"]
    assert "# load of /opt/lib/a.so by /opt/bin/builder\n" in made.files["te"]


def test_what_would_have_been_refused_by_a_permissive_policy_counts() -> None:
    assert rules(replace(LOAD, permissive=True)) == rules(LOAD)


def test_what_was_granted_is_nothing_to_learn() -> None:
    assert rules(replace(LOAD, denied=False)) == ()


def test_what_the_policy_allows_by_now_is_not_proposed_again() -> None:
    now = TE + "allow builder_t code_t : enclave load;\n"
    assert rules(LOAD, policy=(now,)) == ("allow builder_t code_t : enclave execute;",)
    assert rules(LOAD, policy=(now + "allow builder_t * : enclave execute;\n",)) == ()


def test_each_dangerous_permission_has_a_rule_and_a_warning_of_its_own() -> None:
    wanted = ("execdirty", "mapwx", "augexec", "execanon", "execunmr")
    made = learned(replace(PAGE, permissions=wanted))
    assert made.statements["te"] == tuple(f"allow encl_t self : enclave {name};" for name in wanted)
    for name in wanted:
        assert f"# WARNING, {name}: " in made.files["te"]
    for name in ("debug", "provision"):
        record = replace(LOAD, hook=name, permissions=(name,), source=Source(), tcontext="encl_t")
        assert f"# WARNING, {name}: " in learned(record).files["te"]


def test_rule_against_a_neverallow_is_shown_with_the_reason_and_not_proposed() -> None:
    made = learned(
        replace(PAGE, permissions=("mapwx", "execdirty")),
        policy=(TE + "neverallow * self : enclave mapwx;\n",),
    )
    assert made.statements["te"] == ("allow encl_t self : enclave execdirty;",)
    text = made.files["te"]
    assert "#   allow encl_t self : enclave mapwx;\n" in text
    assert "# not proposed: no rule allows what a neverallow forbids: " in text
    assert "(see f0:5)" in text
    assert "# Refused with all that is proposed, too: 1 record" in text


def test_neverallow_against_a_part_of_a_rule_leaves_the_rest() -> None:
    made = learned(LOAD, policy=(TE + "neverallow builder_t code_t : enclave execute;\n",))
    assert made.statements["te"] == ("allow builder_t code_t : enclave load;",)


def test_files_without_a_type_get_one_for_exactly_their_paths() -> None:
    one = replace(
        LOAD,
        tcontext="unlabeled_t",
        permissions=("execute",),
        source=replace(LOAD.source, path="/srv/x(1).so"),
    )
    two = replace(one, source=replace(LOAD.source, path="/srv/y.so"))
    assert rules(one, two) == (
        "type srv_code_t;",
        'filecon "/srv/x\\(1\\)\\.so" srv_code_t',
        'filecon "/srv/y\\.so" srv_code_t',
        # It had been allowed to load them, had they no type; with one, that must be said.
        "allow builder_t srv_code_t : enclave { load execute };",
    )


def test_files_of_which_different_things_were_asked_do_not_share_a_type() -> None:
    code = replace(LOAD, tcontext="unlabeled_t", source=replace(LOAD.source, path="/srv/x.so"))
    data = replace(code, permissions=("load",), maxprot=1, source=replace(LOAD.source, path="/srv/x.dat"))
    assert "allow builder_t srv_data_t : enclave load;" in rules(code, data)


def test_what_unlabeled_had_its_new_types_have_too() -> None:
    policy = TE + "allow app_t unlabeled_t : enclave load;\nallow unlabeled_t sgx_device_t : enclave open;\n"
    one = replace(LOAD, exe="/usr/bin/new", scontext="unlabeled_t", tcontext="unlabeled_t")
    made = rules(replace(one, source=replace(LOAD.source, path="/srv/x.so")), policy=(policy,))
    assert "allow app_t srv_code_t : enclave load;" in made
    assert "allow new_t sgx_device_t : enclave open;" in made


def test_program_without_a_type_gets_one_by_its_path_or_its_label() -> None:
    by_path = replace(LOAD, exe="/usr/bin/n.w", scontext="unlabeled_t")
    assert rules(by_path)[:2] == ("type n_w_t;", 'subjcon exe "/usr/bin/n\\.w" n_w_t')
    by_label = replace(by_path, scontext="u:r:other_t:s0")
    assert rules(by_label)[:2] == ("type other_t;", 'subjcon label "u:r:other_t:s0" other_t')


def test_program_that_the_policy_names_by_now_needs_no_new_type() -> None:
    assert rules(replace(LOAD, scontext="unlabeled_t")) == rules(LOAD)


def test_enclave_of_a_new_type_of_sigstruct_has_a_type_of_its_own() -> None:
    init = replace(INIT, tcontext="unlabeled_t", source=replace(LOAD.source, path="/srv/a.sig"))
    uses = replace(PAGE, lsm="te", permissions=("map_exec",), tcontext="unlabeled_t")
    made = rules(init, uses)
    assert "type_transition builder_t srv_sig_t : enclave srv_encl_t;" in made
    assert "allow builder_t srv_encl_t : enclave map_exec;" in made


def test_enclave_without_any_type_is_said_to_need_one() -> None:
    made = learned(replace(PAGE, lsm="te", permissions=("map_exec",), tcontext="unlabeled_t"))
    assert made.statements["te"] == ()
    assert "# No rule of this kind helps: map_exec of an enclave without a type" in made.files["te"]
    assert "# There is nothing to propose.\n" in made.files["te"]


def test_module_that_failed_teaches_nothing() -> None:
    made = learned(replace(LOAD, reason="module-failure"))
    assert made.statements["te"] == ()
    assert "# Refused by modules without rules, or that failed: 1 record" in made.files["te"]


def test_names_do_not_collide_with_those_of_the_policy() -> None:
    policy = TE.replace("acme", "learned") + "type srv_code_t; attribute srv_code2_t;\n"
    record = replace(LOAD, tcontext="unlabeled_t", source=replace(LOAD.source, path="/srv/x.so"))
    made = learned(record, policy=(policy,))
    assert "policy_module(learned1, 1.0)\n" in made.files["te"]
    assert "type srv_code3_t;" in made.statements["te"]


def test_pattern_is_for_one_path_whatever_is_in_it() -> None:
    for path in ("/a b", "/a.b[c](d)*+?{e}^$\\|", "/\x1b[31m", '/"quoted"', "/\udcff", "/\u202eexe", "/\n"):
        pattern = exact_pattern(path)
        assert pattern is not None
        assert pattern.isprintable()
        assert '"' not in pattern
        assert Pattern(pattern).matches(path)
        assert not Pattern(pattern).matches(path + "x")
    assert exact_pattern("relative") is None
    assert exact_pattern("/" * 5000) is None


# ---- identity --------------------------------------------------------------------------------------------------------


def test_refused_enclave_gets_a_rule_for_itself_with_the_grants_that_lacked() -> None:
    made = learned(REFUSED, replace(PAGE, permissive=True), policy=(TE, IDENTITY))
    assert made.statements["identity"] == (
        f"op=ENCLAVE_INIT mrenclave=sha256:{MRENCLAVE.hex()} grant=execdirty action=ALLOW",
    )
    assert made.files["identity"].startswith("# Candidates from 2 refusals in log.\n")
    assert IDENTITY in made.files["identity"]
    assert "# WARNING, execdirty: " in made.files["identity"]


def test_signer_is_only_named_in_a_comment() -> None:
    text = learned(REFUSED, policy=(IDENTITY,)).files["identity"]
    assert f"# wider, all of its signer: mrsigner=sha256:{SIGNER.hex()}\n" in text


def test_enclave_that_a_rule_refuses_in_so_many_words_stays_refused() -> None:
    policy = IDENTITY + f"op=ENCLAVE_INIT mrsigner=sha256:{SIGNER.hex()} isvsvn<=2 action=DENY\n"
    for told in ("f0:3", "/etc/f0:3"):
        made = learned(replace(REFUSED, rule=told), policy=(policy,))
        assert made.statements["identity"] == ()
        assert "# not proposed: a rule says no to it: f0:3: op=ENCLAVE_INIT" in made.files["identity"]


def test_grant_is_added_before_the_rule_that_allows_and_only_for_what_it_allows() -> None:
    rule = f"op=ENCLAVE_INIT mrsigner=sha256:{SIGNER.hex()} isvsvn>=3 debug=FALSE grant=execanon action=ALLOW"
    made = learned(replace(PAGE, mrsigner=SIGNER), policy=(IDENTITY + rule + "\n",))
    new = (
        f"op=ENCLAVE_INIT mrenclave=sha256:{MRENCLAVE.hex()} mrsigner=sha256:{SIGNER.hex()} isvsvn>=3 debug=FALSE "
        "grant=execdirty,execanon action=ALLOW"
    )
    assert made.statements["identity"] == (new,)
    assert f"{new}\n{rule}\n" in made.files["identity"]


def test_rule_for_the_same_enclave_is_replaced() -> None:
    rule = f"op=ENCLAVE_INIT mrenclave=sha256:{MRENCLAVE.hex()} action=ALLOW"
    made = learned(PAGE, policy=(IDENTITY + rule + "\n",))
    assert (
        f"# in the place of: {rule}\n{rule.replace('action', 'grant=execdirty action')}\n"
        in made.files["identity"]
    )
    parse([PolicySource("x", made.files["identity"].encode())])


def test_grant_that_type_enforcement_must_not_allow_is_not_asked_of_identity() -> None:
    made = learned(PAGE, REFUSED, policy=(TE + "neverallow * self : enclave execdirty;\n", IDENTITY))
    assert made.statements["identity"] == (
        f"op=ENCLAVE_INIT mrenclave=sha256:{MRENCLAVE.hex()} action=ALLOW",
    )


def test_sigstruct_in_memory_gets_a_rule_with_a_label_that_type_enforcement_declares() -> None:
    anonymous = replace(INIT, source=Source(kind="anon"), tcontext="", lsm="te")
    made = learned(anonymous, policy=(TE, IDENTITY))
    assert made.statements["te"] == ("type builder_encl_t;",)
    assert made.statements["identity"] == (
        f"op=ENCLAVE_INIT mrenclave=sha256:{MRENCLAVE.hex()} label=builder_encl_t action=ALLOW",
    )


def test_other_operations_are_for_the_subject_that_was_refused() -> None:
    create = replace(
        REFUSED, hook="create", permissions=("create",), source=Source(), mrenclave=b"", mrsigner=b""
    )
    policy = IDENTITY + "DEFAULT op=ENCLAVE_CREATE action=DENY\n"
    made = rules(create, policy=(TE, policy), kind="identity")
    assert made == ("op=ENCLAVE_CREATE subj_type=builder_t action=ALLOW",)
    text = learned(create, policy=(policy,)).files["identity"]
    assert "# WARNING: for everybody; a policy of type enforcement would tell subjects apart\n" in text


def test_without_identity_policy_or_refusal_none_is_begun() -> None:
    assert rules(PAGE, kind="identity") == ()


# ---- integrity -------------------------------------------------------------------------------------------------------


def test_file_that_was_not_signed_gets_a_rule_for_its_type_and_the_advice_to_sign_it() -> None:
    record = replace(LOAD, lsm="integrity", permissions=("execute",))
    made = learned(record, policy=(TE, "appraise func=ENCLAVE_LOAD mask=MAY_EXEC\n"))
    assert made.statements["integrity"] == (
        "dont_appraise func=ENCLAVE_LOAD mask=MAY_READ,MAY_EXEC obj_type=code_t",
    )
    assert "# WARNING: nobody vouches for these files then; sign them instead\n" in made.files["integrity"]


def test_type_that_a_rule_wants_signed_stays_so() -> None:
    record = replace(LOAD, lsm="integrity", permissions=("execute",))
    made = learned(record, policy=(TE, "appraise func=ENCLAVE_LOAD obj_type=code_t\n"))
    assert made.statements["integrity"] == ()
    assert "# not proposed: a rule asks for it, for this type: f1:1: " in made.files["integrity"]


def test_without_types_no_file_is_left_unsigned() -> None:
    record = replace(LOAD, lsm="integrity", permissions=("execute",))
    made = learned(record, policy=("appraise func=ENCLAVE_LOAD\n",))
    assert made.statements["integrity"] == ()
