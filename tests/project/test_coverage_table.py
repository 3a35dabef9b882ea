"""docs/coverage.md and the code agree: whatever exists has a row, and a row's place exists."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import swsgx.cpu.encls
import swsgx.isa
import swsgx.linux.ioctl
from swsgx.cli.main import COMMANDS
from swsgx.isa.layout import Layout
from swsgx.isa.leaves import Encls, Enclu
from swsgx.linux import uapi
from tests.project.conftest import Row

STATUSES = {"exact", "translated", "not seen", "not yet"}


def _modules(package: object) -> list[str]:
    """Names of a package's public modules."""
    paths: list[str] = package.__path__  # type: ignore[attr-defined]
    return [module.name for module in pkgutil.iter_modules(paths) if not module.name.startswith("_")]


def _layouts() -> set[str]:
    names = set()
    for module in _modules(swsgx.isa):
        for name, value in vars(importlib.import_module(f"swsgx.isa.{module}")).items():
            if inspect.isclass(value) and issubclass(value, Layout) and value is not Layout:
                names.add(name.upper())
    return names


def _has_test(checkout: Path, layer: str, module: str) -> bool:
    """A file named for the module, or for a pair of modules (EDBGRD and EDBGWR, say) of which this is one."""
    folder = checkout / "tests" / layer
    imports = re.compile(rf"^from swsgx\.{layer}\.\S+ import [^#\n]*\b{module}\b", re.MULTILINE)
    return any(folder.rglob(f"test_{module}.py")) or any(
        imports.search(path.read_text(encoding="utf-8")) for path in folder.rglob("test_*.py")
    )


def test_statuses_are_the_four_that_the_page_defines(coverage: tuple[Row, ...]) -> None:
    assert [row for row in coverage if row.status not in STATUSES] == []


def test_what_is_there_names_a_file_that_exists(checkout: Path, coverage: tuple[Row, ...]) -> None:
    claimed = [row for row in coverage if row.status in ("exact", "translated")]
    assert claimed
    assert [row for row in claimed if not row.where or not (checkout / row.where).exists()] == []


def test_what_is_not_there_names_no_file(coverage: tuple[Row, ...]) -> None:
    assert [row for row in coverage if row.status in ("not yet", "not seen") and row.where] == []


@pytest.mark.parametrize("leaf", [*Encls, *Enclu], ids=lambda leaf: leaf.name)
def test_each_leaf_has_a_row(leaf: Encls | Enclu, coverage: tuple[Row, ...]) -> None:
    heading = type(leaf).__name__.upper()
    assert leaf.name in {row.name for row in coverage if row.heading.startswith(heading)}


def test_each_leaf_module_has_a_row_and_a_test_file(checkout: Path, coverage: tuple[Row, ...]) -> None:
    rows = {row.where: row.name for row in coverage}
    leaves = [name for name in _modules(swsgx.cpu.encls) if name.upper() in Encls.__members__]
    assert leaves
    for leaf in leaves:
        assert rows.get(f"src/swsgx/cpu/encls/{leaf}.py") == leaf.upper()
        assert _has_test(checkout, "cpu", leaf), f"tests/cpu has no test file for {leaf}"


def test_each_ioctl_has_a_row(coverage: tuple[Row, ...]) -> None:
    numbers = {name for name in vars(uapi) if name.startswith("SGX_IOC_")}
    assert numbers - {row.name for row in coverage if row.heading == "ioctls"} == set()


def test_each_ioctl_module_has_a_row_and_a_test_file(checkout: Path, coverage: tuple[Row, ...]) -> None:
    rows = {row.where: row.name for row in coverage}
    handlers = [m for m in _modules(swsgx.linux.ioctl) if hasattr(uapi, f"SGX_IOC_ENCLAVE_{m.upper()}")]
    assert handlers
    for handler in handlers:
        assert rows.get(f"src/swsgx/linux/ioctl/{handler}.py") == f"SGX_IOC_ENCLAVE_{handler.upper()}"
        assert _has_test(checkout, "linux", handler), f"tests/linux has no test file for {handler}"


def test_each_structure_of_the_manual_has_a_row(coverage: tuple[Row, ...]) -> None:
    named = {row.name for row in coverage if row.heading == "Structures"}
    assert _layouts() - named == set()


def test_each_command_has_a_row(coverage: tuple[Row, ...]) -> None:
    named = {row.name for row in coverage if row.heading == "Commands" and row.status != "not yet"}
    assert {f"swsgx {name}" for name in COMMANDS} == named
