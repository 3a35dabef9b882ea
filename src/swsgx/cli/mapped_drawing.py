"""The drawing of ``swsgx mappings --html``: what one process has mapped of one enclave, along its addresses.

A row for each of type, permission, measurement and origin, so that no colour says two things. Mapped pages are drawn to
one scale. What is not mapped is mostly most of an enclave, so a long gap is drawn short, and says how long it is.
"""

from __future__ import annotations

import html
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from swsgx.cli.figures import size
from swsgx.cli.mapped_style import LOOKS, OTHER, Look
from swsgx.cli.mapped_words import Fact, kind_of_origin, measured

__all__ = ["Piece", "drawing", "patterns", "pieces_of", "swatch"]

_WIDTH, _LEFT, _LANE, _BOX, _TOP = 1000.0, 110.0, 30.0, 22.0, 4.0
#: Width of a gap, and of a piece, that would be too small to be seen.
_GAP, _LEAST = 24.0, 5.0
#: Bytes of a gap that says so.
_LONG = 1 << 20
#: Width of a letter, about; a word that does not fit is left out, since the table has it.
_LETTER = 6.8
#: More pieces are more than there are places for: those that share one are left out.
_MOST = 400


@dataclass(frozen=True)
class Piece:
    """Pages, or a gap, at their place in the drawing.

    Attributes:
        start, end: addresses.
        prot: of the mapping; empty: nothing is mapped.
        run: its facts; None: nothing is mapped.
    """

    start: int
    end: int
    prot: str = ""
    run: Fact | None = None


def pieces_of(enclave: Fact, mappings: Sequence[Fact]) -> list[Piece]:
    """The enclave's range, without gap or overlap; what is mapped outside of it is left out."""
    low, high = enclave["base"], enclave["base"] + enclave["size"]
    mapped = [
        Piece(max(run["start"], low), min(run["end"], high), mapping["prot"], run)
        for mapping in mappings
        for run in mapping["runs"]
        if run["start"] < high and run["end"] > low
    ]
    pieces, at = [], low
    for piece in sorted(mapped, key=lambda one: one.start):
        if piece.start > at:
            pieces.append(Piece(at, piece.start))
        if piece.end > at:
            pieces.append(piece)
            at = piece.end
    return [*pieces, Piece(at, high)] if at < high else pieces


def _places(pieces: Sequence[Piece]) -> list[tuple[Piece, float, float]]:
    """Where each piece is drawn: its left edge, and its width."""
    room = _WIDTH - _LEFT - 2
    mapped = sum(piece.end - piece.start for piece in pieces if piece.run is not None)
    least = [_gap(piece) if piece.run is None else _LEAST for piece in pieces]
    # Where even that is too much, everything is drawn narrower, and gaps give what pages need.
    shrink = min(1.0, room * 0.75 / max(sum(least), 1))
    left = room - sum(least) * shrink
    widths = [
        width * shrink + (left * (piece.end - piece.start) / mapped if piece.run is not None else 0)
        for piece, width in zip(pieces, least, strict=True)
    ]
    edges = itertools.accumulate(widths, initial=_LEFT)
    return list(zip(pieces, edges, widths, strict=False))


def _gap(piece: Piece) -> float:
    """Width of a gap: a long one says how long it is."""
    long = piece.end - piece.start >= _LONG
    return max(_GAP, len(_unmapped(piece)) * _LETTER + 8) if long else _GAP


def _unmapped(piece: Piece) -> str:
    return f"{size(piece.end - piece.start)} unmapped"


def _type(piece: Piece) -> str:
    return (piece.run or {}).get("type") or ""


def _permission(piece: Piece) -> str:
    return piece.prot


def _measured(piece: Piece) -> str:
    return measured(piece.run) if piece.run is not None and piece.run["type"] is not None else ""


def _origin(piece: Piece) -> str:
    return kind_of_origin(piece.run) if piece.run is not None and piece.run["type"] is not None else ""


#: Rows: what each is called, and what it says of a piece; nothing: it is drawn empty.
_LANES: tuple[tuple[str, Callable[[Piece], str]], ...] = (
    ("type", _type),
    ("permission", _permission),
    ("measured", _measured),
    ("origin", _origin),
)
_SHORT = {
    "measured": "yes",
    "not measured": "no",
    "not recorded": "?",
    "anonymous": "anon",
    "modified file": "mod",
}


