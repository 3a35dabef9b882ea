"""What ``swsgx stat`` and ``swsgx top`` tell of trees that run: the numbers are right, and nobody else gets them.

The program is ``tests/programs/sgx/figures.c``, which does what it is told and then waits to be looked at.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from swsgx.supervisor import trees
from tests.make.native_enclave import NEEDS_GCC
from tests.make.readable import readable
from tests.make.sgx_program import Programs
from tests.make.supervised import environment, swsgx_run
from tests.make.told import Told, answer, machine, running, supervisor_of, swsgx

pytestmark = NEEDS_GCC

_SWSGX = [sys.executable, "-c", "from swsgx.cli.entry import main; main()"]
#: Nobody's on most machines.
_ANOTHER_USER = 54321


@pytest.fixture
def program(programs: Programs) -> Path:
    return programs.build("figures.c")


@pytest.fixture
def told(program: Path) -> Iterator[Told]:
    with running(program) as started:
        yield started


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def tree_named(front: int) -> trees.Tree:
    supervisor_of(front)
    return next(tree for tree in trees.trees() if tree.front == front)


# Numbers.


def test_before_anybody_uses_sgx_there_is_no_machine() -> None:
    with running("cat") as cat:
        tree = answer(cat.pid)
        assert (tree["version"], tree["front"], tree["program"]) == (1, cat.pid, ["cat"])
        assert tree["machine"] is None
        done = swsgx("stat", cat.pid)
        assert done.returncode == 0
        assert done.stdout == f"swsgx run {cat.pid}: cat\nno program of the tree has used SGX yet\n"


def test_an_enclave_is_told_with_its_pages_and_the_process_that_maps_it(told: Told) -> None:
    told.do("load")
    found = machine(told.pid)
    (enclave,), (process,) = found["enclaves"], found["processes"]
    assert (enclave["number"], enclave["size"], enclave["tcs"]) == (1, 1 << 24, 4)
    assert (enclave["initialised"], enclave["debug"], enclave["augmented"]) == (True, False, 0)
    used = enclave["resident"] + enclave["va_pages"] + enclave["secs_resident"]
    assert (found["epc_total"], found["epc_free"]) == (32768, 32768 - used)
    assert enclave["evicted"] == 0
    assert enclave["pids"] == [process["pid"]] == children(supervisor_of(told.pid))
    assert process["enclaves"] == [1]
    assert process["name"].startswith("figures")


def test_an_enclave_under_construction_and_a_debug_enclave_are_told_apart(told: Told) -> None:
    told.do("debug")
    told.do("load")
    first, second = machine(told.pid)["enclaves"]
    assert (first["initialised"], first["debug"]) == (False, True)
    assert (second["initialised"], second["debug"]) == (True, False)
    text = swsgx("stat", told.pid).stdout
    assert re.search(r"^1 +building, debug +16M ", text, re.MULTILINE), text
    assert re.search(r"^2 +ready +16M ", text, re.MULTILINE), text


def test_pages_that_appear_are_counted(told: Told) -> None:
    told.do("load")
    before = machine(told.pid)["enclaves"][0]
    told.do("grow", 300)
    found = machine(told.pid)
    (enclave,) = found["enclaves"]
    assert (enclave["augmented"], found["counts"]["eaug"]) == (300, 300)
    assert enclave["resident"] == before["resident"] + 300


def test_in_a_small_epc_resident_and_evicted_add_up(program: Path) -> None:
    with running(program, options=("--epc", "1M")) as told:
        told.do("load")
        pages = machine(told.pid)["enclaves"][0]["resident"]
        told.do("grow", 600)
        found = machine(told.pid)
        (enclave,) = found["enclaves"]
        assert enclave["resident"] + enclave["evicted"] == pages + 600
        counts = found["counts"]
        assert enclave["evicted"] == counts["ewb"] - counts["eldu"] > 0
        assert found["epc_total"] == 256
        assert enclave["resident"] + enclave["va_pages"] + 1 + found["epc_free"] == 256
        assert found["reclaimable"] <= enclave["resident"]


def test_a_thread_inside_is_told_until_it_leaves(told: Told) -> None:
    told.do("load")
    told.do("call", 1)
    assert machine(told.pid)["enclaves"][0]["inside"] == 0
    told.do("enter")
    found = machine(told.pid)
    assert found["enclaves"][0]["inside"] == 1
    assert found["processes"][0]["inside"] == 1
    assert found["processes"][0]["threads"] == 2
    told.do("leave")
    assert machine(told.pid)["enclaves"][0]["inside"] == 0


def test_entries_and_asynchronous_exits_are_counted_exactly_where_isolation_hides(told: Told) -> None:
    told.do("load")
    told.do("call", 7)
    told.do("exceptions", 5)
    found = machine(told.pid)
    assert found["eenter_exact"]
    assert found["counts"]["aex"] == found["processes"][0]["aex"] == 5
    assert found["counts"]["eenter"] == found["processes"][0]["eenter"] == 7 + 3 * 5


def test_without_isolation_entries_are_at_least_that_many(program: Path) -> None:
    with running(program, options=("--isolation", "off")) as told:
        told.do("load")
        told.do("call", 1000)
        found = machine(told.pid)
        assert not found["eenter_exact"]
        assert 0 < found["counts"]["eenter"] < 1000
        assert f"EENTER >={found['counts']['eenter']}" in swsgx("stat", told.pid).stdout


def test_a_forks_child_is_a_process_of_its_own_and_begins_to_count_at_0(told: Told) -> None:
    told.do("load")
    told.do("call", 9)
    told.do("fork")  # from here on the child answers
    told.do("call", 2)
    found = machine(told.pid)
    parent, child = found["processes"]
    assert found["enclaves"][0]["pids"] == sorted([parent["pid"], child["pid"]])
    assert (parent["eenter"], child["eenter"]) == (9, 2)
    assert swsgx("stat", child["pid"]).stdout.startswith(f"swsgx run {told.pid}: ")


def test_an_enclave_that_has_ended_is_gone_and_the_totals_stay(program: Path) -> None:
    with running("sh", "-c", f"echo load 0 | {program}; echo grow 0; exec cat") as told:
        assert told.process.stdout is not None
        assert [told.process.stdout.readline() for _ in range(2)] == ["ok\n", "grow 0\n"]
        for _ in range(100):
            found = machine(told.pid)
            if not found["processes"]:
                break
            time.sleep(0.05)
        assert (found["enclaves"], found["processes"]) == ([], [])
        assert found["epc_free"] == found["epc_total"]
        assert "no enclave now" in swsgx("stat", told.pid).stdout


# Which tree.


def test_every_process_of_a_tree_leads_to_it(program: Path) -> None:
    with running("sh", "-c", f"{program}; true") as told:
        told.do("load")
        supervisor = supervisor_of(told.pid)
        (shell,) = children(supervisor)
        (inner,) = children(shell)
        for pid in (told.pid, supervisor, shell, inner):
            assert answer(pid)["supervisor"] == supervisor


def test_two_trees_are_listed_and_each_is_told_by_itself(program: Path) -> None:
    with running(program) as one, running(program) as other:
        one.do("load")
        other.do("load")
        other.do("load")
        assert [len(machine(told.pid)["enclaves"]) for told in (one, other)] == [1, 2]
        done = swsgx("stat")
        assert done.returncode == 0
        listed = {
            int(m[1]): int(m[2]) for m in re.finditer(r"^(\d+) +(\d+) +\d+%", done.stdout, re.MULTILINE)
        }
        assert (listed[one.pid], listed[other.pid]) == (1, 2)
        assert {one.pid, other.pid} <= {
            tree["front"] for tree in json.loads(swsgx("stat", "--json").stdout)["trees"]
        }
        refused = swsgx("top")
        assert refused.returncode == 1
        assert re.fullmatch(r"swsgx top: several are running, [\d, ]+: name one, .*\n", refused.stderr)


def test_a_run_inside_a_run_leads_to_the_machine_that_it_uses(program: Path) -> None:
    with running(*swsgx_run(), program) as told:
        told.do("load")
        supervisor = supervisor_of(told.pid)
        (front,) = children(supervisor)
        assert not [tree for tree in trees.trees() if tree.front == front]
        assert answer(front)["supervisor"] == supervisor
        assert len(machine(front)["enclaves"]) == 1


def test_what_is_left_running_is_found_by_the_supervisors_number() -> None:
    with running("sh", "-c", "sleep 100 >/dev/null & echo $!") as told:
        assert told.process.stdout is not None
        left = int(told.process.stdout.readline())
        try:
            assert told.process.wait(20) == 0
            supervisor = answer(left)["supervisor"]
            assert swsgx("stat", left).stdout.startswith(f"swsgx run {supervisor}: sh -c ")
            assert swsgx("stat", told.pid).returncode == 1
        finally:
            os.kill(left, signal.SIGKILL)


def test_a_process_that_is_of_no_tree_is_refused_in_one_line() -> None:
    done = swsgx("stat", os.getpid())
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"swsgx stat: {os.getpid()}: belongs to no swsgx run;")
    assert done.stderr.count("\n") == 1


def test_a_tree_that_has_ended_is_refused_in_one_line(told: Told) -> None:
    told.do("load")
    tree = tree_named(told.pid)
    told.end()
    while Path(f"/proc/{tree.supervisor}").exists():
        time.sleep(0.02)
    with pytest.raises(trees.NoAnswer, match="has ended"):
        trees.ask(tree)
    done = swsgx("stat", told.pid)
    assert done.returncode == 1
    assert done.stderr.startswith(f"swsgx stat: {told.pid}: no such process;")


# Who is told.


def connected(client: socket.socket, tree: trees.Tree) -> None:
    """Connects; while too many others wait to be let in, again."""
    for _ in range(500):
        try:
            client.connect(f"\0{tree.name}")
            return
        except BlockingIOError:
            time.sleep(0.02)
    raise AssertionError("nobody is let in")


def as_another_user() -> None:
    os.setresgid(_ANOTHER_USER, _ANOTHER_USER, _ANOTHER_USER)
    os.setresuid(_ANOTHER_USER, _ANOTHER_USER, _ANOTHER_USER)


AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user: run the tests as root")


@AS_ROOT
def test_another_user_is_told_nothing(told: Told) -> None:
    told.do("load")
    tree = tree_named(told.pid)
    assert trees.find(told.pid) == tree  # also loads what another user may not be able to
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            as_another_user()
            try:
                trees.find(told.pid)
            except trees.NoAnswer as error:
                os.write(write, f"{error}\n".encode())
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.connect(f"\0{tree.name}")
                os.write(write, repr(connection.recv(100)).encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as file:
        refused, received = file.read().splitlines()
    assert refused == f"{told.pid}: belongs to a swsgx run of user root: ask as that user, or as root"
    assert received == "b''"
    assert len(machine(told.pid)["enclaves"]) == 1


@AS_ROOT
def test_another_user_who_takes_a_trees_name_is_not_believed() -> None:
    with running("cat") as cat:
        real = tree_named(cat.pid)
        name = f"swsgx-run/0/{real.front}/{real.supervisor}/ffffffffffffffff"
        ready, listening = os.pipe()
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                as_another_user()
                impostor = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                impostor.bind(f"\0{name}")
                impostor.listen(1)
                os.write(listening, b"!")
                impostor.accept()[0].sendall(b'{"version": 1}')
                time.sleep(60)
            os._exit(0)
        try:
            assert os.read(ready, 1) == b"!"
            false = trees.Tree(name, 0, real.front, real.supervisor)
            assert false in trees.trees()
            with pytest.raises(trees.NoAnswer, match="somebody else listens at its name"):
                trees.ask(false)
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(ready)
            os.close(listening)


def test_clients_that_never_read_hold_nobody_up(program: Path) -> None:
    """The answer is larger than a socket takes at once: the command line is in it."""
    with running(program, "x" * 100_000, "y" * 100_000, "z" * 100_000) as told:
        told.do("load")
        tree = tree_named(told.pid)
        kind = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
        idle = [socket.socket(socket.AF_UNIX, kind) for _ in range(40)]
        try:
            for one in idle:
                connected(one, tree)
            told.do("call", 3)
            told.do("grow", 10)
            time.sleep(5.5)  # they are given up
            assert machine(told.pid)["counts"]["eaug"] == 10
            descriptors = os.listdir(f"/proc/{tree.supervisor}/fd")
            assert len(descriptors) < 40
        finally:
            for one in idle:
                one.close()
        told.end()


def test_a_supervisor_that_is_stopped_is_waited_for_some_seconds_only(told: Told) -> None:
    tree = tree_named(told.pid)
    os.kill(tree.supervisor, signal.SIGSTOP)
    try:
        done = swsgx("stat", told.pid)
    finally:
        os.kill(tree.supervisor, signal.SIGCONT)
    assert done.returncode == 1
    assert "does not answer within 5 seconds" in done.stderr


# swsgx top.


class Terminal:
    """A pseudo terminal with ``swsgx top`` in it."""

    def __init__(self, *words: object, rows: int = 24, columns: int = 100) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            command = [*_SWSGX, "top", *map(str, words)]
            os.execvpe(command[0], command, {**environment(), "TERM": "xterm"})
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.fd)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def until(self, pattern: str, seen: str = "") -> str:
        """What comes until a pattern has matched, ``seen`` included."""
        end = time.monotonic() + 30
        while not re.search(pattern, seen):
            assert time.monotonic() < end, seen
            if readable(self.fd, 0.5):
                try:
                    seen += os.read(self.fd, 65536).decode(errors="replace")
                except OSError:
                    raise AssertionError(f"it has ended: {seen}") from None
        return seen

    def type(self, key: bytes) -> None:
        os.write(self.fd, key)

    def rest(self) -> str:
        """All that comes until it has ended."""
        seen = b""
        with contextlib.suppress(OSError):
            while piece := os.read(self.fd, 4096):
                seen += piece
        return seen.decode(errors="replace")

    def status(self) -> int:
        return os.waitpid(self.pid, 0)[1]


@contextmanager
def top(*words: object, rows: int = 24) -> Iterator[Terminal]:
    terminal = Terminal(*words, rows=rows)
    try:
        yield terminal
    finally:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            if os.waitpid(terminal.pid, os.WNOHANG)[0] == 0:
                os.kill(terminal.pid, signal.SIGKILL)
                os.waitpid(terminal.pid, 0)
        os.close(terminal.fd)


@pytest.mark.parametrize("key", [b"q", b"Q", b"\x03"])
def test_top_shows_what_changes_and_a_key_ends_it_with_the_terminal_as_it_was(told: Told, key: bytes) -> None:
    told.do("load")
    with top(told.pid, "--interval", "0.2") as terminal:
        assert "\x1b[?1049h\x1b[?25l" in terminal.until(r"EAUG 0\b")
        told.do("grow", 50)
        terminal.until(r"EAUG 50\b")
        terminal.type(key)
        assert terminal.until(re.escape("\x1b[?25h\x1b[?1049l"))
        assert terminal.status() == 0
        assert termios.tcgetattr(terminal.fd) == terminal.before


def test_top_fits_its_page_to_a_terminal_that_changes(told: Told) -> None:
    told.do("load")
    with top(told.pid, "--interval", "60") as terminal:
        terminal.until("q: end")
        terminal.resize(5, 20)
        page = terminal.until(r"lines more.*\r\n.*\x1b\[0m")
        lines = (
            re.sub(r"\x1b\[[?0-9]*[a-zA-Z]", "", page.rpartition("\x1b[H")[2]).replace("\r", "").split("\n")
        )
        assert len(lines) == 5
        assert all(len(line) <= 20 for line in lines)
        terminal.resize(1, 1)
        terminal.resize(24, 100)
        assert "PROGRAM" in terminal.until("q: end")
        terminal.type(b"q")
        assert terminal.status() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_top_with_the_terminal_as_it_was(told: Told, number: signal.Signals) -> None:
    with top(told.pid) as terminal:
        terminal.until("q: end")
        os.kill(terminal.pid, number)
        terminal.until(re.escape("\x1b[?1049l"))
        assert os.WTERMSIG(terminal.status()) == number


def test_top_ends_when_the_run_has_ended_and_says_so(told: Told) -> None:
    with top(told.pid, "--interval", "0.2") as terminal:
        terminal.until("q: end")
        told.end()
        said = terminal.rest()
        assert said.rstrip().endswith("has ended")
        assert "\x1b[?1049l" in said
        assert terminal.status() == 0


def test_top_gives_the_terminal_back_while_it_is_stopped(told: Told) -> None:
    with top(told.pid, "--interval", "0.2") as terminal:
        terminal.until("q: end")
        os.kill(terminal.pid, signal.SIGTSTP)
        left = "\x1b[?1049l"
        _, _, behind = terminal.until(re.escape(left)).rpartition(left)
        # A session of its own has no shell to go on with it: its stop may be refused, and it goes on at once.
        os.kill(terminal.pid, signal.SIGCONT)
        terminal.until(re.escape("\x1b[?1049h"), behind)
        terminal.type(b"q")
        assert terminal.status() == 0


def test_top_prints_once_in_each_interval_where_there_is_no_terminal(told: Told) -> None:
    told.do("load")
    command = [*_SWSGX, "top", "--interval", "0.1", str(told.pid)]
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(2):
            assert process.stdout.readline().startswith(f"swsgx run {told.pid}: ")
            while process.stdout.readline().strip():
                pass  # two empty lines are between tables: up to the first
            while process.stdout.readline().strip():
                pass
            while process.stdout.readline().strip():
                pass
        told.end()
        output, error = process.communicate(timeout=30)
        assert "\x1b" not in output
        assert error.endswith("has ended\n")
        assert process.returncode == 0
