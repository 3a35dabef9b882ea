"""What all tests share: where the checkout is, and how hypothesis behaves."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

# A slow machine is not a wrong program: the timeout of pytest is what ends a hang.
settings.register_profile("swsgx", deadline=None)
settings.register_profile("thorough", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("SWSGX_HYPOTHESIS", "swsgx"))

# Whoever starts the tests in the background may have these ignored, and programs that the tests start inherit that.
for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Behind a long run: what tests have to tell by ``record_property("told", ...)``, such as their steps."""
    if "SWSGX_LONG" not in os.environ:
        return
    reports = [report for report in terminalreporter.getreports("passed") if report.when == "call"]
    for report in reports:
        for name, value in report.user_properties:
            if name == "told":
                terminalreporter.write_line(str(value))


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The top folder of the source tree."""
    return Path(__file__).resolve().parent.parent
