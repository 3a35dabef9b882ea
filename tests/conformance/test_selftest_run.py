"""The runner of selftests, on programs of ours: these need no kernel, and run with ``make test``."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.conformance.selftest_run import Run, Status, TapError, read_tap, run_selftest

OUTPUT = """\
TAP version 13
1..5
# Starting 5 tests from 1 test cases.
#  RUN           house.door ...
#            OK  house.door
ok 1 house.door
#  RUN           house.window ...
# main.c:7:window:Expected 1 (1) == 2 (2)
#          FAIL  house.window
not ok 2 house.window
#  RUN           house.roof ...
#      SKIP      no roof
#            OK  house.roof
ok 3 house.roof # SKIP no roof
#  RUN           house.attic ...
#      SKIP      no roof
#            OK  house.attic
ok 4 # SKIP no roof
#  RUN           house.cellar ...
dark
"""


def test_each_way_to_end_is_read() -> None:
    planned, tests = read_tap(OUTPUT)
    assert planned == 5
    assert {name: report.status for name, report in tests.items()} == {
        "door": Status.PASSED,
        "window": Status.FAILED,
        "roof": Status.SKIPPED,
        "attic": Status.SKIPPED,
        "cellar": Status.UNFINISHED,
    }


def test_report_has_the_lines_of_its_test_only() -> None:
    _, tests = read_tap(OUTPUT)
    assert tests["window"].text.splitlines() == [
        "#  RUN           house.window ...",
        "# main.c:7:window:Expected 1 (1) == 2 (2)",
        "#          FAIL  house.window",
        "not ok 2 house.window",
    ]
    assert tests["cellar"].text.endswith("dark")


@pytest.mark.parametrize(
    "wrong",
    [
        "ok 1 house.door",
        "#  RUN           house.door ...\nok 1 house.window",
        "#  RUN           house.door ...\nok 2 house.door",
        "#  RUN           house.door ...\nok 1 house.door\nok 2 house.door",
        "#  RUN           house.door ...\nok 1 house.door\n#  RUN           house.door ...",
    ],
    ids=["none-runs", "another-runs", "wrong-number", "said-twice", "runs-twice"],
)
def test_result_that_belongs_to_no_running_test_is_refused(wrong: str) -> None:
    with pytest.raises(TapError):
        read_tap(wrong)


def _shell(script: str, folder: Path, limit: float = 30, grace: float = 5) -> Run:
    return run_selftest(["bash", "-c", script], folder, dict(os.environ), limit, grace)


def _is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_status_and_both_outputs_come_out_and_no_file_stays(tmp_path: Path) -> None:
    run = _shell("echo out; echo err >&2; exit 3", tmp_path)
    assert (run.status, run.left, run.text) == (3, (), "out\nerr\n")
    assert not list(tmp_path.iterdir())


def test_signal_is_told(tmp_path: Path) -> None:
    assert _shell("kill -SEGV $$", tmp_path).status == -signal.SIGSEGV


@pytest.mark.parametrize("how", ["set -m;", "setsid --wait"], ids=["own-group", "own-session"])
def test_at_the_limit_all_die_whatever_group_they_are_in(tmp_path: Path, how: str) -> None:
    script = f"trap '' TERM HUP; echo $$; {how} bash -c 'echo $$; sleep 600 & echo $!; wait'"
    started = time.monotonic()
    run = _shell(script, tmp_path, limit=1)
    assert time.monotonic() - started < 15
    assert run.status is None
    pids = [int(line) for line in run.text.split()]
    assert len(pids) == 3
    assert not any(map(_is_alive, pids))


def test_what_outlives_the_program_is_named_and_killed(tmp_path: Path) -> None:
    run = _shell("setsid sleep 600 & echo $!", tmp_path, grace=0.5)
    assert run.status == 0
    assert run.left == ("sleep",)
    assert not _is_alive(int(run.text))