def drawing(enclave: Fact, mappings: Sequence[Fact], name: str) -> str:
    """An SVG element, as HTML has it. ``name``: begins the names of its parts, which are unique in the page."""
    places = _places(pieces_of(enclave, mappings))
    height = _TOP + len(_LANES) * _LANE + 18
    said = ", ".join(f"{count} {word}" for word, count in _counted(places) if word)
    body = [
        f'<svg viewBox="0 0 {_WIDTH:.0f} {height:.0f}" role="img" aria-labelledby="{name}-title {name}-desc">',
        f'<title id="{name}-title">Map of enclave {enclave["number"]}</title>',
        f'<desc id="{name}-desc">Pages by origin: {html.escape(said or "none mapped")}; the table has all.</desc>',
    ]
    for row, (heading, says) in enumerate(_LANES):
        top = _TOP + row * _LANE
        body.append(f'<text class="lane" x="0" y="{top + _BOX * 0.68:.1f}">{heading}</text>')
        body += _boxes(places, says, top)
    body += _scale(enclave, places, _TOP + len(_LANES) * _LANE)
    return "\n".join([*body, "</svg>"])


def _counted(places: Sequence[tuple[Piece, float, float]]) -> list[tuple[str, int]]:
    counts: dict[str, int] = {}
    for piece, _, _ in places:
        word = _origin(piece)
        counts[word] = counts.get(word, 0) + (piece.end - piece.start) // 4096
    return list(counts.items())


def _boxes(
    places: Sequence[tuple[Piece, float, float]], says: Callable[[Piece], str], top: float
) -> Iterator[str]:
    """One row: pieces side by side that say the same are one box."""
    joined: list[tuple[str, float, float]] = []
    for piece, left, width in places:
        word = says(piece)
        if joined and joined[-1][0] == word and word:
            joined[-1] = (word, joined[-1][1], joined[-1][2] + width)
        elif len(places) <= _MOST or not joined or left + width - joined[-1][1] > _WIDTH / _MOST:
            joined.append((word, left, width))
    for word, left, width in joined:
        place = f'x="{left:.2f}" y="{top:.1f}" width="{width:.2f}" height="{_BOX:.0f}"'
        if not word:
            yield f'<rect class="gap" {place}/>'
            continue
        look = LOOKS.get(word, OTHER)
        yield f'<rect class="box f-{look.name}" {place}/>'
        if look.strokes:
            yield f'<rect class="box" fill="url(#p-{look.name})" {place}/>'
        yield from _word(word, look, left, width, top)


def _word(word: str, look: Look, left: float, width: float, top: float) -> Iterator[str]:
    """The word in a box that has room for it, on a plate of its own where a pattern would cross it."""
    for text in dict.fromkeys((word, _SHORT.get(word, word))):
        room = len(text) * _LETTER + 6
        if room + 4 > width:
            continue
        middle = left + width / 2
        if look.strokes:
            yield (
                f'<rect class="f-{look.name}" x="{middle - room / 2:.2f}" y="{top + 3:.1f}" width="{room:.2f}" '
                f'height="{_BOX - 6:.0f}"/>'
            )
        yield f'<text x="{middle:.2f}" y="{top + _BOX * 0.68:.1f}" text-anchor="middle">{html.escape(text)}</text>'
        return


def _scale(enclave: Fact, places: Sequence[tuple[Piece, float, float]], top: float) -> Iterator[str]:
    """Offsets below the pieces, and how long gaps are, as far as there is room."""
    free = _LEFT
    for piece, left, width in places:
        text = _unmapped(piece) if piece.run is None else f"+{piece.start - enclave['base']:#x}"
        room = len(text) * _LETTER
        at = left + (width - room) / 2 if piece.run is None else left
        if at < free or at + room > _WIDTH or (piece.run is None and room > width):
            continue
        free = at + room + 8
        yield f'<text x="{at:.2f}" y="{top + 10:.1f}">{text}</text>'


def patterns() -> str:
    """The patterns that drawings use, as an element of the page that is not seen."""
    told = [
        f'<pattern id="p-{look.name}" width="8" height="8" patternUnits="userSpaceOnUse">'
        f'<path class="s-{look.name}" stroke-width="1.3" d="{look.strokes}"/></pattern>'
        for look in [*LOOKS.values(), OTHER]
        if look.strokes
    ]
    return f'<svg class="patterns" aria-hidden="true" focusable="false"><defs>{"".join(told)}</defs></svg>'


def swatch(word: str) -> str:
    """A small box that looks as the word does in drawings."""
    look = LOOKS.get(word, OTHER)
    box = 'x=".5" y=".5" width="31" height="19"'
    inner = f'<rect class="box f-{look.name}" {box}/>'
    if look.strokes:
        inner += f'<rect class="box" fill="url(#p-{look.name})" {box}/>'
    return f'<span class="swatch" aria-hidden="true"><svg viewBox="0 0 32 20">{inner}</svg></span>'
