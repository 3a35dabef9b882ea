"""Path calls trapped in the process, in the situations where their signal could be blocked, lost or seen."""

from __future__ import annotations

import shutil
import signal
import sys
from pathlib import Path

import pytest

from tests.make.supervised import compiled, run

PROGRAMS = Path(__file__).resolve().parents[1] / "programs"

TIMER = """
import os, signal
hits = 0
def hit(number, frame):
    global hits
    hits += 1
    os.stat("/")
signal.signal(signal.SIGALRM, hit)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
for i in range(20000):
    assert os.path.exists("/dev/null") and not os.path.exists("/proc/nonexistent")
signal.setitimer(signal.ITIMER_REAL, 0)
print("done" if hits else "no signal")
"""


@pytest.mark.parametrize("flags", [[], ["-static"]], ids=["dynamic", "static"])
def test_path_calls_work_under_every_mask_and_in_every_handler(flags: list[str], tmp_path: Path) -> None:
    program = compiled((PROGRAMS / "masked.c").read_text(encoding="utf-8"), tmp_path, *flags)
    assert run([program], under=False).stdout == "EXIT-SUCCESS\n"
    assert run([program]).stdout == "EXIT-SUCCESS\n"


def test_path_calls_survive_a_timer() -> None:
    assert run([sys.executable, "-c", TIMER]).stdout == "done\n"


def test_program_with_filters_of_its_own_does_the_same(tmp_path: Path) -> None:
    program = compiled((PROGRAMS / "own_filter.c").read_text(encoding="utf-8"), tmp_path)
    alone, under = run([program], under=False), run([program])
    assert alone.stdout == "EXIT-SUCCESS\n"
    assert (under.returncode, under.stdout, under.stderr) == (alone.returncode, alone.stdout, alone.stderr)


def test_sigsys_from_outside_ends_a_program_without_a_handler() -> None:
    assert run(["sh", "-c", "kill -SYS $$; echo alive"]).returncode == -signal.SIGSYS


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["node", "bash", "perl", "rustc", "gdb"])
def test_runtime_starts_and_looks_at_files(tool: str, tmp_path: Path) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"no {tool} here: install it to run this")
    (tmp_path / "main.rs").write_text('fn main() { println!("{}", std::path::Path::new("/").exists()); }\n')
    words = {
        "node": ["-e", "console.log(require('fs').readFileSync('/proc/self/comm', 'utf8').trim())"],
        "bash": ["-c", "for i in 1 2 3; do echo /dev/n*ll | cat; done; [ -e /dev/null ] && echo yes"],
        "perl": ["-e", "print -e '/dev/null' ? 'yes' : 'no'; print `echo hi`"],
        "rustc": ["--edition", "2021", "-o", str(tmp_path / "main"), str(tmp_path / "main.rs")],
        "gdb": ["-q", "-nx", "-batch", "-ex", "print 6 * 7"],
    }[tool]
    alone, under = run([tool, *words], under=False), run([tool, *words])
    assert (under.returncode, under.stdout) == (alone.returncode, alone.stdout), under.stderr
    if tool == "rustc" and not alone.returncode:  # rustup's is nothing without a toolchain
        assert run([tmp_path / "main"]).stdout == "true\n"
