"""What tests of security modules share: worlds end with their test, and give their files back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.make.judged import MADE


@pytest.fixture(autouse=True)
def _worlds_end() -> Iterator[None]:
    yield
    while MADE:
        made = MADE.pop()
        made.world.mm.exit()
        made.stack.close()
        made.world.cpu.close()
