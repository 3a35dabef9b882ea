"""The page of ``swsgx mappings --html``: one file, without scripts and without anything that is elsewhere.

What is drawn is also in tables, what is coloured also in words. Names of programs and files are made one line of
printable characters, and escaped.
"""

from __future__ import annotations

import html
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from swsgx.cli.errors import one_line
from swsgx.cli.figures import NOT_YET, command_of, size
from swsgx.cli.mapped_drawing import drawing, patterns, swatch
from swsgx.cli.mapped_shape import printable
from swsgx.cli.mapped_style import style
from swsgx.cli.mapped_words import (
    HOLE,
    NO_PROOF,
    NOBODY,
    STALE,
    Fact,
    allowed_by,
    by_whom,
    enclave_title,
    entry_of,
    has_been,
    kind_of_origin,
    measured,
    origin_of,
    origin_words,
    pages_of,
    range_of,
    remarks_of,
    security_of,
    short_rules,
)
from swsgx.isa.address import PAGE_SIZE

__all__ = ["page_of"]

_COLUMNS = (
    *("First page", "Pages", "Type", "At most", "Measured", "Has been mapped"),
    *("Comes from", "Let in by", "Needs grants", "In the list"),
)
_MEASURED, _WRITABLE = "Of these measured", "Of these writable now or before"
_NUMBERS = ("Pages", _MEASURED, _WRITABLE)
_FROM = _COLUMNS.index("Comes from") - 1
#: What the legend tells, by rows of the drawings.
_LEGEND = (
    (
        "Where pages come from",
        (
            ("file", "a file, as it was copied"),
            ("modified file", "a private copy of a file that was changed"),
            ("memfd", "a memfd"),
            ("shared memory", "shared memory"),
            ("anonymous", "memory that no file vouches for"),
            ("EAUG", "added to the running enclave, and filled by it"),
            ("unknown", "nobody knows"),
            ("not recorded", NOBODY),
        ),
    ),
    (
        "Whether they are in MRENCLAVE",
        (
            ("measured", "their contents are"),
            ("not measured", "their contents are not"),
        ),
    ),
    (
        "What they are, and what the mapping allows",
        (
            ("reg", "a regular page"),
            ("tcs", "a TCS: where threads enter"),
            ("r-x", "read, execute"),
            ("rwx", "read, write, execute"),
            ("rw-", "read, write"),
            ("r--", "read"),
            ("---", "nothing"),
        ),
    ),
)


def page_of(trees: Sequence[tuple[int, Mapping[str, Any]]], now: float | None = None) -> str:
    """The page.

    Args:
        trees: the process ids of runs, and what they told.
        now: when they were asked, seconds since 1970; None: now.
    """
    asked = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    title = "Enclave mappings of " + ", ".join(f"swsgx run {pid}" for pid, _ in trees)
    body = [
        "<header>",
        f"<h1>{title}</h1>",
        f'<p class="quiet">Which enclave pages can be touched and executed, and who allowed it. Asked {asked}.</p>',
        "</header>",
        '<div class="note" role="note">',
        f"<p><strong>No proof.</strong> {NO_PROOF}</p>",
        "</div>",
        "<main>",
    ]
    for pid, told in trees:
        files: dict[str, str] = {}
        body += _tree(pid, short_rules(printable(told), files), files)
    body += [*_legend(), "</main>", _footer()]
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            f"<title>{title}</title>",
            f"<style>\n{style()}</style>",
            "</head>",
            "<body>",
            patterns(),
            *body,
            "</body>",
            "</html>",
            "",
        ]
    )


def _text(text: str) -> str:
    return html.escape(one_line(text))


def _tree(pid: int, told: Mapping[str, Any], files: Mapping[str, str]) -> Iterator[str]:
    found = told["mappings"]
    yield f'<section aria-labelledby="run-{pid}">'
    yield f'<h2 id="run-{pid}">swsgx run {pid}</h2>'
    yield f'<p><code class="long">{_text(command_of(told))}</code></p>'
    if found is None:
        yield f"<p>{NOT_YET}.</p></section>"
        return
    security = found["security"]
    yield f'<p>Asked: <span class="{"good" if security else "bad"}">{_text(security_of(security))}</span>.</p>'
    if files:
        named = "; ".join(
            f"<strong>{_text(name)}</strong> is <code>{_text(file)}</code>" for file, name in files.items()
        )
        yield f"<p>Rules are told by file and line: {named}.</p>"
    yield from _summary(pid, found)
    if found["left_off"]:
        yield f'<p class="bad">{found["left_off"]} more runs of pages were too many for one answer.</p>'
    for enclave in found["enclaves"]:
        yield from _enclave(pid, enclave, found["processes"])
    yield "</section>"


