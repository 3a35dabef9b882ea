"""What is printed parses to the same; statements of one shape do not get each other's words; garbage gets an error."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from swsgx.lsm.policy.errors import PolicyError, Problems
from swsgx.lsm.policy.lines_syntax import ACTIONS, Line, Pair, parse_identity, parse_integrity, print_lines
from swsgx.lsm.policy.load import parse
from swsgx.lsm.policy.source import Source, Word
from swsgx.lsm.policy.te_syntax import (
    ACCESS,
    KEYWORDS,
    Access,
    Declare,
    FileContext,
    Module,
    Names,
    Permissive,
    SubjectContext,
    Transition,
    TypeAttribute,
    parse_te,
    print_te,
)
from tests.lsm.policy.conftest import IDENTITY, TE

NAME = (
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_.]{0,6}", fullmatch=True)
    .filter(lambda n: n not in KEYWORDS)
    .map(Word)
)
NUMBER = st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,2})?", fullmatch=True).map(Word)
STRING = st.text(st.characters(exclude_characters='"\n\0', exclude_categories=["Cs"]), max_size=8).map(Word)
MANY = st.lists(NAME, min_size=1, max_size=4).map(tuple)
WORDS = st.builds(
    Names,
    st.lists(NAME | st.sampled_from(["*", "self"]).map(Word), min_size=1, max_size=4).map(tuple),
    st.lists(NAME, max_size=2).map(tuple),
    st.booleans(),
)
PLAIN = MANY.map(Names)


def words(*values: str) -> st.SearchStrategy[Word]:
    return st.sampled_from(values).map(Word)


STATEMENT = st.one_of(
    st.builds(Module, NAME, NAME | NUMBER),
    st.builds(Declare, words("type"), NAME, st.lists(NAME, max_size=3).map(tuple)),
    st.builds(Declare, words("attribute"), NAME),
    st.builds(TypeAttribute, NAME, MANY),
    st.builds(Access, words(*ACCESS), WORDS, WORDS, PLAIN, PLAIN),
    st.builds(Transition, WORDS, WORDS, NAME, NAME),
    st.builds(Permissive, NAME),
    st.builds(SubjectContext, NAME, STRING, NAME),
    st.builds(SubjectContext, NAME, NUMBER, NAME, st.just(False)),
    st.builds(FileContext, STRING, NAME),
)


@given(st.lists(STATEMENT, max_size=8))
def test_statements_of_type_enforcement_survive_printing(statements: list[Any]) -> None:
    problems = Problems()
    again = parse_te(Source("x", print_te(statements).encode()), problems)
    assert problems.found == []
    assert [statement.value for statement in again] == statements


KEY = st.from_regex(r"[a-z_][a-z0-9_]{0,6}", fullmatch=True).map(Word)
BARE = st.text(
    st.characters(exclude_characters='"\0', exclude_categories=["Cs", "Z", "Cc"]), min_size=1, max_size=8
)
VALUE = (BARE.filter(lambda v: v.strip() == v and v[0] not in "=<>") | STRING.map(lambda s: f'"{s}"')).map(
    Word
)
PAIR = st.builds(Pair, KEY, words("=", ">=", "<=", "<", ">"), VALUE)
PAIRS = st.lists(PAIR, min_size=1, max_size=4).map(tuple)


@given(st.lists(st.builds(Line, st.none() | words("DEFAULT"), PAIRS), max_size=6))
def test_lines_of_identity_survive_printing(lines: list[Line]) -> None:
    problems = Problems()
    again = [s.value for s in parse_identity(Source("x", print_lines(lines).encode()), problems)]
    assert problems.found == []
    assert again == lines


@given(st.lists(st.builds(Line, words(*ACTIONS), PAIRS | st.just(())), max_size=6))
def test_lines_of_integrity_survive_printing(lines: list[Line]) -> None:
    problems = Problems()
    again = [s.value for s in parse_integrity(Source("x", print_lines(lines).encode()), problems)]
    assert problems.found == []
    assert again == lines


def tried(data: bytes) -> None:
    try:
        parse([Source("x", data)])
    except PolicyError as error:
        refused = error
    else:
        return
    count = data.count(b"\n") + 1
    for problem in refused.problems:
        assert problem.place.file == "x"
        assert 1 <= problem.place.line <= count
        assert problem.expected
        assert problem.found
        assert len(list(problem.lines())) in (1, 3)


@given(st.binary(max_size=200))
@example(b"\xef\xbb\xbfpolicy_module(m, 1)")
def test_random_bytes(data: bytes) -> None:
    tried(data)
    for head in (TE, IDENTITY, "measure\n"):
        tried(head.encode() + data)


PIECES = [
    *(
        "type a;",
        "a",
        "b",
        "allow",
        "neverallow",
        "{",
        "}",
        "~",
        "*",
        "-",
        "self",
        ":",
        "enclave",
        "use",
        ";",
        ",",
        "\n",
    ),
    *(
        "subjcon",
        "filecon",
        "exe",
        "uid",
        '"/a.*"',
        '"',
        "7",
        "1.5",
        "#",
        "(",
        ")",
        "permissive",
        "type_transition",
    ),
    *(
        "op=ENCLAVE_INIT",
        "action=ALLOW",
        "DEFAULT",
        "debug=TRUE",
        "isvsvn>=3",
        "isvsvn<",
        "=",
        "label=a",
        "grant=mapwx",
    ),
    *(
        "measure",
        "appraise",
        "func=ENCLAVE_LOAD",
        "mask=MAY_EXEC",
        "uid>5",
        "pcr=1",
        "\u00e9",
        "\u2028",
        "\x1b",
        "\r",
    ),
]


@given(st.sampled_from([TE, IDENTITY, "measure\n", ""]), st.lists(st.sampled_from(PIECES), max_size=30))
def test_random_words(head: str, pieces: list[str]) -> None:
    tried((head + " ".join(pieces)).encode())


@pytest.mark.parametrize(
    "text",
    [
        TE + "typea;",
        TE + "type a; allowa a : enclave use;",
        TE + "type a; type\x0bb;",
        TE + "subjconexe",
        TE + "type a; allow selfa a : enclave use;",
        IDENTITY + "DEFAULTop=ENCLAVE_CREATE action=DENY",
        IDENTITY + "op=ENCLAVE_INIT debug=TRUE action=DENY\nop=ENCLAVE_INIT debug=FALSE\x0baction=DENY",
        "measure uid=5\nmeasureuid=6",
        "measure uid=5\nmeasure uid=6\x1cfowner=7",
    ],
)
def test_words_that_run_together_are_refused(text: str) -> None:
    """Found by fuzzing: the grammar took ``typea`` for two words, the scanner for one."""
    with pytest.raises(PolicyError) as caught:
        parse([Source("x", text.encode())])
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize("head", [TE, IDENTITY, "measure uid=5\n"])
def test_each_beginning_of_a_policy_is_parsed_or_refused(head: str) -> None:
    text = {
        TE: TE + 'type a; subjcon exe "/x" a\nallow { a -a } ~{ a } : enclave { use load };',
        IDENTITY: IDENTITY + 'op=ENCLAVE_INIT isvsvn>=3 label="a" action=ALLOW # x',
    }.get(head, head + "dont_measure func=ENCLAVE_LOAD mask=MAY_EXEC,MAY_READ")
    for end in range(len(text) + 1):
        tried(text[:end].encode())
