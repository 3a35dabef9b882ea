"""Debian's swtpm, a TPM in software, and tpm2_pcrread, which tells what is in it."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conformance.debian_tools import DebianTool, DebianToolUnavailableError, debian_tool

__all__ = ["Swtpm", "tool"]


def tool(package: str, program: str) -> DebianTool:
    """A program of Debian, or a skip that says what is missing."""
    try:
        return debian_tool(package, program)
    except DebianToolUnavailableError as error:
        pytest.skip(f"{program} is not here, and {error}")


def _free_port() -> int:
    """One that is free, and whose successor is too: tpm2-tools expects the control port there."""
    for _ in range(50):
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                second.bind(("127.0.0.1", port + 1))
                return port
    pytest.fail("no two free ports after one another")


@dataclass
class Swtpm:
    """A TPM with its registers at their start. It speaks to one program at a time.

    Args:
        folder: for what it keeps, and for its socket: of a short name, since a socket's path has a hundred characters.
        tcp: it listens on a port, which others may take when it is off; else on a Unix socket.
    """

    folder: Path
    tcp: bool = False
    _port: int = field(default=0, init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def tcti(self) -> str:
        """What tpm2-tools calls it."""
        return f"swtpm:host=127.0.0.1,port={self._port}" if self.tcp else f"swtpm:path={self._socket}"

    @property
    def _socket(self) -> Path:
        return self.folder / "s"

    def _ends(self) -> tuple[str, str]:
        """Where it takes commands, and where it is controlled: tpm2-tools finds the one by the other."""
        if not self.tcp:
            for path in (self._socket, self._socket.with_name("s.ctrl")):
                path.unlink(missing_ok=True)
            return f"type=unixio,path={self._socket}", f"type=unixio,path={self._socket}.ctrl"
        self._port = self._port or _free_port()
        server, control = (
            f"type=tcp,port={port},bindaddr=127.0.0.1" for port in (self._port, self._port + 1)
        )
        return server, control

    def _listens(self) -> bool:
        with socket.socket(socket.AF_INET if self.tcp else socket.AF_UNIX) as tried:
            try:
                tried.connect(("127.0.0.1", self._port + 1) if self.tcp else f"{self._socket}.ctrl")
            except OSError:
                return False
        return True

    def start(self) -> None:
        """Power on, at the place where it was before, if it was."""
        swtpm = tool("swtpm", "swtpm")
        state = self.folder / "state"
        state.mkdir(exist_ok=True)
        server, control = self._ends()
        self._process = subprocess.Popen(
            [
                *(swtpm.path, "socket", "--tpm2", "--tpmstate", f"dir={state}"),
                *("--server", server, "--ctrl", control),
                *("--flags", "not-need-init,startup-clear"),
            ],
            env=swtpm.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for _ in range(200):
            if self._listens():
                return
            if self._process.poll() is not None and self._process.stderr is not None:
                pytest.skip(f"swtpm does not start here: {self._process.stderr.read().decode()}")
            time.sleep(0.05)
        pytest.fail("swtpm runs, and does not listen within ten seconds")

    def send(self, number: int) -> None:
        """Send it a signal."""
        if self._process is not None:
            self._process.send_signal(number)

    def end(self, how: int = signal.SIGTERM) -> None:
        """Power off: what was extended is gone."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.send_signal(signal.SIGCONT)
            process.communicate()

    def pcr(self, algorithm: str, number: int = 10) -> bytes:
        """A register, as tpm2_pcrread tells it."""
        pcrread = tool("tpm2-tools", "tpm2_pcrread")
        done = pcrread.run(f"{algorithm}:{number}", TPM2TOOLS_TCTI=self.tcti)
        assert done.returncode == 0, done.stderr
        return bytes.fromhex(done.stdout.rpartition("0x")[2].strip())
