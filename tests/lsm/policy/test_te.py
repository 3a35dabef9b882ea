"""Type enforcement: what is allowed, by which rule; and every mistake has its place."""

from __future__ import annotations

import pytest

from swsgx.lsm.policy.te import PERMISSIONS, TeStore
from tests.lsm.policy.conftest import TE, Load, Mistakes

TYPES = TE + "attribute at; attribute bt; type a, at; type b, at, bt; type c;\n"


def store(loaded: Load, text: str) -> TeStore:
    te = loaded(TYPES + text).te
    assert te is not None
    return te


def pairs(te: TeStore, permission: str = "use") -> set[str]:
    """``source target`` of all that is allowed."""
    return {s + t for s in "abc" for t in "abc" if te.query(s, t, permission).allowed}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("allow a b : enclave use;", {"ab"}),
        ("allow { a c } b : enclave use;", {"ab", "cb"}),
        ("allow at c : enclave use;", {"ac", "bc"}),
        ("allow a self : enclave use;", {"aa"}),
        ("allow at self : enclave use;", {"aa", "bb"}),
        ("allow at { self c } : enclave use;", {"aa", "bb", "ac", "bc"}),
        ("allow * self : enclave use;", {"aa", "bb", "cc"}),
        ("allow ~a c : enclave use;", {"bc", "cc"}),
        ("allow ~{ a b } c : enclave use;", {"cc"}),
        ("allow { at -b } c : enclave use;", {"ac"}),
        ("allow ~{ at -b } c : enclave use;", {"bc", "cc"}),
        ("allow { * -bt } c : enclave use;", {"ac", "cc"}),
        ("allow a * : enclave ~{ load };", {"aa", "ab", "ac"}),
        ("allow a b : enclave ~{ use };", set()),
        ("allow a b : enclave *;", {"ab"}),
        ("typeattribute c bt; allow bt bt : enclave use;", {"bb", "bc", "cb", "cc"}),
        ("dontaudit a b : enclave use; auditallow a b : enclave use;", set()),
    ],
)
def test_an_access_rule_allows_exactly_the_pairs_that_its_sets_name(
    loaded: Load, rule: str, expected: set[str]
) -> None:
    assert pairs(store(loaded, rule)) == expected


def test_a_large_set_allows_what_its_members_are_allowed(loaded: Load) -> None:
    many = [f"t{n}" for n in range(40)]
    declared = "".join(f"type {name};" for name in many)
    te = loaded(
        TYPES + declared + f"allow {{ {' '.join(many)} }} {{ {' '.join(many)} self }} : enclave use;"
    ).te
    assert te is not None
    assert te.query("t3", "t39", "use").allowed
    assert not te.query("t3", "a", "use").allowed
    assert not te.query("a", "a", "use").allowed


def test_a_set_of_its_own_in_each_rule_makes_no_difference(loaded: Load) -> None:
    names = [f"t{n}" for n in range(60)]
    rules = "".join(f"allow ~{{ {name} a b c }} ~{{ {name} }} : enclave load;" for name in names)
    te = loaded(TYPES + "".join(f"type {name};" for name in names) + rules).te
    assert te is not None
    assert te.query("t1", "t2", "load").allowed
    assert te.query("t1", "t1", "load").allowed
    assert not te.query("a", "t1", "load").allowed


def test_nothing_is_allowed_without_a_rule_nor_to_a_type_that_is_not_declared(loaded: Load) -> None:
    te = store(loaded, "allow * * : enclave *;")
    assert all(te.query("a", "sgx_device_t", name).allowed for name in PERMISSIONS)
    assert not te.query("nobody", "a", "use").allowed
    assert not te.query("a", "nobody", "use").allowed
    assert not store(loaded, "").query("a", "a", "use").allowed


