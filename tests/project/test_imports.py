"""Imports point down only, and each layer keeps the promises that its tests rely on."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


def _imported(path: Path) -> Iterator[str]:
    """Full names of what a file imports, wherever in the file the import stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_imports_point_down_and_siblings_do_not_import_each_other(checkout: Path) -> None:
    checker = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [checker, "--no-cache", "--no-logo"],
        cwd=checkout,
        env={"PYTHONPATH": str(checkout / "src"), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_isa_imports_the_standard_library_and_itself_only(checkout: Path) -> None:
    for path in (checkout / "src/swsgx/isa").rglob("*.py"):
        foreign = {
            name
            for name in _imported(path)
            if name.split(".")[0] not in sys.stdlib_module_names and not name.startswith("swsgx.isa")
        }
        assert foreign == set(), path


def test_cpu_reads_no_clock_no_random_source_and_no_environment(checkout: Path) -> None:
    """Randomness, time and memory come in as arguments, so that every run can be repeated."""
    outside = {"time", "datetime", "random", "secrets", "pathlib", "subprocess", "socket", "tempfile"}
    for path in (checkout / "src/swsgx/cpu").rglob("*.py"):
        assert {name.split(".")[0] for name in _imported(path)} & outside == set(), path
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
                assert node.attr not in ("environ", "getenv", "urandom"), f"{path}:{node.lineno}"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "open", f"{path}:{node.lineno}"


@pytest.mark.parametrize("heavy", ["numpy", "cryptography", "elftools", "rich", "lark"])
def test_importing_the_command_line_does_not_load(heavy: str, checkout: Path) -> None:
    """`swsgx --help` and the shell's completion must not pay for what they do not use."""
    program = f"import sys; import swsgx.cli.main; sys.exit({heavy!r} in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(checkout / "src")}, check=False
    )
    assert done.returncode == 0
