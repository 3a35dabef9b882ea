"""Several security modules as one: what the driver asks.

Every module is asked until one refuses; obligations are united, grants are intersected, and then come the
:mod:`~swsgx.lsm.page_rules`. So a module more never allows more, and the order of modules decides only whose name is
recorded. Each refusal gives exactly one record.

In permissive mode, refusals are recorded and have no effect; a single module can be permissive, too. What a permissive
module withholds from an enclave is then tolerated, and recorded where it is used. Its obligations bind all the same if
a module that is not permissive withholds them as well.
"""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Collection, Sequence
from enum import Enum

from swsgx.linux.security import NO_GRANTS, Answer, EnclaveEvent, Event, Grant, Init, Load
from swsgx.lsm import page_rules
from swsgx.lsm.capability import Capability
from swsgx.lsm.decision import Audit, Decision, recorded
from swsgx.lsm.module import Allow, Deny, Label, Module, Obligations, Verdict
from swsgx.lsm.seat import Seat, detached
from swsgx.trace import Reason

__all__ = ["Mode", "Stack"]

_EXEC = 4
_ALL = functools.reduce(lambda one, other: one | other, Grant)


class Mode(Enum):
    """What refusals do."""

    ENFORCING = "enforcing"
    PERMISSIVE = "permissive"


