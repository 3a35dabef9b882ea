"""A process that has opened the device goes on as an ordinary one: what it starts, and what it becomes."""

from __future__ import annotations

import pytest

from tests.make.supervised import run

OPENED = "import os, subprocess, sys\nfd = os.open('/dev/sgx_enclave', os.O_RDWR)\n"


def python(code: str) -> str:
    done = run(["python3", "-c", OPENED + code])
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("vfork", [True, False])
def test_it_starts_programs(vfork: bool) -> None:
    started = f"subprocess._USE_VFORK = {vfork}; subprocess._USE_POSIX_SPAWN = False\n"
    assert (
        python(started + "print(subprocess.run(['sh', '-c', 'echo a; true | cat; exit 3']).returncode)")
        == "a\n3\n"
    )


def test_it_spawns_programs_with_all_signals_blocked_meanwhile() -> None:
    code = "pid = os.posix_spawn('/bin/true', ['true'], os.environ); print(os.waitpid(pid, 0)[1])"
    assert python(code) == "0\n"


def test_it_becomes_another_program() -> None:
    assert python("os.execvp('echo', ['echo', 'another'])") == "another\n"


def test_what_it_starts_opens_the_device_itself() -> None:
    opened = "open('/dev/sgx_enclave', 'rb+', 0); print('too')"
    code = f"print(subprocess.run([sys.executable, '-c', {opened!r}]).returncode)"
    assert python(code) == "too\n0\n"


def test_what_it_forks_uses_its_descriptor() -> None:
    code = (
        "import fcntl\n"
        "pid = os.fork()\n"
        "if not pid:\n"
        "    try: fcntl.ioctl(fd, 0x4008A400, b'\\0' * 8)\n"
        "    except OSError as error: print(error.strerror)\n"
        "    sys.stdout.flush(); os._exit(0)\n"
        "print(os.waitpid(pid, 0)[1])"
    )
    assert python(code) == "Bad address\n0\n"


def test_threads_and_their_signals_work() -> None:
    code = (
        "import signal, threading, time\n"
        "seen = []\n"
        "signal.signal(signal.SIGALRM, lambda *_: seen.append(1))\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)\n"
        "threads = [threading.Thread(target=lambda: [os.stat('/') for _ in range(2000)]) for _ in range(4)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "while len(seen) < 20: time.sleep(0.001)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0)\n"
        "print('done')"
    )
    assert python(code) == "done\n"