def test_a_decision_names_the_first_rule_that_allows_it(loaded: Load) -> None:
    te = store(loaded, "allow a b : enclave load;\nallow a b:enclave { use  # why\n  load };\n")
    decision = te.query("a", "b", "use")
    assert decision.rule is not None
    assert str(decision.rule) == "f0:4: allow a b:enclave { use load };"
    first = te.query("a", "b", "load").rule
    assert first is not None
    assert first.place.line == 3


def test_audit_flags_follow_their_rules(loaded: Load) -> None:
    te = store(
        loaded,
        "allow a b : enclave use; auditallow at b : enclave use; dontaudit a c : enclave *; permissive c;",
    )
    assert te.query("a", "b", "use").audited
    assert not te.query("a", "c", "use").audited
    assert te.query("b", "c", "use").audited
    assert te.query("c", "a", "use").permissive
    assert not te.query("a", "c", "use").permissive


def test_a_subject_has_its_type_by_label_then_program_then_user(loaded: Load) -> None:
    te = store(loaded, 'subjcon exe "/bin/x" a\nsubjcon label "u:r" b\nsubjcon uid 007 c\n')
    assert te.subject_type(label="u:r", exe="/bin/x", uid=7)[0] == "b"
    assert te.subject_type(label="u:s", exe="/bin/x", uid=7)[0] == "a"
    assert te.subject_type(exe="/bin/y", uid=7)[0] == "c"
    assert te.subject_type(exe="/bin/y", uid=8) == ("unlabeled_t", None)


def test_an_enclave_has_the_type_of_its_transition_or_of_its_sigstruct(loaded: Load) -> None:
    te = store(loaded, "type_transition at c : enclave b;")
    assert te.enclave_type("a", "c")[0] == "b"
    assert te.enclave_type("c", "c") == ("c", None)


def test_a_type_of_one_file_is_used_by_another_whatever_their_order(loaded: Load) -> None:
    te = loaded("policy_module(x, 1)\nallow a a : enclave use;", TYPES).te
    assert te is not None
    assert te.query("a", "a", "use").allowed


@pytest.mark.parametrize(
    ("ban", "rule", "line"),
    [
        ("a b", "allow a b : enclave use;", 4),
        ("* self", "allow at at : enclave use;", 4),
        ("* self", "allow c self : enclave use;", 4),
        ("at bt", "allow b self : enclave use;", 4),
        ("~a *", "allow at c : enclave { load use };", 4),
        ("{ * -a } c", "allow * c : enclave *;", 4),
    ],
)
def test_a_rule_against_a_neverallow_is_a_mistake_that_names_both_lines(
    mistakes: Mistakes, ban: str, rule: str, line: int
) -> None:
    (problem,) = mistakes(TYPES + f"neverallow {ban} : enclave {{ use mapwx }};\n{rule}")
    assert problem.place[:2] == ("f0", line)
    assert problem.other is not None
    assert problem.other.line == 3


@pytest.mark.parametrize(
    ("ban", "rule"),
    [
        ("a b", "allow b a : enclave use;"),
        ("a b", "allow a b : enclave load;"),
        ("a self", "allow a { b c } : enclave use;"),
        ("~{ a } *", "allow a * : enclave use;"),
        ("at { bt -b }", "allow at bt : enclave use;"),
        ("a b", "dontaudit a b : enclave use;"),
    ],
)
def test_a_rule_beside_a_neverallow_is_none(loaded: Load, ban: str, rule: str) -> None:
    loaded(TYPES + f"neverallow {ban} : enclave use;\n{rule}")


