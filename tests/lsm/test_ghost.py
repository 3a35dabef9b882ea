"""Any order of calls, of several processes and enclaves, under policies that change and modules that break.

Beside the driver runs a ghost (``ghost/``), which knows what is called, what the policy says, and the rules of pages:
I0, I1, I4, I6 and I8 hold after each step. That it would notice is shown with mutants: holes, planted one at a time.

``SWSGX_GHOST_STEPS`` says how many steps, ``SWSGX_GHOST_SEED`` which; from 20,000 on the mutants that are hard to find
are tried, too. ``make test-long`` makes very many, and prints them. A failure shows the shortest list of steps that
fails; ``replay`` makes them again.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest

from tests.lsm.ghost.base import Found
from tests.lsm.ghost.judges import Judge, Toys
from tests.lsm.ghost.machine import Failure, explore, shortest
from tests.lsm.ghost.mutants import MUTANTS, RARE
from tests.lsm.ghost.planting import Mutant, planted
from tests.lsm.ghost.real import Real

_STEPS = int(os.environ.get("SWSGX_GHOST_STEPS", "2000"))
_SEED = int(os.environ.get("SWSGX_GHOST_SEED", "1"))
_PARTS = 2
_JUDGES: dict[str, Callable[[random.Random], Judge]] = {"toys": Toys, "real": Real}
#: Within how many steps each mutant must be found; so many are made only where it is not.
_BOUND = 20_000
_TRIED = [mutant for mutant in MUTANTS if _STEPS >= _BOUND or mutant.name not in RARE]


def _told(failure: Failure, judge: str) -> str:
    steps = shortest(failure, _JUDGES[judge])
    return f"replay({failure.seed}, {steps}) of {len(failure.steps)} steps: {failure.error}"


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("judge", _JUDGES)
@pytest.mark.parametrize("part", range(_PARTS))
def test_every_promise_holds_after_each_step(
    part: int, judge: str, record_property: Callable[[str, object], None]
) -> None:
    steps = -(-_STEPS // _PARTS // len(_JUDGES))
    failure = explore(_SEED + part, steps, _JUDGES[judge])
    assert failure is None, _told(failure, judge)
    record_property("told", f"ghost: {steps} steps with {judge} from seed {_SEED + part}")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutant", _TRIED, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_a_planted_hole_is_found(mutant: Mutant, record_property: Callable[[str, object], None]) -> None:
    with planted(mutant):
        failure = explore(_SEED, _BOUND, Real if mutant.real else Toys)
    assert failure is not None, f"not found in {_BOUND} steps: {mutant.name}"
    assert isinstance(failure.error, Found), failure.error
    record_property("told", f"ghost: mutant | {mutant.name} | {failure.made}")


def test_a_mutant_leaves_nothing_behind() -> None:
    with planted(MUTANTS[0]):
        assert explore(_SEED, 200) is not None
    assert explore(_SEED, 200) is None


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_each_mutant_can_be_planted(mutant: Mutant) -> None:
    """Also those that are hard to find: the piece of source that they take away is there."""
    with planted(mutant):
        pass


def test_mutants_have_names_of_their_own() -> None:
    names = {mutant.name for mutant in MUTANTS}
    assert len(names) == len(MUTANTS)
    assert names >= RARE
