"""Pages that enclaves accept by grants: figures are right, and no EPC page is lost however the program ends.

What a program itself could tell is in ``tests/programs/sgx/memory_granted.c``.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.make.native_enclave import NEEDS_GCC
from tests.make.sgx_program import Programs
from tests.make.told import machine, running

pytestmark = NEEDS_GCC

_OPEN = ("--isolation", "off")


@pytest.fixture
def program(programs: Programs) -> Path:
    return programs.build("figures.c")


@pytest.mark.parametrize("pages", [3, 20, 500])
def test_figures_count_what_was_accepted(program: Path, pages: int) -> None:
    with running(program, options=_OPEN) as told:
        told.do("load")
        before = machine(told.pid)
        told.do("grow", pages)
        behind = machine(told.pid)
        assert behind["counts"]["eaug"] - before["counts"]["eaug"] == pages
        more = [each["enclaves"][0]["va_pages"] for each in (before, behind)]
        assert before["epc_free"] - behind["epc_free"] == pages + more[1] - more[0]
        told.end()


def test_a_fork_in_the_middle_takes_nothing_away(program: Path) -> None:
    with running(program, options=_OPEN) as told:
        told.do("load")
        told.do("grow", 37)
        told.do("fork")
        (enclave,) = machine(told.pid)["enclaves"]
        assert enclave["augmented"] == 37
        told.end()


@pytest.mark.parametrize("options", [_OPEN, ()], ids=["open", "hidden"])
def test_whoever_is_killed_while_it_grows_leaves_the_epc_as_it_was(
    program: Path, options: tuple[str, ...]
) -> None:
    with running(program, options=("--epc", "16M", *options)) as told:
        told.do("kill", 25)
        for _ in range(100):
            now = machine(told.pid)
            if not now["enclaves"]:
                break
            time.sleep(0.05)
        assert (now["enclaves"], now["epc_free"]) == ([], now["epc_total"])
        told.end()
