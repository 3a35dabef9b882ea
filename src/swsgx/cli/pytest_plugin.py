"""``pytest --swsgx``: runs a project's own tests on a machine with SGX.

With ``--swsgx`` pytest becomes ``swsgx run`` of itself, once, before it loads a conftest.py, with the same interpreter
and the same words. So the tests, pytest's own process and its xdist workers all see /dev/sgx_enclave. Without it
this module costs its import, which is why all that is not always needed is imported where it is used.

What was learnt:

- pytest captures the descriptors 1 and 2 while it loads conftests: this must be outside of that, hence the wrapper.
- ``args`` of the hook has ``addopts`` in it already; what the user typed is in ``sys.orig_argv``, with how Python
  and pytest were started (``python -m pytest`` has another sys.path than ``pytest``).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple, NoReturn

import pytest

__all__ = [
    "Facts",
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_load_initial_conftests",
    "pytest_report_header",
    "swsgx",
]

_MARK = "SWSGX_PYTEST"
_NODES = ("/dev/sgx_enclave", "/dev/sgx_provision", "/dev/sgx/enclave", "/dev/sgx/provision")
#: Ours and those of ``swsgx run`` that they become.
_PASSED = {"swsgx_epc": "--epc", "swsgx_isolation": "--isolation", "swsgx_cpu": "--cpu"}


class Facts(NamedTuple):
    """What the fixture :func:`swsgx` tells.

    Attributes:
        nodes: paths of the SGX device nodes that are there, real or ours; empty: no SGX.
        supervised: whether this process is under ``swsgx run``.
        version: of swsgx.
    """

    nodes: tuple[str, ...]
    supervised: bool
    version: str

    @property
    def available(self) -> bool:
        """Whether an enclave could be built here."""
        return any(path.endswith("enclave") for path in self.nodes)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options."""
    group = parser.getgroup("swsgx", "SGX in software (swsgx)")
    group.addoption(
        "--swsgx", action="store_true", help="Run the tests, and what they start, under `swsgx run`."
    )
    group.addoption("--swsgx-epc", metavar="SIZE", help="With --swsgx: size of the EPC, say 64M.")
    group.addoption(
        "--swsgx-isolation",
        choices=["auto", "hidden", "off"],
        help="With --swsgx: what a program sees of its enclaves from outside.",
    )
    group.addoption("--swsgx-cpu", choices=["sgx1", "sgx2"], help="With --swsgx: the CPU to be.")
    group.addoption(
        "--swsgx-shadow",
        action="store_true",
        help="With --swsgx: hide the nodes that this machine really has.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """The marker."""
    config.addinivalue_line("markers", "needs_sgx: skipped where there is no SGX device; --swsgx makes one.")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, object, object]:
    """With ``--swsgx``, start anew under ``swsgx run``.

    Raises:
        pytest.UsageError: another program called pytest, and would not come back.
    """
    options = early_config.known_args_namespace
    if options.swsgx and _MARK not in os.environ and not _supervised():
        passed = [f"{word}={value}" for name, word in _PASSED.items() if (value := getattr(options, name))]
        passed += ["--shadow"] if options.swsgx_shadow else []
        _start_anew(list(early_config.invocation_params.args), passed)
    return (yield)


def _supervised() -> bool:
    """Whether this process is under ``swsgx run``."""
    from swsgx.supervisor.image import IMAGE_BASE

    with open("/proc/self/maps", encoding="utf-8", errors="replace", newline="\n") as maps:
        return any(line.startswith(f"{IMAGE_BASE:x}-") for line in maps)


def _start_anew(words: list[str], options: list[str]) -> NoReturn:
    if words != sys.argv[1:]:
        raise pytest.UsageError(
            "--swsgx starts pytest anew, which only works for pytest as a command; "
            "here a program called it: run that program under `swsgx run --` instead"
        )
    os.environ[_MARK] = "1"
    sys.stdout.flush()
    sys.stderr.flush()
    python = sys.executable
    # -P: what lies in the current folder must not be taken for our modules.
    run = [python, "-P", "-c", "from swsgx.cli.entry import main; main()", "run", *options, "--"]
    os.execv(python, [*run, python, *sys.orig_argv[1:]])


def _nodes() -> tuple[str, ...]:
    return tuple(path for path in _NODES if Path(path).is_char_device())


def pytest_report_header(config: pytest.Config) -> str | None:
    """A line that says where the tests run."""
    if not config.option.swsgx:
        return None
    facts = _facts()
    found = facts.nodes[0] if facts.available else "no SGX device"
    return f"swsgx: {facts.version}, {found}; an SGX machine in software, without confidentiality"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs SGX where there is none."""
    needing = [item for item in items if item.get_closest_marker("needs_sgx") is not None]
    if needing and not _facts().available:
        skip = pytest.mark.skip(
            reason="needs SGX, and there is no /dev/sgx_enclave: `pytest --swsgx` makes one"
        )
        for item in needing:
            item.add_marker(skip)


def _facts() -> Facts:
    from swsgx import __version__

    return Facts(_nodes(), _supervised(), __version__)


@pytest.fixture(scope="session")
def swsgx() -> Facts:
    """Whether there is SGX here, and whose."""
    return _facts()
