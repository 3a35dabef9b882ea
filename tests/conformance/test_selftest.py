"""The kernel's own selftest program, unmodified, under ``swsgx run``."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conformance.kernel_build import Built
from tests.conformance.selftest_run import Run, Status, run_selftest
from tests.make import supervised

# ---- edit here -------------------------------------------------------------------------------------------------------

#: These pass.
PASS = (
    "unclobbered_vdso",
    "unclobbered_vdso_oversubscribed",
    "unclobbered_vdso_oversubscribed_remove",
    "clobbered_vdso",
    "clobbered_vdso_and_user_function",
    "tcs_entry",
    "pte_permissions",
    "tcs_permissions",
    "epcm_permissions",
    "augment",
    "augment_via_eaccept",
    "tcs_create",
    "remove_added_page_no_eaccept",
    "remove_added_page_invalid_access",
    "remove_added_page_invalid_access_after_eaccept",
    "remove_untouched_page",
)

#: Kernels whose harness takes ``-t NAME``; 6.1's ignores its arguments, and runs all.
TAKE_NAMES = ("6.12",)

#: Seconds. The harness gives each test 30, and unclobbered_vdso_oversubscribed_remove 900; 16 tests.
LIMIT_OF_ALL = 15 * 30 + 900 + 60
LIMIT_OF_ONE = 120

# ----------------------------------------------------------------------------------------------------------------------

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(1800 + LIMIT_OF_ALL)]

Runner = Callable[[Built], Run]


def _run(kernel: Built, *arguments: str, limit: float) -> Run:
    command = [*supervised.swsgx_run(), f"./{kernel.program.name}", *arguments]
    return run_selftest(command, kernel.program.parent, supervised.environment(), limit)


@pytest.fixture(scope="session")
def run_all() -> Runner:
    """Runs a kernel's whole program, once a session."""
    done: dict[str, Run] = {}

    def run(kernel: Built) -> Run:
        if kernel.release not in done:
            done[kernel.release] = _run(kernel, limit=LIMIT_OF_ALL)
        return done[kernel.release]

    return run


def test_program_runs_to_its_end_and_leaves_nothing_behind(kernel: Built, run_all: Runner) -> None:
    run = run_all(kernel)
    assert run.status is not None, f"killed after {LIMIT_OF_ALL} seconds:\n{run.text}"
    assert not run.left, run.text
    assert Status.UNFINISHED not in {report.status for report in run.tests.values()}, run.text


def test_program_has_the_tests_that_are_listed_here(kernel: Built, run_all: Runner) -> None:
    run = run_all(kernel)
    assert run.planned == len(PASS), run.text
    assert sorted(run.tests) == sorted(PASS), run.text


def test_exit_status_is_1_if_a_test_failed_else_0(kernel: Built, run_all: Runner) -> None:
    run = run_all(kernel)
    failed = any(report.status is Status.FAILED for report in run.tests.values())
    assert run.status == (1 if failed else 0), run.text


@pytest.mark.parametrize("name", PASS)
def test_passes(name: str, kernel: Built, run_all: Runner) -> None:
    run = run_all(kernel)
    assert name in run.tests, run.text
    assert run.tests[name].status is Status.PASSED, run.tests[name].text


@pytest.mark.parametrize("name", PASS)
@pytest.mark.parametrize("kernel", TAKE_NAMES, indirect=True)
def test_passes_alone(name: str, kernel: Built) -> None:
    run = _run(kernel, "-t", name, limit=LIMIT_OF_ONE)
    assert run.status == 0, run.text
    assert not run.left, run.text
    assert run.planned == 1, run.text
    assert [(said, report.status) for said, report in run.tests.items()] == [(name, Status.PASSED)], run.text
