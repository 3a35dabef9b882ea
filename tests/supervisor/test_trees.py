"""Process trees that do not use SGX do under ``swsgx run`` what they do alone."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.make.sandbox import NOBODY, confined
from tests.make.supervised import compiled, run, swsgx_run

#: Each is run alone and supervised, in an empty folder.
SCRIPTS = sorted((Path(__file__).resolve().parents[1] / "programs" / "trees").glob("*.sh"))
INJECTED = "/proc/self/maps | grep -c ^6f000000-"

SPAWN = """
import os, signal, subprocess
assert os.posix_spawn("/bin/true", ["true"], {}, setsigmask=signal.valid_signals()) > 0
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
print(subprocess.run(["/bin/sh", "-c", "grep -c ^6f000000- /proc/self/maps"], capture_output=True).stdout.decode())
"""

VFORK = r"""
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>
int main(void)
{
	for (int i = 0; i < 20; i++) {
		int status;
		pid_t child = vfork();
		if (child == 0) {
			execl("/proc/nonexistent", "x", (char *)0);
			execl("/bin/true", "true", (char *)0);
			_exit(99);
		}
		if (waitpid(child, &status, 0) != child || status)
			return 1;
	}
	puts("EXIT-SUCCESS");
	return 0;
}
"""

THREADS = r"""
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
static void *idle(void *p) { for (;;) pause(); return p; }
static void *exec_me(void *p) { execl("/bin/echo", "echo", "EXIT-SUCCESS", (char *)0); exit(9); return p; }
int main(void)
{
	pthread_t t;
	for (int i = 0; i < 4; i++)
		pthread_create(&t, 0, idle, 0);
	pthread_create(&t, 0, exec_me, 0);
	pause();
	return 1;
}
"""

MEMFD = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
int main(int argc, char **argv, char **envp)
{
	char buffer[65536];
	char *words[] = {"grep", "-c", "^6f000000-", "/proc/self/maps", 0};
	int from = open("/bin/grep", O_RDONLY), to = memfd_create("copy", 0);
	for (long n; (n = read(from, buffer, sizeof(buffer))) > 0;)
		if (write(to, buffer, n) != n)
			return 2;
	fexecve(to, words, envp);
	return 3;
}
"""

STATIC = r"""
#include <stdio.h>
#include <string.h>
int main(void)
{
	char line[512];
	FILE *maps = fopen("/proc/self/maps", "r");
	while (fgets(line, sizeof(line), maps))
		if (!strncmp(line, "6f000000-", 9))
			puts("EXIT-SUCCESS");
	return 0;
}
"""

ERRNO = r"""
#include <errno.h>
#include <stdio.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	char *words[] = {"x", 0};
	for (int i = 1; i < argc; i++) {
		int r = execv(argv[i], words);
		printf("%d %d\n", r, errno);
	}
	printf("%d\n", execv((char *)8, words) + errno);
	return 0;
}
"""

AUXV = r"""
#include <elf.h>
#include <stdio.h>
#include <sys/auxv.h>
#include <unistd.h>
int main(int argc, char **argv, char **envp)
{
	char exe[4096];
	Elf64_auxv_t *aux;
	for (int i = 0; i < argc; i++)
		puts(argv[i]);
	while (*envp)
		puts(*envp++);
	for (aux = (Elf64_auxv_t *)(envp + 1); aux->a_type; aux++) {
		int same = aux->a_type == AT_PHNUM || aux->a_type == AT_HWCAP || aux->a_type == AT_SECURE;
		printf("%ld %lx\n", aux->a_type, same ? aux->a_un.a_val : 0);
	}
	exe[readlink("/proc/self/exe", exe, sizeof(exe))] = 0;
	puts(exe);
	return 0;
}
"""


def same(words: Sequence[str | Path], **options: Any) -> str:
    """Run alone and under supervision; what both print."""
    alone, under = run(words, under=False, **options), run(words, **options)
    assert (under.returncode, under.stdout, under.stderr) == (alone.returncode, alone.stdout, alone.stderr)
    return under.stdout


def test_the_image_is_in_a_program_and_in_what_it_starts() -> None:
    done = run(["/bin/sh", "-c", f"cat {INJECTED}; sh -c 'cat {INJECTED}'"])
    assert done.stdout.split() == ["1", "1"]


def test_exit_status_is_the_programs() -> None:
    for status in (0, 1, 42, 255):
        assert run(["sh", "-c", f"exit {status}"]).returncode == status


