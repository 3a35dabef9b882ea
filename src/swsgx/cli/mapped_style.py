"""Colours and style of the page of ``swsgx mappings``: light, dark, and on paper.

What a colour says is said by a pattern and in words, too. Each pair of colours that text is made of has a contrast of
4.5 at least (WCAG 2.2, 1.4.3), each pair that a drawing is made of one of 3 (1.4.11); a test computes them.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DRAWN", "LOOKS", "OTHER", "PALETTES", "READ", "Look", "style"]

#: Colours by what they are for.
PALETTES = {
    "light": {
        "paper": "#ffffff",
        "panel": "#f4f5f7",
        "ink": "#1c2128",
        "quiet": "#4f5965",
        "line": "#7d8794",
        "link": "#0b4f9e",
        "good": "#0f6130",
        "bad": "#8a3a00",
        "blue": "#0b5cad",
        "blue-wash": "#d8e8fa",
        "red": "#b3261e",
        "red-wash": "#fbdedb",
        "violet": "#6b33b0",
        "violet-wash": "#ebdffa",
        "amber": "#8a5200",
        "amber-wash": "#fbe7c6",
        "green": "#18703a",
        "green-wash": "#d6f0de",
        "grey": "#5b6571",
        "grey-wash": "#e4e7eb",
    },
    "dark": {
        "paper": "#14181d",
        "panel": "#1e242b",
        "ink": "#e8ecf1",
        "quiet": "#aeb8c4",
        "line": "#78838f",
        "link": "#8cc0ff",
        "good": "#7fd99c",
        "bad": "#ffb26b",
        "blue": "#7db8ff",
        "blue-wash": "#14304f",
        "red": "#ff9d94",
        "red-wash": "#4f1a16",
        "violet": "#cba6ff",
        "violet-wash": "#36205a",
        "amber": "#ffc766",
        "amber-wash": "#4a3106",
        "green": "#86dca0",
        "green-wash": "#123f22",
        "grey": "#b4bdc8",
        "grey-wash": "#2d353e",
    },
}
#: Text and what it is on.
READ = (
    *((name, ground) for ground in ("paper", "panel") for name in ("ink", "quiet", "link", "good", "bad")),
    *(("ink", f"{colour}-wash") for colour in ("blue", "red", "violet", "amber", "green", "grey")),
)
#: Lines and patterns, and what they are on.
DRAWN = (
    *((colour, f"{colour}-wash") for colour in ("blue", "red", "violet", "amber", "green", "grey")),
    *(("line", ground) for ground in ("paper", "panel")),
)


@dataclass(frozen=True)
class Look:
    """How something is drawn.

    Attributes:
        name: of the pattern, in the page.
        colour: of its lines; its ground is that colour's wash.
        strokes: an SVG path within 8 by 8; empty: no pattern.
    """

    name: str
    colour: str
    strokes: str


#: By what it stands for. No two of one row look the same without colours.
LOOKS = {
    # Where pages come from.
    "file": Look("file", "blue", ""),
    "modified file": Look("filemod", "red", "M0 0L8 8M0 8L8 0"),
    "memfd": Look("memfd", "violet", "M0 4H8"),
    "shared memory": Look("shm", "violet", "M4 0V8M0 4H8"),
    "anonymous": Look("anon", "red", "M-1 9L9 -1M-1 1L1 -1M7 9L9 7"),
    "EAUG": Look("eaug", "amber", "M3 4a1.2 1.2 0 1 0 2.4 0a1.2 1.2 0 1 0 -2.4 0"),
    "unknown": Look("unknown", "grey", "M-1 -1L9 9M-1 7L1 9M7 -1L9 1"),
    "not recorded": Look("nobody", "grey", "M4 0V8"),
    # Whether they are in MRENCLAVE.
    "measured": Look("measured", "green", ""),
    "not measured": Look("unmeasured", "red", "M-1 9L9 -1M-1 1L1 -1M7 9L9 7"),
    # What they are.
    "reg": Look("reg", "grey", ""),
    "tcs": Look("tcs", "violet", "M0 4H8"),
    # What the mapping allows.
    "r-x": Look("rx", "blue", "M-1 -1L9 9M-1 7L1 9M7 -1L9 1"),
    "rwx": Look("rwx", "red", "M0 0L8 8M0 8L8 0"),
    "rw-": Look("rw", "amber", "M0 4H8"),
    "r--": Look("ro", "grey", ""),
    "---": Look("none", "grey", "M4 0V8"),
}
#: Of types and protections that are rare.
OTHER = Look("other", "grey", "M4 0V8M0 4H8")

_STYLE = """
*{box-sizing:border-box}
body{margin:0 auto;max-width:75rem;padding:1.5rem 1.25rem 3rem;background:var(--paper);color:var(--ink);
font:1rem/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",sans-serif}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 .25rem}
h2{font-size:1.3rem;margin:2.5rem 0 .75rem;padding-top:1rem;border-top:1px solid var(--line)}
h3{font-size:1.08rem;margin:1.75rem 0 .5rem}
p{margin:.5rem 0;max-width:60rem}
a{color:var(--link)}
code,.mono,td.address,th.address{font-size:.875em;
font-family:ui-monospace,"SFMono-Regular",Menlo,"Liberation Mono",monospace}
code,.long{overflow-wrap:anywhere}
.quiet{color:var(--quiet)}
.good{color:var(--good)}
.bad{color:var(--bad);font-weight:600}
.note{border-left:.3rem solid var(--bad);background:var(--panel);padding:.75rem 1rem;margin:1rem 0}
.note p{margin:0}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.25rem 1.25rem;margin:.75rem 0}
dt{color:var(--quiet)}
dd{margin:0;overflow-wrap:anywhere}
figure{margin:1rem 0;padding:1rem;background:var(--panel);border-radius:.5rem}
figcaption{color:var(--quiet);font-size:.9rem;margin-top:.5rem}
svg{display:block;width:100%;height:auto}
svg[role=img]{min-width:46rem}
svg text{fill:var(--ink);font:11px ui-monospace,"SFMono-Regular",Menlo,"Liberation Mono",monospace}
svg text.lane{font:12px system-ui,"Segoe UI",Roboto,"Liberation Sans",sans-serif;fill:var(--quiet)}
svg .box{stroke:var(--ink);stroke-width:1}
svg .gap{fill:none;stroke:var(--line);stroke-dasharray:2 3}
svg .plate{fill:var(--panel)}
.patterns{position:absolute;width:0;height:0}
.scroll{overflow-x:auto;margin:.75rem 0}
.scroll:focus-visible{outline:2px solid var(--link);outline-offset:2px}
table{border-collapse:collapse;min-width:min(100%,40rem);font-size:.9rem}
caption{text-align:left;color:var(--quiet);padding-bottom:.4rem}
th,td{text-align:left;vertical-align:top;padding:.4rem .6rem;border-bottom:1px solid var(--line)}
thead th{background:var(--panel);border-bottom-width:2px;white-space:nowrap}
tbody th{font-weight:600}
th.group{background:var(--panel);font-weight:400}
th.group b{margin-right:.75rem}
td.number,th.number{text-align:right}
.swatch{display:inline-block;width:1.6rem;height:1rem;vertical-align:-.15rem;margin-right:.5rem}
.swatch svg{height:100%}
ul.legend{list-style:none;padding:0;margin:.5rem 0;display:grid;gap:.35rem 1.5rem;
grid-template-columns:repeat(auto-fill,minmax(15rem,1fr))}
footer{margin-top:2.5rem;padding-top:1rem;border-top:1px solid var(--line);font-size:.9rem}
@media print{
@page{size:A4 landscape;margin:12mm}
body{max-width:none;padding:0;font-size:9.5pt}
table{font-size:8pt}
h2,h3{break-after:avoid}
figure,tr,.note{break-inside:avoid}
thead{display:table-header-group}
.scroll{overflow:visible}
svg[role=img]{min-width:0}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}
}
"""


def _variables(palette: str) -> str:
    return "".join(f"--{name}:{value};" for name, value in PALETTES[palette].items())


def style() -> str:
    """The style sheet. On paper it is light, whatever the screen is."""
    fills = "".join(
        f".f-{look.name}{{fill:var(--{look.colour}-wash)}}.s-{look.name}{{stroke:var(--{look.colour});fill:none}}"
        for look in [*LOOKS.values(), OTHER]
    )
    return (
        f":root{{color-scheme:light dark;{_variables('light')}}}\n"
        f"@media (prefers-color-scheme:dark){{:root{{{_variables('dark')}}}}}\n"
        f"@media print{{:root{{color-scheme:light;{_variables('light')}}}}}\n"
        f"{fills}{_STYLE}"
    )
