"""One module's place in a stack: it is asked here, and whatever it does, an answer comes out, in time.

Modules of this package are called directly. Others run in a thread of their own, one question at a time, so that one
that hangs is a refusal after a while, and stays one for as long as it hangs.
"""

from __future__ import annotations

import dataclasses
import queue
import threading
from collections.abc import Callable

from swsgx.linux.security import Allowance
from swsgx.lsm.module import (
    Allow,
    Answer,
    CommitFailed,
    Debug,
    Deny,
    Event,
    Init,
    Label,
    Load,
    Map,
    Modify,
    Module,
    Obligations,
    Verdict,
)

__all__ = ["FAILURE", "UNRECORDED", "Seat", "detached"]

#: The reason, in audit records, of a refusal that no module has given.
FAILURE = "module-failure"
#: The rule, in words, by which something is refused that a module has to record and cannot.
UNRECORDED = "what happens is recorded first"

_OWN = "swsgx.lsm."
#: Different yeses that are kept.
_REMEMBERED = 1024


class _Hung(Exception):
    """No answer in time."""


class _Worker:
    """A thread that answers one question at a time."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._busy = threading.Lock()
        self._questions: queue.SimpleQueue[tuple[Callable[[], object], queue.SimpleQueue[object]] | None] = (
            queue.SimpleQueue()
        )
        self._thread: threading.Thread | None = None

    def run(self, question: Callable[[], object], timeout: float) -> object:
        """The answer, or the exception that came instead of it.

        Raises:
            _Hung: neither came in time, or the last question is still being worked on.
        """
        if not self._busy.acquire(timeout=timeout):
            raise _Hung
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name=f"lsm-{self._name}", daemon=True)
            self._thread.start()
        answers: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._questions.put((question, answers))
        try:
            return answers.get(timeout=timeout)
        except queue.Empty:
            raise _Hung from None

    def _serve(self) -> None:
        while (asked := self._questions.get()) is not None:
            question, answers = asked
            answer: object
            try:
                answer = question()
            except BaseException as error:  # the thread must outlive whatever a module does
                answer = error
            self._busy.release()
            answers.put(answer)
            del asked, question, answers, answer  # an event must not live until the next one

    def close(self) -> None:
        """No question comes any more."""
        self._questions.put(None)


class Seat:
    """A module in a stack.

    Args:
        module: that sits here.
        timeout: seconds within which it must answer, unless it is one of this package.

    Attributes:
        module, name: the module, and its name.
        hands_out_grants: as the module says.
    """

    def __init__(self, module: Module, timeout: float) -> None:
        self.module = module
        self.name = module.name
        self.hands_out_grants = module.hands_out_grants
        self._allowances: dict[tuple[str, ...], Allowance] = {(): Allowance(module.name)}
        self._timeout = timeout
        self._worker = None if type(module).__module__.startswith(_OWN) else _Worker(module.name)
        self._commits = type(module).commit is not Module.commit

    @property
    def runs_directly(self) -> bool:
        """Whether it sees the driver's own arrays and pages, and not copies."""
        return self._worker is None

    def ask(self, event: Event) -> Verdict:
        """What the module says to an event; a refusal that is called :data:`FAILURE` if it says nothing sensible."""
        if not event.hook.isidentifier():
            return Deny(FAILURE, found="an event without a hook")
        answer = self._call(lambda: getattr(self.module, event.hook)(event))
        if isinstance(answer, Deny) and self._fits(event, answer.otherwise):
            return answer
        if isinstance(answer, Allow | Obligations) and self._fits(event, answer):
            return answer
        return Deny(FAILURE, expected="an answer that fits the hook", found=repr(answer)[:200])

    def _fits(self, event: Event, answer: Allow | Obligations) -> bool:
        """Whether the hook, and this module, can say so."""
        because: object = answer.because
        if because != () and not (
            isinstance(because, tuple) and all(isinstance(rule, str) for rule in because)
        ):
            return False
        if isinstance(answer, Obligations):
            return self.hands_out_grants and isinstance(event, Load)
        if not answer.grants and not answer.tolerated:
            return True
        return self.hands_out_grants and isinstance(event, Init)

    def allowance(self, because: tuple[str, ...]) -> Allowance:
        """Its yes by these rules: one object for all that are allowed by the same, as long as there is room."""
        found = self._allowances.get(because)
        if found is None:
            found = Allowance(self.name, because)
            if len(self._allowances) < _REMEMBERED:
                self._allowances[because] = found
        return found

    def label(self, event: Init) -> Label | Deny | None:
        """What the module calls an enclave."""
        answer = self._call(lambda: self.module.label(event))
        if answer is None or isinstance(answer, Label | Deny):
            return answer
        return Deny(FAILURE, expected="a label or None", found=repr(answer)[:200])

    def commit(self, event: Event, answer: Answer) -> Deny | None:
        """Let the module record what happens; a refusal if it cannot."""
        if not self._commits:
            return None
        done = self._call(lambda: self.module.commit(event, answer))
        if done is None or isinstance(done, Deny):
            return done
        return Deny(FAILURE, expected="None", found=repr(done)[:200])

    def _call(self, question: Callable[[], object]) -> object:
        try:
            answer = question() if self._worker is None else self._worker.run(question, self._timeout)
        except _Hung:
            return Deny(FAILURE, expected=f"an answer within {self._timeout:g} s", found="none")
        except Exception as error:
            answer = error
        if isinstance(answer, CommitFailed):
            return Deny(UNRECORDED, found=str(answer))
        if isinstance(answer, BaseException):
            return Deny(FAILURE, expected="an answer", found=f"{type(answer).__name__}: {answer}")
        return answer

    def close(self) -> None:
        """The stack is not used any more."""
        if self._worker is not None:
            self._worker.close()


def detached(event: Event) -> Event:
    """The event with copies of what belongs to the driver: a module that hangs can go on reading them."""
    match event:
        case Load():
            return dataclasses.replace(event, contents=memoryview(bytes(event.contents)))
        case Init() | Map() | Modify() | Debug():
            return dataclasses.replace(event, pages=event.pages.frozen())
        case _:
            return event
