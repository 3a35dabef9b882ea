"""Who says what the modules of a stack must answer: by the same policy, and by other code."""

from __future__ import annotations

import random
from typing import Protocol

from swsgx.lsm.module import Module
from swsgx.lsm.stack import Stack
from tests.lsm.ghost.book import Enclave
from tests.lsm.ghost.questions import First, Policy, Question, Second

__all__ = ["Judge", "Toys"]


class Judge(Protocol):
    """The ghost's idea of the modules.

    Attributes:
        modules: that sit in the stack, in their order.
        enclaves: those that there are, as the ghost knows them.
    """

    modules: list[Module]
    enclaves: list[Enclave]

    def denies(self, question: Question) -> bool:
        """Whether any of them does."""
        ...

    def owes(self, question: Question) -> int:
        """Obligations of pages that they let in."""
        ...

    def given(self, encl: Enclave, question: Question) -> tuple[int, str]:
        """Grants and label that an enclave gets."""
        ...

    def crash(self, dice: random.Random) -> None:
        """In the next call one of them is broken."""
        ...

    def recover(self) -> None:
        """No more."""
        ...

    def reload(self, dice: random.Random, stack: Stack) -> None:
        """There is another policy."""
        ...


class Toys:
    """Two modules that hand out grants, and speak for one :class:`~tests.lsm.ghost.questions.Policy`."""

    def __init__(self, dice: random.Random) -> None:
        self.enclaves: list[Enclave] = []
        self._policy = Policy(0, 0)
        self._change(dice)
        self.modules: list[Module] = [First(self._policy), Second(self._policy)]

    def _change(self, dice: random.Random) -> None:
        self._policy.number = dice.randrange(1 << 16)
        self._policy.density = dice.choice([0, 3, 6, 15])

    def denies(self, question: Question) -> bool:
        return any(self._policy.denies(module.name, question) for module in self.modules)

    def owes(self, question: Question) -> int:
        return self._policy.owes("first", question) | self._policy.owes("second", question)

    def given(self, encl: Enclave, question: Question) -> tuple[int, str]:
        first, second = (self._policy.grants(module.name, encl.number) for module in self.modules)
        return first & second, ""

    def crash(self, dice: random.Random) -> None:
        hook = dice.choice(["create", "load", "init", "augment", "modify", "map", "map", "receive", "debug"])
        self._policy.crashing = (dice.choice(["first", "second"]), hook, dice.random() < 0.5)

    def recover(self) -> None:
        self._policy.crashing = None

    def reload(self, dice: random.Random, stack: Stack) -> None:
        self._change(dice)
        stack.policy_changed()