class Stack:
    """Security modules, as :class:`~swsgx.linux.security.SecurityHooks`.

    ::

        stack = Stack([NoUnmeasuredExec()], audit=log)
        driver = Driver(cpu, security=stack)

    Args:
        modules: in the order in which they are asked; ``capability`` is put in front if it is not among them.
        mode: of all of them.
        permissive: names of modules whose refusals have no effect; :data:`swsgx.lsm.page_rules.NAME` is one, too.
        audit: listens to refusals.
        timeout: seconds within which a module that is not of this package must answer.

    Attributes:
        active: True.
        generation: of the policy; :meth:`policy_changed`.
        mode, permissive: as given; they may be changed.
        lost: records that the listener did not take.

    Raises:
        ValueError: two modules have one name, or ``permissive`` names none.
    """

    def __init__(
        self,
        modules: Sequence[Module],
        *,
        mode: Mode = Mode.ENFORCING,
        permissive: Collection[str] = (),
        audit: Audit | None = None,
        timeout: float = 0.5,
    ) -> None:
        first = [] if any(isinstance(module, Capability) for module in modules) else [Capability()]
        self._seats = tuple(Seat(module, timeout) for module in (*first, *modules))
        self._timeout = timeout
        names = [*self.modules, page_rules.NAME]
        if len(set(names)) != len(names):
            raise ValueError(f"modules have names of their own: {', '.join(names)}")
        unknown = set(permissive) - set(names)
        if unknown:
            raise ValueError(f"no module is called {', '.join(sorted(unknown))}: {', '.join(names)}")
        self.active = True
        self.generation = 0
        self.mode = mode
        self.permissive = frozenset(permissive)
        self.lost = 0
        self._audit = audit
        self._recording = threading.Lock()

    @property
    def modules(self) -> tuple[str, ...]:
        """Their names, in the order of asking."""
        return tuple(seat.name for seat in self._seats)

    @property
    def write_execute(self) -> bool:
        """Whether a module hands out grants, so that all page rules apply."""
        return any(seat.hands_out_grants for seat in self._seats)

    @property
    def enforcing(self) -> bool:
        """Whether every refusal has its effect."""
        return self.mode is Mode.ENFORCING and not self.permissive

    def policy_changed(self) -> None:
        """Mappings are judged again at their next fault; see also :func:`swsgx.linux.hooks.policy_changed`."""
        self.generation += 1

    def replace(self, modules: Sequence[Module]) -> None:
        """Put modules in the place of those that are called the same, all at one moment: no event is judged by some
        of the old and some of the new ones. Mappings are judged again, as by :meth:`policy_changed`.

        Raises:
            ValueError: no module is called so.
        """
        new = {module.name: Seat(module, self._timeout) for module in modules}
        unknown = new.keys() - set(self.modules)
        if unknown:
            raise ValueError(f"no module is called {', '.join(sorted(unknown))}: {', '.join(self.modules)}")
        old = [seat for seat in self._seats if seat.name in new]
        self._seats = tuple(new.get(seat.name, seat) for seat in self._seats)
        self.policy_changed()
        for seat in old:
            seat.close()

    def close(self) -> None:
        """No driver uses the stack any more: threads of modules end, but for those that hang."""
        for seat in self._seats:
            seat.close()

    # The two phases.

    def decide(self, event: Event) -> Answer:
        """Ask all modules, and apply the page rules."""
        copies = _Copies()
        seats = self._seats
        hands_out = any(seat.hands_out_grants for seat in seats)
        label = ""
        if isinstance(event, Init):
            named = self._label(event, seats)
            if isinstance(named, Reason):
                return Answer(named)
            label = named
            event = dataclasses.replace(event, label=label)
        obligations = NO_GRANTS
        strict, lenient = _ALL, _ALL
        allowed: list[tuple[str, Allow | Obligations]] = []
        for seat in seats:
            verdict = seat.ask(event if seat.runs_directly else copies.of(event))
            if isinstance(verdict, Deny):
                reason = self._refuse(event, seat.name, verdict)
                if reason is not None:
                    return Answer(reason)
                verdict = verdict.otherwise
            if isinstance(verdict, Obligations):
                obligations |= verdict.grants
            elif seat.hands_out_grants and isinstance(event, Init):
                strict &= verdict.grants
                lenient &= _ALL if seat.name in self.permissive else verdict.grants | verdict.tolerated
            allowed.append((seat.name, verdict))
        if isinstance(event, Load) and obligations and event.mapped & _EXEC:
            reason = self._refuse(event, page_rules.NAME, _appears_executable(obligations))
            if reason is not None:
                return Answer(reason)
        if not hands_out or not isinstance(event, Init):
            strict = lenient = NO_GRANTS
        tolerated = lenient & ~strict if lenient else NO_GRANTS
        reason = self._page_rules(event, strict, tolerated, write_execute=hands_out)
        if reason is not None:
            return Answer(reason)
        for name, verdict in allowed:
            self._record_allowed(event, name, verdict)
        return Answer(None, obligations, strict, tolerated, label)

    def commit(self, event: Event, answer: Answer) -> Reason | None:
        """Let all modules record what happens; the first that cannot refuses it."""
        if isinstance(event, Init):
            event = dataclasses.replace(event, label=answer.label)
        copies = _Copies()
        for seat in self._seats:
            failed = seat.commit(event if seat.runs_directly else copies.of(event), answer)
            if failed is not None:
                reason = self._refuse(event, seat.name, failed)
                if reason is not None:
                    return reason
        return None

    def _label(self, event: Init, seats: Sequence[Seat]) -> str | Reason:
        """The one that modules agree on: a default counts only if nobody has another."""
        found: dict[bool, Label] = {}
        for seat in seats:
            label = seat.label(event if seat.runs_directly else _detached_init(event))
            if label is None:
                continue
            if isinstance(label, Label):
                before = found.setdefault(label.default, label)
                if before == label:
                    continue
                label = Deny("modules agree on the enclave's label", found=f"{before.name} and {label.name}")
            reason = self._refuse(event, seat.name, label)
            if reason is not None:
                return reason
        chosen = found.get(False) or found.get(True)
        return chosen.name if chosen is not None else ""

    def _page_rules(
        self, event: Event, strict: Grant, tolerated: Grant, *, write_execute: bool
    ) -> Reason | None:
        if isinstance(event, Init):
            lack = page_rules.undischarged(event, strict)
        else:
            lack = page_rules.lacking(event, write_execute=write_execute)
            tolerated = event.enclave.tolerated if isinstance(event, EnclaveEvent) else NO_GRANTS
        if lack is None:
            return None
        verdict = Deny(
            lack.reason, lack.grants.permissions, f"grant {', '.join(lack.grants.permissions)}", lack.found
        )
        return self._refuse(
            event, page_rules.NAME, verdict, lack.span, tolerated=not lack.grants & ~tolerated
        )

    # Refusing.

    def _binds(self, name: str) -> bool:
        return self.mode is Mode.ENFORCING and name not in self.permissive

    def _refuse(
        self,
        event: Event,
        name: str,
        verdict: Deny,
        span: tuple[int, int] | None = None,
        *,
        tolerated: bool = False,
    ) -> Reason | None:
        """Record a refusal; its reason, if it has an effect."""
        binds = self._binds(name) and not tolerated and not verdict.permissive
        if verdict.audited:
            self._record(event, name, verdict, span, permissive=not binds)
        if not binds:
            return None
        needs = ", ".join(verdict.permissions)
        return Reason(
            f"{event.hook} hook",
            verdict.reason,
            verdict.expected or (f"permission {needs}" if needs else "a module that allows it"),
            verdict.found or "none",
            f"security module {name}" + (f", {verdict.rule}" if verdict.rule else ""),
        )

    def _record(
        self, event: Event, name: str, verdict: Deny, span: tuple[int, int] | None, *, permissive: bool
    ) -> None:
        if self._audit is None:
            return
        decision = recorded(
            event,
            module=name,
            permissions=verdict.permissions,
            rule=verdict.rule,
            reason=verdict.reason,
            expected=verdict.expected,
            found=verdict.found,
            span=span,
            denied=True,
            permissive=permissive,
        )
        self._tell(self._audit, decision)

    def _record_allowed(self, event: Event, name: str, verdict: Verdict) -> None:
        if self._audit is not None and isinstance(verdict, Allow) and verdict.audited:
            decision = recorded(
                event, module=name, permissions=verdict.permissions, rule=verdict.rule, denied=False
            )
            self._tell(self._audit, decision)

    def _tell(self, audit: Audit, decision: Decision) -> None:
        """A listener that fails does not turn a refusal into an exception, nor into anything else."""
        with self._recording:
            try:
                audit.record(decision)
            except Exception:
                self.lost += 1


class _Copies:
    """The one copy of an event that modules of others share, made if there is such a module."""

    def __init__(self) -> None:
        self._copy: Event | None = None

    def of(self, event: Event) -> Event:
        if self._copy is None:
            self._copy = detached(event)
        return self._copy


def _appears_executable(owed: Grant) -> Deny:
    return Deny(
        "a page that owes something does not appear where it is executable",
        owed.permissions,
        "no executable mapping before INIT",
        "one that waits",
    )


def _detached_init(event: Init) -> Init:
    copy = detached(event)
    return copy if isinstance(copy, Init) else event
