"""The kernel's own selftest program, unmodified, under a policy written for it; and without one line of that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance.kernel_build import Built
from tests.conformance.selftest_run import Run, run_selftest
from tests.conformance.test_selftest import LIMIT_OF_ALL, LIMIT_OF_ONE, PASS, TAKE_NAMES
from tests.make import supervised

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(1800 + LIMIT_OF_ALL)]

#: What stops without an ``allow`` of the policy, by the permission that is asked for first; and the test that asks.
FIRST = {
    "open": "unclobbered_vdso",
    "load": "unclobbered_vdso",
    "use": "unclobbered_vdso",
    "mapwx": "augment",
}


def _policies(checkout: Path) -> list[Path]:
    return [checkout / "examples" / "policies" / f"selftest.{kind}" for kind in ("te", "identity")]


def _run(kernel: Built, files: list[Path], audit: Path, *arguments: str, limit: float) -> Run:
    options = [word for file in files for word in ("--policy", str(file))]
    words = supervised.swsgx_run()
    command = [*words[:-1], *options, "--audit", str(audit), "--", f"./{kernel.program.name}", *arguments]
    return run_selftest(command, kernel.program.parent, supervised.environment(), limit)


def _denials(audit: Path) -> list[str]:
    return [line for line in audit.read_text().splitlines() if " denied " in line]


def test_all_tests_pass_and_nothing_is_refused(kernel: Built, checkout: Path, tmp_path: Path) -> None:
    run = _run(kernel, _policies(checkout), tmp_path / "audit", limit=LIMIT_OF_ALL)
    assert run.status == 0, run.text
    assert sorted(run.tests) == sorted(PASS), run.text
    assert _denials(tmp_path / "audit") == []


@pytest.mark.parametrize("permission", FIRST)
@pytest.mark.parametrize("kernel", TAKE_NAMES, indirect=True)
def test_without_one_line_it_stops_and_explain_names_that_line(
    permission: str, kernel: Built, checkout: Path, tmp_path: Path
) -> None:
    te, identity = _policies(checkout)
    lines = te.read_text().splitlines(keepends=True)
    (number,) = [n for n, line in enumerate(lines) if line.startswith("allow") and f" {permission} " in line]
    less, audit = tmp_path / "less.te", tmp_path / "audit"
    less.write_text("".join(lines[:number] + lines[number + 1 :]))
    run = _run(kernel, [less, identity], audit, "-t", FIRST[permission], limit=LIMIT_OF_ONE)
    assert run.status == 1, run.text
    first = _denials(audit)[0]
    assert permission in first.partition("{")[2].partition("}")[0].split(), first

    command = [sys.executable, "-c", "from swsgx.cli.entry import main; main()", "policy", "explain"]
    done = subprocess.run(
        [*command, str(te), str(identity), "--record", str(audit)],
        env=supervised.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert f"{te}:{number + 1}:" in done.stdout, done.stdout + done.stderr
