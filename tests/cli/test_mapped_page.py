"""The page of ``swsgx mappings --html``: anybody can read it, nothing in it is from elsewhere, and names stay names.

What a browser makes of it: ``tests/conformance/test_mapped_page.py``.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest

from swsgx.cli.mapped_drawing import Piece, drawing, pieces_of
from swsgx.cli.mapped_page import page_of
from swsgx.cli.mapped_style import DRAWN, LOOKS, PALETTES, READ, style
from swsgx.cli.mapped_words import NO_PROOF, NOBODY
from tests.cli.test_mappings import HOSTILE, hostile
from tests.make import mapped
from tests.make.page import Element, contrast, parsed

PAGE = mapped.PAGE


def rich() -> dict[str, Any]:
    """An answer with something of everything."""
    anonymous = mapped.origin(
        **{"class": "anon"}, path=None, inode=None, device=None, offset=None, digest=None
    )
    modified = mapped.origin(**{"class": "filemod"}, writers=True)
    hole = {"start": mapped.BASE + 9 * PAGE, "end": mapped.BASE + 10 * PAGE, "type": None}
    return mapped.mappings(
        mapped.mapping(mapped.run(), mapped.run(1, 2, origin=modified)),
        mapped.mapping(mapped.run(4, type="tcs", ceiling="rw-", ever_x=False), prot="rw-"),
        mapped.mapping(
            mapped.run(6, origin=anonymous, measured=False), mapped.run(7, origin=None), prot="rwx"
        ),
        mapped.mapping(hole, prot="---"),
        mapped.mapping(
            mapped.run(2048, 16, augmented=True, origin=None, measured=False, used=["augexec"], entry=None)
        ),
    )


def page(found: dict[str, Any] | None) -> Element:
    return parsed(page_of([(4711, mapped.answer(found))], 0.0))


@pytest.fixture(params=["rich", "plain", "hostile", "none", "two"])
def any_page(request: pytest.FixtureRequest) -> str:
    answers = {
        "rich": [mapped.answer(rich())],
        "plain": [mapped.answer(mapped.plain())],
        "hostile": [hostile()],
        "none": [mapped.answer(None)],
        "two": [mapped.answer(rich()), mapped.answer(mapped.plain())],
    }
    return page_of([(4711 + number, one) for number, one in enumerate(answers[request.param])])


# Anybody can read it.


def test_it_has_a_language_a_title_and_one_heading_above_all(any_page: str) -> None:
    root = parsed(any_page)
    assert any_page.startswith("<!DOCTYPE html>\n")
    assert root.one("html").attributes["lang"] == "en"
    assert root.one("head").one("title").text == root.one("h1").text != ""
    assert [e.tag for e in root.one("body").all("header", "main", "footer")] == ["header", "main", "footer"]


def test_headings_leave_no_level_out(any_page: str) -> None:
    levels = [int(e.tag[1]) for e in parsed(any_page).all("h1", "h2", "h3", "h4", "h5", "h6")]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_tables_have_captions_and_headers_that_say_for_what(any_page: str) -> None:
    tables = list(parsed(any_page).all("table"))
    for table in tables:
        assert table.one("caption").text
        columns = list(table.one("thead").all("th"))
        assert all(e.attributes["scope"] == "col" and e.text for e in columns)
        for row in (row for body in table.all("tbody") for row in body.all("tr")):
            [head] = row.all("th")
            assert head.attributes["scope"] in ("row", "rowgroup")
            spans = [int(e.attributes.get("colspan", "1")) for e in row.all("th", "td")]
            assert sum(spans) == len(columns)


def test_each_drawing_is_an_image_with_a_name_and_a_description(any_page: str) -> None:
    root = parsed(any_page)
    names = {e.attributes["id"]: e for e in root.all() if "id" in e.attributes}
    for figure in root.all("figure"):
        svg = figure.one("svg")
        assert svg.attributes["role"] == "img"
        title, description = svg.attributes["aria-labelledby"].split()
        assert (names[title].tag, names[description].tag) == ("title", "desc")
        assert names[title].text
        assert names[description].text
        assert figure.one("figcaption").text
    seen = [e for e in root.all("svg") if e.attributes.get("role") != "img"]
    hidden = [e for e in root.all() if e.attributes.get("aria-hidden") == "true"]
    assert all(any(svg is e or svg in e.all() for e in hidden) for svg in seen)


def test_names_of_places_are_unique_and_references_lead_somewhere(any_page: str) -> None:
    root = parsed(any_page)
    names = [e.attributes["id"] for e in root.all() if "id" in e.attributes]
    assert len(set(names)) == len(names)
    wanted = [word for e in root.all() for word in e.attributes.get("aria-labelledby", "").split()]
    wanted += [e.attributes["href"].removeprefix("#") for e in root.all("a")]
    wanted += re.findall(r"url\(#([^)]+)\)", any_page)
    assert set(wanted) <= set(names)


def test_what_can_be_scrolled_can_be_reached_by_keys(any_page: str) -> None:
    for element in parsed(any_page).all("div"):
        if element.attributes.get("class") == "scroll":
            assert element.attributes["tabindex"] == "0"
            assert element.attributes["role"] == "region"
            assert element.attributes["aria-label"]


@pytest.mark.parametrize("palette", PALETTES)
def test_text_has_a_contrast_of_4_5_and_drawings_of_3(palette: str) -> None:
    colours = PALETTES[palette]
    short = {(one, on): round(contrast(colours[one], colours[on]), 2) for one, on in READ}
    assert {pair: value for pair, value in short.items() if value < 4.5} == {}
    short = {(one, on): round(contrast(colours[one], colours[on]), 2) for one, on in DRAWN}
    assert {pair: value for pair, value in short.items() if value < 3} == {}


def test_contrast_is_that_of_the_definition() -> None:
    assert round(contrast("#000000", "#ffffff"), 2) == 21
    assert round(contrast("#777777", "#ffffff"), 2) == 4.48


def test_both_palettes_have_all_colours_and_the_style_uses_no_other() -> None:
    assert PALETTES["light"].keys() == PALETTES["dark"].keys()
    sheet = style()
    assert set(re.findall(r"var\(--([a-z-]+)\)", sheet)) <= PALETTES["light"].keys()
    values = {value for palette in PALETTES.values() for value in palette.values()}
    assert set(re.findall(r"#[0-9a-f]{3,8}\b", sheet)) <= values


def test_what_one_row_tells_apart_by_colour_it_tells_apart_by_pattern() -> None:
    rows = (
        ("file", "modified file", "memfd", "shared memory", "anonymous", "EAUG", "unknown", "not recorded"),
        ("measured", "not measured", "not recorded"),
        ("reg", "tcs"),
        ("r-x", "rwx", "rw-", "r--", "---"),
    )
    for row in rows:
        strokes = [LOOKS[word].strokes for word in row]
        assert len(set(strokes)) == len(strokes)


def test_the_style_is_for_light_dark_and_paper() -> None:
    sheet = style()
    for query in ("@media (prefers-color-scheme:dark)", "@media print", "color-scheme:light dark"):
        assert query in sheet
    assert sheet.count("{") == sheet.count("}")


# Nothing is from elsewhere, and names stay names.


def test_nothing_is_fetched_and_nothing_is_run(any_page: str) -> None:
    root = parsed(any_page)
    tags = {e.tag for e in root.all()}
    assert tags.isdisjoint(
        {"script", "link", "img", "iframe", "object", "embed", "base", "form", "image", "use"}
    )
    for element in root.all():
        for name, value in element.attributes.items():
            assert name not in ("src", "srcset", "style", "xlink:href", "formaction")
            assert not name.startswith("on")
            assert name != "href" or value.startswith("#")
    assert "@import" not in any_page
    assert not re.search(r"url\((?!#)", any_page)
    assert "default-src 'none'" in any_page


def test_hostile_names_are_text_and_only_text() -> None:
    made = page_of([(4711, hostile())])
    root = parsed(made)
    assert "<b>&amp;" not in made
    assert not [e for e in root.all("b") if "&" in e.text]
    shown = root.one("body").text
    assert "<b>&\"'" in shown
    assert all(c.isprintable() or c == "\n" for c in made)
    assert made.encode()
    assert HOSTILE not in shown


def test_paths_are_one_line_of_printable_characters() -> None:
    assert "\\x1b[2J" in parsed(page_of([(4711, hostile())])).text


# What it says.


def test_it_says_that_it_is_no_proof(any_page: str) -> None:
    assert NO_PROOF in parsed(any_page).text


def test_a_plain_driver_was_asked_by_nobody() -> None:
    told = page(mapped.plain())
    assert NOBODY in told.one("main").text
    cells = [e.text for table in told.all("table") for e in table.all("td")]
    assert "not recorded" in cells
    assert NOBODY in cells


def test_rules_files_and_entries_are_told() -> None:
    text = page(rich()).one("main").text
    for said in (
        "acme.te is /etc/acme.te",
        "te (acme.te:9); also capability",
        "/opt/acme/code.so",
        "sha256:" + "ab" * 32,
        "2: encl-load, PCR 10",
        "augexec",
        "11" * 32,
        "modified file code.so at 0x4000 open for writing",
    ):
        assert said in text


def test_two_policy_files_of_one_name_are_told_apart() -> None:
    judged = {
        **mapped.approval("/etc/acme.te:9", "/opt/acme.te:9"),
        "generation": 0,
        "current": True,
        "withdrawn": None,
    }
    text = page(mapped.mappings(mapped.mapping(judged=judged))).one("main").text
    names = re.findall(r"(\S+) is (/\S+?)[;.]", text)
    assert len({name for name, _ in names}) == 2


def test_the_summary_counts_executable_pages_by_origin() -> None:
    summary = next(page(rich()).all("table"))
    rows = [[cell.text for cell in row.all("th", "td")] for row in summary.one("tbody").all("tr")]
    assert rows == [
        ["file", "1", "1", "0"],
        ["modified file", "2", "2", "0"],
        ["anonymous", "1", "0", "0"],
        ["unknown", "1", "1", "0"],
        ["EAUG", "16", "0", "0"],
    ]


# The drawing.


def test_pieces_cover_the_enclave_without_gap_or_overlap() -> None:
    found = rich()
    enclave = found["enclaves"][0]
    pieces = pieces_of(enclave, found["processes"][0]["mappings"])
    assert pieces[0].start == enclave["base"]
    assert pieces[-1].end == enclave["base"] + enclave["size"]
    assert all(one.end == other.start for one, other in itertools.pairwise(pieces))


def test_what_is_mapped_outside_of_the_enclave_or_twice_does_not_break_the_drawing() -> None:
    low = mapped.mapping(mapped.run(-2, 4))
    again = mapped.mapping(mapped.run(0, 1))
    pieces = pieces_of(mapped.enclave(size=4 * PAGE), [low, again])
    assert [(one.start - mapped.BASE) // PAGE for one in pieces] == [0, 2]
    assert isinstance(pieces[-1], Piece)
    assert pieces[-1].run is None


@pytest.mark.parametrize("count", [1, 30, 3000])
def test_all_is_within_the_drawing_and_it_stays_small(count: int) -> None:
    runs = [mapped.run(3 * number, 1 + number % 2) for number in range(count)]
    svg = parsed(drawing(mapped.enclave(), [mapped.mapping(one) for one in runs], "map")).one("svg")
    boxes = list(svg.all("rect"))
    assert len(boxes) < 12_000
    for box in boxes:
        left, width = float(box.attributes["x"]), float(box.attributes["width"])
        assert width > 0
        assert left >= 100
        assert left + width <= 1000


def test_larger_pieces_are_drawn_larger() -> None:
    given = [mapped.mapping(mapped.run(0, 1)), mapped.mapping(mapped.run(8, 4), prot="rw-")]
    svg = parsed(drawing(mapped.enclave(), given, "map")).one("svg")
    first, second = [e for e in svg.all("rect") if e.attributes.get("class") == "box f-file"]
    assert 3 < float(second.attributes["width"]) / float(first.attributes["width"]) <= 4
