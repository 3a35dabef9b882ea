"""A terminal that shows one page again and again: the other screen, keys without Enter, signals that wake.

The terminal is as it was whenever the program is not running in it: at the end, by whatever it comes, and while
Ctrl-Z has stopped it.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import termios
import time
import tty
from collections.abc import Sequence
from types import FrameType
from typing import Any, Self

__all__ = ["Screen"]

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _REST_OF_LINE, _REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"
_REVERSE, _PLAIN = "\x1b[7m", "\x1b[0m"
_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Screen:
    """The terminal at standard output; keys come from standard input, where that is a terminal, too.

    Attributes:
        ended_by: the signal that asked for the end; 0: none has. SIGINT is a key.
    """

    def __init__(self) -> None:
        self.ended_by = 0
        self._out = sys.stdout.fileno()
        self._in = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else -1
        self._saved: list[Any] | None = None
        self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT, *_ENDING):
            if signal.getsignal(number) is not signal.SIG_IGN or number in (signal.SIGINT, signal.SIGWINCH):
                self._handlers[number] = signal.signal(number, _nothing)
        self._wakeup = signal.set_wakeup_fd(self._wake[1], warn_on_full_buffer=False)
        self._begin()
        return self

    def __exit__(self, *exc: object) -> None:
        self._finish()
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        for fd in self._wake:
            os.close(fd)

    def _begin(self) -> None:
        if self._in >= 0:
            with contextlib.suppress(termios.error):
                self._saved = termios.tcgetattr(self._in)
                tty.setcbreak(self._in, termios.TCSADRAIN)
        self._write(_ENTER)

    def _finish(self) -> None:
        self._write(_LEAVE)
        if self._saved is not None:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._in, termios.TCSADRAIN, self._saved)
            self._saved = None

    def _write(self, text: str) -> None:
        """All of it. When the terminal has gone, that is the end, be there a signal or not."""
        data = text.encode("utf-8", "backslashreplace")
        try:
            while data:
                data = data[os.write(self._out, data) :]
        except OSError:
            self.ended_by = signal.SIGHUP

    def show(self, lines: Sequence[str], foot: str) -> None:
        """One page: what does not fit is cut; the last line of the terminal is ``foot``."""
        from rich.cells import set_cell_size

        columns, rows = shutil.get_terminal_size()
        if os.isatty(self._out):
            with contextlib.suppress(OSError):
                size = os.get_terminal_size(self._out)
                columns, rows = size.columns or columns, size.lines or rows
        body = rows - 1
        shown = list(lines[:body])
        if len(lines) > body > 0:
            shown[-1] = f"... {len(lines) - body + 1} lines more: make the terminal higher"
        shown += [""] * (body - len(shown))
        cut = [set_cell_size(line, columns).rstrip() for line in shown]
        last = f"{_REVERSE}{set_cell_size(foot, columns)}{_PLAIN}"
        text = "\r\n".join([*(line + _REST_OF_LINE for line in cut), last])
        self._write(f"{_HOME}{text}{_REST_OF_SCREEN}")

    def wait(self, seconds: float) -> str:
        """Until a key, a change of size, the end, or the time: the key, or nothing. Ctrl-C is a key, too: ETX."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            waited = [self._wake[0], *([self._in] if self._in >= 0 else [])]
            ready, _, _ = select.select(waited, [], [], left)
            if self._wake[0] in ready:
                numbers = os.read(self._wake[0], 4096)
                if signal.SIGTSTP in numbers:
                    self._stop()
                self.ended_by = next((n for n in numbers if n in _ENDING), self.ended_by)
                return "\x03" if signal.SIGINT in numbers else ""
            if self._in in ready:
                try:
                    return os.read(self._in, 1).decode("ascii", "replace") or self._no_keys()
                except OSError:
                    return self._no_keys()
        return ""

    def _no_keys(self) -> str:
        """Standard input has ended."""
        self._in = -1
        return ""

    def _stop(self) -> None:
        """Ctrl-Z: stop as anybody would, and begin anew when we go on."""
        self._finish()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, _nothing)
        self._begin()


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """The pipe is written to, which is all that is wanted."""
