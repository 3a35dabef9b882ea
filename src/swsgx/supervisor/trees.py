"""Finding the trees that run on this machine, and asking them for their figures.

Each supervisor listens at a name that tells who it is (:data:`swsgx.supervisor.run.FIGURES`), and the kernel lists such
names in ``/proc/net/unix``. Anybody can listen at any name: that it is the one who it says is known from the kernel,
too (SO_PEERCRED), before a word is believed.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swsgx.supervisor.inquiries import ASKS, PATIENCE, UCRED, VERSION
from swsgx.supervisor.kinship import leader_of, parent_of
from swsgx.supervisor.run import FIGURES

__all__ = ["NoAnswer", "Tree", "ask", "find", "tree_of", "trees"]

_LISTED = "/proc/net/unix"
_NAME = re.compile(rf"@({FIGURES}(\d+)/(\d+)/(\d+)/[0-9a-f]+)$")
#: Bytes of an answer that are too many to be one.
_LIMIT = 64 << 20
#: Seconds after which somebody who says nothing will not say anything.
_WAIT = PATIENCE


class NoAnswer(Exception):
    """There is no such tree, or it tells nothing; the text says why, and what to do."""


@dataclass(frozen=True)
class Tree:
    """One ``swsgx run``.

    Attributes:
        name: where its supervisor listens.
        uid: whose it is.
        front: process id of the command.
        supervisor: process id of the supervisor.
    """

    name: str
    uid: int
    front: int
    supervisor: int

    @property
    def pid(self) -> int:
        """The command's process id; when it has ended, and left something running, the supervisor's."""
        return self.front if parent_of(self.supervisor) == self.front else self.supervisor

    @property
    def mine(self) -> bool:
        """Whether it will answer."""
        return os.geteuid() in (0, self.uid)


def trees() -> list[Tree]:
    """All that say so of themselves, everybody's; by the age of their numbers.

    Raises:
        OSError: the kernel's list cannot be read.
    """
    # The kernel hands its list out piece by piece, and while others' sockets go, one can be passed over.
    found, again = _listed(), _listed()
    missed = {tree for tree in found - again if Path(f"/proc/{tree.supervisor}").exists()}
    return sorted(again | missed, key=lambda tree: (tree.front, tree.supervisor))


def _listed() -> set[Tree]:
    """Those that the kernel's list has, read once."""
    found = set()
    with Path(_LISTED).open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            match = _NAME.search(line)
            # The socket that listens; connections to it have its name, too.
            if match and line.split()[3] == "00010000":
                found.add(Tree(match[1], int(match[2]), int(match[3]), int(match[4])))
    return found


def tree_of(pid: int, among: list[Tree]) -> Tree | None:
    """The tree that a process belongs to: as the command, as the supervisor, or as what runs under it."""
    for tree in among:
        if pid == tree.pid:
            return tree
    supervisors = {tree.supervisor: tree for tree in among}
    at = leader_of(pid)
    for _ in range(1000):
        if at <= 1 or at in supervisors:
            break
        at = parent_of(at)
    return supervisors.get(at)


def find(pid: int) -> Tree:
    """The same, among all.

    Raises:
        NoAnswer: there is none, or it is somebody else's.
        OSError: the kernel's list cannot be read.
    """
    tree = tree_of(pid, trees())
    if tree is None:
        if not leader_of(pid):
            raise NoAnswer(f"{pid}: no such process; `swsgx stat` without a number lists what runs")
        raise NoAnswer(f"{pid}: belongs to no swsgx run; `swsgx stat` without a number lists what runs")
    if not tree.mine:
        raise NoAnswer(
            f"{pid}: belongs to a swsgx run of user {_user(tree.uid)}: ask as that user, or as root"
        )
    return tree


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def ask(tree: Tree, question: str = "") -> dict[str, Any]:
    """What a tree tells of itself: :mod:`swsgx.supervisor.inquiries` has the object.

    Args:
        tree: whom.
        question: ``mappings`` or ``mappings-all``; empty: its figures.

    Raises:
        NoAnswer: it has ended, does not answer, does not answer us, or says what we do not understand.
    """
    who = f"the swsgx run of process {tree.pid}"
    until = time.monotonic() + _WAIT
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            if question:
                connection.bind(f"\0{ASKS}{question}/{os.urandom(8).hex()}")
            _connect(connection, tree.name, until)
            _believe(connection, tree, who)
            text = _read(connection, until)
    except TimeoutError:
        raise NoAnswer(f"{who}: its supervisor does not answer within {_WAIT:g} seconds") from None
    except ConnectionRefusedError:
        raise NoAnswer(f"{who} has ended") from None
    except OSError as error:
        raise NoAnswer(f"{who}: {error.strerror or error}") from error
    told = _understood(text, tree, who)
    if question and "mappings" not in told:
        raise NoAnswer(
            f"{who} was started by an older swsgx, which does not tell its mappings: start it anew"
        )
    return told


def _connect(connection: socket.socket, name: str, until: float) -> None:
    connection.settimeout(_WAIT)
    while True:
        try:
            connection.connect(f"\0{name}")
            return
        except BlockingIOError:  # many others ask
            if time.monotonic() > until:
                raise TimeoutError from None
            time.sleep(0.01)


def _believe(connection: socket.socket, tree: Tree, who: str) -> None:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size)
    if UCRED.unpack(credentials)[:2] != (tree.supervisor, tree.uid):
        raise NoAnswer(f"{who}: somebody else listens at its name; end that one")


def _read(connection: socket.socket, until: float) -> bytes:
    text = bytearray()
    while len(text) <= _LIMIT:
        connection.settimeout(max(0.001, until - time.monotonic()))
        piece = connection.recv(1 << 16)
        if not piece:
            break
        text += piece
    return bytes(text)


def _understood(text: bytes, tree: Tree, who: str) -> dict[str, Any]:
    if not text:
        if not Path(f"/proc/{tree.supervisor}").exists():
            raise NoAnswer(f"{who} has ended")
        raise NoAnswer(f"{who} tells nothing to this user, or too many ask: try again")
    try:
        told = json.loads(text)
        version = told["version"]
    except (ValueError, TypeError, KeyError):
        raise NoAnswer(f"{who}: what it says breaks off; it may have ended") from None
    if version != VERSION:
        raise NoAnswer(f"{who} speaks version {version}, this swsgx {VERSION}: use the same swsgx for both")
    if "bug" in told:
        raise NoAnswer(f"{who}: a bug in swsgx: {told['bug']}")
    return dict(told)
