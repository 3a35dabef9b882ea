"""Running the ``swsgx`` command in the test's own process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from swsgx.cli.main import main


@dataclass(frozen=True)
class Ran:
    """What a command said."""

    status: int
    out: str
    err: str

    @property
    def refusal(self) -> str:
        """The one line on standard error of a command that refused."""
        assert self.status in (1, 2), self
        lines = self.err.splitlines()
        assert len(lines) == 1, self
        assert lines[0].startswith("swsgx"), self
        assert "Traceback" not in self.err + self.out, self
        return lines[0]


class Command:
    """Call it with the words of a command line."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: object) -> Ran:
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main([str(word) for word in words])
        said: Any = self._capsys.readouterr()
        status = caught.value.code
        assert isinstance(status, int)
        return Ran(status, said.out, said.err)
