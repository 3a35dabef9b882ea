"""Where a process thinks that its enclave mappings are: few ranges that cover them all."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from swsgx.supervisor.process import _merged


def ascending(steps: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges, from the gap before each and its length."""
    ranges, at = [], 0
    for gap, length in steps:
        ranges.append((at + gap, at + gap + length))
        at += gap + length
    return ranges


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5))).map(ascending), st.integers(1, 8))
def test_ranges_cover_everything_and_leave_the_largest_gaps(
    ranges: list[tuple[int, int]], limit: int
) -> None:
    merged = _merged(ranges, limit)
    assert len(merged) <= limit
    assert all(any(low <= start and end <= high for low, high in merged) for start, end in ranges)
    edges = [(high, low) for (_, high), (low, _) in itertools.pairwise(merged)]
    gaps = [(high, low) for (_, high), (low, _) in itertools.pairwise(ranges) if high < low]
    assert set(edges) <= set(gaps)
    wanted = sorted((low - high for high, low in gaps), reverse=True)[: limit - 1]
    assert sorted((low - high for high, low in edges), reverse=True) == wanted
