"""Documentation names things that exist, and what is public says what it is."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

import swsgx
from swsgx.cli.main import COMMANDS

LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")
MAKE = re.compile(r"\bmake ([a-z][a-z-]*)\b")
TARGET = re.compile(r"^([a-z][a-z-]*):", re.MULTILINE)


def _modules() -> list[str]:
    return sorted(
        module.name
        for module in pkgutil.walk_packages(swsgx.__path__, "swsgx.")
        if not module.name.endswith("__main__")
    )


def _pages(source_files: tuple[Path, ...]) -> list[Path]:
    return [path for path in source_files if path.suffix == ".md"]


def _code(page: Path) -> str:
    """What a page shows as code: between backquotes, or indented by four."""
    return "\n".join(re.findall(r"`[^`]+`|^    .*$", page.read_text(encoding="utf-8"), re.MULTILINE))


def test_make_commands_in_the_documentation_exist(checkout: Path, source_files: tuple[Path, ...]) -> None:
    targets = set(TARGET.findall((checkout / "Makefile").read_text(encoding="utf-8")))
    for page in _pages(source_files):
        assert set(MAKE.findall(_code(page))) - targets == set(), page


def test_readme_names_the_two_commands(checkout: Path) -> None:
    readme = (checkout / "README.md").read_text(encoding="utf-8")
    assert "make run" in readme
    assert "make test" in readme


def test_commands_in_the_documentation_exist(source_files: tuple[Path, ...]) -> None:
    """`swsgx run` is promised for later, and said to be missing."""
    for page in _pages(source_files):
        named = set(re.findall(r"\bswsgx ([a-z]+)(?= |`|$)", _code(page), re.MULTILINE))
        assert named - {*COMMANDS, "run"} == set(), page


def test_python_in_the_readme_runs_and_computes_what_it_says(checkout: Path) -> None:
    """The example enclaves must be built: `make examples`."""
    blocks = re.findall(
        r"(?:^(?: {4}.*)?\n)+", (checkout / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    (program,) = (textwrap.dedent(block) for block in blocks if "    from swsgx" in block)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=checkout,
        env={"PYTHONPATH": str(checkout / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == hashlib.sha256(b"abc").hexdigest(), done.stderr


def test_readme_says_that_there_is_no_confidentiality(checkout: Path) -> None:
    assert (
        "no confidentiality" in (checkout / "README.md").read_text(encoding="utf-8").replace("*", "").lower()
    )


def test_paths_in_the_documentation_exist(checkout: Path, source_files: tuple[Path, ...]) -> None:
    """Words in capitals stand for a name: `src/swsgx/cli/NAME.py`."""
    for page in _pages(source_files):
        named = re.findall(r"`((?:src|tests|native|tools|docs|examples|changes)/[\w./-]*)`", _code(page))
        paths = [path for path in named if not re.search(r"[A-Z]{4,}\.", path)]
        assert [path for path in paths if not (checkout / path).exists()] == [], page


def test_links_between_pages_lead_to_files(source_files: tuple[Path, ...]) -> None:
    for page in _pages(source_files):
        for link in LINK.findall(page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page}: {link}"


@pytest.mark.parametrize("name", _modules())
def test_public_names_exist_and_have_docstrings(name: str) -> None:
    module = importlib.import_module(name)
    assert (module.__doc__ or "").strip(), f"{name} has no docstring"
    for public in getattr(module, "__all__", ()):
        value = getattr(module, public)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert (value.__doc__ or "").strip(), f"{name}.{public} has no docstring"


def _is_protocol(cls: type) -> bool:
    return Protocol in cls.__bases__


def _methods(cls: type) -> Iterator[tuple[str, object]]:
    """The public methods and properties that a class itself defines."""
    for name, value in vars(cls).items():
        value = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        if not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
            yield name, value


def test_public_methods_have_docstrings_or_implement_a_method_that_has_one() -> None:
    modules = [importlib.import_module(name) for name in _modules()]
    public = [getattr(module, name) for module in modules for name in getattr(module, "__all__", ())]
    classes = {value for value in public if inspect.isclass(value) and value.__module__.startswith("swsgx")}
    promised = {
        name for cls in classes for name, value in _methods(cls) if _is_protocol(cls) and value.__doc__
    }
    assert promised
    bare = [
        f"{cls.__module__}.{cls.__qualname__}.{name}"
        for cls in classes
        for name, value in _methods(cls)
        if not (
            value.__doc__
            or inspect.getdoc(getattr(cls, name))
            or (name in promised and not _is_protocol(cls))
        )
    ]
    assert sorted(bare) == []


def test_every_module_with_public_names_lists_them(checkout: Path) -> None:
    for path in (checkout / "src/swsgx").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if path.stem not in ("__init__", "__main__") and re.search(
            r"^(def|class) [a-zA-Z]", text, re.MULTILINE
        ):
            assert "__all__" in text, path
