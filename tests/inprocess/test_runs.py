"""Which pages are mapped, as runs: what one mapping is to the host is one run."""

from __future__ import annotations

import random

import pytest

from swsgx.native.abi import VisibleRun
from swsgx.native.runs import Runs

R, RW, RX, RWX = 1, 3, 5, 7


def made(*replaced: tuple[int, int, int]) -> Runs:
    runs = Runs()
    for start, end, prot in replaced:
        runs.replace(start, end, prot)
    return runs


def test_shared_neighbours_with_one_protection_are_one_run() -> None:
    assert made((0, 10, RW), (20, 30, RW), (10, 20, RW)).runs == [(0, 30, RW)]
    assert made((0, 10, RW), (10, 20, R)).runs == [(0, 10, RW), (10, 20, R)]


def test_private_neighbours_stay_apart() -> None:
    assert made((0, 10, RX), (10, 20, RX)).runs == [(0, 10, RX), (10, 20, RX)]


def test_part_of_a_run_changes() -> None:
    assert made((0, 30, RW), (10, 20, R)).runs == [(0, 10, RW), (10, 20, R), (20, 30, RW)]
    assert made((0, 30, RW), (10, 20, 0)).runs == [(0, 10, RW), (20, 30, RW)]
    assert made((0, 30, RW), (10, 20, R), (10, 20, RW)).runs == [(0, 30, RW)]


@pytest.mark.parametrize(
    ("start", "end", "prot", "kept"),
    [(0, 10, R, True), (2, 5, RWX, True), (0, 10, RX, False), (5, 15, R, False), (20, 25, R, False)],
)
def test_mprotect_will_do_inside_one_run_of_the_same_kind(
    start: int, end: int, prot: int, kept: bool
) -> None:
    assert made((0, 10, RW)).keeps_kind(start, end, prot) is kept


def test_table_is_as_native_code_reads_it() -> None:
    table, count = made((0x1000, 0x3000, RW), (0x4000, 0x5000, RX)).table()
    entries = [VisibleRun(bytearray(table[at : at + 32])) for at in range(0, len(table), 32)]
    shown = [(entry.address, entry.length, entry.prot, entry.private) for entry in entries]
    assert count == 2
    assert shown == [(0x1000, 0x2000, RW, 0), (0x4000, 0x1000, RX, 1)]


def test_any_changes_leave_each_page_with_its_last_protection() -> None:
    rng = random.Random(20)
    for _ in range(200):
        runs, pages = Runs(), [0] * 40
        for _ in range(30):
            start = rng.randrange(40)
            end, prot = rng.randint(start + 1, 40), rng.choice((0, R, RW, RX, RWX))
            runs.replace(start, end, prot)
            pages[start:end] = [prot] * (end - start)
            found = [0] * 40
            for low, high, have in runs.runs:
                assert have
                found[low:high] = [have] * (high - low)
            assert found == pages
            assert runs.runs == sorted(runs.runs)
