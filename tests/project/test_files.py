"""What may be committed: text of readable size, under names that say something, from no particular machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CODE = {".py", ".c", ".h", ".S", ".lds", ".sh"}
LIMIT = 800
# Written so that this file does not match itself.
MACHINE_PATH = re.compile(r"(?<![\w.$}>*])/(?:home|root|Users|work|mnt)/[\w.]")
URL_OF_A_PACKAGE = re.compile(r"https?://[^ \"'>)]*[.](?:whl|tgz|deb|tar[.]gz)\b|--(?:extra-)?index-url")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_no_code_file_is_longer_than_800_lines(source_files: tuple[Path, ...]) -> None:
    lines = {p: _text(p).count("\n") for p in source_files if p.suffix in CODE}
    assert {path: count for path, count in lines.items() if count > LIMIT} == {}


def test_every_file_is_text(source_files: tuple[Path, ...]) -> None:
    """Test inputs are made by the tests; a binary cannot be reviewed."""
    assert [path for path in source_files if b"\0" in path.read_bytes()] == []


def test_no_file_names_a_path_of_somebodys_machine(source_files: tuple[Path, ...]) -> None:
    found = {p: match.group() for p in source_files if (match := MACHINE_PATH.search(_text(p)))}
    assert found == {}


def test_no_file_names_a_package_by_its_address(source_files: tuple[Path, ...]) -> None:
    found = {p: match.group() for p in source_files if (match := URL_OF_A_PACKAGE.search(_text(p)))}
    assert {p: text for p, text in found.items() if p.resolve() != Path(__file__).resolve()} == {}


@pytest.mark.parametrize("name", ["utils", "util", "common", "helpers", "helper", "manager", "misc"])
def test_no_module_is_called(name: str, source_files: tuple[Path, ...]) -> None:
    assert [path for path in source_files if path.stem == name or path.parent.name == name] == []


def test_each_c_file_says_what_it_is_at_its_head(source_files: tuple[Path, ...]) -> None:
    for path in source_files:
        if path.suffix in {".c", ".h", ".S"}:
            assert "/*" in _text(path)[:400] or "//" in _text(path)[:400], path