def _table(caption: str, columns: Sequence[str], rows: Sequence[str]) -> Iterator[str]:
    heads = "".join(
        f'<th scope="col"{" class=number" * (column in _NUMBERS)}>{column}</th>' for column in columns
    )
    yield f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(caption)}">'
    yield f"<table><caption>{html.escape(caption)}</caption>"
    yield f"<thead><tr>{heads}</tr></thead>"
    yield from rows
    yield "</table></div>"


def _summary(pid: int, found: Fact) -> Iterator[str]:
    """How many pages are mapped executable, and who answers for them."""
    counts: dict[str, list[int]] = {}
    for process in found["processes"]:
        for mapping in process["mappings"]:
            for run in mapping["runs"]:
                if "x" in mapping["prot"]:
                    row = counts.setdefault(kind_of_origin(run), [0, 0, 0])
                    row[0] += pages_of(run)
                    row[1] += pages_of(run) * bool(run.get("measured"))
                    row[2] += pages_of(run) * bool(run.get("ever_w"))
    if not counts:
        yield "<p>No enclave page is mapped executable now.</p>"
        return
    rows = [
        f'<tr><th scope="row">{swatch(kind)}{html.escape(kind)}</th>'
        + "".join(f'<td class="number">{count}</td>' for count in row)
        + "</tr>"
        for kind, row in counts.items()
    ]
    caption = f"Executable pages in all processes of run {pid}, by where they come from"
    columns = ("Comes from", "Pages", _MEASURED, _WRITABLE)
    yield from _table(caption, columns, ["<tbody>", *rows, "</tbody>"])


def _enclave(pid: int, enclave: Fact, processes: Sequence[Fact]) -> Iterator[str]:
    name = f"run-{pid}-enclave-{enclave['number']}"
    yield f'<section aria-labelledby="{name}">'
    yield f'<h3 id="{name}">Enclave {enclave["number"]}: {_text(enclave_title(enclave))}</h3>'
    yield "<dl>"
    for term, said, style_of in _identity(enclave):
        yield f'<dt>{term}</dt><dd class="{style_of}">{_text(said)}</dd>'
    yield "</dl>"
    sources = _Sources(name)
    mapped = False
    for process in processes:
        mappings = [one for one in process["mappings"] if one["enclave"] == enclave["number"]]
        if mappings:
            mapped = True
            yield from _process(name, enclave, process, mappings, sources)
    yield from sources.table(f"Files that pages of enclave {enclave['number']} come from")
    if not mapped:
        yield "<p>No process maps it.</p>"
    yield "</section>"


def _identity(enclave: Fact) -> Iterator[tuple[str, str, str]]:
    yield "Range", f"{enclave['base']:#x}-{enclave['base'] + enclave['size']:#x}", "mono"
    yield "MRENCLAVE", enclave["mrenclave"] or "not yet", "mono"
    yield "MRSIGNER", enclave["mrsigner"] or "not known", "mono"
    if enclave["isvprodid"] is not None:
        yield "ISVPRODID, ISVSVN", f"{enclave['isvprodid']}, {enclave['isvsvn']}", ""
    if enclave["initialised"]:
        yield (
            "INIT",
            by_whom(enclave["init"]) if enclave["asked"] else NOBODY,
            "" if enclave["init"] else "bad",
        )
    if enclave["sigstruct"] is not None:
        yield "SIGSTRUCT", origin_words(enclave["sigstruct"], enclave["sigstruct"]["class"]), ""
    if enclave["asked"]:
        yield "Grants", ", ".join(enclave["grants"]) or "none", ""
    if enclave["tolerated"]:
        yield "Tolerated", ", ".join(enclave["tolerated"]), "bad"
    if enclave["entry"] is not None:
        yield "Measurement list", entry_of(enclave["entry"]), ""


