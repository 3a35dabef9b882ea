"""Job control in a terminal: the shell sees one job, whose keys work as they do without supervision."""

from __future__ import annotations

import os
import pty
import re
import shlex
import shutil
import signal
import time

import pytest

from tests.make.readable import readable
from tests.make.supervised import environment, swsgx_run


class Terminal:
    """An interactive shell in a pseudo terminal."""

    def __init__(self) -> None:
        env = {**environment(), "PS1": "", "TERM": "dumb"}
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            # A job in the background of a shell without job control has these ignored, and programs inherit that.
            for number in (signal.SIGINT, signal.SIGQUIT):
                signal.signal(number, signal.SIG_DFL)
            os.execvpe("bash", ["bash", "--norc", "--noprofile", "--noediting", "-i"], env)

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def until(self, pattern: str) -> str:
        """What comes until a pattern has matched."""
        seen, end = "", time.monotonic() + 30
        while not re.search(pattern, seen):
            assert time.monotonic() < end, seen
            if readable(self.fd, 0.5):
                seen += os.read(self.fd, 4096).decode(errors="replace")
        return seen


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash: install it to run this")
def test_interrupt_stop_and_continue_from_the_keyboard() -> None:
    terminal = Terminal()
    try:
        program = "sh -c 'echo ready; exec cat'"
        terminal.type(f"stty -echo; {shlex.join(swsgx_run())} {program}; echo status $?\n")
        terminal.until(r"(^|\n)ready\r")
        terminal.type("one\n")
        terminal.until(r"(^|\n)one\r")
        terminal.type("\x1a")
        terminal.until("Stopped")
        terminal.type("fg\n")
        terminal.until("run")
        terminal.type("two\n")
        terminal.until(r"(^|\n)two\r")
        terminal.type("\x04")
        terminal.type("echo ended $?\n")
        terminal.until("ended 0")
        # The one that says "go" is the one that the key ends: then the shell is waiting for it, and has its trap.
        script = 'sh -c \'trap "echo caught; exit 3" INT; sh -c "echo go; exec sleep 20"\''
        terminal.type(f"{shlex.join(swsgx_run())} {script}; echo status $?\n")
        terminal.until(r"(^|\n)go\r")
        terminal.type("\x03")
        assert "caught" in terminal.until("status 3")
    finally:
        os.close(terminal.fd)
        os.waitpid(terminal.pid, 0)
