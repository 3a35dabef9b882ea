"""How a supervised program ends, is signalled and stopped; and what happens when somebody dies."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.make.supervised import compiled, environment, run, swsgx_run

#: Four processes that are never there for long: each forks, and ends.
CHAINS = """
#include <signal.h>
#include <unistd.h>
int main(void)
{
	signal(SIGCHLD, SIG_IGN);
	for (int i = 0; i < 4; i++)
		if (!fork())
			for (;;)
				if (fork())
					_exit(0);
	pause();
	return 0;
}
"""


@contextmanager
def started(script: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A shell script under supervision, with pipes; killed in the end."""
    process: subprocess.Popen[str] = subprocess.Popen(
        [*swsgx_run(), "sh", "-c", script],
        **{"env": environment(), "stdout": subprocess.PIPE, "text": True, **options},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def gone(pid: int) -> bool:
    """Whether a process ends within ten seconds; a zombie has ended."""
    for _ in range(200):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_signal_that_ends_the_program_ends_swsgx(number: signal.Signals) -> None:
    assert run(["sh", "-c", f"kill -{int(number)} $$"]).returncode == -number


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signal_sent_to_swsgx_reaches_the_program(number: signal.Signals) -> None:
    with started(
        f"trap 'echo got; exit 9' {int(number)}; echo ready; while :; do sleep 0.05; done"
    ) as process:
        assert line(process) == "ready"
        process.send_signal(number)
        assert line(process) == "got"
        assert process.wait(20) == 9


def test_program_that_stops_itself_stops_swsgx_and_goes_on_with_it() -> None:
    with started("kill -STOP $$; echo again; exit 4") as process:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        process.send_signal(signal.SIGCONT)
        assert line(process) == "again"
        assert process.wait(20) == 4


def test_death_of_the_supervisor_ends_the_targets() -> None:
    with started("sleep 100 & echo $! $$; wait") as process:
        targets = [int(pid) for pid in line(process).split()]
        (supervisor,) = children(process.pid)
        os.kill(supervisor, signal.SIGKILL)
        assert process.wait(20) == 125
        assert all(gone(target) for target in targets)


def test_death_of_the_front_ends_supervisor_and_targets() -> None:
    with started("sleep 100 & setsid sleep 101 & echo $! $$; wait") as process:
        targets = [int(pid) for pid in line(process).split()]
        (supervisor,) = children(process.pid)
        process.kill()
        process.wait(20)
        assert all(gone(pid) for pid in [*targets, supervisor])


def test_what_a_program_leaves_running_is_still_supervised_and_holds_nothing_of_the_caller() -> None:
    with started("(sleep 0.5; sh -c 'sleep 0.3; kill -0 $$') >/dev/null 2>&1 & echo $!") as process:
        left = int(line(process))
        assert process.stdout is not None
        assert process.stdout.read() == ""
        assert process.wait(20) == 0
        assert not Path(f"/proc/{left}").exists() or children(left) is not None
        assert gone(left)


@pytest.mark.parametrize("victim", ["front", "supervisor"])
def test_death_at_a_random_moment_leaves_no_process(victim: str) -> None:
    """The earlier ones come while the program is being started, when nobody may wait for somebody dead."""
    script = "while :; do /bin/true; (/bin/true & /bin/true); done"
    for delay in (0.02, 0.035, 0.04, 0.045, 0.05, 0.055, 0.06, 0.07, 0.1, 0.2):
        with started(script, start_new_session=True) as process:
            time.sleep(delay)
            below = children(process.pid)
            os.kill(below[0] if victim == "supervisor" and below else process.pid, signal.SIGKILL)
            process.wait(20)
            for _ in range(200):
                left = subprocess.run(["pgrep", "-s", str(process.pid)], capture_output=True, check=False)
                if not left.stdout:
                    break
                time.sleep(0.05)
            assert not left.stdout


@pytest.mark.parametrize("victim", ["front", "supervisor"])
def test_processes_that_fork_and_end_all_the_time_are_caught(victim: str, tmp_path: Path) -> None:
    program = compiled(CHAINS, tmp_path)
    with started(f"exec {program}", start_new_session=True) as process:
        try:
            time.sleep(0.5)
            os.kill(process.pid if victim == "front" else children(process.pid)[0], signal.SIGKILL)
            process.wait(20)
            for _ in range(400):
                left = subprocess.run(["pgrep", "-s", str(process.pid)], capture_output=True, check=False)
                if not left.stdout:
                    break
                time.sleep(0.05)
            assert not left.stdout
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.skipif(shutil.which("strace") is None, reason="no strace: install it to run this")
def test_strace_attaches_to_a_target() -> None:
    with started("echo $$; read x; /bin/true; echo done", stdin=subprocess.PIPE) as process:
        target = int(line(process))
        tracer = subprocess.Popen(
            ["strace", "-e", "trace=read", "-p", str(target)], stderr=subprocess.PIPE, text=True
        )
        assert tracer.stderr is not None
        assert "attached" in tracer.stderr.readline()
        assert process.stdin is not None
        process.stdin.write("x\n")
        process.stdin.close()
        assert line(process) == "done"
        assert process.wait(20) == 0
        assert "read(0" in tracer.communicate(timeout=20)[1]


@pytest.mark.skipif(shutil.which("gdb") is None, reason="no gdb: install it to run this")
@pytest.mark.slow
def test_gdb_attaches_to_a_target() -> None:
    with started("echo $$; read x; exit 6", stdin=subprocess.PIPE) as process:
        target = line(process)
        done = subprocess.run(
            ["gdb", "-q", "-nx", "-batch", "-p", target, "-ex", "info proc"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert f"process {target}" in done.stdout
        process.communicate("x\n", timeout=20)
        assert process.returncode == 6


@pytest.mark.skipif(shutil.which("strace") is None, reason="no strace: install it to run this")
def test_program_under_a_tracer_of_the_tree_runs_and_has_the_image() -> None:
    script = "/bin/true; echo traced; grep -c ^6f000000- /proc/self/maps"
    done = run(["strace", "-f", "-o", os.devnull, "sh", "-c", script])
    assert (done.stdout, done.stderr) == ("traced\n1\n", "")