@pytest.mark.parametrize(
    ("text", "column", "found"),
    [
        ("allow x b : enclave use;", 7, "'x', not declared"),
        ("allow a x : enclave use;", 9, "'x', not declared"),
        ("allow a b : file use;", 13, "'file'"),
        ("allow a b : enclave fly;", 21, "'fly'"),
        ("allow a b : enclave { use -load };", 28, "'load'"),
        ("allow self a : enclave use;", 7, "'self'"),
        ("allow a ~self : enclave use;", 10, "'self'"),
        ("allow a { b -self } : enclave use;", 14, "'self'"),
        ("allow { -a } b : enclave use;", 10, "'a'"),
        ("allow a b : enclave ~{ *};", 24, "'*'"),
        ("type a;", 6, "'a'"),
        ("attribute a;", 11, "'a'"),
        ("type self;", 6, "'self'"),
        ("type sgx_device_t;", 6, "'sgx_device_t'"),
        ("type d, nothing;", 9, "'nothing', not declared"),
        ("type d, b;", 9, "'b', another kind of name"),
        ("typeattribute at bt;", 15, "'at', another kind of name"),
        ("permissive at;", 12, "'at', another kind of name"),
        ("permissive a; permissive a;", 26, "'a'"),
        ("type_transition a b : enclave at;", 31, "'at', another kind of name"),
        ("type_transition a b : process c;", 23, "'process'"),
        ("type_transition a self : enclave c;", 19, "'self'"),
        ("type_transition a b : enclave c; type_transition at b : enclave a;", 65, "'a'"),
        ("policy_module(n, 1)", 15, "'n'"),
        ('subjcon pid "1" a', 9, "'pid'"),
        ('subjcon uid "1" a', 14, "'1'"),
        ("subjcon uid 4294967296 a", 13, "'4294967296'"),
        ("subjcon uid 1.5 a", 13, "'1.5'"),
        ("subjcon exe 1 a", 13, "'1'"),
        ('subjcon exe "bin/x" a', 14, "'bin/x'"),
        ('subjcon exe "/b(in" a', 19, "its end"),
        ('filecon "/x" at', 14, "'at', another kind of name"),
        ('filecon "/x" a\nfilecon "/x" b', 10, "'/x'"),
        ("allow a b : enclave use", 24, "the end of the statement"),
        ("allow a b enclave use;", 11, "'enclave'"),
        ("allow a b : enclave { };", 23, "'}'"),
        ("allow a { { b } } : enclave use;", 11, "'{'"),
        ('filecon "/x a', 9, "'\"'"),
        ("type 1a;", 6, "'1'"),
        ("type é;", 6, "'é'"),
        ("a b;", 1, "'a'"),
        ("allow a b : enclave use; allow a b : enclave use;", 26, "'allow'"),
    ],
)
def test_a_mistake_is_told_where_it_is(mistakes: Mistakes, text: str, column: int, found: str) -> None:
    problems = mistakes(TYPES + text)
    assert [(p.place.column, p.found) for p in problems] == [(column, found)]
    assert problems[0].place.line == 3 + text.count("\n")


def test_a_statement_without_its_semicolon_does_not_take_the_next_one_with_it(mistakes: Mistakes) -> None:
    problems = mistakes(TYPES + "allow a b : enclave use\nallow b x : enclave use;\ntype ;\ntype d;")
    assert [p.place.line for p in problems] == [3, 4, 5]


def test_a_file_begins_with_policy_module(mistakes: Mistakes) -> None:
    (problem,) = mistakes("type a;")
    assert "policy_module" in problem.expected
    assert problem.place == ("f0", 1, 1)


def test_two_files_of_one_name_are_a_mistake(mistakes: Mistakes) -> None:
    (problem,) = mistakes(TE, TE)
    assert problem.place.file == "f1"
    assert str(problem.other) == "f0:1"


def test_too_many_transitions_are_refused_quickly(mistakes: Mistakes) -> None:
    types = "".join(f"type t{n};" for n in range(1100))
    (problem,) = mistakes(TE + types + "type_transition * * : enclave t0;")
    assert problem.rule == "transitions are few"


def test_statements_need_no_lines_of_their_own_and_comments_go_anywhere(loaded: Load) -> None:
    text = 'policy_module ( m , 1 ) # m\n type a; # c\n#;\nfilecon "/x#y" a; allow a\n\n#\na # use\n: enclave\tuse ;'
    te = loaded(text).te
    assert te is not None
    assert te.query("a", "a", "use").allowed
    assert te.file_type("/x#y")[0] == "a"