def test_program_that_does_not_exist_is_127_and_one_that_cannot_be_run_is_126(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no program")
    assert run(["/proc/nonexistent/program"]).returncode == 127
    assert run([tmp_path / "text"]).returncode == 126


def test_pipelines_and_substitutions_work_in_a_shell() -> None:
    script = (
        "for i in 1 2 3; do echo $i; done | sort -r | tr '\\n' ' '; echo $(echo a | cat); (exit 3) || echo $?"
    )
    assert "3 2 1" in same(["sh", "-c", script])


def test_script_is_run_by_its_interpreter(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text('#!/bin/sh\necho "$0 $1"; grep -c ^6f000000- /proc/$$/maps\n')
    script.chmod(0o755)
    assert run([script, "argument"]).stdout == f"{script} argument\n1\n"


def test_posix_spawn_and_subprocess_work_from_python() -> None:
    done = run([sys.executable, "-c", SPAWN])
    assert (done.stdout.split(), done.stderr) == (["1"], "")


def test_vfork_children_exec_and_fail_to_exec(tmp_path: Path) -> None:
    assert run([compiled(VFORK, tmp_path)]).stdout == "EXIT-SUCCESS\n"


def test_thread_that_is_not_the_leader_execs(tmp_path: Path) -> None:
    program = compiled(THREADS, tmp_path)
    for _ in range(5):
        assert run([program]).stdout == "EXIT-SUCCESS\n"


def test_program_in_a_memfd_is_injected(tmp_path: Path) -> None:
    assert run([compiled(MEMFD, tmp_path)]).stdout == "1\n"


@pytest.mark.parametrize(
    "flags", [["-static"], ["-static-pie", "-fPIE"], ["-no-pie"], ["-pie", "-fPIE"]], ids=str
)
def test_program_is_injected_however_it_is_linked(flags: list[str], tmp_path: Path) -> None:
    assert run([compiled(STATIC, tmp_path, *flags)]).stdout == "EXIT-SUCCESS\n"


def test_failing_exec_has_the_errno_that_it_has_alone(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no program")
    (tmp_path / "text").chmod(0o755)
    (tmp_path / "closed").write_text("")
    (tmp_path / "script").write_text("#!/proc/nonexistent/interpreter\n")
    (tmp_path / "script").chmod(0o755)
    words: list[str | Path] = [
        compiled(ERRNO, tmp_path),
        "/proc/nonexistent",
        tmp_path / "text",
        tmp_path / "closed",
    ]
    words += [tmp_path / "script", "/etc/passwd/x", "/"]
    assert len(same(words).splitlines()) == 7


#: An exec that fails; then nobody may trace the process any more. (Each fails before the last one is forgotten.)
FAILED = """
import os, sys, time
for _ in range(3):
    try:
        os.execv(sys.argv[1], ["x"])
    except OSError as error:
        print(error.errno)
until = time.monotonic() + 20
while time.monotonic() < until:
    with open("/proc/self/status") as status:
        if "TracerPid:\\t0\\n" in status.read():
            print("free")
            break
    time.sleep(0.01)
"""


def test_process_whose_exec_failed_is_let_go(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no program")
    (tmp_path / "text").chmod(0o755)
    done = run([sys.executable, "-c", FAILED, tmp_path / "text"])
    assert (done.stdout.split(), done.stderr) == (["8", "8", "8", "free"], "")


def test_signal_behind_an_exec_that_failed_arrives(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no program")
    (tmp_path / "text").chmod(0o755)
    program = """
import os, signal, sys
signal.signal(signal.SIGUSR1, lambda *_: print("here"))
for _ in range(20):
    try:
        os.execv(sys.argv[1], ["x"])
    except OSError:
        os.kill(os.getpid(), signal.SIGUSR1)
"""
    done = run([sys.executable, "-c", program, tmp_path / "text"])
    assert (done.stdout.split(), done.stderr) == (["here"] * 20, "")


def test_arguments_environment_auxv_and_exe_are_unchanged(tmp_path: Path) -> None:
    env = {"A": "1", "B": "x y", "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "src")}
    same([compiled(AUXV, tmp_path), "a", "", "b c"], env=env)


def test_limits_mask_and_descriptors_are_unchanged() -> None:
    """What is caught differs: SIGSYS has a handler of ours in every program, SIGILL where CPUID is patched."""
    same(
        [
            "sh",
            "-c",
            "ulimit -a; grep -E '^Sig(Blk|Ign)' /proc/self/status; cd /proc/self/fd; echo *; umask; pwd",
        ]
    )
    caught = "grep ^SigCgt /proc/self/status"
    alone, under = (int(run(["sh", "-c", caught], under=way).stdout.split()[1], 16) for way in (False, True))
    ours = 1 << signal.SIGSYS - 1 | 1 << signal.SIGILL - 1
    assert under & ~ours == alone & ~ours
    assert under >> signal.SIGSYS - 1 & 1


def test_program_that_is_found_late_in_path_is_injected() -> None:
    program = (
        "import os\nos.execvpe('grep', ['grep', '-c', '^6f000000-', '/proc/self/maps'],"
        " {'PATH': '/proc/nonexistent/a:' * 50 + '/usr/bin:/bin'})"
    )
    for _ in range(5):
        assert run([sys.executable, "-c", program]).stdout == "1\n"


def test_many_processes_at_once() -> None:
    script = "for i in $(seq 40); do (for j in 1 2 3 4 5; do /bin/true; done; echo $i) & done; wait"
    done = run(["sh", "-c", script])
    assert sorted(map(int, done.stdout.split())) == list(range(1, 41))


def test_run_inside_a_run_is_served_by_the_outer_one() -> None:
    assert run([*swsgx_run(), "sh", "-c", f"cat {INJECTED}; exit 5"]).stdout == "1\n"


def needs(script: Path) -> list[str]:
    """What a script needs besides bash: its line ``# needs: ...``."""
    lines = script.read_text(encoding="utf-8").splitlines()
    return next((line.split()[2:] for line in lines if line.startswith("# needs: ")), [])


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_script_does_the_same(script: Path, tmp_path: Path) -> None:
    for tool in ["bash", *needs(script)]:
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool} here: install it to run this")
    folder, results = tmp_path / "work", []
    for under in (False, True):
        folder.mkdir()
        results.append(run(["bash", script], under, cwd=folder, timeout=55))
        shutil.rmtree(folder)
    alone, supervised = results
    assert supervised.stdout == alone.stdout
    assert supervised.stderr == alone.stderr
    assert supervised.returncode == alone.returncode
    assert alone.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "module",
    ["test_posix", "test_fork1", "test_wait4", "test_threadsignals", "test_mmap", "test_select", "test_pty"],
)
def test_pythons_own_tests_find_the_same(module: str, tmp_path: Path) -> None:
    """``test_signal``, ``test_os``, ``test_subprocess`` and ``test_faulthandler`` do, too, but take a minute each."""
    words = [sys.executable, "-m", "unittest", "-q", f"test.{module}"]
    alone, under = (run(words, way, cwd=tmp_path, timeout=55) for way in (False, True))
    if "ModuleNotFoundError" in alone.stderr:
        pytest.skip("this Python comes without its tests")
    assert under.returncode == alone.returncode, under.stderr
    assert under.stderr.splitlines()[-1] == alone.stderr.splitlines()[-1]  # how many failed, were skipped


SETUID = """
#include <stdio.h>
#include <unistd.h>
int main(void)
{
	printf("%d %d %d\\n", getuid(), geteuid(), access("/dev/null", R_OK));
	return 6;
}
"""


@pytest.mark.skipif(os.getuid() != 0, reason="making a setuid program takes root")
def test_setuid_program_runs_and_has_its_privileges_alone_only(tmp_path: Path) -> None:
    """A filter of an ordinary user's takes PR_SET_NO_NEW_PRIVS, so exec gives no privileges."""
    if run(confined("true", user=NOBODY), under=False).returncode:
        pytest.skip("becoming another user takes a mount namespace: run outside of a container")
    program = compiled(SETUID, tmp_path)
    program.chmod(0o4755)
    for user, alone, under in (
        (None, "0 0 0\n", "0 0 0\n"),
        (NOBODY, f"{NOBODY} 0 0\n", f"{NOBODY} {NOBODY} 0\n"),
    ):
        for expected, way in ((alone, []), (under, swsgx_run())):
            done = run(confined(*way, program, user=user, reach=[program]), under=False, cwd="/")
            assert (done.returncode, done.stdout, done.stderr) == (6, expected, "")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_standard_files_that_are_closed_stay_closed(closed: str, tmp_path: Path) -> None:
    script = 'for f in 0 1 2; do readlink /proc/self/fd/$f | sed "s/[0-9]//g"; echo $f; done > file; exit 5'
    found = []
    for way in ([], swsgx_run()):
        done = run(["sh", "-c", f'"$@" {closed}', "sh", *way, "sh", "-c", script], under=False, cwd=tmp_path)
        found.append((done.returncode, (tmp_path / "file").read_text()))
    assert found[0] == found[1]


@pytest.mark.slow
def test_pytest_runs_under_supervision(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import subprocess\n\n\ndef test_it():\n    assert subprocess.check_output(['echo', 'a']) == b'a\\n'\n"
    )
    done = run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path], cwd=tmp_path)
    assert "1 passed" in done.stdout, done.stdout + done.stderr
