"""The page of ``swsgx mappings --html`` in a browser: light, dark, narrow and on paper, and nothing is fetched.

The browser is Debian's chromium: the machine's, or fetched by apt and unpacked into the cache.
"""

from __future__ import annotations

import re
import subprocess
import zlib
from dataclasses import dataclass
from pathlib import Path

import pytest

from swsgx.cli.mapped_page import page_of
from swsgx.cli.mapped_style import PALETTES
from tests.cli.test_mapped_page import rich
from tests.cli.test_mappings import hostile
from tests.conformance.debian_tools import DebianToolUnavailableError, debian_tool
from tests.make import mapped
from tests.make.page import parsed

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(900)]

_ALONE = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--hide-scrollbars"),
)
_DARK = "--blink-settings=preferredColorScheme=0"


@dataclass
class Browser:
    """A browser that looks at one page each time.

    Attributes:
        program: what is run.
        environment: for it.
        folder: for its files.
    """

    program: Path
    environment: dict[str, str]
    folder: Path

    def look(self, page: str, *options: str) -> str:
        """What it says; options say what it does."""
        file = self.folder / "page.html"
        file.write_text(page, encoding="utf-8")
        done = subprocess.run(
            [self.program, *_ALONE, f"--user-data-dir={self.folder / 'profile'}", *options, file.as_uri()],
            env=self.environment | {"HOME": str(self.folder)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    def picture(self, page: str, name: str, *options: str, size: str = "1280,1600") -> Path:
        target = self.folder / f"{name}.png"
        self.look(page, f"--screenshot={target}", f"--window-size={size}", *options)
        return target


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    try:
        found = debian_tool("chromium", "chromium")
    except DebianToolUnavailableError as error:
        pytest.skip(f"there is no chromium here, and {error}")
    # The program of that name is a script that looks for the rest in /usr.
    unpacked = found.path.parents[1] / "lib/chromium/chromium"
    program = unpacked if unpacked.exists() else found.path
    made = Browser(program, found.environment, tmp_path_factory.mktemp("browser"))
    said = subprocess.run(
        [program, "--version"], env=made.environment, capture_output=True, text=True, check=False
    )
    if said.returncode:
        pytest.skip(
            f"chromium does not start ({said.stderr.strip()[-200:]}); as root: apt-get install chromium"
        )
    return made


@pytest.fixture(params=["rich", "plain", "hostile"])
def page(request: pytest.FixtureRequest) -> str:
    answers = {"rich": mapped.answer(rich()), "plain": mapped.answer(mapped.plain()), "hostile": hostile()}
    return page_of([(4711, answers[request.param])])


def pixel(png: Path, column: int, row: int) -> str:
    """A pixel's colour, as ``#rrggbb``: PNG of 8 bits a channel, not interlaced, as browsers write."""
    data = png.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, packed, width, channels = 8, b"", 0, 0
    while at < len(data):
        size, kind = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        body = data[at + 8 : at + 8 + size]
        if kind == b"IHDR":
            width, channels = int.from_bytes(body[:4]), {2: 3, 6: 4}[body[9]]
            assert (body[8], body[12]) == (8, 0)
        elif kind == b"IDAT":
            packed += body
        at += 12 + size
    raw, stride = zlib.decompress(packed), width * channels
    above = bytes(stride)
    for line in range(row + 1):
        start = line * (stride + 1)
        above = _unfiltered(raw[start], raw[start + 1 : start + 1 + stride], above, channels)
    return "#" + above[column * channels : column * channels + 3].hex()


def _unfiltered(kind: int, line: bytes, above: bytes, channels: int) -> bytes:
    out = bytearray(line)
    for i in range(len(out)):
        left = out[i - channels] if i >= channels else 0
        corner = above[i - channels] if i >= channels else 0
        guess = left + above[i] - corner
        nearest = min(
            (abs(guess - value), order, value) for order, value in enumerate((left, above[i], corner))
        )
        out[i] = (out[i] + (0, left, above[i], (left + above[i]) // 2, nearest[2])[kind]) & 0xFF
    return bytes(out)


def test_the_browser_reads_the_page_as_it_was_written(browser: Browser, page: str) -> None:
    """It mends what is wrong in a page; here nothing was."""
    read = parsed(re.sub(r"^<!DOCTYPE[^>]*>", "", browser.look(page, "--dump-dom")))
    wrote = parsed(page)
    assert [e.tag for e in read.all()] == [e.tag for e in wrote.all()]
    assert "".join(read.one("body").text.split()) == "".join(wrote.one("body").text.split())


@pytest.mark.parametrize(("palette", "options"), [("light", ()), ("dark", (_DARK,))])
def test_the_screen_has_the_colours_that_are_preferred(
    browser: Browser, palette: str, options: tuple[str, ...]
) -> None:
    made = browser.picture(page_of([(4711, mapped.answer(rich()))]), palette, *options)
    assert pixel(made, 3, 3) == PALETTES[palette]["paper"]


def test_paper_is_light_whatever_is_preferred(browser: Browser) -> None:
    page = page_of([(4711, mapped.answer(rich()))])
    found = {}
    for name, options in (("light", ()), ("dark", (_DARK,))):
        target = browser.folder / f"{name}.pdf"
        browser.look(page, f"--print-to-pdf={target}", "--no-pdf-header-footer", *options)
        data = target.read_bytes()
        assert data.startswith(b"%PDF-")
        streams = re.findall(rb"stream\r?\n(.*?)endstream", data, re.DOTALL)
        found[name] = sum(len(one) for one in streams)
        # A4, on its side.
        assert re.search(rb"/MediaBox \[0 0 84\d[.\d]* 59\d[.\d]*\]", data)
    assert abs(found["light"] - found["dark"]) < 0.05 * found["light"]


@pytest.mark.parametrize("width", [500, 800, 1280, 2000])
def test_nothing_sticks_out_of_a_window_of_any_width(browser: Browser, page: str, width: int) -> None:
    """Tables scroll by themselves. A script that is put into a copy of the page tells how wide it is."""
    script = "<script>document.title='WIDE '+document.documentElement.scrollWidth+' '+window.innerWidth</script></body>"
    free = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    said = browser.look(free.replace("</body>", script), "--dump-dom", f"--window-size={width},900")
    found = re.search(r"<title>WIDE (\d+) (\d+)</title>", said)
    assert found is not None
    assert int(found[1]) <= int(found[2])


def test_scripts_would_not_run(browser: Browser) -> None:
    page = page_of([(4711, mapped.answer(rich()))])
    changed = page.replace("</body>", "<script>document.title='RAN'</script></body>")
    assert "<title>RAN</title>" not in browser.look(changed, "--dump-dom")
