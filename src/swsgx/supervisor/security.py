"""The security modules of a run: who is asked, about whom, and what happens when the policy is loaded again.

Loaded only where a run has security modules. They are made by the command, before the program starts, so that a mistake
in a policy starts nothing; the supervisor inherits them, with their files.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Protocol

from swsgx.linux import hooks
from swsgx.linux.device import Driver
from swsgx.linux.provenance import Subject
from swsgx.lsm.invariant import check
from swsgx.lsm.policy.errors import PolicyError
from swsgx.lsm.process_facts import ProcessMemory, SourceFiles, subject_of
from swsgx.lsm.stack import Stack
from swsgx.supervisor.process import TargetProcess

__all__ = ["Loaded", "Security"]


class Loaded(Protocol):
    """Modules with their policy."""

    @property
    def stack(self) -> Stack:
        """What the driver asks."""
        ...

    def reload(self) -> object:
        """Read the policy files again; whatever is raised, the old policy stays."""
        ...

    def close(self) -> None:
        """Nobody asks any more."""
        ...


class Security:
    """Security modules, as the supervisor uses them.

    Args:
        loaded: the modules.
        files: descriptors that they have open.
        paranoid: whether the promise of the hook points (I0) is checked after each question.

    Attributes:
        stack, files, paranoid: as given.
    """

    def __init__(self, loaded: Loaded, files: Iterable[int], *, paranoid: bool = False) -> None:
        self._loaded = loaded
        self._sources = SourceFiles()
        self.stack = loaded.stack
        self.files = frozenset(files)
        self.paranoid = paranoid

    def subject(self, tid: int) -> Subject:
        """Who a task is."""
        return subject_of(tid)

    def noticed(self, process: TargetProcess, tid: int) -> None:
        """A task of a process asks. A program that has got another label since is another subject: its mappings are
        judged again, as that one's.
        """
        subject = self.subject(tid)
        if process.label is not None and process.label != subject.label:
            hooks.relabelled(process.mm, subject)
            self.judge_again([process])
        process.label = subject.label

    def provenance(self, pid: int) -> ProcessMemory:
        """Where a process's memory comes from."""
        return ProcessMemory(pid, self._sources)

    def check(self, driver: Driver, processes: Iterable[TargetProcess]) -> None:
        """I0, if the run is paranoid.

        Raises:
            InternalError: it does not hold.
        """
        if not self.paranoid:
            return
        with contextlib.ExitStack() as held:
            # Nobody else ever holds two address spaces' locks, so these can be taken one after the other.
            for process in processes:
                held.enter_context(process.mm.lock)
            held.enter_context(hooks.guarded(driver.enclaves))
            check(driver, self.stack)

    def reload(self, tell: Callable[[str], None], processes: Iterable[TargetProcess]) -> None:
        """Load the policy again, and apply it to what is mapped; if anything is wrong with it, the old one stays.

        Args:
            tell: what the user is told by.
            processes: those that use the machine.
        """
        try:
            self._loaded.reload()
        except PolicyError as error:
            lines = [line for problem in error.problems for line in problem.lines()]
            tell("\n".join(["the old policy stays", *lines]))
            return
        except Exception as error:  # whatever a module does, the run goes on under the old one
            tell(f"the old policy stays: {str(error) or type(error).__name__}")
            return
        self.judge_again(processes)
        tell("the policy is loaded again")

    def close(self, tell: Callable[[str], None]) -> None:
        """The run has ended. ``tell``: how the user learns that refusals are missing in the audit file."""
        try:
            self._loaded.close()
        except OSError as error:
            tell(f"{error.filename}: {error.strerror}")
        if self.stack.lost:
            tell(f"{self.stack.lost} records could not be written to the audit file")

    def judge_again(self, processes: Iterable[TargetProcess]) -> None:
        """The policy has changed: mappings that would not be allowed now lose X.

        The processes do it themselves, before they are answered whatever they ask next: make them ask. Until then no
        thread of theirs enters an enclave; one that is inside goes on for as long.
        """
        for process in processes:
            with process.mm.lock:
                for vma in process.mm.vmas:
                    if vma.encl.security is None or vma.mapping is None:
                        continue
                    with vma.encl.guard, contextlib.suppress(OSError):
                        before = vma.prot
                        hooks.judged_again(vma)
                    if vma.prot != before:
                        process.ask_before_entering(vma.mapping)