class _Sources:
    """The files that pages of one enclave come from: rows tell which, and one table tells all about it.

    Args:
        name: begins the names of their places in the page.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._known: dict[tuple[object, ...], tuple[int, Fact]] = {}

    def cell(self, run: Fact) -> str:
        """Where pages come from, as HTML."""
        kind, origin = kind_of_origin(run), run.get("origin")
        if origin is None or kind == "EAUG" or origin["inode"] is None or not origin["path"]:
            return _text(origin_of(run))
        key = (kind, origin["path"], origin["device"], origin["inode"], *remarks_of(origin))
        number, told = self._known.setdefault(key, (len(self._known) + 1, origin))
        if origin["digest"] and not told["digest"]:
            self._known[key] = (number, origin)
        short = _text(origin["path"].rpartition("/")[2] or origin["path"])
        link = f'<a href="#{self._name}-source-{number}">{short}</a>'
        return " ".join([html.escape(kind), link, f"at {origin['offset']:#x}", *remarks_of(origin)])

    def table(self, caption: str) -> Iterator[str]:
        """All of them."""
        rows = []
        for (kind, *_), (number, origin) in self._known.items():
            cells = (kind, origin["device"], origin["inode"], origin["digest"] or "not measured")
            inner = "".join(f'<td class="long">{_text(str(cell))}</td>' for cell in cells)
            path = f'<th scope="row" class="long">{_text(origin["path"])}</th>'
            rows.append(f'<tr id="{self._name}-source-{number}">{path}{inner}</tr>')
        if rows:
            columns = ("File", "Class", "Device", "Inode", "Digest, as measured")
            yield from _table(caption, columns, ["<tbody>", *rows, "</tbody>"])


def _process(
    name: str, enclave: Fact, process: Fact, mappings: Sequence[Fact], sources: _Sources
) -> Iterator[str]:
    pid = process["pid"]
    who = f"process {pid} ({_text(process['name']) or '?'})"
    yield f'<h4 id="{name}-{pid}">In {who}</h4>'
    yield "<figure>"
    yield f'<div class="scroll" tabindex="0" role="region" aria-label="Map of enclave {enclave["number"]}">'
    yield drawing(enclave, mappings, f"{name}-{pid}-map")
    yield "</div>"
    yield (
        "<figcaption>Mapped pages are to scale among themselves, the smallest a little wider; dotted gaps are "
        "not mapped, and not to scale. Numbers are offsets from the enclave's base.</figcaption>"
    )
    yield "</figure>"
    rows = [line for mapping in mappings for line in _mapping(mapping, pid, sources)]
    yield from _table(f"Enclave {enclave['number']} in process {pid}, by address", _COLUMNS, rows)


def _mapping(mapping: Fact, pid: int, sources: _Sources) -> Iterator[str]:
    judged = mapping["judged"]
    yield "<tbody>"
    yield (
        f'<tr><th class="group" scope="rowgroup" colspan="{len(_COLUMNS)}"><b class="mono">{range_of(mapping)}</b>'
        f'<b class="mono">{mapping["prot"]}</b>{size(mapping["end"] - mapping["start"])}, mapping allowed by '
        f'<span class="{"good" if judged else "bad"}">{_text(by_whom(judged, pid))}</span>'
    )
    if judged and not judged["current"]:
        yield f'; <span class="bad">{STALE}</span>'
    if judged and judged["withdrawn"]:
        yield f'; <span class="bad">withdrawn: {_text(judged["withdrawn"])}</span>'
    if not mapping["accessible"]:
        yield '; <span class="bad">no access: a fork that was not allowed to keep it</span>'
    yield "</th></tr>"
    for run in mapping["runs"]:
        yield _run(run, sources)
    yield "</tbody>"


def _run(run: Fact, sources: _Sources) -> str:
    cells: list[tuple[str, str]] = [(str(pages_of(run)), "number")]
    if run["type"] is None:
        cells.append((HOLE, ""))
        cells += [("", "")] * (len(_COLUMNS) - 3)
    else:
        known = "measured" in run
        nobody = "" if known and run["asked"] else "bad"
        admitted = run.get("admitted")
        cells += [
            (run["type"], ""),
            (run["ceiling"], "address"),
            (measured(run), ("good" if run["measured"] else "bad") if known else ""),
            (has_been(run), ""),
            ("", ""),
            (allowed_by(admitted["allowed"]) if admitted else "not told" if not nobody else NOBODY, nobody),
            (", ".join(run["used"]) or "none" if known else "", ""),
            (entry_of(run["entry"]) if known else "", ""),
        ]
    told = [f'<td class="{look}">{_text(cell)}</td>' for cell, look in cells]
    if run["type"] is not None:
        told[_FROM] = f'<td class="long">{sources.cell(run)}</td>'
    inner = "".join(told)
    return f'<tr><th scope="row" class="address">{run["start"]:#x}</th>{inner}</tr>'


def _legend() -> Iterator[str]:
    yield '<section aria-labelledby="legend"><h2 id="legend">How to read the drawings</h2>'
    for heading, words in _LEGEND:
        yield f'<h3>{heading}</h3><ul class="legend">'
        for word, said in words:
            yield f"<li>{swatch(word)}<strong>{html.escape(word)}</strong>: {html.escape(said)}</li>"
        yield "</ul>"
    yield "</section>"


def _footer() -> str:
    return (
        f"<footer><p>Made by <code>swsgx mappings</code>. A page has {PAGE_SIZE} bytes. swsgx is a test tool, "
        "and gives no confidentiality.</p></footer>"
    )
