"""An HTML page as a tree of elements, and what must hold of one that everybody can read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

__all__ = ["Element", "contrast", "parsed"]

_EMPTY = {"meta", "br", "img", "link", "input", "hr"}
#: Elements of SVG that a browser closes where they say so.
_DRAWN = {"rect", "path"}


@dataclass
class Element:
    """One element.

    Attributes:
        tag: its name.
        attributes: as they are written; without a value: empty.
        children: elements and text in their order.
    """

    tag: str
    attributes: dict[str, str]
    children: list[Element | str] = field(default_factory=list)

    def all(self, *tags: str) -> Iterator[Element]:
        """Those of these names below it, in the order of the page; without names, all."""
        for child in self.children:
            if isinstance(child, Element):
                if child.tag in tags or not tags:
                    yield child
                yield from child.all(*tags)

    def one(self, tag: str) -> Element:
        """The only one of a name below it."""
        [found] = self.all(tag)
        return found

    @property
    def text(self) -> str:
        """All text below it."""
        return "".join(child if isinstance(child, str) else child.text for child in self.children)


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {})
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        assert len(given) == len(attrs), f"{tag} has an attribute twice: {attrs}"
        element = Element(tag, given)
        self._open[-1].children.append(element)
        if tag not in _EMPTY:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in _DRAWN | _EMPTY, f"{tag} closes itself only in SVG"
        self.handle_starttag(tag, attrs)
        if tag not in _EMPTY:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open[-1].tag == tag, f"</{tag}> ends <{self._open[-1].tag}>"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        self._open[-1].children.append(data)

    def close(self) -> None:
        super().close()
        assert len(self._open) == 1, f"<{self._open[-1].tag}> has no end"


def parsed(page: str) -> Element:
    """The page; each element ends where it says so."""
    builder = _Builder()
    builder.feed(page)
    builder.close()
    return builder.root


def contrast(one: str, other: str) -> float:
    """Of two colours ``#rrggbb``, as WCAG 2.2 defines it: 1 to 21."""
    darker, lighter = sorted(map(_luminance, (one, other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
