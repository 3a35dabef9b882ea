"""The examples of docs/python-api.md run and print what the page says."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest


def test_examples_of_the_python_page_run(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkout)
    failed, run = doctest.testfile(
        str(checkout / "docs" / "python-api.md"),
        module_relative=False,
        optionflags=doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL,
    )
    assert run > 10
    assert failed == 0
