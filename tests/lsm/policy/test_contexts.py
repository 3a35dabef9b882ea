"""Patterns of paths, and which one wins."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swsgx.lsm.policy.contexts import PathIndex
from swsgx.lsm.policy.patterns import Pattern, PatternError

GOOD = [
    "/opt/acme/lib/.*[.]so",
    "/a(/.*)?",
    "/a|/b",
    "/a(x|y)d",
    "/a\\.b",
    "/a+b*c?",
    "/a{2}b{1,3}c{2,}",
    "/[a-z]x",
    "/[^/]+/x",
    "(/usr)?/lib(32|64)?/x",
]


@pytest.mark.parametrize("text", GOOD)
def test_a_pattern_matches_what_python_matches_and_its_ends_are_so(text: str) -> None:
    pattern, python = Pattern(text), re.compile(text, re.DOTALL)
    paths = [
        "/a",
        "/b",
        "/axd",
        "/ayd",
        "/a.b",
        "/axb",
        "/aabc",
        "/aabbcc",
        "/qx",
        "/q/x",
        "/lib/x",
        "/usr/lib64/x",
    ]
    paths += ["/opt/acme/lib/x.so", "/opt/acme/lib/xso", "/a/", "/a/b/c", "/a/b\nc"]
    for path in paths:
        matches = python.fullmatch(path) is not None
        assert pattern.matches(path) == matches, path
        if matches:
            assert path.startswith(pattern.prefix)
            assert path.endswith(pattern.suffix)


@pytest.mark.parametrize(
    ("text", "literal", "prefix", "suffix"),
    [
        ("/a/b", "/a/b", "/a/b", "/a/b"),
        ("/a[.]b", "/a.b", "/a.b", "/a.b"),
        ("/a\\+b", "/a+b", "/a+b", "/a+b"),
        ("/a.*b", None, "/a", "b"),
        ("/ab*c", None, "/a", "c"),
        ("/a(x)b", None, "/a", "b"),
        ("/a|/b", None, "", ""),
        ("/a[^]b", None, None, None),
        ("/a[bc]", None, "/a", ""),
    ],
)
def test_what_is_plain_at_the_ends_is_known(
    text: str, literal: str | None, prefix: str | None, suffix: str | None
) -> None:
    if prefix is None:
        with pytest.raises(PatternError):
            Pattern(text)
        return
    pattern = Pattern(text)
    assert (pattern.literal, pattern.prefix, pattern.suffix) == (literal, prefix, suffix)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("/a(b", 4),
        ("/a)b", 2),
        ("/a[b", 2),
        ("/a[[:alpha:]]", 2),
        ("/a[b&&c]", 2),
        ("/a[z-a]", 3),
        ("/a**", 3),
        ("*", 0),
        ("/a{b}", 2),
        ("/a{2,1}", 2),
        ("/a{256}", 2),
        ("/a{99999999999}", 2),
        ("/a\\d", 3),
        ("/a\\", 3),
        ("/^a", 1),
        ("/a$", 2),
        ("(?:/a)", 1),
        ("/(a*)*", 1),
        ("/(a?){30}", 1),
        ("/(a|b)*", 1),
        ("/.*a.*b.*c.*d", 10),
        ("/" + "a?" * 30, 25),
        ("(" * 21 + "a" + ")" * 21, 20),
        ("/" + "a" * 5000, 0),
    ],
)
def test_what_is_no_pattern_is_refused_at_its_place(text: str, at: int) -> None:
    with pytest.raises(PatternError) as caught:
        Pattern(text)
    assert caught.value.at == at
    assert caught.value.expected


def test_the_worst_patterns_that_are_allowed_end() -> None:
    assert not Pattern("/" + "(a|a)" * 12 + "b").matches("/" + "a" * 200)
    assert not Pattern("/a*a*a*b").matches("/" + "a" * 200)


@given(st.text(alphabet="/ab.[]()*+?{}|\\^-,12", max_size=14))
def test_any_text_is_a_pattern_that_python_has_too_or_is_refused(text: str) -> None:
    try:
        pattern = Pattern(text)
    except PatternError:
        return
    python = re.compile(text, re.DOTALL)
    for path in ("", "/", "/a", "/ab", "a", "b", "/a.b", "/aa", "ab12", "/a/b"):
        assert pattern.matches(path) == (python.fullmatch(path) is not None)
        if pattern.matches(path):
            assert path.startswith(pattern.prefix)
            assert path.endswith(pattern.suffix)


def index(*patterns: str) -> PathIndex[str]:
    made: PathIndex[str] = PathIndex()
    for pattern in patterns:
        made.add(Pattern(pattern), pattern)
    return made


@pytest.mark.parametrize(
    ("patterns", "path", "winner"),
    [
        (("/a/b", "/a/.*"), "/a/b", "/a/b"),
        (("/a/.*", "/a/b"), "/a/b", "/a/b"),
        (("/a/b/.*", "/a/.*"), "/a/b/c", "/a/b/.*"),
        (("/a/.*", "/a/.*c"), "/a/c", "/a/.*c"),
        (("/a/.*c", "/a/.*"), "/a/c", "/a/.*"),
        (("/a/b/x.*", "/a/.*"), "/a/b/c", "/a/.*"),
        (("/.*",), "a", None),
        (("/ab.*b",), "/ab", None),
        ((".*x",), "/q/x", ".*x"),
    ],
)
def test_the_exact_path_wins_then_the_longest_beginning_then_the_last(
    patterns: tuple[str, ...], path: str, winner: str | None
) -> None:
    assert index(*patterns).find(path) == winner
    assert index(*patterns).find(path) == winner


def test_an_answer_is_not_remembered_beyond_a_change() -> None:
    made = index("/a/.*")
    assert made.find("/b/x") is None
    made.add(Pattern("/b/.*"), "b")
    assert made.find("/b/x") == "b"
    assert len(made) == 2


@given(
    st.lists(
        st.sampled_from(["/a/.*", "/a/b.*", "/a/.*c", "/a/b", "/.*", "/a/(b|c)", "/[ab]/c", "/a/b?c"]),
        unique=True,
    ),
    st.sampled_from(["/a/b", "/a/c", "/a/bc", "/b/c", "/a/", "/x", "/a/bcc"]),
)
def test_the_index_finds_what_trying_all_finds(patterns: list[str], path: str) -> None:
    ranked = sorted(
        (pattern for pattern in map(Pattern, patterns) if pattern.matches(path)),
        key=lambda pattern: (pattern.literal is not None, len(pattern.prefix), patterns.index(pattern.text)),
    )
    assert index(*patterns).find(path) == (ranked[-1].text if ranked else None)
