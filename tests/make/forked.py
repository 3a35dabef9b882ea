"""A piece of a test in a child of its own, which may die."""

from __future__ import annotations

import faulthandler
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Ended", "forked"]


@dataclass(frozen=True)
class Ended:
    """How it ended.

    Attributes:
        status: exit status, or the negated number of the signal that killed it.
        out, err: what it wrote to descriptors 1 and 2.
    """

    status: int
    out: str
    err: str


def forked(act: Callable[[], object], seconds: float = 30) -> Ended:
    """Run ``act`` in a fork of this process, without faulthandler and with an untouched standard output.

    Raises:
        TimeoutError: it did not end; it was killed.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            _be_child(act, out.fileno(), err.fileno())
        end = time.monotonic() + seconds
        while (found := os.waitpid(child, os.WNOHANG))[0] == 0:
            if time.monotonic() > end:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                raise TimeoutError(f"the child did not end in {seconds} s")
            time.sleep(0.002)
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode())
        return Ended(os.waitstatus_to_exitcode(found[1]), *texts)


def _be_child(act: Callable[[], object], out: int, err: int) -> None:
    status = 1
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        faulthandler.disable()
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
        act()
        status = 0
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(status)
